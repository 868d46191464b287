"""The C library by ctypes, called without giving up the GIL; None in an interpreter without ctypes."""
from __future__ import annotations

import mmap
from typing import Any, List, Optional

try:
    import ctypes
    libc: Any = ctypes.PyDLL(None)
except (ImportError, OSError):
    ctypes = None  # type: ignore[assignment]
    libc = None

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15

_kept: List[mmap.mmap] = []  # code stays where it is


def executable(code: bytes) -> Optional[int]:
    """Where machine code has been mapped; None where that may not be (MemoryDenyWriteExecute)."""
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.write(code)
    at = ctypes.addressof(ctypes.c_char.from_buffer(page))
    protect = libc.mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    if protect(at, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        return None
    _kept.append(page)
    return int(at)


def set_name(name: str) -> None:
    """The name of this thread in ps and /proc, 15 bytes of it."""
    if libc is not None:
        libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode("utf-8", "replace")[:15]), 0, 0, 0)


def flush() -> None:
    """What C code of the template has printed is not printed again by each worker."""
    if libc is not None:
        libc.fflush(None)


def overwrite(begin: int, end: int, data: bytes) -> None:
    """Write to memory as much as fits, filled up with NUL and always ending in one."""
    if ctypes is not None and begin and end - begin > 1:
        size = end - begin
        ctypes.memmove(begin, data[:size - 1].ljust(size, b"\0"), size)
