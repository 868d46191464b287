"""`reevectl run` as a test drives it: a command in place of a configuration."""
import os
import pathlib
import signal

import procs
from daemon import REPORTS, Daemon
from procs import until


class Command(Daemon):
    """
    `words` is the command. `stdin`, `stdout`, `stderr`: paths to be opened in place of /dev/null and
    the output file; `terminal`: a terminal for all three, which controls the command's session.
    """

    def __init__(self, case, words, name="r0", options=(), stdin=None, stdout=None, stderr=None,
                 terminal=None, before=None, **how):
        super().__init__(case, None, name, binary=case.context.program("reevectl"),
                         args=["run", *options, "--", *map(str, words)], before=self.arrange, **how)
        self.file = None
        self.stdio = {0: stdin, 1: stdout, 2: stderr}
        self.terminal, self.more = terminal, before

    def arrange(self):
        """In the child, before exec."""
        if self.terminal:
            fd = os.open(self.terminal, os.O_RDWR)  # we lead a session: it controls us now
            for number in range(3):
                os.dup2(fd, number)
            os.close(fd)
        for number, path in self.stdio.items():
            if path is not None:
                fd = os.open(path, os.O_RDWR if number else os.O_RDONLY)
                os.dup2(fd, number)
                os.close(fd)
        if self.more:
            self.more()

    def private(self):
        """Its runtime directory, once it is there."""
        def look():
            for link in procs.fds_of(self.pid).values():
                if "/reeve-run." in link:
                    return pathlib.Path(*pathlib.Path(link).parts[:next(
                        i for i, part in enumerate(pathlib.Path(link).parts)
                        if part.startswith("reeve-run.")) + 1])
            return None
        return until(look, 15, "the runtime directory is open")

    def connected(self):
        """Let varlink calls go to its control socket."""
        self.socket = self.private() / "control.sock"
        if self.pid1:
            self.socket = pathlib.Path(f"/proc/{self.pid}/root{self.socket}")
        until(self.socket.exists, 15, "the control socket is there")
        return self

    def end(self):
        complaints = self.finish() if self.pid and self.poll() is None else []
        found = REPORTS.search(self.text())
        return complaints + [f"{self.name} reported: {found[0]}"] if found else complaints

    def finish(self):
        """It is over afterwards. Complaints."""
        complaints = []
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        self.case.pause(0.3)
        self.send(signal.SIGTERM)
        try:
            self.wait_exit(10)
        except AssertionError:
            complaints.append(f"{self.name} did not end on its second TERM")
            self.send(signal.SIGKILL)
            self.wait_exit(10)
        return complaints
