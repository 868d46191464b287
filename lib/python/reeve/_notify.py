"""sd_notify(3): datagrams to the socket that NOTIFY_SOCKET names, never waiting for a reader."""
from __future__ import annotations

import os
import socket
from typing import Optional


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

    def jobs(self, count: int) -> bool:
        self._jobs += count
        if not self.send(f"X_REEVE_JOBS={self._jobs}"):
            return False
        self._jobs = 0
        return True


def one_line(text: str) -> str:
    """A status is one line: the next one would be another assignment."""
    return " ".join(str(text).splitlines())


def from_environment() -> Notifier:
    return Notifier(os.environ.get("NOTIFY_SOCKET"))
