"""`reevectl run -t`: the terminal is the command's, and comes back (PI06)."""
import os
import pty
import signal
import termios

from command import Command
from harness import Case, procs, until
from shell import Shell


class Terminal(Case):
    def begin(self, *words, options=("-t",), foreground=True):
        """A shell with `reevectl run -t -- puppet WORDS` as its job."""
        self.need_not("pid1", "the job of a shell is not the first process")
        self.shell = Shell(self)
        d = Command(self, [self.puppet, *words], options=options)
        argv = [d.binary, *d.args]
        if self.mode == "eperm":
            argv.insert(0, self.context.program("eperm"))
        self.modes = self.shell.modes()
        self.job = self.shell.start(argv, d.environment(), foreground)
        self.addCleanup(procs.kill, self.job)

    def up(self, journal, n=1):
        """Pid of the command, once it runs and is in the foreground."""
        pid = journal.wait("note", "up", n=n)[0].pid
        until(lambda: self.shell.foreground() == pid, 5, "the command is in the foreground")
        return pid

    def over(self, code):
        self.assertEqual(self.shell.wait(), ("exited", code))
        self.assertEqual(self.shell.modes(), self.modes)
        until(lambda: not procs.marked(self.mark, str(self.dir), ignore=[self.shell.pid]), 5,
              "nothing is left")

    def test_PI06_foreground_and_session(self):
        journal = self.journal()
        self.begin(journal, f"dump={self.dir}/dump", "note=up", "stdin", "exit=5")
        pid = self.up(journal)
        dump = self.dump(self.dir / "dump")
        self.assertEqual((dump["pgid"], dump["sid"]), (pid, self.shell.pid))
        self.assertNotEqual(dump["tty"], 0)
        self.assertEqual({f["link"] for f in dump["fds"].values()}, {self.shell.path})
        self.shell.type(b"a line\n\x04")
        self.over(5)
        self.assertEqual(self.shell.foreground(), self.shell.pid)

    def test_PI06_ctrl_c_is_the_commands(self):
        journal = self.journal()
        self.begin(journal, "on=INT:count", "on=QUIT:go", "note=up", "wait", "exit=7")
        self.up(journal)
        for n in range(3):
            self.shell.type(b"\x03")
            journal.wait("signal", "INT", n=n + 1)
        self.shell.type(b"\x1c")
        self.over(7)
        self.assertEqual(len(journal.entries("signal", "INT")), 3)

    def test_PI06_ctrl_z_and_fg(self):
        """SH27: the shell sees a stopped job; fg gives the terminal back to the command."""
        journal = self.journal()
        self.begin(journal, "on=CONT:count", "on=USR1:go", "note=up", "wait", "exit=0")
        pid = self.up(journal)
        manager = until(lambda: [p for p in procs.children_of(self.job)
                                 if procs.comm_of(p) == "reeve-manager"], 5)[0]
        for n in range(2):
            self.shell.type(b"\x1a")
            self.assertEqual(self.shell.wait(), ("stopped", signal.SIGTSTP))
            until(lambda: {procs.state_of(p) for p in (pid, self.job, manager)} == {"T"}, 5)
            self.assertEqual(self.shell.foreground(), self.shell.pid)
            self.shell.fg()
            journal.wait("signal", "CONT", n=n + 1)
            until(lambda: self.shell.foreground() == pid, 5)
            until(lambda: procs.state_of(manager) != "T", 5)
        procs.kill(self.job, signal.SIGUSR1)
        self.over(0)
        self.assertEqual(len(journal.entries("signal", "CONT")), 2)

    def test_PI06_in_the_background(self):
        """bg: the command goes on without the terminal; a read of it stops both."""
        journal = self.journal()
        self.begin(journal, "on=CONT:count", "on=USR1:go", "note=up", "wait", "stdin", "exit=3")
        pid = self.up(journal)
        self.shell.type(b"\x1a")
        self.assertEqual(self.shell.wait(), ("stopped", signal.SIGTSTP))
        self.shell.bg()
        journal.wait("signal", "CONT")
        self.assertEqual(self.shell.foreground(), self.shell.pid)
        procs.kill(self.job, signal.SIGUSR1)
        self.assertEqual(self.shell.wait(), ("stopped", signal.SIGTSTP))
        self.shell.fg()
        until(lambda: self.shell.foreground() == pid, 5)
        self.shell.type(b"\x04")
        self.over(3)

    def test_PI06_modes_are_restored(self):
        """The command dies with the terminal in raw mode."""
        self.begin("exec", "/bin/sh", "-c", "stty raw -echo; kill -9 $$")
        self.over(128 + signal.SIGKILL)
        self.assertEqual(self.shell.foreground(), self.shell.pid)

    def test_PI06_modes_of_a_stopped_command(self):
        """They are the shell's while it is stopped, and its own again afterwards."""
        journal = self.journal()
        self.begin("exec", "/bin/sh", "-c", f"stty -echo; exec {self.puppet} {journal} note=up "
                   "on=CONT:count on=USR1:go wait exit=0")
        pid = self.up(journal)
        raw = self.shell.modes()
        self.assertNotEqual(raw, self.modes)
        self.shell.type(b"\x1a")
        self.assertEqual(self.shell.wait()[0], "stopped")
        self.assertEqual(self.shell.modes(), self.modes)
        self.shell.fg()
        until(lambda: self.shell.foreground() == pid, 5)
        until(lambda: self.shell.modes() == raw, 5)
        procs.kill(self.job, signal.SIGUSR1)
        self.over(0)

    def test_PI06_started_in_the_background(self):
        """It waits to be called, as whatever reads does."""
        journal = self.journal()
        self.begin(journal, "note=up", "exit=0", foreground=False)
        self.assertEqual(self.shell.wait(), ("stopped", signal.SIGTTIN))
        self.assertEqual(journal.entries(), [])
        self.shell.fg()
        self.over(0)

    def test_PI06_a_shell_with_jobs(self):
        """An interactive shell under it does what it does without."""
        if not os.path.exists("/bin/bash"):
            self.skipTest("no bash")
        self.begin("exec", "/bin/bash", "--norc", "--noprofile", "-i")
        self.shell.type(b"PS1='ready> '\n")
        self.shell.said(b"ready> ")
        self.shell.type(b"sleep 1000\n")
        until(lambda: procs.comm_of(self.shell.foreground()) == "sleep", 5)
        self.shell.type(b"\x1a")
        self.shell.said(b"Stopped")
        self.assertNotEqual(procs.state_of(self.job), "T")
        self.shell.type(b"fg\n")
        until(lambda: procs.comm_of(self.shell.foreground()) == "sleep", 5)
        self.shell.type(b"\x03")
        self.shell.said(b"ready> ")
        self.shell.type(b"exit 9\n")
        self.over(9)

    def test_SH27_without_terminal_for_the_command(self):
        """`run` without -t: Ctrl-Z stops command and daemon, fg continues both; Ctrl-C is sent on."""
        journal = self.journal()
        self.begin(journal, "on=CONT:count", "on=INT:count", "on=USR1:go", "fork=1", "[",
                   "note=up", "wait", "]", "note=up", "wait", "exit=8", options=())
        pids = {e.pid for e in journal.wait("note", "up", n=2)}
        self.shell.type(b"\x1a")
        self.assertEqual(self.shell.wait(), ("stopped", signal.SIGTSTP))
        until(lambda: {procs.state_of(p) for p in pids} == {"T"}, 5)
        self.shell.fg()
        journal.wait("signal", "CONT")
        until(lambda: "T" not in {procs.state_of(p) for p in pids}, 5)
        self.shell.type(b"\x03")
        journal.wait("signal", "INT", n=2)
        procs.kill(self.job, signal.SIGUSR1)
        self.over(8)
        self.assertEqual(len(journal.entries("signal", "USR1")), 1)


