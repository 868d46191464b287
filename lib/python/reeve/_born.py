"""
What a forked worker does between the fork and its entry, in the order of reeve-template(7). All of it
is needed because it was not exec'ed: it begins as a copy of its template.
"""
from __future__ import annotations

import _signal  # what signal wraps in enums, at three times the price
import faulthandler
import fcntl
import gc
import io
import os
import resource
import signal
import sys
import time
from typing import Any, Callable, Dict, Iterable, List, NoReturn, Optional, Tuple

from . import _libc, _load, _run
from ._channel import Channel, Message, decode, hidden_number
from ._hooks import hooks
from ._plan import Plan, Table
from ._protocol import ProtocolError, Tag, Type
from ._safety import is_open
from ._worker import Worker, context

_UNLIMITED = (1 << 64) - 1
CHANNEL, CGROUP = -1, -2  # in FD_MAP


class Step(Exception):
    """A step that failed; the daemon shows it as `web:3: STAGE: TEXT`."""

    def __init__(self, stage: str, error: BaseException, text: str = "") -> None:
        super().__init__(stage)
        self.stage, self.text = stage, text or str(error)
        self.errno = getattr(error, "errno", None) or 0


class Order:
    """A FORK request, checked while the template can still refuse it."""

    def __init__(self, message: Message) -> None:
        self.request, self.name = message.request, message.need(Tag.NAME)
        self.forked = False
        self.plan: Optional[Plan] = None
        self.args: List[bytes] = message.all(Tag.ARG)
        self.env: List[bytes] = message.all(Tag.ENV)
        self.cwd = message.get(Tag.CWD)
        self.umask, self.nice = message.get(Tag.UMASK), message.get(Tag.NICE)
        self.limits = message.all(Tag.LIMIT)
        self.fds: Dict[int, int] = {}  # wanted number: number it came with
        numbers = message.get(Tag.FD_MAP, ())
        if len(numbers) != len(message.fds):
            raise ProtocolError(f"FORK with {len(message.fds)} fds and a map of {len(numbers)}")
        if not numbers or numbers[0] != CHANNEL:
            raise ProtocolError("FORK whose first fd is not the worker's channel")
        for number, fd in zip(numbers, message.fds):
            if number < CGROUP or number in self.fds:
                raise ProtocolError(f"FORK that maps fd {number} twice, or a number unknown")
            self.fds[number] = fd
        if any(b"=" not in pair[1:] for pair in self.env):
            raise ProtocolError("FORK with a variable that has no name or no value")

    @property
    def cgroup(self) -> int:
        return self.fds.get(CGROUP, -1)


def _touched() -> int:
    """The signals that are ignored or have a handler, of Python's or of C's: bit N-1 is signal N."""
    found = 0
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith((b"SigIgn:", b"SigCgt:")):
                found |= int(line.split()[1], 16)
    return found


def _fresh_handlers(every: bool) -> List[Tuple[int, Any]]:
    """
    What has to be set so that each signal is as in an interpreter that has just started. `every`:
    also for signals that have their default now.
    """
    touched = -1 if every else _touched()
    ignore, default = int(signal.SIG_IGN), int(signal.SIG_DFL)
    special: Dict[int, Any] = {signal.SIGPIPE: ignore, signal.SIGXFSZ: ignore,
                               signal.SIGINT: signal.default_int_handler}
    numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return [(int(n), special.get(n, default)) for n in numbers
            if n in special or touched >> (n - 1) & 1]


