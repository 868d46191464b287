"""
Forking a process that is a child of the subreaper, not of the caller ("adoption").

A middle process is made, which calls libc's fork() and exits; the worker's parent is then the next
subreaper. With clone3(CLONE_VM|CLONE_VFORK) the middle costs no copy of the page tables, but it runs
on the caller's own stack and in the caller's memory, so it must not come back into the interpreter:
one return from a C function, and the frame the template will return through is overwritten. That is
why a middle in Python is not possible and the middle is 53 bytes of machine code, which keep what
they need in registers. Where there is no such code, or memory cannot be made executable, or clone3 is
refused, fork() is called twice: the same result for the price of two copies.

CPython's own preparations (PyOS_BeforeFork, PyOS_AfterFork_Parent, PyOS_AfterFork_Child: public, in
the stable ABI since 3.7) stand around it as they do in os.fork(), so import lock, at-fork hooks and
thread state are right in the worker. They, and all in between, run without giving up the GIL.
"""
from __future__ import annotations

import _signal  # what signal wraps in enums
import errno
import mmap
import os
import platform
import signal
import struct
from typing import Any, Callable, Optional, Tuple

from . import _libc

try:
    import ctypes
except ImportError:  # an interpreter built without libffi: fork twice by os.fork()
    ctypes = None  # type: ignore[assignment]

_CHLD, _IGNORE = int(signal.SIGCHLD), int(signal.SIG_IGN)
CLONE_VM = 0x100
CLONE_VFORK = 0x4000
CLONE_INTO_CGROUP = 0x200000000
WALL = 0x40000000  # __WALL of waitpid(2): the middle ends without a signal

# long adopt(struct clone_args *args, size_t bytes, pid_t (*fork)(void), pid_t *ret_pid)
# Returns the middle's pid in the caller, 0 in the worker, -errno if there is no middle.
_CODE = {
    "x86_64": bytes.fromhex(
        "f30f1efa"        # endbr64
        "53" "55" "4154"  # push rbx, rbp, r12: the stack is aligned for a call now
        "4889d3"          # mov rbx, rdx            fork
        "4889cd"          # mov rbp, rcx            ret_pid
        "b8b3010000"      # mov eax, 435            clone3(rdi, rsi)
        "0f05"            # syscall
        "4885c0"          # test rax, rax
        "7516"            # jnz out                 caller, or error
        "ffd3"            # call rbx                the middle: fork()
        "85c0"            # test eax, eax
        "740e"            # jz worker
        "894500"          # mov [rbp], eax          the caller sees it: same memory
        "31ff"            # xor edi, edi
        "b8e7000000"      # mov eax, 231            exit_group(0)
        "0f05"            # syscall
        "0f0b"            # ud2
        "31c0"            # worker: xor eax, eax    its copy of the stack is whole
        "415c" "5d" "5b"  # out: pop r12, rbp, rbx
        "c3"),            # ret
}

# struct clone_args of clone3(2), the 88 bytes of Linux 5.7.
_ARGS = struct.Struct("=11Q")
# What a kernel or a filter answers that does not want clone3 or one of its flags.
_REFUSED = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EOPNOTSUPP)


