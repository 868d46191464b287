"""Looking at processes: /proc, marks, cgroups, namespaces, events. No test knowledge."""
import ctypes
import os
import pathlib
import re
import signal
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWPID = 0x20000, 0x20000000
PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE = 36, 4


def libc(name, *args):
    if getattr(LIBC, name)(*args) < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")


def become_subreaper():
    libc("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Late(AssertionError):
    """What was waited for did not come."""


def until(look, timeout=15.0, what="", every=None):
    """The first true value of look(); it is asked again and again until the deadline: soon at first,
    then seldom enough not to slow down what it waits for."""
    end = time.monotonic() + timeout
    pause = every or 0.002
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Late(f"did not happen within {timeout} s: {what or look}")
        time.sleep(pause)
        pause = every or min(1.4 * pause, 0.025)


def pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read(path, default=""):
    try:
        with open(path, "rb") as file:
            return file.read().decode("utf-8", "backslashreplace")
    except OSError:
        return default


def stat_of(pid):
    """Fields of /proc/PID/stat from the state letter on; None when it is gone."""
    text = read(f"/proc/{pid}/stat")
    return text[text.rindex(")") + 2:].split() if ")" in text else None


def state_of(pid):
    fields = stat_of(pid)
    return fields[0] if fields else None


def alive(pid):
    return state_of(pid) not in (None, "Z", "X")


def status_of(pid):
    out = {}
    for line in read(f"/proc/{pid}/status").splitlines():
        key, _, value = line.partition(":")
        out[key] = value.strip()
    return out


def comm_of(pid):
    return read(f"/proc/{pid}/comm").strip()


def children_of(pid):
    found = []
    for other in pids():
        fields = stat_of(other)
        if fields and int(fields[1]) == pid:
            found.append(other)
    return found


def roles_of(keeper):
    """"manager" and "logger" → pid. A worker before its exec has the manager's name, too: it was
    forked and has not exec'ed (PF_FORKNOEXEC in its flags). One read says both."""
    found = {}
    for pid in read(f"/proc/{keeper}/task/{keeper}/children").split():
        name = role_name(pid)
        if name:
            found[name] = int(pid)
    return found


def role_name(pid):
    match = re.match(r"\d+ \(reeve-(\w+)\) ([^ZX] .*)", read(f"/proc/{pid}/stat"))
    return match[1] if match and not int(match[2].split()[6]) & 0x40 else None


def newest_role(keeper, name, known=None, among=200):
    """The pid of one role, for keepers of thousands: the one that was known, if it lives, or looked
    for among the newest children."""
    if known and role_name(known) == name:
        return known
    children = read(f"/proc/{keeper}/task/{keeper}/children").split()[-among:]
    return next((int(pid) for pid in reversed(children) if role_name(pid) == name), None)


def fds_of(pid):
    out = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                out[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                pass
    except OSError:
        pass
    return out


def cpu_ticks(pid):
    fields = stat_of(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def host_pid(inner, ns_of):
    """The pid here of the process that is `inner` in the pid namespace of process ns_of."""
    try:
        space = os.readlink(f"/proc/{ns_of}/ns/pid")
        if os.readlink("/proc/self/ns/pid") == space:
            return inner
    except OSError:
        return None
    for pid in pids():
        numbers = status_of(pid).get("NSpid", "").split()
        if len(numbers) > 1 and int(numbers[-1]) == inner:
            try:
                if os.readlink(f"/proc/{pid}/ns/pid") == space:
                    return pid
            except OSError:
                pass
    return None


def host_pids(ns_of):
    """All that live in the pid namespace of a process: number there → number here."""
    found = {}
    try:
        space = os.readlink(f"/proc/{ns_of}/ns/pid")
    except OSError:
        return found
    for pid in pids():
        numbers = status_of(pid).get("NSpid", "").split()
        try:
            if numbers and os.readlink(f"/proc/{pid}/ns/pid") == space:
                found[int(numbers[-1])] = pid
        except OSError:
            pass
    return found


def under(link, root):
    return link == root or link.startswith(root + "/")


def is_marked(pid, mark, root, files):
    base = f"/proc/{pid}"
    try:
        if under(os.readlink(f"{base}/exe"), root) or under(os.readlink(f"{base}/cwd"), root):
            return True
    except OSError:
        return False  # of the kernel, dead, or not to be looked into at all
    try:
        with open(f"{base}/environ", "rb") as file:
            if mark in file.read():
                return True
    except OSError:
        pass
    return files and any(under(link, root) for link in fds_of(pid).values())


def descendants():
    """Ours; and whose parent went away while we looked, since orphans come to us."""
    parents = {pid: int(fields[1]) for pid in pids() if (fields := stat_of(pid))}
    is_ours = {os.getpid(): True, 0: False}
    for pid in parents:
        path = []
        while pid not in is_ours and pid in parents:
            path.append(pid)
            pid = parents[pid]
        is_ours.update(dict.fromkeys(path, is_ours.get(pid, True)))
    return [pid for pid in parents if is_ours[pid] and pid != os.getpid()]


def marked(mark, root, files=False, ignore=()):
    """
    Processes of one test, which is a subreaper: by mark in the environment, by program, working
    directory or (files) open file below its private directory. Dead ones that nobody has reaped are
    not alive.
    """
    return [pid for pid in descendants()
            if pid not in ignore and is_marked(pid, mark.encode(), root, files) and alive(pid)]


def describe(pid):
    line = read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    fields = stat_of(pid) or ["?", "?"]
    return f"{pid} ({comm_of(pid)}, {fields[0]}, parent {fields[1]}) {line[:160]}"


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


def find_cgroup2():
    """The directory of our own cgroup in the v2 hierarchy, None where there is none."""
    path = None
    for line in read("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            path = line[3:]
    for line in read("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        if path and right.startswith("cgroup2 "):
            return pathlib.Path(left.split()[4] + (path if path != "/" else ""))
    return None


class Cgroup:
    """One directory of the v2 hierarchy and everything below it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def below(self):
        """All directories below, the deepest first. (rglob fails when one goes meanwhile.)"""
        return [pathlib.Path(top) for top, _, _ in os.walk(self.path, topdown=False)][:-1]

    def members(self):
        found = set()
        for folder in [*self.below(), self.path]:
            found |= set(map(int, read(folder / "cgroup.procs").split()))
        return found - {0}

    def clear(self):
        """Kill what is inside, then remove it."""
        def gone():
            try:
                (self.path / "cgroup.kill").write_text("1")
            except OSError:
                for pid in self.members():
                    kill(pid)
            for folder in [*self.below(), self.path]:
                try:
                    folder.rmdir()
                except OSError:
                    pass
            return not self.path.exists()
        until(gone, 10, f"removing {self.path}", every=0.01)
