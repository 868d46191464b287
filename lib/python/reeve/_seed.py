"""
The seed of start_method "fork": worker 0, which works itself and forks its siblings at fork_point(),
when its caches are warm. A sibling comes back from the same call of fork_point().

The first call says READY and waits until every sibling has been asked for; later calls serve what
waits and go on. The channel's end only means that no more siblings are wanted.
"""
from __future__ import annotations

import errno
import gc
import select
import signal
import sys
import threading
import time
from typing import Any, Dict, NoReturn, Optional

from . import _born, _load, _run, template
from ._channel import Channel, Message
from ._hooks import hooks
from ._protocol import ProtocolError, Tag
from ._safety import Watch
from ._serve import NOTHING, PINGED, QUIT, UNWANTED, WORKER, Server
from ._worker import Worker, context, listen_fds


class Seed:
    """What worker 0 needs at its fork points."""

    def __init__(self, server: Server, channel: Channel, hello: Message, worker: Worker) -> None:
        self.server = server
        self.channel: Optional[Channel] = channel
        self.hello, self.worker = hello, worker
        self.begin = time.monotonic()
        self.wanted = max(0, hello.get(Tag.COUNT, 1) - 1)
        self.first = True
        self.orders: Optional[template.Orders] = None
        self.complaint = ""  # said last: a program may come here in a loop

    def fork_point(self) -> None:
        """In the seed: serve. In a sibling: return from here once it may work."""
        if self.channel is None or context.worker is not self.worker:
            return
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("reeve.fork_point() has to be called in the main thread")
        try:
            self.open()
        except OSError as error:  # out of descriptors: the worker has to work on all the same
            if self.complaint != str(error):
                self.complaint = str(error)
                _load.say(f"reeve: fork_point: {error}; no worker is forked here")
            return
        self.complaint = ""
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

    def open(self) -> None:
        """Look at what is open here, before orders are taken."""
        assert self.channel is not None
        if self.worker.signals.used:
            self.worker.signals.fileno()  # made while we wait, it would be a stranger to the watch
        watch = Watch(self.hello.all(Tag.ALLOW_THREAD),
                      {self.channel.fileno(), *self.worker.stop.filenos()},
                      "after fork_point()")  # @after_fork runs in the seed before its entry
        self.orders = template.Orders(self.channel, watch)
        entry = self.hello.need(Tag.ENTRY)
        self.server.open(self.channel.fileno(), True, entry,
                         [*watch.strangers(), *self.worker.stop.filenos()], self.orders.look)
        _born.remember(self.server, entry, not self.orders.always())

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
            event = self.turn()
            if event == WORKER:
                return
            if event == QUIT:
                self.close()
            elif event == PINGED:  # none is wanted
                waiting = False
            elif event not in (NOTHING, UNWANTED):  # these are asked for anew
                self.wanted = max(0, self.wanted - 1)

    def has_message(self, wait: bool) -> bool:
        """True if there is one. `wait` ends when this worker is asked to end, too."""
        assert self.channel is not None
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLIN)
        if wait and self.worker.signals.used:
            poll.register(self.worker.signals.fileno(), select.POLLIN)
        ready = dict(poll.poll(None if wait else 0))
        return self.channel.fileno() in ready

    def say_ready(self) -> bool:
        """READY; False if nobody can be forked here."""
        assert self.channel is not None and self.orders is not None
        declared = {*listen_fds().values(), *self.worker.notifier.filenos()}
        for note in self.orders.watch.notes(declared):
            _load.say(f"reeve: {note}")
        template.say_ready(self.channel, self.begin, self.hello, [])
        culprits = self.orders.watch.culprits()
        if culprits:
            template.refuse(self.channel, 0, culprits)
        return not culprits

    def turn(self) -> int:
        """Serve what is there; WORKER in the sibling, which may work then."""
        assert self.orders is not None
        handlers = {n: signal.getsignal(n) for n in signal.valid_signals()}
        used = self.worker.signals.used
        try:
            event = self.server.serve(False, True, False)
        except OSError as error:
            if error.errno == errno.EPROTO:
                raise ProtocolError(self.server.reason()) from None
            raise
        if event == WORKER:
            worker = context.renew()
            worker.signals.hook()
            _born.start(self.server, worker)
            self.server.finish()
            self.resume(worker, handlers, used)
        return event

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
    server = template.server_for(done)
    failed = [loaded for loaded in done if loaded.error]
    if server is None or failed and hello.get(Tag.PRELOAD_ERRORS, "fail") != "warn":
        template.say_ready(channel, time.monotonic(), hello, done)
        _run.end(1)
    seed = Seed(server, channel, hello, worker)
    worker.on_fork_point = seed.fork_point
    function = _load.resolve(entry)
    hooks.run_after()
    _run.run(context, function)
