"""
Loading the user's code: sys.path, preloads, their tracebacks, and undoing what they must not change.
Used by the template, the seed, the threads host and spawn alike, so that all find the same modules.
"""
from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import traceback
from types import TracebackType
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from ._hooks import hooks

PACKAGE = os.path.dirname(os.path.abspath(__file__))
DIR = os.path.dirname(PACKAGE)

# Libraries that start a thread per core when they are loaded; they read these at that moment.
NUM_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS",
               "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS",
               "POLARS_MAX_THREADS", "VECLIB_MAXIMUM_THREADS", "TBB_NUM_THREADS")


class Loaded(NamedTuple):
    name: str
    error: Optional[str]  # a traceback


def say(text: str) -> None:
    """A line on stderr, whatever the user's code has done to it."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (AttributeError, ValueError, OSError):
        pass
    try:
        os.write(2, (text.rstrip("\n") + "\n").encode("utf-8", "replace"))
    except OSError:
        pass


def set_path(directory: str = DIR) -> None:
    """The current directory first (unless it is / or PYTHONSAFEPATH forbids), this package last."""
    here = os.getcwd()
    rest = [p for p in sys.path if p not in ("", directory, DIR)]
    if here != "/" and not getattr(sys.flags, "safe_path", False):
        rest = [here] + [p for p in rest if p != here]
    sys.path[:] = [*rest, directory]


def trace(error: BaseException) -> str:
    """The traceback of an error without the frames of the runtime and of importlib."""
    def ours(at: Optional[TracebackType]) -> bool:
        file = at.tb_frame.f_code.co_filename if at else "x"
        return file.startswith((PACKAGE + os.sep, "<frozen importlib")) \
            or file == importlib.__file__

    at = error.__traceback__
    while at is not None and ours(at):
        at = at.tb_next
    return "".join(traceback.format_exception(type(error), error, at))


def errno_of(error: BaseException) -> int:
    """Its errno, or 0: libraries keep texts and numbers of their own under that name."""
    number = getattr(error, "errno", None)
    return number if isinstance(number, int) and 0 <= number < 1 << 31 else 0


def _import(name: str) -> Any:
    """The module; where it is not there, the error says where it was looked for."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):  # one that it imports
            raise
        here = os.getcwd()
        looked = "not" if here == "/" else f"neither in {here} (cwd) nor"
        raise ModuleNotFoundError(  # in few words: what is shown of it has an end
            f"No module named {missing!r}, {looked} for {sys.executable}; install it, or set cwd or "
            "PYTHONPATH", name=missing) from None


def _nearest(found: Any, name: str) -> str:
    import difflib  # pylint: disable=import-outside-toplevel
    near = difflib.get_close_matches(name, [n for n in dir(found) if callable(getattr(found, n, 0))])
    return f'; did you mean "{near[0]}"?' if near else ""


def resolve(entry: str) -> Callable[[], Any]:
    """The function that "pkg.mod:func" names."""
    module, colon, path = entry.partition(":")
    if not colon or not module or not path:
        raise ImportError(f'entry "{entry}": write it as "package.module:function"')
    found: Any = _import(module)
    file = getattr(found, "__file__", None)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ImportError(f'module "{module}" has no function "{path}"{_nearest(found, name)} '
                              f"({file})") from None
    if not callable(found):
        raise ImportError(f'"{entry}" is no function but {type(found).__name__}; name one that '
                          f"takes no arguments ({file})")
    return found  # type: ignore[no-any-return]


def load_one(name: str) -> Optional[str]:
    """Import a module, or resolve an entry, and run its @preload functions: its traceback."""
    try:
        if ":" in name:
            resolve(name)
        else:
            _import(name)
        hooks.run_preload()
    except SystemExit as error:
        return trace(error) + f"exit({error.code!r}) was called while loading {name}\n"
    except BaseException as error:  # pylint: disable=broad-except  # KeyboardInterrupt too
        return trace(error)
    return None


class Surroundings:
    """What code that is being loaded may change by accident and must not hand on to workers."""

    def __init__(self) -> None:
        self.pid, self.cwd = os.getpid(), os.getcwd()
        self.ids = (os.getresuid(), os.getresgid(), os.getgroups())
        self.umask = os.umask(0o77)
        os.umask(self.umask)
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.limits = self._limits()
        self.nice = os.getpriority(os.PRIO_PROCESS, 0)

    @staticmethod
    def _limits() -> Dict[int, Tuple[int, int]]:
        numbers = sorted({v for k, v in vars(resource).items() if k.startswith("RLIMIT_")})
        return {n: resource.getrlimit(n) for n in numbers}

    def restore(self) -> List[str]:
        """Put back what can be; what was put back. PermissionError: it cannot be."""
        changed = []
        if os.getpid() != self.pid:  # a fork came back to us: it is not the template
            say("reeve: a preload forked, and its child came back into the loader; it ends here")
            os._exit(70)
        if (os.getresuid(), os.getresgid(), os.getgroups()) != self.ids:
            raise PermissionError("loading changed the user or groups of the process; "
                                  "set `user` of the group instead")
        if os.getcwd() != self.cwd:
            os.chdir(self.cwd)
            changed.append("the working directory")
        if os.umask(self.umask) != self.umask:
            changed.append("the umask")
        if signal.pthread_sigmask(signal.SIG_SETMASK, self.mask) != self.mask:
            changed.append("the signal mask")
        if os.getpriority(os.PRIO_PROCESS, 0) != self.nice:
            try:
                os.setpriority(os.PRIO_PROCESS, 0, self.nice)
                changed.append("the niceness")
            except PermissionError:
                pass  # FORK has the one that workers need, or they keep this one
        for number, limit in self.limits.items():
            if resource.getrlimit(number) != limit:
                try:
                    resource.setrlimit(number, limit)
                except (ValueError, OSError):
                    pass  # a hard limit that was lowered
                changed.append(f"limit {number}")
        return changed


def load(names: List[str], loading: Callable[[str], None], single: bool = True) -> List[Loaded]:
    """
    Load each name in order; after one has failed the others are tried as well.
    `single`: libraries are told to start no threads of their own.
    """
    saved = {name: os.environ.get(name) for name in NUM_THREADS}
    if single:
        os.environ.update({name: "1" for name in NUM_THREADS})
    try:
        return _load_all(names, loading)
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _load_all(names: List[str], loading: Callable[[str], None]) -> List[Loaded]:
    before = Surroundings()
    done = []
    for name in names:
        loading(name)
        error = load_one(name)
        try:
            changed = before.restore()
        except OSError as failed:
            changed, error = [], (error or "") + f"{failed}\n"
        if changed:
            say(f"reeve: {name} changed {', '.join(changed)} while loading; put back")
        done.append(Loaded(name, error))
    return done
