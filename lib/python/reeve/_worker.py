"""
Who "I" am for the calls of the API: the worker that this process is, or the slot that this thread
is in a threads host, or nobody outside Reeve.
"""
from __future__ import annotations

import os
import socket
import stat
import threading
from typing import Any, BinaryIO, Callable, Dict, Mapping, Optional, Tuple

from . import _notify
from ._stop import Signals, Stop

_FIRST_FD = 3  # SD_LISTEN_FDS_START


class Nobody:
    """Every call does nothing and says so by False or 0."""

    def __init__(self) -> None:
        self.environ: Mapping[str, str] = os.environ
        self.stop = Stop()

    def ready(self) -> bool:
        return False

    def beat(self) -> bool:
        return False

    def status(self, text: str) -> bool:
        return False

    def progress(self, done: int, total: int) -> bool:
        return False

    def jobs(self, count: int) -> bool:
        return False

    def busy(self, value: bool) -> bool:
        return False

    def stopping(self) -> bool:
        return False

    def stop_fd(self) -> int:
        return self.stop.fileno()

    def fork_point(self) -> int:
        return int(self.environ.get("REEVE_INDEX", "0"))


class Worker(Nobody):
    """This process is a worker, or a program that another service manager listens to."""

    def __init__(self) -> None:
        super().__init__()
        self._notifier: Optional[_notify.Notifier] = None
        self._pace: Optional[_notify.Pace] = None
        self.signals = Signals(self.stop)
        self.on_fork_point: Optional[Callable[[], None]] = None

    @property
    def inside(self) -> bool:
        return "REEVE_WORKER" in os.environ

    @property
    def notifier(self) -> _notify.Notifier:
        if self._notifier is None:
            self._notifier = _notify.from_environment()
        return self._notifier

    def ready(self) -> bool:
        return self.notifier.send("READY=1", wait=True)

    def beat(self) -> bool:
        if self._pace is None:
            self._pace = _notify.Pace(os.environ.get("WATCHDOG_USEC"))
        if self.notifier.address and not self._pace.due():
            return True
        return self.notifier.send("WATCHDOG=1") and self._pace.said()

    def status(self, text: str) -> bool:
        return self.notifier.send("STATUS=" + _notify.one_line(text))

    def progress(self, done: int, total: int) -> bool:
        return self.notifier.send(f"X_REEVE_PROGRESS={int(done)}/{int(total)}")

    def jobs(self, count: int) -> bool:
        return self.notifier.jobs(int(count))

    def busy(self, value: bool) -> bool:
        return self.notifier.send(f"X_REEVE_BUSY={int(bool(value))}")

    def stopping(self) -> bool:
        if self.inside:
            self.signals.use()
        return self.stop.is_set()

    def stop_fd(self) -> int:
        return self.signals.fileno() if self.inside else self.stop.fileno()

    def fork_point(self) -> int:
        if self.on_fork_point is not None:
            self.on_fork_point()
        return super().fork_point()


class _Local(threading.local):
    """The slot of this thread, if it is one."""
    me: Optional[Nobody] = None


class Context:
    """Holds the worker of the process, which changes when a template forks, and the slots."""

    def __init__(self) -> None:
        self.local = _Local()
        self.worker = Worker()

    def renew(self) -> Worker:
        """After a fork: somebody else. An fd that the code got as stop_fd keeps its number."""
        stop, self.worker = self.worker.stop, Worker()
        self.worker.stop = self.worker.signals.stop = stop
        return self.worker

    def me(self) -> Any:
        return self.local.me or self.worker


context = Context()


def listen_fds() -> Dict[str, int]:
    """The passed fds by name; a name that comes again gets ".1", ".2", one without is its number."""
    env = os.environ
    try:
        count = int(env.get("LISTEN_FDS", "0"))
        if int(env.get("LISTEN_PID", "0")) != os.getpid():
            return {}
    except ValueError:
        return {}
    names = env.get("LISTEN_FDNAMES", "").split(":")
    found: Dict[str, int] = {}
    for i in range(count):
        name = names[i] if i < len(names) and names[i] else str(i)
        key, n = name, 0
        while key in found:
            n += 1
            key = f"{name}.{n}"
        found[key] = _FIRST_FD + i
    return found


class Passed:
    """The objects made from passed fds; one per fd, so that none is closed behind another's back."""

    def __init__(self) -> None:
        self._made: Dict[Tuple[int, int], Any] = {}

    def _of_kind(self, is_socket: bool, make: Callable[[int], Any]) -> Dict[str, Any]:
        out = {}
        for name, fd in listen_fds().items():
            try:
                mode = os.fstat(fd).st_mode
            except OSError:
                continue
            if stat.S_ISSOCK(mode) == is_socket:
                key = (os.getpid(), fd)
                if key not in self._made:
                    self._made[key] = make(fd)
                out[name] = self._made[key]
        return out

    def sockets(self) -> Dict[str, socket.socket]:
        return self._of_kind(True, _socket_of)

    def files(self) -> Dict[str, BinaryIO]:
        return self._of_kind(False, _file_of)


def _socket_of(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def _file_of(fd: int) -> BinaryIO:
    import fcntl  # pylint: disable=import-outside-toplevel
    os.set_inheritable(fd, False)
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    mode = {os.O_RDONLY: "rb", os.O_WRONLY: "wb"}.get(access, "r+b")
    return open(fd, mode, buffering=0, closefd=False)  # type: ignore[return-value]


passed = Passed()
