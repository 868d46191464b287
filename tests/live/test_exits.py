"""
SH25: exit code, signal and core flag are those that the kernel had, under every start method.

One scale numbers all ends, for module.c and for Python alike: 0 stays, and is a seed; from 1 on the
exit codes from 0 on; from 257 on the signals from 1 on.
"""
import os
import resource
import shutil
import signal

from harness import costly, procs, sanitized, until
from test_template import TemplateCase

CODES, SIGNALS = range(1, 257), range(257, 288)
# A worker leads its own session: the signals of a terminal's job control do not stop it.
HARMLESS = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
            signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
CORE = {signal.SIGQUIT, signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS,
        signal.SIGFPE, signal.SIGSEGV, signal.SIGXCPU, signal.SIGXFSZ, signal.SIGSYS}

ENDS = """
import ctypes
libc = ctypes.CDLL(None)

def number():
    return int(reeve.environ()["END"])

def ends():
    reeve.fork_point()
    while number() == 0 and not reeve.stopping():
        time.sleep(0.01)
        reeve.fork_point()
    if number() <= 256:
        return max(number() - 1, 0)
    libc.signal(number() - 256, None)  # Python's is for the main thread only
    signal.raise_signal(number() - 256)
    return 100
"""


class Exits(TemplateCase):
    stretch = 5  # hundreds of processes

    def setUp(self):
        super().setUp()
        self.app(ENDS)

    def ending(self, runtime, method, number, **keys):
        """A group whose workers end by `number`, an expression of their index."""
        made = self.native(f"end:{number}") if runtime == "native" else \
            self.group("app:ends", env={"END": str(number)})
        return {**made, "cwd": str(self.dir), "start_method": method, "settle": "0s",
                "on_failure": "ignore", "restart": {"when": "never"}, "limits": {"core": 0}, **keys}

    def begin(self, groups, **how):
        return self.forked(groups, daemon={"log": {"level": "info"}}, **how)

    def dumps(self, limit):
        """Does a process that may dump so much dump its core here? (core_pattern decides)"""
        pid = os.fork()
        if pid == 0:
            os.chdir(self.dir)
            resource.setrlimit(resource.RLIMIT_CORE, (limit, limit))
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            signal.raise_signal(signal.SIGSEGV)
        return os.WCOREDUMP(os.waitpid(pid, 0)[1])

    def records(self, d, group, wanted):
        """index -> the exit record, once there is one for each of so many."""
        until(lambda: sum(bool(w["last_exit"]) for w in d.workers(group).values()) >= wanted, 250,
              f"{wanted} of {group} have ended", every=0.2)
        return {detail["worker"]["index"]: detail["exits"][0]
                for detail in d.call("Show", targets=[group])["details"] if detail["exits"]}

    def expected(self, number, dumps):
        """(code, signal, core, cause)"""
        if number <= 256:
            return (number - 1, None, False, "exit")
        which = signal.Signals(number - 256)
        if which in HARMLESS:
            return (100, None, False, "exit")
        if which == signal.SIGSTOP:
            which = signal.SIGKILL  # the test's
        return (None, which.name[3:], which in CORE and dumps, "signal")

    def compare(self, number, record, dumps, cause=None):
        want = self.expected(number, dumps)
        seen = tuple(record.get(key) for key in ("code", "signal", "core", "cause"))
        self.assertEqual(seen, (*want[:3], cause or want[3]), f"{number}: {record}")

    def end_the_stopped(self, d, name):
        def stopped():
            pid = d.host(d.workers(name)[name]["pid"])
            return pid and procs.state_of(pid) == "T" and pid
        procs.kill(until(stopped, 250, f"{name} is stopped", every=0.2))

    def is_whole(self):
        """What is made is the same everywhere; in one mode all of it is shown."""
        return self.mode == "default" and not sanitized(self.context.build)

    def check(self, runtime, method):
        """Every code and every signal; every eighth code in other modes."""
        step = 1 if self.is_whole() else 8
        d = self.begin({
            "codes": self.ending(runtime, method, f"%{{i*{step}}}", workers=256 // step + 1),
            "signals": self.ending(runtime, method, "%{i+256*((i+31)/32)}", workers=32)})
        self.end_the_stopped(d, f"signals:{int(signal.SIGSTOP)}")
        dumps = self.dumps(0)
        for index, record in self.records(d, "codes", 256 // step).items():
            self.compare(index * step, record, dumps)
        for index, record in self.records(d, "signals", 31).items():
            self.compare(256 + index, record, dumps)
        self.assertNotIn("started by spawn", d.text())
        d.ctl("stop", "--cold", "all", code=0)
        d.stop()

    def test_SH25_native_spawn(self):
        self.check("native", "spawn")

    @costly("pid1")
    def test_SH25_native_forkserver(self):
        self.check("native", "forkserver")

    @costly("pid1")
    def test_SH25_native_fork(self):
        self.check("native", "fork")

    @costly("eperm")
    def test_SH25_PY03_python_forkserver(self):
        self.check("python", "forkserver")

    @costly("eperm")
    def test_SH25_PY03_python_fork(self):
        self.check("python", "fork")

    @costly()
    def test_SH25_PY03_python_spawn(self):
        """Some: an interpreter each."""
        numbers = [1, 2, 3, 128, 129, 256, *(256 + n for n in (1, 6, 9, 11, 15, 31))]
        d = self.begin({f"g{n}": self.ending("python", "spawn", n) for n in numbers})
        dumps = self.dumps(0)
        for number in numbers:
            self.compare(number, self.records(d, f"g{number}", 1)[0], dumps)
        d.stop()

    def check_slots(self, runtime):
        """Every code of a slot. A signal is the host's: each has two slots, and one raises it."""
        self.need_not("eperm", "the C library makes no thread where clone3 answers EPERM")
        signals = {f"s{n}": n for n in (range(1, 32) if self.is_whole() else (1, 6, 9, 18, 19))}
        d = self.begin({
            "codes": self.ending(runtime, "threads", "%i", workers=CODES[-1] + 1),
            **{name: self.ending(runtime, "threads", f"%{{i*{256 + n}}}", workers=2)
               for name, n in signals.items()}})
        self.end_the_stopped(d, f"s{int(signal.SIGSTOP)}:1")
        dumps = self.dumps(0)
        for number, record in self.records(d, "codes", CODES[-1]).items():
            self.compare(number, record, dumps)
        for name, n in signals.items():
            if n in HARMLESS:
                self.compare(256 + n, self.records(d, name, 1)[1], dumps)
                continue
            for record in self.records(d, name, 2).values():
                self.compare(256 + n, record, dumps, "parent-gone")
            self.compare(256 + n, d.exits(f"{name}/host")[0], dumps)
        d.ctl("stop", "--cold", "all", code=0)
        d.stop()

    @costly("user")
    def test_SH25_native_threads(self):
        self.check_slots("native")

    @costly("off")
    def test_SH25_PY03_python_threads(self):
        self.check_slots("python")

    def test_SH25_core_flag(self):
        """It is there where a core was dumped, and nowhere else."""
        self.need_only(("default",), "one is enough for what the kernel says")
        if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY or \
                sanitized(self.context.build):
            self.skipTest("no core may be dumped here")
        dumps = self.dumps(resource.RLIM_INFINITY)
        methods = ("spawn", "forkserver", "fork", "threads")
        groups, numbers = {}, {}
        for runtime in ("native", "python"):
            for method in methods:
                for n in (signal.SIGSEGV, signal.SIGTERM):
                    name = f"{runtime}-{method}-{int(n)}"
                    numbers[name] = 256 + n
                    folder = self.dir / name  # of two cores in one file the kernel drops one
                    folder.mkdir()
                    shutil.copy(self.dir / "app.py", folder)
                    groups[name] = self.ending(runtime, method, f"%{{i*{256 + n}}}", workers=2,
                                               limits={"core": "unlimited"}, cwd=str(folder))
        d = self.begin(groups)
        for name, number in numbers.items():
            cause = "parent-gone" if "threads" in name else None
            self.compare(number, self.records(d, name, 1)[1], dumps, cause)
        d.ctl("stop", "--cold", "all", code=0)
        d.stop()
