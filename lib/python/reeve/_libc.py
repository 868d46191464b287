"""The C library by ctypes, called without giving up the GIL; None in an interpreter without ctypes."""
from __future__ import annotations

from typing import Any

try:
    import ctypes
    libc: Any = ctypes.PyDLL(None)
except (ImportError, OSError):
    ctypes = None  # type: ignore[assignment]
    libc = None

PR_SET_NAME = 15

def set_name(name: str) -> None:
    """The name of this thread in ps and /proc, 15 bytes of it."""
    if libc is not None:
        libc.prctl(PR_SET_NAME, ctypes.c_char_p(name.encode("utf-8", "replace")[:15]), 0, 0, 0)


def flush() -> None:
    """What C code of the template has printed is not printed again by each worker."""
    if libc is not None:
        libc.fflush(None)
