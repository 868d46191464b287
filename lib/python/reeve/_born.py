"""
What a forked worker does in Python between the fork and its entry; all that is asked of the kernel,
BORN and GO were or will be done by C (lib/birth.c). Whatever is not done here costs no page.
"""
from __future__ import annotations

import _signal  # what signal wraps in enums, at three times the price
import faulthandler
import functools
import gc
import io
import os
import signal
import sys
import time
from typing import Any, Callable, List, NoReturn, Optional

from . import _load, _run
from ._channel import Channel
from ._hooks import hooks
from ._protocol import Tag, Type
from ._serve import Server
from ._worker import Worker, context

Undo = Callable[[], Any]


class Own:
    """What a template hands to its workers by memory, set when it is ready."""

    def __init__(self) -> None:
        self.entry = ""
        self.function: Optional[Callable[[], Any]] = None  # None: each worker finds out and says so
        self.undo: Optional[List[Undo]] = None  # None: each worker looks
        self.zone: Optional[bytes] = None
        self.encoding = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
        self.kept: Any = None


_own = Own()


def remember(server: Server, entry: str, alone: bool) -> None:
    """
    In a template or seed, before it forks. `alone`: no code runs between this and the forks, so that
    what has to be undone in workers is known now, and what does not have to be done.
    """
    _own.entry, _own.zone = entry, os.environb.get(b"TZ")
    _own.undo = _leftovers(context.worker) if alone else None
    server.know(_known_environment() if alone else None)


def prepare(function: Optional[Callable[[], Any]]) -> None:
    """In a template: what its workers find done. None: the entry could not be loaded."""
    _own.function = function
    context.renew().signals.hook()


def _leftovers(worker: Worker) -> List[Undo]:
    """
    What has to be called so that a worker is like an interpreter that has just started. The kernel's
    side of it is C's: this is about what Python remembers.
    """
    ignore, default = int(signal.SIG_IGN), int(signal.SIG_DFL)
    special = {signal.SIGPIPE: ignore, signal.SIGXFSZ: ignore,
               signal.SIGINT: signal.default_int_handler}
    found: List[Undo] = []
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        fresh = special.get(number, default)
        if _signal.getsignal(number) != fresh:
            found.append(functools.partial(_signal.signal, int(number), fresh))
        elif number == signal.SIGINT:  # Python's own: C has given it the kernel's default
            found.append(functools.partial(_signal.signal, int(number), fresh))
    if any(stream is None or getattr(stream, "closed", False)
           for stream in (sys.stdout, sys.stderr)):
        found.append(_streams)
    if faulthandler.is_enabled():
        found += [faulthandler.disable, faulthandler.enable]
    if worker.stop.filenos():
        found.append(worker.stop.renew)
    wakeup = _signal.set_wakeup_fd(-1)
    if wakeup != -1:
        _signal.set_wakeup_fd(wakeup)
        found.append(functools.partial(_signal.set_wakeup_fd, -1))
    return found


def _streams() -> None:
    """Streams that a preload closed or replaced by nothing are opened again."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        now = getattr(sys, name)
        if now is None or getattr(now, "closed", False):
            raw = io.open(fd, "wb", closefd=False)
            fresh = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace",
                                     line_buffering=True)
            setattr(sys, name, fresh)
            setattr(sys, f"__{name}__", fresh)


def _variables() -> Any:
    """What os.environ keeps, bytes by bytes; None where a program has replaced it."""
    environ: Any = os.environ
    return getattr(environ, "_data", None) if type(environ) is type(os.environb) else None


def _known_environment() -> Optional[bytes]:
    variables = _variables()
    if variables is None:
        return None
    return b"".join([name + b"=" + value + b"\0" for name, value in variables.items()])


def _environment(whole: bool, env: List[bytes]) -> None:
    """os.environ says what C has set."""
    variables = _variables()
    if not whole:
        for pair in env:
            name, is_set, value = pair.partition(b"=")
            if is_set:
                variables[name] = value
            else:
                del variables[name]
    elif variables is not None:
        _own.kept = variables  # to take it apart would write to all of it
        variables = dict([pair.split(b"=", 1) for pair in env])
        os.environ._data = os.environb._data = variables  # type: ignore[attr-defined]
    else:
        variables = dict([pair.split(b"=", 1) for pair in env])
        os.environ.clear()
        os.environ.update({os.fsdecode(k): os.fsdecode(v) for k, v in variables.items()})
    if variables.get(b"TZ") != _own.zone:
        time.tzset()


def _reseed(numpy: Any) -> None:
    """
    numpy's global generator. The whole state of a Mersenne Twister by the kernel: a seed would be
    made into the same with three times the pages.
    """
    random = numpy.random
    own = random.get_bit_generator() if hasattr(random, "get_bit_generator") else None  # 1.24
    if own is None or type(own).__name__ == "MT19937":
        random.set_state(("MT19937", numpy.frombuffer(os.urandom(4 * 624), dtype="uint32"), 624))
    else:
        random.set_bit_generator(type(own)())


def _fail(channel: int, stage: str, error: BaseException) -> NoReturn:
    """The daemon shows it as `web:3: STAGE: TEXT`."""
    if isinstance(error, SystemExit):
        text = f"exit({error.code!r}) was called"
    else:
        text = str(error) if isinstance(error, OSError) else _load.trace(error)
    _load.say(f"reeve: {stage}: {text}")
    try:
        Channel(channel).send(Type.FAIL, (Tag.STAGE, stage), (Tag.TEXT, text[-8192:]),
                              (Tag.ERRNO, _load.errno_of(error)))
    except OSError:
        pass
    os._exit(1)


def start(server: Server, worker: Worker) -> None:
    """In the child: become the worker that was ordered. One piece: each call costs pages."""
    stage = "signals"
    try:
        for undo in _leftovers(worker) if _own.undo is None else _own.undo:
            undo()
        worker.signals.born()
        stage = "environment"
        _environment(*server.env())
        sys.argv[:] = [arg.decode(*_own.encoding) for arg in server.args()]
        stage = "random"  # Python's own generator has seeded itself, C has seeded C's
        if "numpy.random" in sys.modules:
            _reseed(sys.modules["numpy"])
        gc.enable()
        stage = "after_fork"
        if hooks.after:
            hooks.run_after()
    except BaseException as error:  # pylint: disable=broad-except
        _fail(server.words[0], stage, error)


def run(server: Server, early: bool) -> NoReturn:
    """In the child of a template: become the worker, and run the entry. `early`: GO has come."""
    try:
        start(server, context.worker)
        if not early:
            server.finish()
        if _own.function is not None and not hooks.after and not hooks.preload:
            _run.run(context, _own.function)
        found: List[Callable[[], Any]] = []
        code, text, by = _run.call(lambda: found.append(_entry()))
        if found:
            _run.run(context, found[0])
        context.worker.signals.teardown()
        if text is not None:
            _load.say(text)
        _run.end(code, by)
    finally:
        os._exit(70)


def _entry() -> Callable[[], Any]:
    """The function; what importing it adds to the hooks runs now."""
    done = list(hooks.after)
    function = _load.resolve(_own.entry)
    hooks.run_preload()
    for hook in hooks.after:
        if hook not in done:
            hook()
    return function
