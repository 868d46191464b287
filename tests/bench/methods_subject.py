"""
One subject of methods.py in a process of its own: loads MODULES its way and makes workers on request.

    methods_subject.py SUBJECT MODULE,… BUILD

Reads commands from stdin, answers each by one line of JSON: "first N": N times the nanoseconds from
the request to the first statement of the worker's function; "memory N": N workers are started and
stay, then [pids of the workers, pids of the rest]; the next line ends them.
"""
import ctypes
import gc
import importlib
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

BUILD = pathlib.Path(sys.argv[3] if len(sys.argv) > 3 else "/")
DIR = BUILD / "share/reeve/python"
STAMP = struct.Struct("=q")


def stamp(fd):
    os.write(fd, STAMP.pack(time.perf_counter_ns()))


def first_line():
    """The worker's function: says when it began, stays as long as it is told to."""
    fd = int(os.environ["BENCH_FD"])
    stamp(fd)
    if os.environ.get("BENCH_STAY"):
        if os.environ["BENCH_STAY"] == "collect":
            gc.collect()
            stamp(fd)
        signal.pause()


class Subject:
    """How workers are made. start() returns a pid that this process may have to wait for, or 0."""

    def __init__(self, modules):
        self.modules = modules
        self.read, self.write = os.pipe()
        os.environ["BENCH_FD"] = str(self.write)

    def load(self):
        for name in self.modules:
            importlib.import_module(name)

    def rest(self):
        """Processes beside the workers that belong to it."""
        return [os.getpid()]

    def stamps(self, count=1):
        data = b""
        while len(data) < count * STAMP.size:
            data += os.read(self.read, count * STAMP.size - len(data))
        return [s for (s,) in STAMP.iter_unpack(data)]

    def first(self):
        begin = time.perf_counter_ns()
        worker = self.start()
        took = self.stamps()[0] - begin
        self.wait(worker)
        return took

    def wait(self, worker):
        os.waitpid(worker, 0)

    def pid(self, worker):
        return worker

    def memory(self, count, how):
        os.environ["BENCH_STAY"] = how
        workers = [self.start() for _ in range(count)]
        self.stamps(count * (2 if how == "collect" else 1))
        return workers


class OsFork(Subject):
    def __init__(self, modules):
        super().__init__(modules)
        self.load()

    def start(self):
        pid = os.fork()
        if pid == 0:
            self.child()
        return pid

    def child(self):
        first_line()
        os._exit(0)


class Adoption(OsFork):
    """The bare operation under Reeve's template: no protocol, no session, no descriptors."""

    def __init__(self, modules):
        gc.disable()
        super().__init__(modules)
        self.python = ctypes.PyDLL(None)
        self.python.prctl(36, 1, 0, 0, 0)
        self.adopt_fork = ctypes.PyDLL(str(BUILD / "tests/bench/methods-adopt.so")).adopt_fork
        self.result = (ctypes.c_int * 2)()  # struct adopt_result
        gc.freeze()

    def start(self):
        self.python.PyOS_BeforeFork()
        made = self.adopt_fork(0, -1, self.result)
        if made == 0:
            self.python.PyOS_AfterFork_Child()
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            gc.enable()
            self.child()
        self.python.PyOS_AfterFork_Parent()
        if made < 0:
            raise OSError(-made, os.strerror(-made))
        return self.result[0]


