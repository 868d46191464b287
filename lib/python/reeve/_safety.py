"""
What makes a fork of this process unsafe, seen from inside: threads, GPU devices, io_uring, file
locks, descriptors that came after READY. The daemon looks at the same from /proc.

A Watch is made when the template has loaded. C looks before each fork whether there is one thread and
as many descriptors as at READY (lib/safety.c); culprits() is asked where that is not so, or where code
has run in between, and costs a few dozen system calls. Every text names the culprit and ends with the way out.
"""
from __future__ import annotations

import fnmatch
import os
import re
import stat
import threading
import time
from typing import Collection, Dict, Iterable, List, Optional, Sequence

_GPU = re.compile(r"(^|/)dev/(nvidia|dri/|kfd$|accel/)")
_UNNAMED = re.compile(r"^Thread-\d+( \(.*\))?$")
_GONE_S = 0.05  # a joined thread may still be a task of the kernel's for a moment


def label(thread: threading.Thread) -> str:
    """What a reader of the code knows a thread by: its name, else whose code it runs."""
    if not _UNNAMED.match(thread.name):
        return thread.name
    if type(thread) not in (threading.Thread, threading.Timer):
        return type(thread).__name__
    target = getattr(thread, "_target", None)
    owner = getattr(target, "__self__", None)
    if owner is not None and not isinstance(owner, type(os)):
        return owner.__name__ if isinstance(owner, type) else type(owner).__name__
    return getattr(target, "__name__", None) or thread.name


def tasks() -> List[int]:
    return [int(name) for name in os.listdir("/proc/self/task")]


def count_tasks() -> int:
    """One system call: a directory for each task, and . and .. as every directory has."""
    return os.stat("/proc/self/task").st_nlink - 2


def _comm(tid: int) -> Optional[str]:
    try:
        with open(f"/proc/self/task/{tid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return None


def name_threads(process: str) -> None:
    """
    Let the kernel know the names of Python's threads (Python does so from 3.14 on): the daemon reads
    them there.
    """
    for thread in threading.enumerate():
        if _comm(thread.native_id or 0) == process and thread is not threading.main_thread():
            try:
                with open(f"/proc/self/task/{thread.native_id}/comm", "wb") as file:
                    file.write(label(thread).encode("utf-8", "replace")[:15])
            except OSError:
                pass  # it has just ended


def _others(allow: Sequence[str], process: str) -> Optional[List[str]]:
    """The threads beside this one that nobody allowed; None if one of them was ending just now."""
    mine = threading.get_native_id()
    known: Dict[Optional[int], threading.Thread] = {t.native_id: t for t in threading.enumerate()}
    names = []
    for tid in tasks():
        if tid == mine:
            continue
        comm = _comm(tid)
        if comm is None:
            return None
        thread = known.get(tid)
        if thread is None:  # C code made it; without a name of its own it has the process's
            aliases = ["unnamed" if comm == process else comm, comm]
        else:
            aliases = [label(thread), thread.name, comm]
        if not any(fnmatch.fnmatchcase(a, pattern) for a in aliases for pattern in allow):
            names.append(aliases[0])
    return sorted(names)


def threads(allow: Sequence[str], process: str, when: str) -> Optional[str]:
    """The complaint about threads, if there is one. `process` was our name when they were made."""
    if count_tasks() == 1:
        return None
    end = time.monotonic() + _GONE_S
    while True:
        names = _others(allow, process)
        if names is not None and (not names or time.monotonic() > end):
            break
        time.sleep(0.001)
    if not names:
        return None
    whose = "its thread" if len(names) == 1 else "their threads"
    return f"{count_tasks()} threads ({', '.join(names)}); start {whose} {when}"


def descriptors() -> Dict[int, str]:
    """Every open fd and what it refers to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the listing's own
    return found


def _has_lock(fd: int) -> bool:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return False
        with open(f"/proc/self/fdinfo/{fd}", encoding="utf-8", errors="replace") as file:
            return any(line.startswith("lock:") for line in file)
    except OSError:
        return False


def _fd_complaint(fd: int, target: str, when: str) -> Optional[str]:
    if _GPU.search(target):
        return f'GPU device {target} is open; use start_method = "spawn"'
    if target == "anon_inode:[io_uring]":
        return f'io_uring (fd {fd}) is open; set it up {when}, or use start_method = "spawn"'
    if target.startswith("/") and _has_lock(fd):
        return f"file lock on {target} (fd {fd}); take it {when}"
    return None


def _maps() -> Iterable[str]:
    """The lines of mapped files in /proc/self/maps."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return [line.rstrip("\n") for line in file if "/" in line]
    except OSError:
        return []


class Watch:
    """
    What was open when loading ended. `own` are fds and a map of the runtime itself; `when` is where
    a program may do what keeps it from being forked.
    """

    def __init__(self, allow: Sequence[str], own: Collection[int],
                 when: str = "in @after_fork") -> None:
        self.allow, self.own, self.when = list(allow), set(own), when
        self.process = _comm(threading.get_native_id()) or ""
        name_threads(self.process)
        self.known = descriptors()
        self._mapped_gpu = sorted({m[m.index("/"):] for m in _maps() if _GPU.search(m)})

    def strangers(self) -> List[int]:
        """What code of others has open: workers find these numbers taken."""
        return [fd for fd in self.known if fd > 2 and fd not in self.own]

    def culprits(self, ignore: Collection[int] = ()) -> List[str]:
        """Why no worker may be forked now. `ignore` are fds that came with the request."""
        found = []
        complaint = threads(self.allow, self.process, self.when)
        if complaint:
            found.append(complaint)
        gpus = set()
        for fd, target in sorted(descriptors().items()):
            if fd in self.own or fd in ignore:
                continue
            text = _fd_complaint(fd, target, self.when)
            if text is None and self.known.get(fd) != target:
                text = f"fd {fd} ({target}) was not open at READY; open it {self.when}"
            if text and text not in gpus:
                gpus.add(text)
                found.append(text)
        for target in self._mapped_gpu:
            text = f'GPU device {target} is open; use start_method = "spawn"'
            if text not in gpus:
                found.append(text)
        return found

    def notes(self, declared: Collection[int] = ()) -> List[str]:
        """
        What is no danger in itself, but will not be in a worker what it was here. `declared` are
        fds of which each worker has its own.
        """
        found = []
        for fd, target in sorted(self.known.items()):
            if fd > 2 and fd not in self.own and fd not in declared:
                found.append(f"fd {fd} ({target}) is closed in the workers; open it in @after_fork")
        for line in _maps():
            fields = line.split(None, 5)
            if len(fields) == 6 and fields[1][1] == "w" and fields[1][3] == "s" \
                    and not fields[5].startswith("/dev/zero"):
                found.append(f"{fields[5]} is mapped shared and writable: all workers write to "
                             "the same memory")
        return found
