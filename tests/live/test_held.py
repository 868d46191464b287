"""Processes that are held, stopped or odd, and signals that come early or late."""
import os
import shutil
import signal
import time

import procs
import test_stall
from harness import Case, costly, until
from shell import Shell

PTRACE_SEIZE = 0x4206
STUCK_AFTER = 5  # seconds that SIGKILL has no effect, then the worker is "stuck"

# The main thread ends, another one works on and obeys TERM (sigwait).
HEADLESS = """
import ctypes, os, signal, sys, threading
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
def work():
    while open(f"/proc/{os.getpid()}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        pass
    open(sys.argv[1], "w").write("headless")
    signal.sigwait([signal.SIGTERM])
    os._exit(0)
threading.Thread(target=work).start()
ctypes.CDLL(None).pthread_exit(None)
"""


class Tracer:
    """A process that holds another one, as a debugger does, until it is told to let go."""

    def __init__(self, case, pid):
        begun, begun_in = os.pipe()
        end_out, self.end = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.end)
                procs.libc("ptrace", PTRACE_SEIZE, pid, 0, 0)
                os.write(begun_in, b"y")
                os.read(end_out, 1)
            finally:
                os._exit(0)
        os.close(begun_in)
        os.close(end_out)
        self.ok = os.read(begun, 1) == b"y"
        os.close(begun)
        case.allowed.add(self.pid)
        case.addCleanup(self.let_go)

    def let_go(self):
        if self.end is not None:
            os.close(self.end)
            os.waitpid(self.pid, 0)
        self.end = None