class Template(Subject):
    """Reeve's template, asked by us as the daemon asks it."""

    def __init__(self, modules):
        super().__init__(modules)
        sys.path.append(str(DIR))
        from reeve._channel import Channel
        from reeve._protocol import Tag, Type
        self.Tag, self.Type, self.Channel = Tag, Type, Channel
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.null = os.open("/dev/null", os.O_RDWR)
        self.process = subprocess.Popen(
            [sys.executable, DIR, "template"], pass_fds=[theirs.fileno()],
            cwd=pathlib.Path(__file__).parent,
            env={**os.environ, "REEVE_CHANNEL": str(theirs.fileno())})
        theirs.close()
        self.channel = Channel(ours.detach())
        self.channel.send(Type.HELLO, (Tag.VERSIONS, (1, 1)), (Tag.MODE, "template"),
                          (Tag.ENTRY, "methods_subject:first_line"),
                          *((Tag.PRELOAD, name) for name in modules))
        while self.channel.receive().type != Type.READY:
            pass
        self.requests = 0

    def rest(self):
        return [self.process.pid]

    def start(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        Tag, Type = self.Tag, self.Type
        self.requests += 1
        variables = {**os.environ, "BENCH_FD": "3"}
        self.channel.send(
            Type.FORK, (Tag.NAME, "web:0"), (Tag.INDEX, 0), (Tag.COUNT, 1), (Tag.INCARNATION, 1),
            (Tag.GENERATION, 1), (Tag.CWD, b"/"), (Tag.UMASK, 0o22),
            *((Tag.ENV, f"{k}={v}".encode()) for k, v in variables.items()),
            (Tag.FD_MAP, (-1, 0, 1, 2, 3)), request=self.requests,
            fds=[theirs.fileno(), self.null, 1, 2, self.write])
        theirs.close()
        channel = self.Channel(ours.detach())
        born = channel.receive()
        channel.send(Type.GO)
        spawned = self.channel.receive()
        assert born.type == Type.BORN and spawned.type == Type.SPAWNED, (born, spawned)
        return spawned.need(Tag.PID), channel

    def wait(self, worker):
        os.waitpid(worker[0], 0)
        worker[1].close()

    def pid(self, worker):
        return worker[0]


class Spawn(Subject):
    """start_method "spawn" with an entry: exec, then import everything."""

    def start(self):
        os.set_inheritable(self.write, True)
        return os.posix_spawn(sys.executable, [sys.executable, str(DIR), "spawn",
                                               "methods_subject:spawned"],
                              {**os.environ, "BENCH_MODULES": ",".join(self.modules),
                               "PYTHONPATH": str(pathlib.Path(__file__).parent)})

    def rest(self):
        return []


def spawned():
    for name in filter(None, os.environ["BENCH_MODULES"].split(",")):
        importlib.import_module(name)
    first_line()


def multiprocess_entry(fd, stay):
    os.environ.update(BENCH_FD=str(getattr(fd, "fd", None) or fd.fileno()), BENCH_STAY=stay)
    first_line()


class Multiprocessing(Subject):
    def __init__(self, modules, method):
        super().__init__(modules)
        import multiprocessing
        import multiprocessing.connection
        self.context = multiprocessing.get_context(method)
        self.end = multiprocessing.connection.Connection(os.dup(self.write), readable=False)
        if method == "forkserver":
            self.context.set_forkserver_preload([*modules, "methods_subject"])
        elif method == "fork":
            self.load()
        self.first()  # the server and the resource tracker start at the first use

    def start(self):
        process = self.context.Process(target=multiprocess_entry,
                                       args=(self.end, os.environ.get("BENCH_STAY", "")))
        process.start()
        return process

    def wait(self, worker):
        worker.join()

    def pid(self, worker):
        return worker.pid

    def rest(self):
        from multiprocessing import forkserver
        server = getattr(forkserver._forkserver, "_forkserver_pid", None)
        return [server] if server else [os.getpid()]


class MultiprocessingSpawn(Multiprocessing):
    """Its workers import the modules by themselves, too."""

    def start(self):
        process = self.context.Process(target=multiprocess_spawned, args=(
            self.modules, self.end, os.environ.get("BENCH_STAY", "")))
        process.start()
        return process

    def rest(self):
        return []


def multiprocess_spawned(modules, end, stay):
    for name in modules:
        importlib.import_module(name)
    multiprocess_entry(end, stay)


SUBJECTS = {
    "os.fork": OsFork, "adoption": Adoption, "reeve forkserver": Template, "reeve spawn": Spawn,
    "mp fork": lambda m: Multiprocessing(m, "fork"),
    "mp forkserver": lambda m: Multiprocessing(m, "forkserver"),
    "mp spawn": lambda m: MultiprocessingSpawn(m, "spawn"),
}


def main():
    import methods_subject  # the same functions under the name that workers import
    subject = methods_subject.SUBJECTS[sys.argv[1]]([m for m in sys.argv[2].split(",") if m])
    print("null", flush=True)
    for line in sys.stdin:
        word, count, *how = line.split()
        if word == "first":
            print(json.dumps([subject.first() for _ in range(int(count))]), flush=True)
            continue
        workers = subject.memory(int(count), how[0])
        print(json.dumps([[subject.pid(w) for w in workers], subject.rest()]), flush=True)
        sys.stdin.readline()
        for worker in workers:
            os.kill(subject.pid(worker), signal.SIGKILL)
            subject.wait(worker)
        return
    os._exit(0)


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    main()
