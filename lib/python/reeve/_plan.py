"""
What a worker has to ask of the kernel, written down by its template before the fork.

A page that a new worker writes to is a copy of its own, and running Python writes to nearly every
page that it touches, for the reference counts. So the steps that are system calls are rows of a table
which 78 bytes of machine code work off; the worker calls them twice, before and after its
@after_fork hooks. Without such code, and where a template is out of the ordinary, _born.py does the
same step by step.
"""
from __future__ import annotations

import errno
import mmap
import os
import platform
import struct
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import _libc
from ._channel import PACKET_BYTES, Message, encode, hidden_number
from ._protocol import Tag, Type

# long work_off(struct row *first, struct row *end): 0, or the -errno of the row that failed
_CODE = {
    "x86_64": bytes.fromhex(
        "f30f1efa" "53" "55"     # endbr64; push rbx, rbp
        "4889fb" "4889f5"        # mov rbx, rdi; mov rbp, rsi
        "4839eb" "7338"          # next: cmp rbx, rbp; jae done
        "488b03"                 # mov rax, [rbx]          number of the call, -1: copy
        "488b7b08" "488b7310"    # mov rdi, [rbx+8]; mov rsi, [rbx+16]
        "488b5318" "4c8b5320"    # mov rdx, [rbx+24]; mov r10, [rbx+32]
        "4c8b4328" "4c8b4b30"    # mov r8, [rbx+40]; mov r9, [rbx+48]
        "4885c0" "7811"          # test rax, rax; js copy
        "0f05" "48894338"        # syscall; mov [rbx+56], rax
        "4885c0" "780f"          # test rax, rax; js out
        "4883c340" "ebca"        # step: add rbx, 64; jmp next
        "4889d1" "f3a4" "ebf3"   # copy: mov rcx, rdx; rep movsb; jmp step
        "31c0" "5d" "5b" "c3"),  # done: xor eax, eax; out: pop rbp, rbx; ret
}
_COPY = -1
# Their numbers on x86-64.
_CLOSE, _SIGPROCMASK, _DUP2, _GETPID, _SENDTO, _RECVFROM, _FCNTL, _CHDIR, _UMASK, _GETPPID, _SETSID, \
    _SETPRIORITY, _PRCTL, _DUP3, _PRLIMIT = 3, 14, 33, 39, 44, 45, 72, 80, 95, 110, 112, 141, 157, 292, 302
_SIG_SETMASK, _F_SETFD, _PR_SET_PDEATHSIG, _PR_SET_NAME, _SIGKILL = 2, 2, 1, 15, 9
_NOSIGNAL, _CLOEXEC = 0x4000, 0o2000000

_ROW = struct.Struct("=8q")
_RESULT = 7
_TEXTS = 6 * PACKET_BYTES  # a packet's variables, with a pointer to each, twice; and the rest
_ROWS = 1024
_GO = encode(Message(Type.GO))
_REPLY = 64


