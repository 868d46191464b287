"""
The workers that are forked, or are threads: they leave the same traces as the puppet (world.py), in
Python. `run`, `seed` and `slot` are entries of groups under forkserver, fork and threads.
CHAOS_LINE_US apart, for ever or CHAOS_LINES of them and then an exit code that says which life it was.
"""
import fcntl
import os
import signal
import time

import reeve

BEGAN = os.getpid()  # of the process that loaded this


class Life:
    """What one life writes down: its token, its lock, its numbered lines."""

    def __init__(self, env):
        self.env = env
        self.name = env["REEVE_WORKER"]
        self.life = f"{env['EPOCH']} {self.name} {env['REEVE_INCARNATION']}"
        self.pid, self.lock, self.number = os.getpid(), -1, 0
        self.apart_s = int(env.get("CHAOS_LINE_US", "4000")) / 1e6
        self.lines = int(env.get("CHAOS_LINES", "0"))

    def note(self, word, text):
        """One entry as the puppet writes it, with one write."""
        line = f"{time.monotonic_ns() // 1000} {os.getpid()} {word} {text}\n".encode()
        fd = os.open(self.env["CHAOS_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
                     0o666)
        os.write(fd, line)
        os.close(fd)

    def begin(self, lock=True):
        self.note("note", self.life)
        if not lock:
            return
        self.lock = os.open(f"{self.env['CHAOS_LOCKS']}/lock-{self.name}",
                            os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.note("double", self.name)

    def line(self, third):
        """`third`: what tells this life's lines from others' of the same number."""
        row = f"row-{self.env['EPOCH']}.{self.env['REEVE_INCARNATION']}.{third} {self.number}\n"
        os.write(1, row.encode())
        self.number += 1
        time.sleep(self.apart_s)

    def over(self):
        return bool(self.lines) and self.number >= self.lines

    def code(self):
        return int(self.env["REEVE_INCARNATION"]) % 7 + 1

    def drop(self):
        os.close(self.lock)


def default_signals():
    """So that every end is by the signal that was sent."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def run():
    default_signals()
    life = Life(os.environ)
    life.begin()
    while not life.over():
        life.line(life.pid)
    return life.code()


def seed():
    """
    Warm at once; then it forks whoever is asked for between two lines. Who may be a seed holds no
    lock: a copy would share it, so the daemon does not let it fork.
    """
    reeve.fork_point()
    default_signals()
    life = Life(os.environ)
    life.begin(lock=os.getpid() != BEGAN)
    while True:
        for _ in range(10):
            life.line(life.pid)
        reeve.fork_point()
        if os.getpid() != life.pid:
            life = Life(os.environ)
            life.begin()


def slot():
    life = Life(reeve.environ())
    life.begin()
    while not reeve.stopping() and not life.over():
        life.line(life.env["REEVE_INDEX"])
    life.drop()
    return life.code() if life.over() else 0
