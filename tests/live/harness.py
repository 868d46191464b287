"""
What every live test stands on: the mode, the private directory, daemons, journals, gates.

A test runs in a process of its own (run.py), which is a subreaper and drops its rights in mode
"user". Its private directory holds a link to the puppet, so that whatever a puppet does to itself,
its program still names the test it belongs to.
"""
import encodings.idna  # noqa: F401  (later the interpreter may be out of reach of our user)
import functools
import json
import os
import pathlib
import pwd
import shutil
import signal
import time
import unittest

import procs
import varlink
from daemon import Daemon
from procs import until

MODES = ("default", "off", "user", "pid1", "eperm")
NOBODY = 65534
PYTHON = os.environ.get("REEVE_TEST_PYTHON", "/usr/bin/python3")  # the default of `python`

# Short clocks: tests wait for events, and most events here are the end of a clock.
DEFAULTS = {
    "settle": "30ms",
    "start_timeout": "20s",
    "restart": {"delay": "20ms", "max_delay": "100ms", "jitter": 0.0},
    "stop": {"timeout": "10s"},
}


class Context:
    """What the runner decided for a test: mode, build, where things go."""

    def __init__(self, mode, build, root, cgroup=None):
        self.mode = mode
        self.build = pathlib.Path(build).resolve()
        self.root = pathlib.Path(root)
        self.cgroup = cgroup  # of this test, procs.Cgroup or None

    def program(self, name):
        """The runner's copy, which everybody can reach; a clone may lie in a closed directory."""
        copy = self.root.parent / "bin" / name
        return copy if copy.is_file() else self.built(name)

    def built(self, name):
        for folder in ("daemon", "ctl", "lib", "tests/support", "tests/support/next", "."):
            path = self.build / folder / name
            if path.is_file():
                return path
        raise FileNotFoundError(f"{name} is not in {self.build}")

    def cgroup_for(self, daemon):
        """A cgroup of its own for each daemon, so that many can run beside each other."""
        if not self.cgroup:
            return None
        path = self.cgroup.path / daemon.name
        path.mkdir(exist_ok=True)
        return procs.Cgroup(path)

    def cgroup_key(self):
        """daemon.cgroup for this mode."""
        if self.mode == "off":
            return "off"
        return "require" if self.mode == "default" and self.cgroup else "auto"


@functools.lru_cache
def sanitized(build):
    """True if the binaries of this build carry a sanitizer. Tests have it from the runner: not
    every user may look into the build."""
    info = pathlib.Path(build) / "meson-info/intro-buildoptions.json"
    options = json.loads(info.read_text())
    return any(o["name"] == "b_sanitize" and o["value"] != "none" for o in options)


def mark_of(root):
    """What the environment of every process of a test holds."""
    return f"reeve-live-{root.parent.name}-{root.name}."


def merge(base, more):
    out = dict(base)
    for key, value in (more or {}).items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else value
    return out


class Journal:
    """The journal that puppets write: one entry per line."""

    class Entry:
        def __init__(self, line):
            us, pid, self.word, self.text = (line.split(" ", 3) + [""])[:4]
            self.us, self.pid = int(us), int(pid)

        def __repr__(self):
            return f"{self.us} {self.pid} {self.word} {self.text}"

    def __init__(self, path):
        self.path = pathlib.Path(path)

    def __str__(self):
        return f"journal={self.path}"

    def entries(self, word=None, text=None):
        lines = procs.read(self.path).splitlines()
        found = [self.Entry(line) for line in lines if line.count(" ") >= 2]
        return [e for e in found if word in (None, e.word) and
                (text is None or e.text.startswith(text))]

    def wait(self, word, text=None, n=1, timeout=15):
        """Until there are n such entries; they are returned."""
        def enough():
            found = self.entries(word, text)
            return found if len(found) >= n else None
        try:
            return until(enough, timeout)
        except procs.Late:
            raise procs.Late(f"no {n} × {word} {text or ''} within {timeout} s: "
                             f"{self.entries()[-20:]}") from None


