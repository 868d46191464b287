"""
`python3 -m reeve.template`: loads the user's code once and forks each worker from it, on request.

Single-threaded; after READY the loop is C's (_serve.py). The channel is the only input, and its end
is the template's end. HELLO's MODE decides what this process is: a template, a seed (which works
itself, _seed.py) or a threads host (threads.py).
"""
from __future__ import annotations

import errno
import gc
import os
import platform
import signal
import sys
import time
from typing import List, Optional

from . import _born, _libc, _load, _run
from ._channel import Channel, Message, Record
from ._hooks import hooks
from ._protocol import VERSION, ProtocolError, Tag, Type, name_of
from ._safety import Watch, count_tasks, descriptors
from ._serve import NAME, WORKER, Server, Unavailable

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


def server_for(done: List[_load.Loaded]) -> Optional[Server]:
    """What forks. Without it nothing can be forked: READY says so, as of a preload that failed."""
    try:
        return Server()
    except Unavailable as error:
        text = f'use start_method = "spawn", or mend the installation: {error}'
        _load.say(f"reeve: {NAME} cannot be loaded; {text}")
        done.append(_load.Loaded(NAME, text))
        return None


class Orders:
    """What C asks Python about an order, in a template or a seed."""

    def __init__(self, channel: Channel, watch: Watch) -> None:
        self.channel, self.watch = channel, watch

    def always(self) -> bool:
        """Code runs between two forks."""
        return bool(hooks.before or self.watch.allow)

    def look(self, request: int, fds: List[int]) -> int:
        """
        Hooks, then whether it is safe: 0, or 1 if it has been refused. Nothing may be raised here:
        ctypes would print it and answer 0, and what a hook was to prevent would be done.
        """
        try:
            return self._look(request, fds)
        except BaseException as error:  # pylint: disable=broad-except
            try:
                self._failed(request, error)
            except BaseException as worse:  # pylint: disable=broad-except
                _load.say(f"reeve: before_fork: {type(error).__name__}, and no word of it to the "
                          f"daemon: {type(worse).__name__}")
            return 1

    def _failed(self, request: int, error: BaseException) -> None:
        text = str(error) if isinstance(error, OSError) else _load.trace(error)
        self.channel.send(Type.FAILED, (Tag.STAGE, "before_fork"), (Tag.TEXT, text[-8192:]),
                          (Tag.ERRNO, _load.errno_of(error)), request=request)

    def _look(self, request: int, fds: List[int]) -> int:
        hooks.run_before()
        culprits = self.watch.culprits(fds)
        if culprits:
            refuse(self.channel, request, culprits)
            return 1
        flush()
        return 0


class Template:
    """Serves requests from READY to the end."""

    def __init__(self, channel: Channel, hello: Message) -> None:
        self.channel, self.hello = channel, hello

    def run(self) -> int:
        begin = time.monotonic()
        gc.disable()
        _run.line_buffered()
        done = load(self.channel, self.hello)
        server = server_for(done)
        orders = Orders(self.channel, Watch(self.hello.all(Tag.ALLOW_THREAD),
                                            {self.channel.fileno()}))
        self.prepare(server, orders, any(loaded.error for loaded in done))
        _libc.set_name(f"{self.hello.get(Tag.GROUP, '')}/template")
        gc.freeze()
        gc.collect(0)  # there is nothing: it sets back the counters, or each worker would collect
        for note in orders.watch.notes():
            _load.say(f"reeve: {note}")
        good = say_ready(self.channel, begin, self.hello, done)
        if server is None or not good and self.hello.get(Tag.PRELOAD_ERRORS, "fail") != "warn":
            return 1
        culprits = orders.watch.culprits()
        if culprits:
            refuse(self.channel, 0, culprits)
        return self.serve(server, orders)

    def prepare(self, server: Optional[Server], orders: Orders, failed: bool) -> None:
        entry = self.hello.get(Tag.ENTRY, "")
        if server is not None:
            server.open(self.channel.fileno(), False, entry, orders.watch.strangers(), orders.look)
            _born.prepare(None if failed else _load.resolve(entry))
            _born.remember(server, entry, not orders.always())

    def serve(self, server: Server, orders: Orders) -> int:
        early = not orders.always() and not hooks.after
        try:
            event = server.serve(True, orders.always(), early)
        except OSError as error:
            if error.errno == errno.EPROTO:
                raise ProtocolError(server.reason()) from None
            raise
        if event == WORKER:
            _born.run(server, early)
        return 0


def refuse(channel: Channel, request: int, culprits: List[str]) -> None:
    for culprit in culprits:
        _load.say(f"reeve: not safe to fork: {culprit}")
    channel.send(Type.UNSAFE, *((Tag.TEXT, text) for text in culprits), request=request)


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
