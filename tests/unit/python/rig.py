"""
A daemon small enough to read: starts the real runtime with a channel, asks for workers, and is their
subreaper as the keeper would be. Of the environment: REEVE_TEST_PYTHON is the interpreter under test,
REEVE_PYTHON_DIR the package as a build has it (by default that of build-gcc or build).
"""
import ctypes
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
DIR = next(path for path in (pathlib.Path(os.environ.get("REEVE_PYTHON_DIR", "/nonexistent")),
                             ROOT / "build-gcc/share/reeve/python", ROOT / "build/share/reeve/python",
                             ROOT / "lib/python") if path.is_dir())
sys.path.insert(0, str(DIR))
sys.dont_write_bytecode = True

from reeve import _channel, _protocol  # noqa: E402
from reeve._channel import Channel, Message  # noqa: E402
from reeve._protocol import Tag, Type  # noqa: E402

_SYSTEM = "/usr/bin/python3"  # what `python` is without a key
PYTHON = os.environ.get("REEVE_TEST_PYTHON",
                        _SYSTEM if os.access(_SYSTEM, os.X_OK) else sys.executable)
PATIENCE = 20.0


def become_subreaper():
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def readable(fd, seconds=PATIENCE):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Born:
    """A worker that was asked for, seen from its own channel and the end of its output pipe."""

    def __init__(self, channel, output):
        self.channel, self.output = channel, output
        self.pid = None

    def receive(self):
        if not readable(self.channel.socket):
            raise AssertionError("nothing from the worker")
        return self.channel.receive()

    def born(self):
        message = self.receive()
        if message is None or message.type != Type.BORN:
            raise AssertionError(f"{message} instead of BORN")
        self.pid = message.need(Tag.PID)
        return self

    def go(self):
        self.channel.send(Type.GO)
        return self

    def text(self):
        """All it writes until it closes its output."""
        parts = []
        while True:
            if not readable(self.output):
                raise AssertionError(f"its output does not end: {b''.join(parts)!r}")
            part = os.read(self.output, 65536)
            if not part:
                return b"".join(parts).decode()
            parts.append(part)

    def line(self):
        out = b""
        while not out.endswith(b"\n"):
            if not readable(self.output):
                raise AssertionError(f"no line: {out!r}")
            part = os.read(self.output, 1)
            if not part:
                raise AssertionError(f"no line but the end: {out!r}")
            out += part
        return out.decode().rstrip("\n")

    def code(self):
        """Exit code, -N for signal N."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self):
        self.channel.close()
        os.close(self.output)


class Program:
    """A template, seed or host in `cwd`, and the daemon's end of its channel."""

    def __init__(self, cwd, word="template", env=None, argv=None):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.err = open(pathlib.Path(cwd) / "err", "w+b")
        environment = {"PATH": "/usr/bin:/bin", "REEVE_CHANNEL": str(theirs.fileno()),
                       "PYTHONDONTWRITEBYTECODE": "1", **(env or {})}
        self.process = subprocess.Popen(
            argv or [PYTHON, str(DIR), word], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
            stdout=self.err, stderr=self.err, pass_fds=[theirs.fileno()])
        theirs.close()
        self.channel = Channel(ours.detach())
        self.pid = self.process.pid
        self.requests = 0
        self.workers = []
        self.before_ready = []

    def receive(self, type=None):
        if not readable(self.channel.socket):
            raise AssertionError(f"nothing from the template: {self.said()}")
        message = self.channel.receive()
        if type is not None and (message is None or message.type != type):
            raise AssertionError(f"{message} instead of {Type(type).name}: {self.said()}")
        return message

    def hello(self, mode="template", entry="app:main", preload=(), **more):
        records = [(Tag.VERSIONS, (1, 1)), (Tag.MODE, mode), (Tag.GROUP, "web"),
                   (Tag.COUNT, more.pop("count", 1)), (Tag.GENERATION, 1), (Tag.ENTRY, entry)]
        records += [(Tag.PRELOAD, name) for name in preload]
        records.append((Tag.PRELOAD_ERRORS, more.pop("errors", "fail")))
        records += [(Tag.ALLOW_THREAD, name) for name in more.pop("allow", ())]
        records.append((Tag.PATH, str(DIR)))
        assert not more, more
        self.channel.send(Type.HELLO, *records)
        return self.receive(Type.HELLO)

    def ready(self, **hello):
        """Greet, and wait for READY, which is returned."""
        self.hello(**hello)
        while True:
            message = self.receive()
            if message is None:
                raise AssertionError(f"the end instead of READY: {self.said()}")
            if message.type == Type.READY:
                return message
            self.before_ready.append(message)

    def fork(self, name="web:0", records=(), fds=None, env=None):
        """Send FORK; a Born. `fds` is a map of numbers to fds beside the usual ones."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        out, into = os.pipe()
        table = {-1: theirs.fileno(), 1: into, 2: into, **(fds or {})}
        self.requests += 1
        variables = {"REEVE_WORKER": name, "REEVE_INDEX": name.rpartition(":")[2],
                     "PATH": "/usr/bin", "LISTEN_PID": "1", **(env or {})}
        self.channel.send(
            Type.FORK, (Tag.NAME, name), (Tag.INDEX, int(name.rpartition(":")[2])), (Tag.COUNT, 4),
            (Tag.INCARNATION, 1), (Tag.GENERATION, 1),
            *((Tag.ENV, f"{k}={v}".encode()) for k, v in variables.items()), *records,
            (Tag.FD_MAP, tuple(table)), request=self.requests, fds=list(table.values()))
        theirs.close()
        os.close(into)
        worker = Born(Channel(ours.detach()), out)
        self.workers.append(worker)
        return worker

    def spawned(self):
        return self.receive(Type.SPAWNED).need(Tag.PID)

    def run(self, *args, **kwargs):
        """A worker from FORK to its end: (text, code)."""
        worker = self.fork(*args, **kwargs)
        self.spawned()
        worker.born().go()
        return worker.text(), worker.code()

    def said(self):
        """Its stdout and stderr so far."""
        self.err.flush()
        self.err.seek(0)
        return self.err.read().decode(errors="replace")

    def end(self):
        """EOF; its exit code."""
        self.channel.close()
        return self.process.wait(PATIENCE)

    def close(self):
        self.channel.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for worker in self.workers:
            worker.close()
        self.err.close()


class Case(unittest.TestCase):
    """A directory with the user's modules, and programs that are over after the test."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        become_subreaper()

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="rp-"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.addCleanup(self.reap)

    def reap(self):
        """No process of a test outlives it."""
        while True:
            try:
                pid, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                children = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text()
                for child in children.split():
                    os.kill(int(child), signal.SIGKILL)

    def module(self, text, name="app"):
        (self.dir / f"{name}.py").write_text(text)

    def program(self, **how):
        made = Program(self.dir, **how)
        self.addCleanup(made.close)
        return made

    def template(self, text=None, env=None, **hello):
        """A template that is ready, with this text as the module app."""
        if text is not None:
            self.module(text)
        made = self.program(env=env)
        made.ready(**hello)
        return made


__all__ = ["Case", "Channel", "DIR", "Message", "PYTHON", "Program", "Tag", "Type", "_channel", "os",
           "pathlib", "readable", "resource", "signal", "socket", "subprocess", "sys", "unittest"]
