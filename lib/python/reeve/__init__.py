"""
What a Python worker may say to Reeve and ask of it. Since 0.2.0; reeve-template(7) has the protocol.

All calls may be made from any thread and never raise because of Reeve. Outside Reeve they do nothing:
the same program runs by hand, in a test, or under another service manager.

    import reeve

    def main():
        reeve.ready()
        while not reeve.stopping():
            ...
"""
from __future__ import annotations

from typing import BinaryIO, Dict, Mapping
import socket as _socket

from ._hooks import after_fork, before_fork, preload
from ._worker import context as _context, passed as _passed

__version__ = "0.2.0"
__all__ = ["after_fork", "beat", "before_fork", "busy", "environ", "files", "fork_point", "jobs",
           "name", "preload", "progress", "ready", "sockets", "status", "stop_fd", "stopping"]

stop_fd: int  # made when it is first read, see __getattr__


def ready() -> bool:
    """This worker serves now (READY=1; `ready = "notify"`). True if it could be said."""
    return bool(_context.me().ready())


def beat() -> bool:
    """
    This worker is alive (WATCHDOG=1; `watchdog`). To be called often, in the loop that must not hang:
    it is said four times in the group's `watchdog`, else once a second, and never waits.
    """
    return bool(_context.me().beat())


def status(text: str) -> bool:
    """One line for `reevectl status`."""
    return bool(_context.me().status(text))


def progress(done: int, total: int) -> bool:
    """How far it is, for `reevectl status`."""
    return bool(_context.me().progress(done, total))


def jobs(count: int = 1) -> bool:
    """So many jobs were finished since the last call (`recycle.jobs`). None is lost on the way."""
    return bool(_context.me().jobs(count))


def busy(value: bool = True) -> bool:
    """It has something to do, or nothing (`scale`)."""
    return bool(_context.me().busy(value))


def stopping() -> bool:
    """
    True from the moment when this worker was asked to end.
    The first call, or the first look at stop_fd, makes SIGTERM and SIGINT set the flag instead of
    ending the process, unless the program handles them itself. Never True outside Reeve.
    """
    return bool(_context.me().stopping())


def fork_point() -> int:
    """
    Under start_method "fork": in the seed, siblings are forked here; in a sibling it returns when
    the sibling may work. Returns the index of the worker that continues. Does nothing elsewhere.
    A sibling is a new worker: with ready = "notify" it says ready() for itself, after this call.
    Call it in the main thread, when the caches are warm and no other thread runs.
    """
    return int(_context.me().fork_point())


def sockets() -> Dict[str, _socket.socket]:
    """
    The `sockets` of the group, by name. They are the worker's; closing one does not close it for
    the others.
    """
    return _passed.sockets()


def files() -> Dict[str, BinaryIO]:
    """The `files` of the group, by name, unbuffered."""
    return _passed.files()


def name() -> str:
    """This worker's name, "web:3"; "" outside Reeve."""
    return str(_context.me().environ.get("REEVE_WORKER", ""))


def environ() -> Mapping[str, str]:
    """This worker's environment: os.environ, in a threads host that of the slot."""
    found: Mapping[str, str] = _context.me().environ
    return found


def __getattr__(attribute: str) -> int:
    """stop_fd: an fd that becomes readable when the worker is asked to end. Do not read from it."""
    if attribute == "stop_fd":
        return int(_context.me().stop_fd())
    raise AttributeError(f"module 'reeve' has no attribute {attribute!r}")