def _signals(worker: Worker) -> None:
    """As in an interpreter that has just started; C code's handlers go too."""
    fault = faulthandler.is_enabled()
    _signal.set_wakeup_fd(-1)
    _signal.setitimer(_signal.ITIMER_REAL, 0)
    for number, handler in _own.handlers:
        _signal.signal(number, handler)
    if fault:
        faulthandler.enable()
    worker.signals.loading()
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _move_fds(order: Order) -> Channel:
    """
    Only what the map names stays. A number that the template's code had open is taken by /dev/null
    instead of being free: the object that believes it owns it may still close or write it.
    """
    if _own.channel is not None:
        _own.channel.close()
    wanted = {n: fd for n, fd in order.fds.items() if n >= 0}
    top = max([2, *wanted]) + 1
    channel = fcntl.fcntl(order.fds[CHANNEL], fcntl.F_DUPFD_CLOEXEC, hidden_number(top))
    moved = {n: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, top) for n, fd in wanted.items()
             if fd != n and fd in wanted}
    _fill([fd for fd in _own.inherited() if fd not in wanted and fd != channel],
          [fd for fd in (0, 1, 2) if fd not in wanted])
    for number, fd in wanted.items():
        if number == fd:
            os.set_inheritable(fd, True)
        else:
            os.dup2(moved.get(number, fd), number, inheritable=True)
    for fd in [*moved.values(), *(fd for fd in order.fds.values() if fd not in wanted)]:
        os.close(fd)
    return Channel(channel)


def _fill(closed: List[int], open_ones: List[int]) -> None:
    """Make /dev/null of them; `open_ones` stay open over exec."""
    if not closed and not open_ones:
        return
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in closed:
        os.dup2(null, fd, inheritable=False)
    for fd in open_ones:
        os.dup2(null, fd, inheritable=True)
    if null not in open_ones:
        os.close(null)


def _streams() -> None:
    """Streams that a preload closed or replaced by nothing are opened again."""
    for name, fd in (("stdout", 1), ("stderr", 2)):
        now = getattr(sys, name)
        if now is None or getattr(now, "closed", False):
            raw = io.open(fd, "wb", closefd=False)
            fresh = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace",
                                     line_buffering=True)
            setattr(sys, name, fresh)
            setattr(sys, f"__{name}__", fresh)


def _environment(order: Order) -> None:
    """Replace the environment; what names a pid gets ours."""
    wanted = dict(pair.split(b"=", 1) for pair in order.env)
    pid = str(os.getpid()).encode()
    for name in (b"LISTEN_PID", b"WATCHDOG_PID"):
        if name in wanted:
            wanted[name] = pid
    wanted.pop(b"REEVE_CHANNEL", None)  # ours, and closed on exec
    now = os.environb
    zone = now.get(b"TZ")
    for name in list(now):
        if name not in wanted:
            del now[name]
    for name, value in wanted.items():
        if now.get(name) != value:
            now[name] = value
    if zone != wanted.get(b"TZ"):
        time.tzset()


def _stack(field: int) -> Tuple[int, int]:
    """Begin and end of argv (48) or the environment (50) on the stack, see proc(5), /proc/PID/stat."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[field - 3]), int(fields[field - 2])


def _show(order: Order) -> None:
    """
    What /proc, ps and the daemon's search for orphans see: name, argv and environment. The area of
    the environment is not used by this process, see remember().
    """
    args = order.args or [os.fsencode(_own.entry)]
    sys.argv[:] = [os.fsdecode(a) for a in args]
    _libc.set_name(order.name)
    title = [b"reeve:", order.name.encode(), *args]
    _libc.overwrite(*_own.argv, b" ".join(title))
    first = sorted(order.env, key=lambda pair: not pair.startswith(b"REEVE_ID="))
    _libc.overwrite(*_own.environ, b"\0".join(first))


def _reseed() -> None:
    """Python's own generator seeds itself after a fork; these repeat in each worker unless told."""
    if _libc.libc is not None:
        _libc.libc.srand(int.from_bytes(os.urandom(4), "little"))
        _libc.libc.srand48(int.from_bytes(os.urandom(4), "little"))
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def _limits(order: Order) -> None:
    for limit in order.limits:
        soft, hard = (resource.RLIM_INFINITY if v == _UNLIMITED else v for v in limit[1:])
        resource.setrlimit(limit.resource, (soft, hard))


def _cgroup(order: Order) -> None:
    """Where it could not be born there. Who may not is moved by the daemon, before GO."""
    try:
        fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=order.cgroup)
    except PermissionError:
        return
    try:
        os.write(fd, b"0")
    except PermissionError:
        pass
    finally:
        os.close(fd)


