"""Clocks, marks and what /proc says of a process: everything that the bench measures with."""
import os
import select
import struct
import time

MARK = struct.Struct("=QIHH")  # mark.h
UP, BEGIN, END = range(3)
PIPE_BYTES = 1 << 20


class Late(Exception):
    """Something did not happen within its time."""


def now_ns():
    return time.monotonic_ns()


def until(condition, seconds, what, nap=0.002):
    """Naps until the condition is true and returns what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Late(what)
        time.sleep(nap)


class Marks:
    """The FIFO into which every worker writes when it has come up (mark.h)."""

    def __init__(self, path):
        self.path = path
        os.mkfifo(path, 0o666)
        os.chmod(path, 0o666)
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            import fcntl
            fcntl.fcntl(self.fd, 1031, PIPE_BYTES)  # F_SETPIPE_SZ
        except OSError:
            pass  # 4096 marks fit, and we look every few milliseconds
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLIN)
        self.pids = {}  # by index, of the newest life

    def close(self):
        os.close(self.fd)

    def read(self):
        """The marks that are there: [(at_ns, pid, index, kind)]."""
        try:
            data = os.read(self.fd, PIPE_BYTES)
        except BlockingIOError:
            return []
        marks = list(MARK.iter_unpack(data))
        for _, pid, index, kind in marks:
            if kind == UP:
                self.pids[index] = pid
        return marks

    def gather(self, count, kind, seconds, check, nap=0.01):
        """The times of the next `count` marks of a kind. Looks rarely: workers start meanwhile.
        `check` is called at each look and raises if they can no longer come."""
        times = []
        end = time.monotonic() + seconds
        while len(times) < count:
            times += [at for at, _, _, what in self.read() if what == kind]
            if time.monotonic() > end:
                raise Late(f"{len(times)} of {count} workers came so far")
            if len(times) < count:
                check()
                time.sleep(nap)
        return times

    def next(self, index, seconds):
        """Waits for the next life of one worker; when it came up."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.poll.poll(max(1, int((end - time.monotonic()) * 1000)))
            for at, _, which, kind in self.read():
                if which == index and kind == UP:
                    return at
        raise Late(f"worker {index} did not come back")


def read_file(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def field(text, name):
    """The number after `name:` in a status-like file."""
    for line in text.splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def cpu_ns(pid):
    """User and system time. Exact while the process sleeps, not counted in ticks."""
    return int(read_file(f"/proc/{pid}/schedstat").split()[0])


def quiet_cpu_ns(pids, seconds=10):
    """CPU time of the processes once they have nothing left to do."""
    last = None
    end = time.monotonic() + seconds
    while True:
        value = sum(cpu_ns(pid) for pid in pids)
        if value == last or time.monotonic() > end:
            return value
        last = value
        time.sleep(0.15)


def switches(pid):
    return field(read_file(f"/proc/{pid}/status"), "voluntary_ctxt_switches")


def memory_kib(pid):
    """(proportional, private) size."""
    text = read_file(f"/proc/{pid}/smaps_rollup")
    return field(text, "Pss"), field(text, "Private_Clean") + field(text, "Private_Dirty")


def fd_count(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def memfd_kib(pids):
    """What the memfds of these processes hold, mapped or not; each counted once."""
    seen = {}
    for pid in pids:
        for name in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{name}"
            try:
                if os.readlink(path).startswith("/memfd:"):
                    status = os.stat(path)
                    seen[status.st_ino] = status.st_blocks // 2
            except OSError:
                continue  # closed meanwhile
    return sum(seen.values())


def children():
    path = f"/proc/self/task/{os.getpid()}/children"
    return [int(word) for word in read_file(path).split()]


def sweep(seconds=20):
    """Ends and reaps every child. We are a subreaper: also what a dead subject has left over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        left = children()
        if not left:
            return
        for pid in left:
            os.kill(pid, 9)  # ours and not reaped: the number cannot be another's
        for pid in left:
            os.waitpid(pid, 0)
    raise Late("processes that cannot be killed")
