"""
Decoys: processes in the daemon's pid namespace that are nobody's business, and own the numbers that
its workers have just given back. They block every signal; none may ever die or have one pending.
"""
import os
import random
import signal

import procs

SIZE = 600  # pids of the namespace (after the first round: 300 to 599)
HERD = 60


def narrow():
    """In the child that becomes the daemon: a small pid space. Per namespace since Linux 6.14."""
    release = tuple(int(x) for x in os.uname().release.split(".")[:2])
    if release >= (6, 14):
        with open("/proc/sys/kernel/pid_max", "w", encoding="ascii") as file:
            file.write(str(SIZE))


class Herd:
    def __init__(self, ns_of):
        self.alive = {}  # pid as we see it → its process' start time
        self.random = random.Random(1)
        self.space = os.open(f"/proc/{ns_of}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def close(self):
        if self.space < 0:
            return
        for pid in list(self.alive):
            self.end(pid)
        os.close(self.space)
        os.close(self.home)
        self.space = -1

    def add(self, n):
        procs.libc("setns", self.space, procs.CLONE_NEWPID)
        try:
            for _ in range(n):
                pid = os.fork()
                if pid == 0:
                    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
                    try:
                        os.execve("/bin/sleep", ["decoy", "3600"], {})
                    finally:
                        os._exit(1)
                self.alive[pid] = True
        finally:
            procs.libc("setns", self.home, procs.CLONE_NEWPID)

    def end(self, pid):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        del self.alive[pid]

    def turn(self, n):
        """Some leave, as many come and take the numbers that are free now."""
        for pid in self.random.sample(sorted(self.alive), min(n, len(self.alive))):
            self.end(pid)
        self.add(HERD - len(self.alive))

    def hurt(self):
        """What happened to them: dead ones, and signals that wait."""
        found = []
        for pid in self.alive:
            status = procs.status_of(pid)
            if status.get("State", "Z")[0] in "ZX":
                found.append(f"decoy {pid} is dead")
            elif int(status.get("SigPnd", "0"), 16) | int(status.get("ShdPnd", "0"), 16):
                found.append(f"decoy {pid} was signalled: {status['SigPnd']} {status['ShdPnd']}")
        return found
