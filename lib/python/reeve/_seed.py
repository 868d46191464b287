"""
The seed of start_method "fork": worker 0, which works itself and forks its siblings at fork_point(),
when its caches are warm. A sibling comes back from the same call of fork_point().

The first call says READY and waits until every sibling has been asked for; later calls serve what
waits and go on. The channel's end only means that no more siblings are wanted.
"""
from __future__ import annotations

import gc
import select
import signal
import sys
import threading
import time
from typing import Any, Dict, NoReturn, Optional

from . import _born, _load, _run, template
from ._channel import Channel, Message
from ._fork import Forker
from ._hooks import hooks
from ._protocol import ProtocolError, Tag, Type, name_of
from ._safety import Watch
from ._worker import Worker, context


class Seed:
    """What worker 0 needs at its fork points."""

    def __init__(self, channel: Channel, hello: Message, worker: Worker) -> None:
        self.channel: Optional[Channel] = channel
        self.hello, self.worker = hello, worker
        self.forker = Forker()
        self.begin = time.monotonic()
        self.wanted = max(0, hello.get(Tag.COUNT, 1) - 1)
        self.first = True
        self.watch: Optional[Watch] = None

    def fork_point(self) -> None:
        """In the seed: serve. In a sibling: return from here once it may work."""
        if self.channel is None or context.worker is not self.worker:
            return
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("reeve.fork_point() has to be called in the main thread")
        if self.worker.signals.used:
            self.worker.stop.fileno()  # made while we wait, it would be a stranger to the watch
        self.watch = Watch(self.hello.all(Tag.ALLOW_THREAD),
                           {self.channel.fileno(), *self.worker.stop.filenos()})
        _born.remember(self.channel, self.hello.need(Tag.ENTRY),
                       None if self.watch.allow else self.watch.known)
        template.flush()
        gc.freeze()
        try:
            self.serve()
        except ProtocolError as error:
            _load.say(f"reeve: the daemon broke the protocol: {error}")
            self.close()
        except OSError:
            self.close()
        finally:
            if context.worker is self.worker:
                gc.unfreeze()

    def close(self) -> None:
        if self.channel is not None and context.worker is self.worker:
            self.channel.close()
            self.channel = None

    def serve(self) -> None:
        waiting, self.first = self.first, False
        if waiting:
            waiting = self.say_ready()
        while self.channel is not None:
            if waiting and self.wanted == 0:
                waiting = False
            if not self.has_message(waiting):
                return
            message = self.channel.receive()
            if message is None or message.type == Type.QUIT:
                self.close()
            elif message.type == Type.PING:  # none is wanted
                self.channel.send(Type.PONG, *template.measures(), request=message.request)
                waiting = False
            elif message.type == Type.FORK:
                if self.fork(message):
                    return
                self.wanted = max(0, self.wanted - 1)
            else:
                raise ProtocolError(f"{name_of(message.type)} is not for a seed")

    def has_message(self, wait: bool) -> bool:
        """True if there is one. `wait` ends when this worker is asked to end, too."""
        assert self.channel is not None
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        if wait and self.worker.signals.used:
            poll.register(self.worker.stop.fileno(), select.POLLIN)
        ready = dict(poll.poll(None if wait else 0))
        return self.channel.fileno() in ready

    def say_ready(self) -> bool:
        """READY; False if nobody can be forked here."""
        assert self.channel is not None and self.watch is not None
        for note in self.watch.notes():
            _load.say(f"reeve: {note}")
        template.say_ready(self.channel, self.begin, self.hello, [])
        culprits = self.watch.culprits()
        if culprits:
            template.refuse(self.channel, 0, culprits)
        return not culprits

    def fork(self, message: Message) -> bool:
        """Answer one FORK; True in the sibling."""
        assert self.channel is not None and self.watch is not None
        handlers = {n: signal.getsignal(n) for n in signal.valid_signals()}
        used = self.worker.signals.used
        order = _born.Order(message)
        child = None
        try:
            child = template.answer(self.channel, self.watch, self.forker, order)
        finally:
            if child is None:
                message.close_fds()
        if child is None:
            return False
        worker, _ = _born.start(order, child)
        self.resume(worker, handlers, used)
        return True

    def resume(self, worker: Worker, handlers: Dict[int, Any], used: bool) -> None:
        """In a sibling after GO: the program's own handlers are back."""
        worker.signals.entry()
        for number, handler in handlers.items():
            if handler is not None and not worker.signals.owns(handler) \
                    and not self.worker.signals.owns(handler) \
                    and signal.getsignal(number) != handler:
                signal.signal(number, handler)
        if used:
            worker.signals.use()


def run(channel: Channel, hello: Message) -> NoReturn:
    """Be worker 0."""
    worker = context.worker
    worker.signals.loading()
    _run.line_buffered()
    entry = hello.need(Tag.ENTRY)
    done = template.load(channel, hello, single=False)
    sys.argv[:] = [entry]
    failed = [loaded for loaded in done if loaded.error]
    if failed and hello.get(Tag.PRELOAD_ERRORS, "fail") != "warn":
        template.say_ready(channel, time.monotonic(), hello, done)
        _run.end(1)
    seed = Seed(channel, hello, worker)
    worker.on_fork_point = seed.fork_point
    function = _load.resolve(entry)
    hooks.run_after()
    _run.run(context, function)