class Container(Case):
    """Nobody above: the first process of a container, or of a session."""

    def begin(self, *words, **how):
        self.master, slave = pty.openpty()
        self.modes = termios.tcgetattr(slave)
        self.slave = slave
        self.addCleanup(os.close, slave)
        d = Command(self, [self.puppet, *words], options=["-t"], terminal=os.ttyname(slave), **how)
        self.daemons.append(d.launch())
        return d

    def finish(self):
        if getattr(self, "master", None) is not None:
            os.close(self.master)
            self.master = None
        super().finish()

    def test_PI06_ctrl_z_with_no_shell_above(self):
        """It would never be continued: it goes on."""
        journal = self.journal()
        d = self.begin(journal, "on=CONT:count", "on=INT:go", "note=up", "wait", "exit=6")
        journal.wait("note", "up")
        os.write(self.master, b"\x1a")
        journal.wait("signal", "CONT")
        os.write(self.master, b"\x03")
        self.assertEqual(d.wait_exit(), 6)

    def test_PI06_hang_up(self):
        """The other end is closed: the command learns it, and with it all ends."""
        journal = self.journal()
        d = self.begin(journal, "note=up", "wait")
        journal.wait("note", "up")
        os.close(self.master)
        self.master = None
        self.assertEqual(d.wait_exit(), 128 + signal.SIGHUP)

    def test_PI06_terminal_that_controls_nobody(self):
        """As a runtime may give it to the first process."""
        journal = self.journal()
        self.master, slave = pty.openpty()
        self.addCleanup(os.close, slave)
        path = os.ttyname(slave)
        d = Command(self, [self.puppet, journal, "on=INT:go", "note=up", "wait", "exit=2"],
                    options=["-t"], before=lambda: [os.dup2(os.open(path, os.O_RDWR | os.O_NOCTTY), n)
                                                    for n in range(3)])
        self.daemons.append(d.launch())
        journal.wait("note", "up")
        os.write(self.master, b"\x03")
        self.assertEqual(d.wait_exit(), 2)
