"""
The protocol of reeve-template(7) as tables: types, tags, the form of each tag's data, and which tags
a message of each type has. _channel.py reads and writes by them.
"""
from __future__ import annotations

import enum
import struct
from typing import Any, Callable, Dict, FrozenSet, NamedTuple, Optional, Sequence, Tuple

VERSION = 1


class Type(enum.IntEnum):
    HELLO = 1
    LOADING = 2
    READY = 3
    FORK = 4
    SPAWNED = 5
    FAILED = 6
    UNSAFE = 7
    PING = 8
    PONG = 9
    QUIT = 10
    START = 11
    SLOT = 12
    STOP = 13
    BORN = 32
    FAIL = 33
    GO = 34


class Tag(enum.IntEnum):
    VERSIONS = 1
    MODE = 2
    GROUP = 3
    COUNT = 4
    GENERATION = 5
    ENTRY = 6
    PRELOAD = 7
    PRELOAD_ERRORS = 8
    ALLOW_THREAD = 9
    PATH = 10
    RUNTIME = 11
    TEXT = 12
    LOAD_US = 13
    TASKS = 14
    RSS = 15
    FDS = 16
    ERROR = 17
    NAME = 18
    INDEX = 19
    INCARNATION = 20
    ARG = 21
    ENV = 22
    CWD = 23
    UMASK = 24
    NICE = 25
    LIMIT = 26
    FD_MAP = 27
    PID = 28
    STAGE = 29
    ERRNO = 30
    STATE = 31
    CODE = 32
    PROGRESS = 33
    JOBS = 34
    BUSY = 35


class ProtocolError(Exception):
    """The other end said something that the manual does not allow."""


class Limit(NamedTuple):
    """Data of a LIMIT record; ~0 in soft or hard means unlimited."""
    resource: int
    soft: int
    hard: int


def _text_out(value: str) -> bytes:
    value = value.replace("\0", "\ufffd")
    try:
        return value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return value.encode("utf-8", "replace")


def _text_in(data: bytes) -> str:
    return _bytes_in(data).decode("utf-8", "surrogateescape")


def _bytes_in(data: bytes) -> bytes:
    if b"\0" in data:
        raise ProtocolError("NUL in a text")
    return data


def _fixed(layout: str) -> Tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    form = struct.Struct("=" + layout)

    def read(data: bytes) -> Any:
        if len(data) != form.size:
            raise ProtocolError(f"a record of {len(data)} bytes where {form.size} are due")
        return form.unpack(data)[0]
    return form.pack, read


def _pair(layout: str) -> Tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    form = struct.Struct("=" + layout)

    def read(data: bytes) -> Any:
        if len(data) != form.size:
            raise ProtocolError(f"a record of {len(data)} bytes where {form.size} are due")
        return form.unpack(data)
    return lambda value: form.pack(*value), read


_LIMIT = struct.Struct("=IIQQ")


def _limit_in(data: bytes) -> Limit:
    if len(data) != _LIMIT.size:
        raise ProtocolError("a limit of the wrong length")
    resource, zero, soft, hard = _LIMIT.unpack(data)
    if zero:
        raise ProtocolError("a limit whose zero field is not zero")
    return Limit(resource, soft, hard)


def _ints_out(value: Sequence[int]) -> bytes:
    return struct.pack(f"={len(value)}i", *value)


def _ints_in(data: bytes) -> Tuple[int, ...]:
    if len(data) % 4:
        raise ProtocolError("a map of fds whose length is no multiple of 4")
    return struct.unpack(f"={len(data) // 4}i", data)


_TEXT = (_text_out, _text_in)
_BYTES = (bytes, _bytes_in)
_U32, _I32, _U64 = _fixed("I"), _fixed("i"), _fixed("Q")

# How the data of each tag is written and read.
FORMS: Dict[int, Tuple[Callable[[Any], bytes], Callable[[bytes], Any]]] = {
    Tag.VERSIONS: _pair("II"), Tag.MODE: _TEXT, Tag.GROUP: _TEXT, Tag.COUNT: _U32,
    Tag.GENERATION: _U32, Tag.ENTRY: _TEXT, Tag.PRELOAD: _TEXT, Tag.PRELOAD_ERRORS: _TEXT,
    Tag.ALLOW_THREAD: _TEXT, Tag.PATH: _TEXT, Tag.RUNTIME: _TEXT, Tag.TEXT: _TEXT,
    Tag.LOAD_US: _U64, Tag.TASKS: _U32, Tag.RSS: _U64, Tag.FDS: _U32, Tag.ERROR: _TEXT,
    Tag.NAME: _TEXT, Tag.INDEX: _U32, Tag.INCARNATION: _U32, Tag.ARG: _BYTES, Tag.ENV: _BYTES,
    Tag.CWD: _BYTES, Tag.UMASK: _U32, Tag.NICE: _I32,
    Tag.LIMIT: (lambda v: _LIMIT.pack(v[0], 0, v[1], v[2]), _limit_in),
    Tag.FD_MAP: (_ints_out, _ints_in), Tag.PID: _I32, Tag.STAGE: _TEXT, Tag.ERRNO: _I32,
    Tag.STATE: _TEXT, Tag.CODE: _I32, Tag.PROGRESS: _pair("QQ"), Tag.JOBS: _U64, Tag.BUSY: _U32,
}


class Shape(NamedTuple):
    """What a message of a type holds: tags it must have, may have once, may have often."""
    request: Optional[bool]  # has a number; None: may have one
    must: FrozenSet[int]
    many: FrozenSet[int]
    known: FrozenSet[int]  # all of them


def _shape(request: Optional[bool], must: str = "", may: str = "", many: str = "") -> Shape:
    def tags(names: str) -> FrozenSet[int]:
        return frozenset(int(Tag[name]) for name in names.split())
    return Shape(request, tags(must), tags(many), tags(f"{must} {may} {many}"))


SHAPES: Dict[int, Shape] = {
    Type.HELLO: _shape(False, "VERSIONS", "MODE GROUP COUNT GENERATION ENTRY PRELOAD_ERRORS PATH "
                                          "RUNTIME", "PRELOAD ALLOW_THREAD"),
    Type.LOADING: _shape(False, "TEXT"),
    Type.READY: _shape(False, "LOAD_US TASKS RSS FDS", "", "PRELOAD ERROR"),
    Type.FORK: _shape(True, "NAME INDEX COUNT INCARNATION GENERATION FD_MAP", "CWD UMASK NICE",
                      "ARG ENV LIMIT"),
    Type.SPAWNED: _shape(True, "PID"),
    Type.FAILED: _shape(None, "STAGE ERRNO", "TEXT"),
    Type.UNSAFE: _shape(None, "TEXT", "", "TEXT"),
    Type.PING: _shape(True),
    Type.PONG: _shape(True, "TASKS RSS FDS"),
    Type.QUIT: _shape(False),
    Type.START: _shape(True, "NAME INDEX INCARNATION", "COUNT", "ENV"),
    Type.SLOT: _shape(None, "INDEX INCARNATION STATE", "CODE TEXT PROGRESS JOBS BUSY"),
    Type.STOP: _shape(False, "", "INDEX INCARNATION"),
    Type.BORN: _shape(False, "NAME", "PID"),
    Type.FAIL: _shape(False, "STAGE ERRNO", "TEXT"),
    Type.GO: _shape(False),
}


def name_of(type: int) -> str:
    return Type(type).name if type in SHAPES else f"message type {type}"
