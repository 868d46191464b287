"""
The channel of reeve-template(7): one packet is one message, a header and records, host byte order.

Whatever is not exactly as the manual says raises ProtocolError: both ends would rather stop than
guess. The tables are in _protocol.py.
"""
from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from typing import Any, Iterable, List, Optional, Sequence, Tuple

from ._protocol import FORMS, SHAPES, ProtocolError, Shape, Tag, Type, name_of

PACKET_BYTES = 64 << 10
FDS_MAX = 253  # SCM_MAX_FD of unix(7)
OPTIONAL = 1  # flag of a record: skip it if the tag is unknown

_HEADER = struct.Struct("=HHIII")
_RECORD = struct.Struct("=HHI")
_ZEROS = bytes(8)


Record = Tuple[int, Any]


class Message:
    """One message: its type, the request it belongs to, (tag, value) in order, fds that came."""

    __slots__ = ("type", "request", "records", "fds")

    def __init__(self, type: int, request: int = 0, records: Iterable[Record] = (),
                 fds: Sequence[int] = ()) -> None:
        self.type, self.request = type, request
        self.records: List[Record] = records if isinstance(records, list) else list(records)
        self.fds: List[int] = list(fds)

    def __repr__(self) -> str:
        return f"<{name_of(self.type)} {self.request} {self.records} fds={self.fds}>"

    def all(self, tag: int) -> List[Any]:
        return [value for key, value in self.records if key == tag]

    def get(self, tag: int, default: Any = None) -> Any:
        """The value of a record that may be there once."""
        found = self.all(tag)
        return found[0] if found else default

    def need(self, tag: int) -> Any:
        """The value of a record that this use of the message must have."""
        found = self.get(tag)
        if found is None:
            raise ProtocolError(f"{name_of(self.type)} without {Tag(tag).name}")
        return found

    def close_fds(self) -> None:
        for fd in self.fds:
            os.close(fd)
        self.fds = []


def encode(message: Message) -> bytes:
    """The packet of a message; ProtocolError if it does not fit."""
    parts = [b""]
    for tag, value in message.records:
        data = FORMS[tag][0](value)
        parts += [_RECORD.pack(tag, 0, len(data)), data, bytes(-len(data) % 8)]
    parts[0] = _HEADER.pack(message.type, 0, _HEADER.size + sum(map(len, parts)),
                            message.request, 0)
    packet = b"".join(parts)
    if len(packet) > PACKET_BYTES:
        raise ProtocolError(f"{name_of(message.type)} of {len(packet)} bytes; a packet holds "
                            f"{PACKET_BYTES}")
    return packet


def decode(packet: bytes) -> Message:
    """The message of a packet; ProtocolError says what is wrong with it."""
    if len(packet) < _HEADER.size or len(packet) > PACKET_BYTES:
        raise ProtocolError(f"a packet of {len(packet)} bytes")
    kind, flags, size, request, zero = _HEADER.unpack_from(packet)
    shape = SHAPES.get(kind)
    if shape is None:
        raise ProtocolError(f"unknown message type {kind}")
    if flags or zero:
        raise ProtocolError(f"{name_of(kind)} whose reserved fields are not zero")
    if size != len(packet):
        raise ProtocolError(f"{name_of(kind)} of {len(packet)} bytes says it has {size}")
    if shape.request is not None and shape.request != (request != 0):
        raise ProtocolError(f"{name_of(kind)} with request number {request}")
    message = Message(kind, request, _decode_records(packet, shape, kind))
    missing = shape.must.difference(tag for tag, _ in message.records)
    if missing:
        raise ProtocolError(f"{name_of(kind)} without {Tag(min(missing)).name}")
    return message


def _decode_records(packet: bytes, shape: Shape, kind: int) -> List[Record]:
    """One loop without calls: between a request and its worker there is nothing but this."""
    records: List[Record] = []
    at, whole = _HEADER.size, len(packet)
    seen = set()
    while at < whole:
        if whole - at < _RECORD.size:
            raise ProtocolError(f"{whole - at} bytes behind the last record")
        tag, flags, size = _RECORD.unpack_from(packet, at)
        begin = at + _RECORD.size
        end = begin + size
        at = end + -size % 8
        if at > whole:
            raise ProtocolError(f"a record of {size} bytes reaches beyond its packet")
        if flags & ~OPTIONAL:
            raise ProtocolError(f"unknown flags {flags:#x} of a record")
        if packet[end:at] != _ZEROS[:at - end]:
            raise ProtocolError("padding that is not zero")
        if tag not in shape.known:
            if not flags & OPTIONAL:
                raise ProtocolError(f"tag {tag}, which {name_of(kind)} does not have")
            continue
        if tag in seen and tag not in shape.many:
            raise ProtocolError(f"{Tag(tag).name} twice in {name_of(kind)}")
        seen.add(tag)
        records.append((tag, FORMS[tag][1](packet[begin:end])))
    return records


def hidden_number(least: int = 3) -> int:
    """
    A number that nobody writes to by accident. Not much higher, because the kernel copies a table up
    to the highest fd at every fork.
    """
    return max(least, min(200, os.sysconf("SC_OPEN_MAX") - 32))


class Channel:
    """One end of a channel. Owns its fd. Not for use by two threads without a lock."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd)

    @classmethod
    def hidden(cls, fd: int) -> "Channel":
        """Take over `fd`, and give it a number that nobody writes to by accident."""
        hidden = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, hidden_number())
        os.close(fd)
        return cls(hidden)

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def send(self, type: int, *records: Record, request: int = 0, fds: Sequence[int] = ()) -> None:
        """Send one message; blocks while the other end does not read. OSError if it is gone."""
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        packet = encode(Message(type, request, records))
        self.socket.sendmsg([packet], control, socket.MSG_NOSIGNAL)

    def send_now(self, message: Message) -> None:
        """Send without waiting: BlockingIOError if the socket is full."""
        self.socket.sendmsg([encode(message)], [], socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)

    def receive(self, wait: bool = True) -> Optional[Message]:
        """
        The next message; None when the other end is gone.
        BlockingIOError: wait is False and there is none. ProtocolError: it is not one.
        """
        flags = socket.MSG_CMSG_CLOEXEC | (0 if wait else socket.MSG_DONTWAIT)
        try:
            packet, control, got, _ = self.socket.recvmsg(
                PACKET_BYTES + 1, socket.CMSG_SPACE(FDS_MAX * 4), flags)
        except ConnectionResetError:  # it went without having read all that we said
            return None
        fds = array.array("i")
        for level, kind, data in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
        try:
            if got & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ProtocolError("a packet or its fds were cut off")
            if not packet and not fds:
                return None
            message = decode(packet)
        except ProtocolError:
            for fd in fds:
                os.close(fd)
            raise
        message.fds = list(fds)
        if message.fds and message.type != Type.FORK:
            message.close_fds()
            raise ProtocolError(f"{name_of(message.type)} with fds")
        return message
