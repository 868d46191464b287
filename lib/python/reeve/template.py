"""
`python3 -m reeve.template`: loads the user's code once and forks each worker from it, on request.

Single-threaded; one loop around one blocking receive. The channel is the only input, and its end is
the template's end. HELLO's MODE decides what this process is: a template, a seed (which works
itself, _seed.py) or a threads host (threads.py).
"""
from __future__ import annotations

import _signal  # what signal wraps in enums
import gc
import os
import platform
import signal
import sys
import time
from typing import List, Optional, Tuple

from . import _born, _libc, _load, _run
from ._channel import Channel, Message, Record
from ._fork import Forker
from ._hooks import hooks
from ._protocol import VERSION, ProtocolError, Tag, Type, name_of
from ._safety import Watch, count_tasks, descriptors

_EVERY = {int(number) for number in signal.valid_signals()}
_ERRORS_BYTES = 48 << 10  # of a READY packet


def open_channel() -> Optional[Channel]:
    """The channel that the daemon gave us; None, and said so, if there is none."""
    text = os.environ.pop("REEVE_CHANNEL", "")
    try:
        return Channel.hidden(int(text))
    except (ValueError, OSError):
        _load.say("reeve: no channel (REEVE_CHANNEL); reeved starts this program, see "
                  "reeve-template(7)")
        return None


def greet(channel: Channel) -> Optional[Message]:
    """HELLO both ways; None if the daemon is gone."""
    hello = channel.receive()
    if hello is None:
        return None
    if hello.type != Type.HELLO:
        raise ProtocolError(f"{name_of(hello.type)} instead of HELLO")
    low, high = hello.need(Tag.VERSIONS)
    channel.send(Type.HELLO, (Tag.VERSIONS, (VERSION, VERSION)),
                 (Tag.RUNTIME, f"{platform.python_implementation().lower()} "
                               f"{platform.python_version()}".replace("cpython", "python")))
    if not low <= VERSION <= high:
        raise ProtocolError(f"versions {low} to {high}, this template speaks {VERSION}")
    return hello


def measures() -> List[Record]:
    """TASKS, RSS and FDS as of now."""
    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[1])
    return [(Tag.TASKS, count_tasks()), (Tag.RSS, pages * os.sysconf("SC_PAGE_SIZE")),
            (Tag.FDS, len(descriptors()))]


def flush() -> None:
    """Nothing may be in a buffer at a fork: each worker would print it again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass
    _libc.flush()


def load(channel: Channel, hello: Message, single: bool = True) -> List[_load.Loaded]:
    """Load what HELLO names and the entry's module; LOADING says what is being loaded."""
    entry = hello.get(Tag.ENTRY)
    names = hello.all(Tag.PRELOAD) + ([entry] if entry else [])
    _load.set_path(hello.get(Tag.PATH, _load.DIR))
    done = _load.load(names, lambda name: channel.send(Type.LOADING, (Tag.TEXT, name)), single)
    for loaded in done:
        if loaded.error:
            _load.say(f"reeve: loading {loaded.name} failed\n{loaded.error}")
    flush()
    return done