class Table:
    """The memory of rows and of what they point to. One per template, filled anew for each order."""

    def __init__(self, call: Callable[[int, int], int]) -> None:
        self.memory = mmap.mmap(-1, _TEXTS + _ROWS * _ROW.size,
                                flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        ctypes = _libc.ctypes
        self.call = call
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.environ = ctypes.addressof(ctypes.c_void_p.in_dll(_libc.libc, "environ"))
        self.words = memoryview(self.memory).cast("q")

    @classmethod
    def make(cls) -> Optional["Table"]:
        """None where there is no machine code."""
        code = _CODE.get(platform.machine())
        if code is None or struct.calcsize("P") != 8 or _libc.libc is None:
            return None
        ctypes = _libc.ctypes
        try:
            at = _libc.executable(code)
            if at is None:
                return None
            kind = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
            return cls(kind(at))
        except (OSError, AttributeError, ValueError):
            return None


class Plan:
    """All of one worker's life up to GO that need not wait for it."""

    def __init__(self, table: Table, order: Any, own: Any) -> None:
        self.table = table  # and not the order: a cycle of references would be left behind each fork
        self.texts = bytearray()
        self.rows: List[Tuple[int, ...]] = []
        self.stages: List[Tuple[str, Optional[bytes]]] = []
        self.channel = self.came = order.fds[-1]
        self._row("signals", _SIGPROCMASK, _SIG_SETMASK, self._put(bytes(8)), 0, 8)
        self._fds(order, own)
        self._process(order)
        self.argv = [own.entry, *(os.fsdecode(a) for a in order.args)]
        self.variables, self.late = _variables(order)
        self._show(order, own)
        self.middle = len(self.rows)
        self._rendezvous(order)
        if len(self.texts) > _TEXTS or len(self.rows) > _ROWS:
            raise OSError(errno.E2BIG, os.strerror(errno.E2BIG))
        table.memory[:len(self.texts)] = bytes(self.texts)
        flat = b"".join([_ROW.pack(*row) for row in self.rows])
        table.memory[_TEXTS:_TEXTS + len(flat)] = flat
        self.first = table.base + _TEXTS
        self.half = self.first + self.middle * _ROW.size
        self.end = self.first + len(flat)

    def _put(self, data: bytes) -> int:
        """Its address."""
        at = self.table.base + len(self.texts)
        self.texts += data
        self.texts += bytes(-len(data) % 8)
        return at

    def _row(self, stage: str, number: int, *args: int, file: Optional[bytes] = None) -> None:
        self.rows.append((number, *args, *(0,) * (7 - len(args))))
        self.stages.append((stage, file))

    def _result(self, row: int) -> int:
        """The address of what a row has returned."""
        return self.table.base + _TEXTS + row * _ROW.size + _RESULT * 8

    def _fds(self, order: Any, own: Any) -> None:
        """As _born._move_fds(), with numbers chosen here."""
        wanted = {n: fd for n, fd in order.fds.items() if n >= 0}
        top = max([2, *wanted]) + 1
        taken = {own.channel.fileno(), *order.fds.values()}
        channel = hidden_number(top)
        while channel in order.fds.values():
            channel += 1
        self._row("fds", _DUP3, self.channel, channel, _CLOEXEC)
        self.channel = channel
        taken.add(channel)
        moved = {}
        for number, fd in wanted.items():
            if fd != number and fd in wanted:
                while top in taken:
                    top += 1
                taken.add(top)
                moved[number] = top
                self._row("fds", _DUP3, fd, top, _CLOEXEC)
        old = own.channel.fileno()
        if old != channel and old not in wanted:
            self._row("fds", _CLOSE, old)
        for number, fd in wanted.items():
            if number == fd:
                self._row("fds", _FCNTL, fd, _F_SETFD, 0)
            else:
                self._row("fds", _DUP2, moved.get(number, fd), number)
        for fd in [*moved.values(), *(fd for fd in order.fds.values() if fd not in wanted)]:
            self._row("fds", _CLOSE, fd)

    def _process(self, order: Any) -> None:
        self._row("setsid", _SETSID)
        for _resource, soft, hard in order.limits:
            self._row("limits", _PRLIMIT, 0, _resource, self._put(struct.pack("=QQ", soft, hard)))
        if order.nice is not None:
            self._row("nice", _SETPRIORITY, 0, 0, order.nice)
        if order.umask is not None:
            self._row("umask", _UMASK, order.umask)
        if order.cwd is not None:
            self._row("cwd", _CHDIR, self._put(order.cwd + b"\0"), file=order.cwd)

    def _show(self, order: Any, own: Any) -> None:
        """environ, and what /proc and ps show, as _born._show() does it."""
        env = sorted((k + b"=" + v for k, v in self.variables.items()),
                     key=lambda pair: not pair.startswith(b"REEVE_ID="))
        block = b"\0".join(env) + b"\0"
        at = self._put(block)
        pointers = []
        for pair in env:
            pointers.append(at)
            at += len(pair) + 1
        array = self._put(struct.pack(f"={len(pointers) + 1}Q", *pointers, 0))
        self._copy(self.table.environ, struct.pack("=Q", array))
        self._row("argv", _PRCTL, _PR_SET_NAME,
                  self._put(order.name.encode("utf-8", "replace")[:15] + b"\0"))
        title = [b"reeve:", order.name.encode(), os.fsencode(own.entry), *order.args]
        for (begin, end), text in ((own.argv, b" ".join(title)), (own.environ, block)):
            size = end - begin
            if begin and size > 1:
                self._copy(begin, text[:size - 1].ljust(size, b"\0"))

    def _copy(self, to: int, data: bytes) -> None:
        self._row("argv", _COPY, to, self._put(data), len(data))

    def _rendezvous(self, order: Any) -> None:
        """BORN, GO, and only then the death of the keeper: see _born._bind_to_parent()."""
        born = encode(Message(Type.BORN, 0, [(Tag.NAME, order.name), (Tag.PID, 0)]))
        packet = self._put(born)
        self._row("born", _GETPID)
        self._row("born", _COPY, packet + len(born) - 8, self._result(len(self.rows) - 1), 4)
        self._row("born", _SENDTO, self.channel, packet, len(born), _NOSIGNAL)
        self.reply = len(self.texts)
        self.go = len(self.rows)
        self._row("go", _RECVFROM, self.channel, self._put(bytes(_REPLY)), _REPLY)
        self._row("go", _GETPPID)
        self._row("go", _PRCTL, _PR_SET_PDEATHSIG, _SIGKILL)
        self._row("go", _GETPPID)

    # In the worker. What follows is short on purpose.

    def result(self, row: int) -> int:
        return self.table.words[_TEXTS // 8 + row * 8 + _RESULT]

    def become(self) -> bool:
        """Everything up to the environment; False: see failure()."""
        return self.table.call(self.first, self.half) == 0

    def failure(self) -> Tuple[str, OSError, int]:
        """Which stage failed and why, and the number that the channel has by now."""
        row = next(row for row in range(self.middle) if self.result(row) < 0)
        stage, file = self.stages[row]
        number = -self.result(row)
        error = OSError(number, os.strerror(number), *([os.fsdecode(file)] if file else []))
        return stage, error, self.channel if row > 1 else self.came

    def meet(self) -> None:
        """BORN, then wait for GO. OSError if the channel fails."""
        at = self.half
        error = self.table.call(at, self.end)
        while error != 0:
            row = next(r for r in range(self.middle, len(self.rows)) if self.result(r) < 0)
            if error != -errno.EINTR:
                raise OSError(-error, os.strerror(-error))
            at = self.first + row * _ROW.size
            error = self.table.call(at, self.end)

    def answer(self) -> bytes:
        return self.table.memory[self.reply:self.reply + self.result(self.go)]

    def went(self) -> bool:
        """It was GO."""
        return self.answer() == _GO

    def parents(self) -> Tuple[int, int]:
        """Before and after the death signal was set."""
        return self.result(self.go + 1), self.result(self.go + 3)


def _variables(order: Any) -> Tuple[Dict[bytes, bytes], List[bytes]]:
    """os.environ's, and the names of those that are to hold our pid."""
    found = dict([pair.split(b"=", 1) for pair in order.env])
    found.pop(b"REEVE_CHANNEL", None)  # ours, and closed on exec
    return found, [name for name in (b"LISTEN_PID", b"WATCHDOG_PID") if name in found]