class Own:
    """What a template hands to its workers by memory, set when it is ready."""

    def __init__(self) -> None:
        self.channel: Optional[Channel] = None
        self.pid = 0
        self.entry = ""
        self.argv = self.environ = (0, 0)
        self.handlers: List[Tuple[int, Any]] = []
        self.known: Optional[List[int]] = None
        self.table: Optional[Table] = None  # with it, what is below holds
        self.function: Optional[Callable[[], Any]] = None
        self.zone: Optional[bytes] = None

    def inherited(self) -> List[int]:
        """Every fd that came by the fork and that nobody ordered."""
        if self.known is not None:
            return self.known
        numbers = [int(name) for name in os.listdir("/proc/self/fd")]
        return [fd for fd in numbers if fd > 2 and is_open(fd)]  # not the listing's own


_own = Own()


def remember(channel: Channel, entry: str, known: Optional[Iterable[int]]) -> None:
    """
    In the template, before its first fork. `known` are the fds that may be open at a fork; None if
    others may be, because threads run beside it.
    """
    _own.channel, _own.entry, _own.pid = channel, entry, os.getpid()
    _own.argv, _own.environ = _stack(48), _stack(50)
    _own.handlers = _fresh_handlers(every=known is None or bool(hooks.before))
    # The C library copies each: the memory that the process got them in is free for _show().
    for name, value in list(os.environb.items()):
        os.environb[name] = value
    _own.known = None if known is None else [
        fd for fd in known if fd > 2 and fd != channel.fileno()]


def _is_ordinary() -> bool:
    """Nothing that was loaded has left what a worker would have to undo step by step."""
    special = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)
    return (_own.known == [] and not hooks.before and not hooks.preload
            and all(number in special for number, _ in _own.handlers)
            and signal.getsignal(signal.SIGPIPE) == signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
            and not faulthandler.is_enabled() and not context.worker.stop.filenos()
            and not any(stream is None or getattr(stream, "closed", False)
                        for stream in (sys.stdout, sys.stderr))
            and all(type(env) is type(os.environb) and hasattr(env, "_data")
                    for env in (os.environ, os.environb)))


def prepare() -> None:
    """
    In a template, after remember(): what its workers find done. Their order can be worked off by the
    table then; see plan().
    """
    try:
        function = _load.resolve(_own.entry)
    except Exception:  # pylint: disable=broad-except  # each worker finds out and says so
        return
    if not _is_ordinary():
        return
    _own.table = Table.make()
    if _own.table is None:
        return
    _own.function, _own.zone = function, os.environb.get(b"TZ")
    _signal.set_wakeup_fd(-1)
    context.renew().signals.hook()


def plan(order: Order) -> None:
    """In the template, right before the fork."""
    if _own.table is not None and {0, 1, 2} <= order.fds.keys():
        _reseed()
        order.plan = Plan(_own.table, order, _own)


def _become_by(planned: Plan, order: Order, in_cgroup: bool) -> Worker:
    """As _become(). Whatever is not done here costs no page."""
    worker = context.worker
    _signal.signal(2, signal.default_int_handler)
    worker.signals.loading()
    if order.cgroup >= 0 and not in_cgroup:
        _cgroup(order)
    if not planned.become():
        stage, error, fd = planned.failure()
        _fail(Channel(fd), Step(stage, error))
    os.environ._data = os.environb._data = planned.variables  # type: ignore[attr-defined]
    for name in planned.late:
        os.environb[name] = b"%d" % os.getpid()
    if planned.variables.get(b"TZ") != _own.zone:
        time.tzset()
    sys.argv[:] = planned.argv
    gc.enable()
    if hooks.after:
        try:
            _step("after_fork", hooks.run_after)
        except Step as failed:
            _fail(Channel(planned.channel), failed)
    return worker


def _meet_by(planned: Plan) -> None:
    """As _wait_for_go() and _bind_to_parent()."""
    planned.meet()
    if not planned.went():
        message = planned.answer()
        if not message or decode(message).type == Type.STOP:
            os._exit(0)
        raise ProtocolError(f"{decode(message)!r} instead of GO")
    parent, after = planned.parents()
    if after != parent or parent == _own.pid:
        os._exit(0)