class Held(Case):
    disk = test_stall.Stall.disk

    def cpu(self, d):
        return sum(procs.cpu_ticks(p) for p in (d.pid, d.role("manager"), d.role("logger")))

    def assert_idle(self, d, seconds=1.0):
        """No spinning: a tenth of a processor would be 10 ticks a second."""
        before = self.cpu(d)
        self.pause(seconds)
        self.assertLess(self.cpu(d) - before, 10 * seconds)

    @costly("user")
    def test_SH12_uninterruptible(self):
        """A stop that cannot come true says so, once; no second copy is started beside it."""
        disk, journal, gate = self.disk(), self.journal(), self.gate()
        d = self.daemon({"web": {"command": self.words(journal, "token", gate, "note=writes",
                                                       f"append={disk.at}/file:text", "wait"),
                                 "stop": {"timeout": "100ms"}},
                         "well": {"command": self.words("wait")}})
        pid = d.host(journal.wait("start")[0].pid)
        disk.freeze()
        gate.open()
        until(lambda: procs.state_of(pid) == "D", 15, "it hangs in its write")
        done = d.ctl("stop", "web", "--timeout", "9s", timeout=30)
        self.assertNotEqual(done.code, 0)
        self.assertEqual(d.worker("web:0")["state"], "stuck")
        self.assertIn("uninterruptible or traced", d.text())
        self.assert_idle(d)
        d.ctl("start", "web", "--no-wait")
        self.never(lambda: len(journal.entries("start")) > 1, 0.5, "a second one beside it")
        d.ctl("status", "well", code=0)
        disk.thaw()
        until(lambda: not procs.alive(pid), 15, "it ends with the call")
        d.ctl("stop", "web", "--timeout", "15s", code=0)
        d.stop()

    @costly("off")
    def test_SH13_held_by_a_tracer(self):
        """Dead, but its status is the tracer's: looked at slowly, and reported."""
        self.need_not("pid1", "its pids are others")
        d = self.daemon(self.one("wait", stop={"timeout": "100ms"}))
        pid = d.until_worker("web:0", state="ready")["pid"]
        tracer = Tracer(self, pid)
        if not tracer.ok:
            self.skipTest("tracing is not permitted here")
        d.ctl("stop", "web", "--no-wait", code=0)
        until(lambda: procs.state_of(pid) == "Z", 15, "it is dead")
        self.never(lambda: d.worker("web:0")["state"] == "stopped", 0.3, "nobody has seen its status")
        self.assert_idle(d)
        d.until_worker("web:0", state="stuck", timeout=STUCK_AFTER + 10)
        tracer.let_go()
        d.until_worker("web:0", state="stopped")
        d.stop()

    def test_SH14_main_thread_has_ended(self):
        """/proc says zombie, threads work on: it is alive, and can be stopped."""
        self.need_not("eperm", "threads of this libc need ENOSYS from clone3")
        python = shutil.which("python3", path="/usr/bin:/bin")
        if not python:
            self.skipTest("no python3 that every user can execute")
        program = self.dir / "headless.py"
        program.write_text(HEADLESS)
        said = self.dir / "said"
        d = self.daemon({"web": {"command": [python, str(program), str(said)],
                                 "stop": {"timeout": "20s"}}})
        until(said.exists, 20, "the main thread has ended")
        pid = d.pid_of("web:0")
        self.assertEqual(procs.state_of(pid), "Z")
        self.assert_idle(d, 0.5)
        self.assertEqual(d.until_worker("web:0", state="ready")["incarnation"], 1)
        begin = time.monotonic()
        d.ctl("stop", "web", code=0)
        self.assertLess(time.monotonic() - begin, 10)
        last = d.worker("web:0")["last_exit"]
        self.assertEqual((last["code"], last["cause"]), (0, "stop"))
        d.stop()

    def test_SH18_the_killer_is_no_target(self):
        """Whole trees, groups, everything: manager and logger are the same afterwards."""
        journal = self.journal()
        d = self.daemon({"web": {"command": self.words(journal, "fork=2", "[", "setsid", "note=up",
                                                       "wait", "]", "note=up", "wait"), "workers": 3}})
        for n, (sig, to) in enumerate((("KILL", "tree"), ("KILL", "pgrp"), ("KILL", "main"))):
            journal.wait("note", "up", n=9 * (n + 1))
            d.until_all(state="ready")
            d.ctl("kill", "web", "-s", sig, "--to", to, code=0)
            for index in range(3):
                d.until_worker(f"web:{index}", incarnation=n + 2)
        d.check_roles()
        d.ctl("stop", "--cold", "all", code=0)
        d.check_roles()
        d.stop()

    def test_SH19_term_while_a_helper_works(self):
        """The helper that reads a configuration has an owner and a deadline; the end waits for none."""
        groups = self.one("wait")
        groups.update({f"g{i}": {"command": "/bin/true", "workers": 0} for i in range(800)})
        d = self.daemon(groups)
        d.until_worker("web:0", state="ready")
        d.send(signal.SIGHUP)
        until(lambda: "SIGHUP: reading" in d.text(), 10, every=0.001)
        begin = time.monotonic()
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(10), 0, d.text())
        self.assertLess(time.monotonic() - begin, 5)
        d.check_gone()

    def test_SH19_a_helper_that_hangs(self):
        """Stopped for good: TERM does not wait for it, and it does not stay."""
        groups = self.one("wait")
        groups.update({f"g{i}": {"command": "/bin/true", "workers": 0} for i in range(800)})
        d = self.daemon(groups)
        d.until_worker("web:0", state="ready")
        d.send(signal.SIGHUP)
        helper = until(lambda: [p for p in procs.children_of(d.pid)
                                if procs.comm_of(p) == "reeve-loader"], 10, every=0.001)[0]
        procs.kill(helper, signal.SIGSTOP)
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(15), 0, d.text())
        d.check_gone()

    def test_SH27_suspended_on_a_terminal(self):
        """Ctrl-Z: the daemon stands still, workers go on, and no clock of theirs runs out."""
        self.need_not("pid1", "the kernel does not stop a first process")
        gate, journal = self.gate(), self.journal()
        d = self.daemon(self.one(journal, "token", gate, "notify=READY=1", "loop=0", "[", "note=works",
                                 "sleep=50", "]", ready="notify", start_timeout="1500ms"), start=False)
        shell = Shell(self)
        d.pid = shell.start([*d.prefix, d.binary, "-c", d.file], d.environment())
        d.poll = lambda: d.code
        self.addCleanup(procs.kill, d.pid)
        journal.wait("start")
        shell.type(b"\x1a")
        self.assertEqual(shell.wait(), ("stopped", signal.SIGTSTP))
        self.pause(2.5)
        gate.open()
        shell.fg()
        until(d.socket.exists, 10)
        worker = d.until_worker("web:0", state="ready")
        self.assertEqual(worker["incarnation"], 1)
        shell.type(b"\x1a")
        self.assertEqual(shell.wait()[0], "stopped")
        count = len(journal.entries("note"))
        journal.wait("note", "works", n=count + 5)
        shell.fg()
        shell.type(b"\x03")
        self.assertEqual(shell.wait(), ("exited", 0))
        d.code = 0

    def test_SH28_signals_from_the_first_moment_on(self):
        """A storm from exec on: what asks for nothing kills nobody, what asks for the end is heard."""
        storm = (signal.SIGHUP, signal.SIGUSR1, signal.SIGWINCH, signal.SIGPIPE, signal.SIGALRM,
                 signal.SIGCONT, signal.SIGCHLD)

        def blocked():
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
        d = self.daemon(self.one("wait"), start=False, before=blocked)
        d.launch()
        until(lambda: procs.comm_of(d.pid) not in ("python3", "python") or d.poll() is not None, 5)
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            for number in storm:
                d.send(number)
        until(lambda: d.socket.exists() or d.poll() is not None, 10)
        self.assertIsNone(d.poll(), d.text())
        d.until_worker("web:0", state="ready")
        d.stop()
        again = self.daemon(self.one("wait"), start=False, before=blocked, name="d1")
        again.launch()
        until(lambda: procs.comm_of(again.pid) not in ("python3", "python"), 5)
        again.send(signal.SIGTERM)
        self.assertEqual(again.wait_exit(10), 0, again.text())
        again.check_gone()

    def test_SH29_commands_while_it_drains(self):
        """Status, one kill, one cold stop and the end of the drain work in the warm phase."""
        journal = self.journal()
        d = self.daemon({"web": {"command": self.words(journal, "on=TERM:count", "on=USR1:count",
                                                       "note=up", "wait"), "workers": 3,
                                 "stop": {"timeout": "1h"}}})
        journal.wait("note", "up", n=3)
        d.send(signal.SIGTERM)
        journal.wait("signal", "TERM", n=3)
        self.assertEqual(d.call("Version")["phase"], "warm")
        self.assertEqual(d.worker("web:1")["state"], "stopping")
        d.ctl("kill", "web:1", "-s", "USR1", code=0)
        journal.wait("signal", "USR1")
        d.ctl("stop", "--cold", "web:0", code=0)
        self.assertEqual(d.worker("web:0")["state"], "stopped")
        d.ctl("shutdown", "--cold", code=0)
        self.assertEqual(d.wait_exit(), 0)
        d.check_gone()