class Forker:
    """Makes workers. One per template; `method` says how: "adoption" or "double fork"."""

    def __init__(self, code: bool = True) -> None:
        self._shared = mmap.mmap(-1, mmap.PAGESIZE)  # the middle tells the worker's pid here
        self._adopt: Optional[Callable[..., int]] = None
        self._api: Any = None
        self._cgroup = True
        if ctypes is not None:
            self._api = ctypes.PyDLL(None)
            if not _has_hooks(self._api):
                self._api = None
        if self._api is not None and code:
            self._adopt = self._load()
        self.method = "adoption" if self._adopt else "double fork"

    def _load(self) -> Optional[Callable[..., int]]:
        """Map the machine code; None where that cannot be."""
        code = _CODE.get(platform.machine())
        if code is None or struct.calcsize("P") != 8:
            return None
        try:
            at = _libc.executable(code)
            if at is None:
                return None  # MemoryDenyWriteExecute, SELinux
            self._args = ctypes.create_string_buffer(_ARGS.size)
            self._pid = ctypes.c_int.from_buffer(self._shared)
            self._fork = ctypes.cast(self._api.fork, ctypes.c_void_p)
        except (OSError, AttributeError, ValueError):
            return None
        kind = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p,
                                 ctypes.c_void_p)
        return kind(at)  # type: ignore[no-any-return]

    def fork(self, cgroup: int = -1) -> Tuple[int, bool]:
        """
        (pid, in_cgroup) in the caller; pid is 0 in the worker. `cgroup` is an fd of the leaf that
        the worker is to be born in; where in_cgroup is False it has yet to go there.
        OSError if there is no worker.
        """
        # the middle would inherit it: the status of a worker that dies before it would be lost
        ignored = _signal.getsignal(_CHLD) == _IGNORE
        if ignored:
            signal.signal(_CHLD, signal.SIG_DFL)
        try:
            return self._somehow(cgroup)
        finally:
            if ignored:
                signal.signal(_CHLD, signal.SIG_IGN)

    def _somehow(self, cgroup: int) -> Tuple[int, bool]:
        if self._adopt is not None:
            pid, born = self._by_adoption(cgroup if self._cgroup else -1)
            if pid >= 0:
                return pid, born
        return (self._twice() if self._api is not None else self._twice_by_os()), False

    def _by_adoption(self, cgroup: int) -> Tuple[int, bool]:
        """As fork(), -1 where it has to be done by two forks."""
        assert self._adopt is not None
        born = cgroup >= 0
        flags = CLONE_VM | CLONE_VFORK | (CLONE_INTO_CGROUP if born else 0)
        self._args.raw = _ARGS.pack(flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, max(cgroup, 0))
        self._pid.value = -1
        self._api.PyOS_BeforeFork()
        middle = self._adopt(ctypes.addressof(self._args), _ARGS.size, self._fork,
                             ctypes.addressof(self._pid))
        if middle == 0:
            self._api.PyOS_AfterFork_Child()
            return 0, born
        pid = int(self._pid.value)
        self._api.PyOS_AfterFork_Parent()
        if middle > 0:
            _reap(middle, WALL)
            return pid, born  # -1: no room for the worker; the second way tells the errno
        if born:
            self._cgroup = -middle not in _REFUSED
            return self._by_adoption(-1)
        if -middle in _REFUSED:
            self._adopt = None
            self.method = "double fork"
            return -1, False
        raise OSError(-middle, os.strerror(-middle))

    def _twice(self) -> int:
        """Two calls of libc's fork() between one pair of hooks."""
        self._shared[:8] = struct.pack("=ii", -1, 0)
        self._api.PyOS_BeforeFork()
        middle = self._api.fork()
        if middle == 0:
            pid = self._api.fork()
            if pid != 0:
                ctypes.memmove(ctypes.addressof(ctypes.c_int.from_buffer(self._shared)),
                               struct.pack("=i", pid), 4)
                self._api._exit(0)
            self._api.PyOS_AfterFork_Child()
            return 0
        self._api.PyOS_AfterFork_Parent()
        return self._pid_of(middle)

    def _twice_by_os(self) -> int:
        """Without ctypes: the hooks run in the middle too."""
        self._shared[:8] = struct.pack("=ii", -1, 0)
        middle = os.fork()
        if middle == 0:
            try:
                pid, error = os.fork(), 0
            except OSError as failed:
                pid, error = -1, failed.errno or errno.EAGAIN
            if pid != 0:
                self._shared[:8] = struct.pack("=ii", pid, error)
                os._exit(0)
            return 0
        return self._pid_of(middle)

    def _pid_of(self, middle: int) -> int:
        if middle < 0:
            raise OSError(errno.EAGAIN, "fork: " + os.strerror(errno.EAGAIN))
        _reap(middle, 0)
        pid, error = struct.unpack("=ii", self._shared[:8])
        if pid < 0:
            error = error or errno.EAGAIN
            raise OSError(error, "fork: " + os.strerror(error))
        return int(pid)


def _reap(middle: int, options: int) -> None:
    """Wait for the end of the middle, also where somebody ignores SIGCHLD and so reaps it for us."""
    try:
        os.waitpid(middle, options)
    except ChildProcessError:
        pass


def _has_hooks(api: Any) -> bool:
    try:
        for name in ("PyOS_BeforeFork", "PyOS_AfterFork_Parent", "PyOS_AfterFork_Child"):
            getattr(api, name).restype = None
        return api.fork is not None
    except AttributeError:  # an interpreter that exports nothing
        return False
