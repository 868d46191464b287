"""
Running an entry to its end: the same code for every start method, so that exit codes are the same.

None ends with 0, an int is the code (its low 8 bits, as the kernel keeps them), an exception prints
its traceback and ends with 1. The process ends by _exit after threads were joined, atexit functions
were called and streams were flushed: taking the interpreter apart would touch every page that is
shared with the template, for nothing.
"""
from __future__ import annotations

import atexit
import io
import os
import signal
import sys
import threading
from typing import Any, Callable, NoReturn, Optional, Tuple

from . import _load
from ._hooks import hooks
from ._worker import Context


def code_of(result: Any) -> int:
    """The exit code that a returned value, or the argument of sys.exit(), means."""
    if result is None:
        return 0
    if isinstance(result, int):
        return result & 0xFF
    if hasattr(result, "__await__"):
        _load.say("reeve: the entry is a coroutine function; let it call asyncio.run()")
        result.close()
        return 1
    _load.say(str(result))
    return 1


def call(function: Callable[[], Any]) -> Tuple[int, Optional[str], int]:
    """(code, traceback or None, signal to end by or 0) of a call."""
    try:
        return code_of(function()), None, 0
    except SystemExit as error:
        return code_of(error.code), None, 0
    except KeyboardInterrupt as error:
        return 1, _load.trace(error), signal.SIGINT
    except BaseException as error:  # pylint: disable=broad-except
        return 1, _load.trace(error), 0


def line_buffered() -> None:
    """A line of log is written when it is complete: what a killed worker said is not lost."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            try:
                stream.reconfigure(line_buffering=True)
            except (ValueError, OSError):
                pass


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):
            pass


def end(code: int, by: int = 0) -> NoReturn:
    """End the process: joined, flushed, with exactly this code or by this signal."""
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        stopped, text, _ = call(step)
        if text is not None:
            _load.say(text)
            code = code or stopped
    _flush()
    if by:
        signal.signal(by, signal.SIG_DFL)
        os.kill(os.getpid(), by)
    os._exit(code)


def prepare(entry: str) -> Callable[[], Any]:
    """Import what is not there yet and run what still has to run before the entry."""
    function = _load.resolve(entry)
    hooks.run_preload()
    hooks.run_after()
    return function


def run(context: Context, function: Callable[[], Any]) -> NoReturn:
    """Run the entry of this process. Who comes back may be a sibling that was forked in it."""
    context.worker.signals.entry()
    code, text, by = call(function)
    context.worker.signals.teardown()
    if text is not None:
        _load.say(text)
    end(code, by)


def run_entry(context: Context, entry: str) -> NoReturn:
    """Under spawn: import, hooks and the entry; TERM before the entry ends it with code 0."""
    found = []
    code, text, by = call(lambda: found.append(prepare(entry)))
    if not found:
        context.worker.signals.teardown()
        if text is not None:
            _load.say(text)
        end(code, by)
    run(context, found[0])