def _step(stage: str, function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except SystemExit as error:
        raise Step(stage, error, f"exit({error.code!r}) was called") from error
    except Step:
        raise
    except OSError as error:
        raise Step(stage, error) from error
    except BaseException as error:  # pylint: disable=broad-except
        raise Step(stage, error, _load.trace(error)) from error


def _become(order: Order, in_cgroup: bool) -> Tuple[Worker, Channel]:
    """Every step up to BORN."""
    channel: Optional[Channel] = None
    worker = context.renew()
    try:
        _step("signals", _signals, worker)
        if order.cgroup >= 0 and not in_cgroup:
            _step("cgroup", _cgroup, order)
        channel = _step("fds", _move_fds, order)
        worker.stop.renew()
        _step("streams", _streams)
        _step("setsid", os.setsid)
        _step("limits", _limits, order)
        if order.nice is not None:
            _step("nice", os.setpriority, os.PRIO_PROCESS, 0, order.nice)
        if order.umask is not None:
            os.umask(order.umask)
        if order.cwd is not None:
            _step("cwd", os.chdir, order.cwd)
        _step("environment", _environment, order)
        _step("argv", _show, order)
        _step("random", _reseed)
        gc.enable()
        _step("after_fork", hooks.run_after)
    except Step as failed:
        _fail(channel or Channel(order.fds[CHANNEL]), failed)
    assert channel is not None
    return worker, channel


def _fail(channel: Channel, failed: Step) -> NoReturn:
    _load.say(f"reeve: {failed.stage}: {failed.text}")
    try:
        channel.send(Type.FAIL, (Tag.STAGE, failed.stage), (Tag.ERRNO, failed.errno),
                     (Tag.TEXT, failed.text[-8192:]))
    except OSError:
        pass
    os._exit(1)


def _wait_for_go(order: Order, channel: Channel) -> None:
    """EOF: nobody knows of this process; it ends before any code of the entry has run."""
    try:
        channel.send(Type.BORN, (Tag.NAME, order.name), (Tag.PID, os.getpid()))
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    message = channel.receive()
    if message is None or message.type == Type.STOP:
        os._exit(0)
    if message.type != Type.GO:
        raise ProtocolError(f"{message!r} instead of GO")


def _bind_to_parent() -> None:
    """Die with the keeper. Last, because a change of the user would undo it."""
    parent = os.getppid()
    if _libc.libc is not None:
        _libc.libc.prctl(_libc.PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent or parent == _own.pid:
        os._exit(0)


def start(order: Order, in_cgroup: bool) -> Tuple[Worker, Optional[Channel]]:
    """
    In the child: become the worker that was ordered. Returns after GO, else not at all. Without a
    Channel the number of the channel stays open.
    """
    channel: Optional[Channel] = None
    if order.plan is not None:
        worker = _become_by(order.plan, order, in_cgroup)
    else:
        worker, channel = _become(order, in_cgroup)
    try:
        if channel is None:
            assert order.plan is not None
            _meet_by(order.plan)
        else:
            _wait_for_go(order, channel)
            _bind_to_parent()
    except (OSError, ProtocolError) as error:
        _load.say(f"reeve: {error}")
        os._exit(1)
    return worker, channel


def run(order: Order, in_cgroup: bool) -> NoReturn:
    """In the child of a template: become the worker, and run the entry."""
    worker, channel = start(order, in_cgroup)
    try:
        if channel is None and not hooks.after:
            assert _own.function is not None
            _run.run(context, _own.function)
        found: List[Callable[[], Any]] = []
        code, text, by = _run.call(lambda: found.append(_entry()))
        if found:
            _run.run(context, found[0])
        worker.signals.teardown()
        if text is not None:
            _load.say(text)
        _run.end(code, by)
    finally:
        if channel is not None:
            channel.close()
        os._exit(70)


def _entry() -> Callable[[], Any]:
    """The function; what importing it adds to the hooks runs now."""
    done = list(hooks.after)
    function = _load.resolve(_own.entry)
    hooks.run_preload()
    for hook in hooks.after:
        if hook not in done:
            hook()
    return function
