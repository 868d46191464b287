"""The part of a shell that knows jobs, with a terminal of its own, for tests of job control."""
import json
import os
import pty
import select
import signal
import socket
import termios

from procs import until


class Shell:
    """
    Leads a session on a new terminal, in a process of its own. start() puts a job into the
    foreground; wait() says what became of it, as a shell sees it: ("stopped", signal),
    ("exited", code), ("killed", signal).
    """

    def __init__(self, case):
        self.master, self.slave = pty.openpty()
        self.path = os.ttyname(self.slave)
        self.ours, theirs = socket.socketpair()
        self.ours.settimeout(20)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        case.addCleanup(self.close)

    def close(self):
        if self.pid:
            self.ours.close()
            os.close(self.master)
            os.close(self.slave)
            os.waitpid(self.pid, 0)
            self.pid = None

    # --- in the shell's process --------------------------------------------------------------

    def serve(self, sock):
        self.ours.close()
        os.close(self.master)
        os.setsid()
        fd = os.open(self.path, os.O_RDWR)
        os.close(self.slave)
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        jobs = {"start": self.do_start, "wait": self.do_wait, "fg": self.do_fg, "bg": self.do_bg}
        while True:
            text = sock.recv(1 << 20)
            if not text:
                return
            word, *args = json.loads(text)
            sock.send(json.dumps(jobs[word](fd, *args)).encode())

    def do_start(self, fd, argv, env, foreground):
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                if foreground:
                    os.tcsetpgrp(fd, os.getpid())
                for number in range(3):
                    os.dup2(fd, number)
                os.closerange(3, 100)
                for number in range(1, 32):
                    if number not in (signal.SIGKILL, signal.SIGSTOP):
                        signal.signal(number, signal.SIG_DFL)
                os.execve(argv[0], argv, env)
            finally:
                os._exit(125)
        try:
            os.setpgid(pid, pid)
        except OSError:  # it has done so itself
            pass
        self.job = pid
        return pid

    def do_wait(self, fd):
        _, status = os.waitpid(self.job, os.WUNTRACED)
        os.tcsetpgrp(fd, os.getpgrp())
        if os.WIFSTOPPED(status):
            return "stopped", os.WSTOPSIG(status)
        if os.WIFSIGNALED(status):
            return "killed", os.WTERMSIG(status)
        return "exited", os.WEXITSTATUS(status)

    def do_fg(self, fd):
        os.tcsetpgrp(fd, self.job)
        os.kill(-self.job, signal.SIGCONT)

    def do_bg(self, fd):
        os.kill(-self.job, signal.SIGCONT)

    # --- in the test's -----------------------------------------------------------------------

    def ask(self, *words):
        self.ours.send(json.dumps(words).encode())
        return json.loads(self.ours.recv(1 << 16))

    def start(self, argv, env, foreground=True):
        return self.ask("start", list(map(str, argv)), env, foreground)

    def wait(self):
        return tuple(self.ask("wait"))

    def fg(self):
        self.ask("fg")

    def bg(self):
        self.ask("bg")

    def type(self, text):
        os.write(self.master, text)

    def foreground(self):
        return os.tcgetpgrp(self.master)

    def modes(self):
        return termios.tcgetattr(self.master)

    def said(self, text, timeout=15):
        """Until the terminal shows it."""
        seen = b""

        def look():
            nonlocal seen
            while select.select([self.master], [], [], 0)[0]:
                seen += os.read(self.master, 4096)
            return text in seen
        until(look, timeout, f"{text!r} is shown")
        return seen