def say_ready(channel: Channel, begin: float, hello: Message, done: List[_load.Loaded]) -> bool:
    """READY: every preload, and the entry if it could not be loaded. False if something failed."""
    failed = [loaded for loaded in done if loaded.error]
    asked = hello.all(Tag.PRELOAD)
    records: List[Record] = [(Tag.LOAD_US, int((time.monotonic() - begin) * 1e6)), *measures()]
    for loaded in done:
        if loaded.error or loaded.name in asked:
            records.append((Tag.PRELOAD, loaded.name))
        if loaded.error:
            text = loaded.error.encode("utf-8", "replace")[-_ERRORS_BYTES // len(failed):]
            records.append((Tag.ERROR, text.decode("utf-8", "ignore")))
    channel.send(Type.READY, *records)
    return not failed


class Template:
    """Serves requests from READY to the end."""

    def __init__(self, channel: Channel, hello: Message) -> None:
        self.channel, self.hello = channel, hello
        self.forker = Forker()
        self.watch: Optional[Watch] = None
        self.last = hello  # the message before this one

    def run(self) -> int:
        begin = time.monotonic()
        gc.disable()
        _run.line_buffered()
        done = load(self.channel, self.hello)
        self.watch = Watch(self.hello.all(Tag.ALLOW_THREAD), {self.channel.fileno()})
        _born.remember(self.channel, self.hello.get(Tag.ENTRY, ""),
                       None if self.watch.allow else self.watch.known)
        if not any(loaded.error for loaded in done):
            _born.prepare()
        _libc.set_name(f"{self.hello.get(Tag.GROUP, '')}/template")
        gc.freeze()
        gc.collect(0)  # there is nothing: it sets back the counters, or each worker would collect
        for note in self.watch.notes():
            _load.say(f"reeve: {note}")
        good = say_ready(self.channel, begin, self.hello, done)
        if not good and self.hello.get(Tag.PRELOAD_ERRORS, "fail") != "warn":
            return 1
        culprits = self.watch.culprits()
        if culprits:
            refuse(self.channel, 0, culprits)
        return self.serve()

    def serve(self) -> int:
        while True:
            message = self.channel.receive()
            self.last.close_fds()
            if message is None or message.type == Type.QUIT:
                return 0
            if message.type == Type.PING:
                self.channel.send(Type.PONG, *measures(), request=message.request)
            elif message.type == Type.FORK:
                self.fork(message)
            else:
                raise ProtocolError(f"{name_of(message.type)} is not for a template")

    def fork(self, message: Message) -> None:
        """
        Answer one FORK by SPAWNED, FAILED or UNSAFE. When there is no worker its fds are closed not
        before the next message: the daemon is to read why before it sees the end of its channel.
        """
        assert self.watch is not None
        self.last = message
        order = _born.Order(message)
        child = answer(self.channel, self.watch, self.forker, order)
        if child is not None:
            _born.run(order, child)
        if order.forked:
            message.close_fds()


def refuse(channel: Channel, request: int, culprits: List[str]) -> None:
    for culprit in culprits:
        _load.say(f"reeve: not safe to fork: {culprit}")
    channel.send(Type.UNSAFE, *((Tag.TEXT, text) for text in culprits), request=request)


def answer(channel: Channel, watch: Watch, forker: Forker, order: _born.Order) -> Optional[bool]:
    """None in the caller, who has answered. In the worker: whether it was born in its cgroup."""
    stage = "before_fork"
    try:
        hooks.run_before()
        culprits = watch.culprits(order.fds.values(), quick=not hooks.before)
        if culprits:
            refuse(channel, order.request, culprits)
            return None
        flush()
        stage = "random"
        _born.plan(order)
        stage = "fork"
        pid, in_cgroup = fork_blocked(forker, order.cgroup)
    except Exception as error:  # pylint: disable=broad-except
        text = str(error) if isinstance(error, OSError) else _load.trace(error)
        channel.send(Type.FAILED, (Tag.STAGE, stage), (Tag.TEXT, text[-8192:]),
                     (Tag.ERRNO, getattr(error, "errno", None) or 0), request=order.request)
        return None
    order.forked = True
    if pid == 0:
        return in_cgroup
    channel.send(Type.SPAWNED, (Tag.PID, pid), request=order.request)
    return None


def fork_blocked(forker: Forker, cgroup: int) -> Tuple[int, bool]:
    """Fork; in the worker all signals stay blocked until its handlers are set."""
    mask = _signal.pthread_sigmask(signal.SIG_BLOCK, _EVERY)
    pid = -1
    try:
        pid, in_cgroup = forker.fork(cgroup)
        return pid, in_cgroup
    finally:
        if pid != 0:
            _signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def ignore_interrupts() -> None:
    """Ctrl-C is for the keeper. A handler, because SIG_IGN would be inherited over exec."""
    signal.signal(signal.SIGINT, lambda *_: None)


def serve(channel: Channel) -> int:
    """Be what HELLO says."""
    hello = greet(channel)
    if hello is None:
        return 0
    mode = hello.need(Tag.MODE)
    if mode == "template":
        ignore_interrupts()
        return Template(channel, hello).run()
    if mode == "seed":
        from . import _seed  # pylint: disable=import-outside-toplevel
        return _seed.run(channel, hello)
    if mode == "threads":
        from . import threads  # pylint: disable=import-outside-toplevel
        return threads.host(channel, hello)
    raise ProtocolError(f'unknown mode "{mode}"')


def main(argv: List[str]) -> int:
    if argv:
        _load.say("usage: python3 -m reeve.template (started by reeved)")
        return 2
    channel = open_channel()
    if channel is None:
        return 2
    try:
        return serve(channel)
    except ProtocolError as error:
        _load.say(f"reeve: the daemon broke the protocol: {error}")
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except OSError as error:  # the channel was closed by code that was loaded
        _load.say(f"reeve: channel: {error}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