class Gate:
    """A FIFO that puppets wait at."""

    def __init__(self, path):
        self.path, self.fd = path, None
        os.mkfifo(path, 0o666)
        os.chmod(path, 0o666)

    def __str__(self):
        return f"gate={self.path}"

    def open(self):
        self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)

    def close(self):
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def costly(*modes):
    """Of a test that takes seconds: it runs in `default` and in these modes, and in every one with
    REEVE_TEST_COSTLY (run.py --costly)."""
    def mark(test):
        @functools.wraps(test)
        def run(self):
            if self.mode not in ("default", *modes) and not os.environ.get("REEVE_TEST_COSTLY"):
                self.leave_out("costly, and much the same here: --costly runs it")
            test(self)
        return run
    return mark


class Case(unittest.TestCase):
    """Base of all live tests."""

    context = None  # set by the runner
    maxDiff = None
    left_out = False
    stretch = 1   # times the deadline

    def setUp(self):
        self.mode = self.context.mode
        self.dir = self.context.root
        self.mark = mark_of(self.dir)
        self.puppet = self.dir / "puppet"
        self.daemons = []
        self.allowed = set()  # pids of processes that a test leaves on purpose until its end
        for name in ("log", "xdg", "state", "config"):
            (self.dir / name).mkdir()
            (self.dir / name).chmod(0o755)
        self.addCleanup(self.finish)

    def finish(self):
        """End all daemons; nothing may be left."""
        complaints = []
        for daemon in self.daemons:
            complaints += daemon.end()

        def left():
            return [p for p in procs.marked(self.mark, str(self.dir), True)
                    if p not in self.allowed]
        try:
            until(lambda: not left(), 5)
        except procs.Late:
            complaints += [f"left behind: {procs.describe(p)}" for p in left()]
        ended = {*left(), *self.allowed} - {None}
        for pid in ended:
            procs.kill(pid)

        def reaped():
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass
            return not any(map(procs.state_of, ended))
        try:
            until(reaped, 5)
        except procs.Late:
            pass  # somebody else's child by now, or not to be killed
        if complaints:
            self.fail("\n".join(complaints))

    def is_of_another(self, daemon, pid):
        """True for processes that belong to a test's other daemon, or are allowed to be there."""
        if pid in self.allowed:
            return True
        others = [d for d in self.daemons if d is not daemon and d.code is None]
        return bool(others) and any(
            pid == d.pid or (d.cgroup and pid in d.cgroup.members()) or
            f"run-{d.name}/" in procs.read(f"/proc/{pid}/environ") for d in others)

    # --- making things -----------------------------------------------------------------------

    def conf(self, groups, daemon=None, defaults=None, name="d0", **more):
        """A whole configuration: the test's groups with short clocks and marks."""
        base = {
            "daemon": {"runtime_dir": str(self.dir / f"run-{name}"),
                       "cgroup": self.context.cgroup_key(),
                       "log": {"level": "debug", "to": "stderr"}},
            "defaults": merge(DEFAULTS, {
                "log": {"file": f"{self.dir}/log/%g.log", "to": "file"},
                "env": {"LIVE_MARK": self.mark, "LIVE_RUN": f"run-{name}/"}}),
        }
        whole = {"daemon": merge(base["daemon"], daemon),
                 "defaults": merge(base["defaults"], defaults), "groups": groups}
        return merge(whole, more)

    def daemon(self, groups, start=True, name="d0", daemon=None, defaults=None, **how):
        """A daemon with these groups, started unless told otherwise."""
        conf = groups if isinstance(groups, str) or groups is None or "groups" in groups \
            else self.conf(groups, daemon, defaults, name)
        made = Daemon(self, conf, name, **how)
        self.daemons.append(made)
        return made.start() if start else made

    def words(self, *words):
        """`command` that runs the puppet with these words."""
        return [str(self.puppet), *(str(word).replace("%", "%%") for word in words)]

    def one(self, *words, **keys):
        """A configuration with one group "web" of one puppet."""
        return {"web": {"command": self.words(*words), **keys}}

    def journal(self, name="journal"):
        return Journal(self.dir / name)

    def gate(self, name="gate"):
        made = Gate(self.dir / name)
        self.addCleanup(made.close)
        return made

    def dump(self, path):
        """What a puppet dumped to `path`, once it is there in full."""
        path = pathlib.Path(path)

        def look():
            try:
                return json.loads(path.read_text())
            except (FileNotFoundError, ValueError):
                return None
        return until(look, 15, f"{path.name} is written")

    # --- conditions --------------------------------------------------------------------------

    def leave_out(self, why):
        """This mode has nothing to say about it, on any machine: not run, and not counted."""
        self.left_out = True
        self.skipTest(why)

    def need_root(self):
        if self.mode == "user":
            self.leave_out("needs root")
        if os.getuid() != 0:
            self.skipTest("needs root")

    def need_not(self, mode, why):
        if self.mode == mode:
            self.leave_out(why)

    def need_only(self, modes, why):
        if self.mode not in modes:
            self.leave_out(f"modes {' '.join(modes)}: {why}")

    def need_cgroup(self):
        self.need_only(("default", "pid1"), "needs a cgroup of our own")
        if not self.context.cgroup:
            self.skipTest("needs a cgroup of our own")

    def has_cgroup(self):
        return self.mode in ("default", "pid1") and self.context.cgroup is not None

    def small_file_system(self, folder):
        """A file system of its own at `folder`, to be filled: fill(), which returns what frees it;
        names=False leaves room for files without content."""
        self.need_root()
        self.need_not("pid1", "it has a mount namespace of its own")
        folder.mkdir(mode=0o755)
        try:
            procs.libc("unshare", procs.CLONE_NEWNS)
            procs.libc("mount", b"none", b"/", None, 0x44000, None)  # private, recursive
            procs.libc("mount", b"tmpfs", str(folder).encode(), b"tmpfs", 0,
                       b"size=64k,nr_inodes=40,mode=755")
        except OSError as error:
            self.skipTest(f"no mounts here: {error}")
        self.addCleanup(lambda: procs.libc("umount2", str(folder).encode(), 2))

        def write_all():
            with open(folder / "filler", "wb", buffering=0) as out:
                while True:
                    out.write(b"x" * 4096)

        def make_all():
            for number in range(100):
                (folder / f"filler{number}").touch()

        def fill(names=True):
            for act in (write_all, make_all)[:1 + names]:
                with self.assertRaises(OSError):
                    act()
            return lambda: [path.unlink() for path in folder.glob("filler*")]
        return fill

    def open_folder(self):
        """A folder in which every user may write, as /tmp is."""
        folder = self.dir / "open"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)
        return folder

    def give(self, entry):
        """Hand the private directory to another user, for a daemon that runs as that one."""
        for path in (self.dir, *(self.dir / name for name in ("log", "xdg", "state", "config"))):
            os.chown(path, entry.pw_uid, entry.pw_gid)
        return entry.pw_uid

    def some_user(self, avoid=()):
        """A user of this host that is not root, with a home: (name, entry)."""
        for name in ("daemon", "mail", "games", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            if entry.pw_uid not in (0, *avoid):
                return name, entry
        self.skipTest("no user to switch to")

    # --- assertions --------------------------------------------------------------------------

    def assert_alive(self, pid, text=""):
        self.assertTrue(pid and procs.alive(pid), f"{pid} is not alive {text}")

    def never(self, look, seconds=0.3, what=""):
        """look() stays false for so long: that nothing happens only time can show."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.assertFalse(look(), what)
            time.sleep(0.01)

    def pause(self, seconds):
        """Let time pass where the time itself is what the contract speaks of."""
        time.sleep(seconds)

    def assert_gone(self, pid, text=""):
        self.assertFalse(pid and procs.alive(pid), f"{pid} is alive {text}: "
                                                   f"{procs.describe(pid) if pid else ''}")

    def assert_refused(self, name, function, *args, **parameters):
        """function raises the Varlink error `name`, which is returned."""
        with self.assertRaises(varlink.Refused) as caught:
            function(*args, **parameters)
        self.assertEqual(caught.exception.name, name, caught.exception)
        return caught.exception


def copy_for_reading(source, target, limit=4 << 20):
    """Keep what a failed test left: its small plain files."""
    for path in sorted(source.rglob("*")):
        try:
            if path.is_symlink() or not path.is_file() or path.name == "puppet":
                continue
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.stat().st_size <= limit:
                shutil.copyfile(path, to)
        except OSError:
            pass


__all__ = ["Case", "Context", "costly", "Daemon", "Gate", "Journal", "MODES", "NOBODY", "PYTHON",
           "procs", "sanitized", "signal", "until"]
