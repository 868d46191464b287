"""
The C half of templates and seeds: libreeve-template.so, which lies beside this package.

Running Python writes to nearly every page that it touches, for the reference counts, and a page that
the template writes to between two forks is one that its workers do not share. So the loop that
serves FORK, and all of a worker's birth that is asked of the kernel, is C (serve.c): between two
forks the template runs nothing of Python but what is registered with os.register_at_fork().
"""
from __future__ import annotations

import mmap
import os
from typing import Any, Callable, List, Optional, Sequence, Tuple

from . import _load
from ._channel import hidden_number

try:
    import ctypes
except ImportError:  # an interpreter that was built without libffi
    ctypes = None  # type: ignore[assignment]

NAME = "libreeve-template.so"

# enum forker_event
NOTHING, SERVED, WORKER, PINGED, QUIT, UNWANTED = range(6)

Look = Callable[[int, List[int]], int]


_HEAD, _TEXTS = 4, 2 * 65536  # struct reeve_template_told: words, then texts


class Unavailable(Exception):
    """Nobody can be forked here; the text says why."""


def library() -> Any:
    """The same each time."""
    version = _version()
    if ctypes is None:
        raise Unavailable("this interpreter has no ctypes")
    try:
        found = ctypes.PyDLL(os.path.join(_load.DIR, NAME))
    except OSError as error:
        raise Unavailable(str(error)) from None
    found.reeve_template_version.restype = ctypes.c_char_p
    its = found.reeve_template_version().decode()
    if its != version:
        raise Unavailable(f"it is of version {its}, the package of {version}")
    return found


class Waker:
    """Wakes an fd in C's handler of a signal, in front of Python's."""

    def __init__(self) -> None:
        self._wake = library().reeve_template_wake
        self._wake.restype = ctypes.POINTER(ctypes.c_int)

    def wake(self, number: int, fd: int) -> Any:
        """A pointer to what is not 0 as soon as the signal has come."""
        return self._wake(number, fd)


class Server:
    """One per process. Calls keep the GIL, but for the wait for an order."""

    def __init__(self) -> None:
        self._library = library()
        self._library.reeve_template_why.restype = ctypes.c_char_p
        ints = ctypes.POINTER(ctypes.c_int)
        self._library.reeve_template_open.argtypes = [
            ctypes.c_int, ctypes.c_bool, ctypes.c_char_p, ctypes.c_int, ints, ctypes.c_size_t,
            ctypes.c_void_p]
        self._library.reeve_template_know.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._form = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32, ints,
                                       ctypes.c_size_t)
        self._library.reeve_template_serve.argtypes = [ctypes.c_bool, self._form, ctypes.c_bool,
                                                       ctypes.c_bool]
        self._told = mmap.mmap(-1, 4 * _HEAD + _TEXTS,
                               flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._where = ctypes.addressof(ctypes.c_char.from_buffer(self._told))
        self.words = memoryview(self._told).cast("I")  # channel, bytes of args, of env, whole
        self._look = self._form()

    def open(self, channel: int, seed: bool, entry: str, taken: Sequence[int], look: Look) -> None:
        """
        Before READY, and at each fork point of a seed; what is open now is remembered. `taken` are
        numbers that workers find taken. `look` is asked about a fork that is not obviously safe:
        0, or 1 if it has refused it; it gets the request and the fds that came with it.
        """
        numbers = (ctypes.c_int * max(1, len(taken)))(*taken)
        error = self._library.reeve_template_open(channel, seed, os.fsencode(entry), hidden_number(),
                                                  numbers, len(taken), self._where)
        if error < 0:
            raise OSError(-error, os.strerror(-error))
        self._look = self._form(lambda _, request, fds, count: look(request, fds[:count]))

    def serve(self, wait: bool, always: bool, early: bool) -> int:
        """
        Serve all that comes, or (`wait` False) one order. `always`: look before each fork. `early`:
        a worker comes back after GO, not before BORN. OSError; see reason().
        """
        event = int(self._library.reeve_template_serve(wait, self._look, always, early))
        if event < 0:
            raise OSError(-event, os.strerror(-event))
        return event

    def reason(self) -> str:
        """What was wrong with the packet that serve() raised EPROTO for."""
        return str(self._library.reeve_template_why().decode())

    def args(self) -> List[bytes]:
        """In a new worker."""
        begin = 4 * _HEAD
        return self._told[begin:begin + self.words[1] - 1].split(b"\0")

    def env(self) -> Tuple[bool, List[bytes]]:
        """
        In a new worker: (True, all variables) or (False, what differs from what is known, NAME alone
        of one that is to go).
        """
        begin = 4 * _HEAD + self.words[1]
        texts = self._told[begin:begin + self.words[2] - 1].split(b"\0") if self.words[2] else []
        return bool(self.words[3]), texts

    def know(self, env: Optional[bytes]) -> None:
        """What os.environ of the next workers will hold at first; None: nobody knows."""
        error = self._library.reeve_template_know(env, len(env or b""))
        if error < 0:
            raise OSError(-error, os.strerror(-error))

    def finish(self) -> None:
        """BORN, if that was not said yet; GO; death with the keeper."""
        self._library.reeve_template_finish()


def _version() -> str:
    from . import __version__  # pylint: disable=import-outside-toplevel
    return __version__
