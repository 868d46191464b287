"""sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names, never waiting for a reader."""
from __future__ import annotations

import os
import socket
import time
from typing import Optional, Tuple


class Notifier:
    """Sends to one address. What cannot be sent now is lost, but for finished jobs: these add up."""

    def __init__(self, address: Optional[str]) -> None:
        self._socket: Optional[socket.socket] = None
        self._pid = 0
        self._jobs = 0
        self.address = "\0" + address[1:] if address and address[0] == "@" else address

    def send(self, text: str, wait: bool = False) -> bool:
        """True if it was handed over. `wait`: up to two seconds for room in the socket."""
        if not self.address:
            return False
        try:
            return self._send(text.encode("utf-8", "replace"), wait)
        except OSError:
            return False

    def _send(self, data: bytes, wait: bool) -> bool:
        if self._socket is None or self._pid != os.getpid():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._pid = os.getpid()
        self._socket.settimeout(2.0 if wait else 0.0)
        self._socket.sendto(data, socket.MSG_NOSIGNAL, self.address)
        return True

    def filenos(self) -> Tuple[int, ...]:
        """Its fd, once it has one."""
        return (self._socket.fileno(),) if self._socket is not None else ()

    def jobs(self, count: int) -> bool:
        self._jobs += count
        if not self.send(f"X_REEVE_JOBS={self._jobs}"):
            return False
        self._jobs = 0
        return True


class Pace:
    """
    How often a sign of life is worth saying: four times in a watchdog's period, and once a second at
    least. So a worker may beat in its innermost loop.
    """

    def __init__(self, period_usec: Optional[str]) -> None:
        try:
            period = int(period_usec or "")
        except ValueError:
            period = 0
        self._gap = min(period / 4e6, 1.0) if period > 0 else 1.0
        self._next = 0.0

    def due(self) -> bool:
        return time.monotonic() >= self._next

    def said(self) -> bool:
        self._next = time.monotonic() + self._gap
        return True


def one_line(text: str) -> str:
    """A status is one line: the next one would be another assignment."""
    return " ".join(str(text).splitlines())


def from_environment() -> Notifier:
    return Notifier(os.environ.get("NOTIFY_SOCKET"))
