"""
The wish to end, as a flag and an fd.

Nothing is raised in the worker's code: an exception at any instruction loses the task that is between
two queues. A program that never looks at the flag must still end when it is asked to, so SIGTERM
keeps its default until the flag is used for the first time:

    loading, waiting for GO     TERM ends the worker with code 0: it has not begun anything
    the entry, flag not used    TERM has its default: the worker ends by it
    the entry, flag used        TERM and INT set the flag, wake the fd; nothing else happens
    teardown (after the entry)  TERM is taken and forgotten: the code of the entry stands

A signal that the program handles itself stays the program's in all four. Children that the worker
forks (multiprocessing) get the default back, else Pool.terminate() would wait for ever.
"""
from __future__ import annotations

import _signal  # what signal wraps in enums
import os
import signal
import threading
from types import FrameType
from typing import Any, Callable, Optional, Tuple

_TERM, _INT, _DEFAULT = int(signal.SIGTERM), int(signal.SIGINT), int(signal.SIG_DFL)
_SIGNALS = (_TERM, _INT)
_DEFAULTS = (_DEFAULT, signal.default_int_handler)


class Stop:
    """A flag with an fd that becomes readable when the flag is set, and stays so."""

    def __init__(self) -> None:
        self._set = False
        self._asked: Any = None  # points to what C's handler sets, before Python's runs
        self._read = self._write = -1
        self._lock = threading.Lock()

    def set(self) -> None:
        """Also called in a signal handler: takes no lock."""
        self._set = True
        if self._write >= 0:
            self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._write, b"\1")
        except OSError:
            pass

    def is_set(self) -> bool:
        return self._set or self._asked is not None and self._asked[0] != 0

    def fileno(self) -> int:
        """The fd; made when first asked for."""
        with self._lock:
            if self._read < 0:
                self._read, write = os.pipe()
                os.set_blocking(write, False)
                self._write = write
                if self._set:  # before, or while we were at it
                    self._wake()
            return self._read

    def filenos(self) -> Tuple[int, ...]:
        """Every fd of it that is open."""
        return tuple(fd for fd in (self._read, self._write) if fd >= 0)

    def wake_at(self, number: int, waker: Any) -> None:
        """The signal, which has a handler of Python, wakes the fd without waiting for that."""
        self._asked = waker.wake(number, self._write)

    def renew(self) -> None:
        """After a fork: not asked to end, and the fd of the same number is this process's own."""
        self._set, self._asked = False, None
        self._lock = threading.Lock()
        if self._read < 0:
            return
        read, write = os.pipe()
        os.set_blocking(write, False)
        os.dup2(read, self._read, inheritable=False)
        os.dup2(write, self._write, inheritable=False)
        os.close(read)
        os.close(write)


class Signals:
    """The handlers of the table above, for the main thread of a worker."""

    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.used = False
        self.running = False  # the runtime runs an entry here
        self._forked = False
        self._pid = 0
        self._hooked = False
        self._keep: Any = None
        self._waker: Any = None  # False: there is none

    def _install(self, handler: Any, defaults: Any = _DEFAULTS) -> None:
        for number in _SIGNALS:
            if _signal.getsignal(number) in defaults or self._is_ours(number):
                _signal.signal(number, handler)

    def owns(self, handler: Any) -> bool:
        return getattr(handler, "__self__", None) is self

    def _is_ours(self, number: int) -> bool:
        return self.owns(_signal.getsignal(number))

    def _on_loading(self, _number: int, _frame: Optional[FrameType]) -> None:
        if os.getpid() == self._pid:
            os._exit(0)
        self._die(_number)

    def _on_stop(self, number: int, _frame: Optional[FrameType]) -> None:
        if os.getpid() == self._pid:
            self.stop.set()
        else:
            self._die(number)

    def _on_teardown(self, number: int, _frame: Optional[FrameType]) -> None:
        if os.getpid() != self._pid:
            self._die(number)

    @staticmethod
    def _die(number: int) -> None:
        """A child that was forked without Python's knowledge: the default."""
        _signal.signal(number, _DEFAULT)
        os.kill(os.getpid(), number)

    def hook(self) -> None:
        """A template does it for its workers."""
        if not self._hooked:
            self._hooked = True
            os.register_at_fork(after_in_child=self._in_child)

    def loading(self) -> None:
        self._pid = os.getpid()
        self.running = True
        if _signal.getsignal(_TERM) == _DEFAULT:
            _signal.signal(_TERM, self._on_loading)
        self.hook()

    def born(self) -> None:
        """As loading(), in a worker that was forked: until entry() TERM has C's handler."""
        self._pid = os.getpid()
        self.running = self._forked = True

    def entry(self) -> None:
        """Loading is over. What was used while loading stays used."""
        if not self.used and (self._is_ours(_TERM)
                              or self._forked and _signal.getsignal(_TERM) == _DEFAULT):
            _signal.signal(_TERM, _DEFAULT)

    def teardown(self) -> None:
        self._install(self._on_teardown)

    def use(self) -> None:
        """The flag is looked at for the first time."""
        if self.used:
            return
        self.used = True
        if not self._pid:
            self._pid = os.getpid()
            self.hook()
        if threading.current_thread() is threading.main_thread():
            self._install_stop()
        else:
            self._soon(self._install_stop)

    def _install_stop(self) -> None:
        self._install(self._on_stop)
        self._wake_in_c()

    def fileno(self) -> int:
        """The fd that wakes, for whoever sleeps on it: the flag is used."""
        self.use()
        fd = self.stop.fileno()
        self._wake_in_c()
        return fd

    def _wake_in_c(self) -> None:
        """
        Python's handler waits for the next bytecode of the main thread, and select() runs none: a
        signal right before it would wake nobody. set_wakeup_fd() is not for us: it wakes for every
        signal with a handler, and belongs to event loops.
        """
        if not self.stop.filenos():
            return
        if self._waker is None:
            from . import _serve  # pylint: disable=import-outside-toplevel
            try:
                self._waker = _serve.Waker()
            except _serve.Unavailable:
                self._waker = False
        for number in _SIGNALS:
            if self._waker and self._is_ours(number):
                self.stop.wake_at(number, self._waker)

    def _soon(self, function: Callable[[], None]) -> None:
        """Call it in the main thread: only there can handlers be set."""
        import ctypes  # pylint: disable=import-outside-toplevel

        def call(_: Any) -> int:
            function()
            return 0
        self._keep = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(call)
        ctypes.pythonapi.Py_AddPendingCall(self._keep, None)

    def _in_child(self) -> None:
        """Runs in the main thread of a forked child, which is no worker."""
        if not self._pid or os.getpid() == self._pid:
            return
        for number, default in zip(_SIGNALS, _DEFAULTS):
            if self._is_ours(number):
                _signal.signal(number, default)
        self._pid, self.used, self.running = os.getpid(), False, False
