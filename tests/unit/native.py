#!/usr/bin/env python3
"""reeve-runner and libreeve as processes of their own, driven over the channel. TAP.

    native.py RUNNER MODULE MODULE-THAT-PROMISES-NOTHING LIBREEVE
"""
import argparse
import contextlib
import ctypes
import errno
import os
import pathlib
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import template_conformance as tc  # noqa: E402

START, SLOT, STOP = 11, 12, 13
RUNNER, MODULE, PLAIN, LIBREEVE = (str(pathlib.Path(path).resolve()) for path in sys.argv[1:5])
need = tc.need


class Skip(Exception):
    """It cannot be tried here."""


class Part(tc.Template):
    """reeve-runner in any of its parts."""

    def __init__(self, option, mode="template", module=MODULE, count=3, preload=(), **env):
        self.mode, self.module, self.count, self.preload = mode, module, count, preload
        self.given = env
        for key, value in env.items():
            os.environ[key] = value
        try:
            super().__init__(argparse.Namespace(command=[RUNNER, option]))
        finally:
            for key in env:
                del os.environ[key]

    def hello(self, options, versions):
        self.channel.send(tc.packet(
            tc.HELLO, 0, tc.record("VERSIONS", versions), tc.record("MODE", self.mode),
            tc.record("GROUP", "web"), tc.record("COUNT", self.count),
            tc.record("GENERATION", 1), tc.record("ENTRY", self.module),
            *[tc.record("PRELOAD", name) for name in self.preload],
            tc.record("ALLOW_THREAD", "allowed-1")))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        tc.reap_all()

    # --- hosts of threads

    def start(self, index, incarnation=1, **env):
        self.requests += 1
        self.channel.send(tc.packet(
            START, self.requests, tc.record("NAME", f"web:{index}"), tc.record("INDEX", index),
            tc.record("COUNT", self.count), tc.record("INCARNATION", incarnation),
            *[tc.record("ENV", f"{key}={value}") for key, value in env.items()]))
        return self.requests

    def slot(self, index, state):
        """The next news of the host is this slot's."""
        message = self.read(SLOT)
        need((message.get("INDEX"), message.get("STATE")) == (index, state),
             f"not slot {index} {state}: {message.records}")
        return message

    def stop(self, index, incarnation=1):
        self.channel.send(tc.packet(STOP, 0, tc.record("INDEX", index),
                                    tc.record("INCARNATION", incarnation)))


def wait_for_line(worker):
    return " ".join(worker.go())


# --- templates ------------------------------------------------------------------------------


def test_preload_errors():
    """a preload that fails is told with its error, the others go on"""
    with Part("--template", preload=["/nonexistent/library.so", LIBREEVE]) as t:
        _, loading, ready = t.ready()
        need(ready.all("PRELOAD") == ["/nonexistent/library.so", LIBREEVE, MODULE],
             f"{ready.records}")
        need(len(ready.all("ERROR")) == 1 and "nonexistent" in ready.get("ERROR"),
             f"{ready.all('ERROR')}")
        need(loading[-1] == MODULE, f"{loading}")


def test_bad_entry():
    """an entry that fails is told in READY, and nothing is forked"""
    with Part("--template", MODULE_LOAD="fail") as t:
        _, _, ready = t.ready()
        need("Owner died" in ready.get("ERROR"), ready.get("ERROR"))
        t.read(tc.UNSAFE)
        worker = t.order(0)
        need(t.read(tc.UNSAFE).request == worker.request, "another request")
        worker.close()


def culprit(expected, request=0, **env):
    with Part("--template", **env) as t:
        t.ready()
        worker = t.order(0) if request else None
        text = t.read(tc.UNSAFE).get("TEXT")
        need(expected in text and 'use start_method = "spawn"' in text, text)
        if worker:
            worker.close()


def test_threads_are_named():
    """a template with a thread is not forked; the thread is named"""
    culprit("2 threads (QueueListener)", MODULE_LOAD="thread:QueueListener")


def test_allowed_threads():
    """a thread that is allowed by name is no culprit"""
    with Part("--template", MODULE_LOAD="thread:allowed-1") as t:
        t.ready()
        worker = t.order(0).born()
        t.spawned(worker)
        worker.go()
        worker.finish(5)


def test_cancelled_threads():
    """signals of the C library's own are in a worker what they were in its template"""
    for load in ("", "cancel"):
        with Part("--template", MODULE_LOAD=load) as t:
            t.ready()
            worker = t.order(0, tc.record("ENV", "MODULE_RUN=cancel")).born()
            t.spawned(worker)
            worker.channel.send(tc.packet(tc.GO))
            need(worker.status() == 0, f"MODULE_LOAD={load}: it ended")
            worker.close()


def test_unwanted():
    """a fork whose worker's channel is closed already is not made, and answered"""
    with Part("--template") as t:
        t.ready()
        gone = tc.Worker("web:0")
        gone.channel.close()
        t.order(0, worker=gone)
        last = t.order(1)
        failed = t.read(tc.FAILED)
        need((failed.request, failed.get("STAGE"), failed.get("ERRNO")) ==
             (gone.request, "asked", errno.EPIPE), f"{failed.records}")
        need(os.read(gone.stdout, 1) == b"", "somebody has its output")
        t.spawned(last.born())
        last.go()
        last.finish(5)
        gone.close()


def test_locks():
    """a template that holds a file lock is not forked"""
    with tempfile.NamedTemporaryFile() as f:
        culprit(f"a lock on {f.name}", MODULE_LOAD=f"lock:{f.name}")


def test_gpu():
    """a template with an open GPU device is not forked"""
    path = f"/dev/nvidia-test-{os.getpid()}"
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except OSError as error:
        raise Skip(f"no device can be made: {error.strerror}") from None
    try:
        culprit(f"an open GPU device ({path})", MODULE_LOAD=f"open:{path}")
    except tc.Broken as error:
        # devices may be forbidden to open, as in containers
        if "Permission denied" in str(error) or "Operation not permitted" in str(error):
            raise Skip("a device cannot be opened here") from None
        raise
    finally:
        os.unlink(path)


def test_late_descriptors():
    """a descriptor that appears after READY is a culprit at the next fork"""
    culprit("(/dev/null) was opened after READY", 1, MODULE_FORK="open:/dev/null")


def test_plain_module():
    """a module that is not REEVE_FORK_SAFE is not forked"""
    with Part("--template", module=PLAIN) as t:
        t.ready()
        need("REEVE_FORK_SAFE" in t.read(tc.UNSAFE).get("TEXT"), "not why")


def test_after_fork_fails():
    """after_fork that fails is a FAIL of the worker"""
    with Part("--template") as t:
        t.ready()
        worker = t.order(0, tc.record("ENV", "MODULE_AFTER=fail"))
        message, worker.pid = tc.receive(worker.channel, "FAIL")
        need(message.kind == tc.FAIL and message.get("STAGE") == "after_fork",
             f"{message.records}")
        t.spawned(worker)
        need(worker.status() == 1 << 8, "not 1")
        worker.close()


def test_proc_shows_the_worker():
    """/proc shows the worker's own arguments and environment"""
    with Part("--template", OWNER="template") as t:
        t.ready()
        worker = t.order(2, tc.record("ENV", "REEVE_ID=x/web:2/1"), says="own").born()
        t.spawned(worker)
        env = pathlib.Path(f"/proc/{worker.pid}/environ").read_bytes().split(b"\0")
        need(b"REEVE_ID=x/web:2/1" in env and b"SAYS=own" in env, f"{env}")
        need(not any(e.startswith(b"OWNER=") for e in env), f"the template's: {env}")
        args = pathlib.Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        need(args == b"conformance\0", f"{args}")
        worker.go()
        worker.finish()


def test_exact_ends():
    """SH25: each exit code and each signal of a forked worker arrives as it is"""
    with Part("--template") as t:
        t.ready()
        wanted = [f"exit:{code}" for code in range(256)]
        wanted += [f"signal:{n}" for n in range(1, 32)
                   if n not in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
                                signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH)]
        for what in wanted:
            worker = t.order(0, tc.record("ENV", f"MODULE_RUN={what}")).born()
            t.spawned(worker)
            worker.channel.send(tc.packet(tc.GO))
            status = worker.status()
            kind, number = what.split(":")
            expected = int(number) << 8 if kind == "exit" else int(number)
            need(status & 0xff7f == expected, f"{what}: {status:#x}")
            worker.close()


def test_stopped_while_waiting():
    """a worker that waits for GO ends when it is told to stop"""
    with Part("--template") as t:
        t.ready()
        worker = t.order(0).born()
        t.spawned(worker)
        worker.channel.send(tc.packet(STOP))
        need(worker.status() == 0, "not 0")
        worker.close()


# --- seeds ----------------------------------------------------------------------------------


def test_seed():
    """a seed is copied at its fork points, first and later ones"""
    with Part("--template", mode="seed", count=3, MODULE_RUN="fork", SAYS="seed",
              REEVE_WORKER="web:0") as t:
        t.read(tc.HELLO)
        t.read(tc.LOADING)
        t.read(tc.READY)
        workers = [t.order(i, tc.record("ENV", "MODULE_RUN=fork"), says=f"v{i}") for i in (1, 2)]
        for worker in workers:
            worker.born()
            t.spawned(worker)
        for i, worker in enumerate(workers, 1):
            line = wait_for_line(worker)
            need(line == f"web:{i} is a copy, data v{i}", line)
        late = t.order(3, tc.record("ENV", "MODULE_RUN=fork")).born()
        t.spawned(late)
        need(wait_for_line(late) == "web:3 is a late copy", "not a late copy")
        need("web:0 is the seed, data seed" in t.said(), t.said())
        for worker in (*workers, late):
            os.kill(worker.pid, signal.SIGTERM)
            need(worker.status() == 0, "a copy does not end well")
            worker.close()
        t.process.terminate()
        t.ends_with(0)


def test_seed_that_nobody_copies():
    """the first fork point ends when the daemon wants no copies"""
    with Part("--template", mode="seed", count=3, MODULE_RUN="fork", SAYS="x") as t:
        t.read(tc.HELLO)
        t.read(tc.LOADING)
        t.read(tc.READY)
        t.ping()
        late = t.order(1, tc.record("ENV", "MODULE_RUN=fork")).born()
        t.spawned(late)
        need("copy" in wait_for_line(late), "not served later")
        late.close()
        t.process.terminate()
        t.ends_with(0)


def test_copy_becomes_seed():
    """a copy that the daemon greets on its own channel is a seed, too"""
    with Part("--template", mode="seed", count=2, MODULE_RUN="fork", SAYS="x") as t:
        for kind in (tc.HELLO, tc.LOADING, tc.READY):
            t.read(kind)
        copy = t.order(1, tc.record("ENV", "MODULE_RUN=fork")).born()
        t.spawned(copy)
        wait_for_line(copy)
        first, t.channel = t.channel, copy.channel
        t.mode, t.count = "seed", 1
        t.hello(None, (1, 1))
        t.read(tc.HELLO)
        t.read(tc.READY)
        second = t.order(2, tc.record("ENV", "MODULE_RUN=fork")).born()
        t.spawned(second)
        need("late copy" in wait_for_line(second), "no copy of the copy")
        for worker in (second, copy):
            os.kill(worker.pid, signal.SIGTERM)
            status = worker.status()
            need(status == 0, f"a copy ends with {status:#x}; it said: {t.said()}")
        second.close()
        t.channel = first
        copy.close()


# --- threads --------------------------------------------------------------------------------


def test_slots():
    """slots start, are ready, tell news, end when asked, and start again"""
    with Part("--threads", "threads", OWNER="host") as t:
        _, _, ready = t.ready()
        need(ready.all("PRELOAD") == [MODULE] and not ready.all("ERROR"), f"{ready.records}")
        request = t.start(1, MODULE_RUN="say")
        need(t.slot(1, "started").request == request, "another request")
        t.slot(1, "ready")
        need(t.slot(1, "ready").get("TEXT") == "everything was said", "no status")
        need(t.slot(1, "ready").records[-1][0] == "PROGRESS", "no progress")
        need(t.slot(1, "ready").records[-1][0] == "JOBS", "no jobs")
        need(t.slot(1, "ready").get("BUSY") == 0, "no busy")
        t.slot(1, "beat")
        need(t.ping().get("TASKS") == 2, "one thread a slot")
        names = [pathlib.Path(path, "comm").read_text().strip()
                 for path in pathlib.Path(f"/proc/{t.process.pid}/task").iterdir()]
        need("web:1" in names, f"{names}")
        t.start(1, 2, MODULE_RUN="wait")
        need(t.read(tc.FAILED).get("ERRNO") == 16, "started twice")
        t.stop(1, 7)
        t.stop(1)
        need(t.slot(1, "ended").get("CODE") == 0, "not 0")
        t.start(1, 2, MODULE_RUN="exit:9")
        need(t.slot(1, "started").get("INCARNATION") == 2, "another incarnation")
        t.slot(1, "ready")
        need(t.slot(1, "ended").get("CODE") == 9, "not 9")
        need("web:1 1/3 1.1 web fds 0" in t.said(), t.said())


def test_start_again():
    """a START that is sent again is a question: its answer is the state, and nothing starts"""
    with Part("--threads", "threads") as t:
        t.ready()
        t.start(1, MODULE_RUN="wait")
        t.slot(1, "started")
        t.slot(1, "ready")
        request = t.start(1, MODULE_RUN="exit:9")
        need(t.slot(1, "ready").request == request, "another request")
        t.stop(1)
        need(t.slot(1, "ended").get("CODE") == 0, "not 0")
        for _ in range(2):
            request = t.start(1, MODULE_RUN="exit:9")
            ended = t.slot(1, "ended")
            need((ended.request, ended.get("CODE")) == (request, 0), f"{ended.records}")
        t.start(1, 2, MODULE_RUN="wait")
        t.slot(1, "started")
        t.slot(1, "ready")
        need(t.ping().get("TASKS") == 2, "more than one thread")


def test_host_drains():
    """QUIT and SIGTERM ask all slots to end; the host ends when they have"""
    for ask in (lambda t: t.channel.send(tc.packet(tc.QUIT)), lambda t: t.process.terminate(),
                lambda t: t.channel.shutdown(socket.SHUT_WR)):
        with Part("--threads", "threads") as t:
            t.ready()
            for i in range(3):
                t.start(i, MODULE_RUN="wait")
                t.slot(i, "started")
                t.slot(i, "ready")
            ask(t)
            t.ends_with(0)


def test_crash_names_slot():
    """SP24: a slot that crashes is named; the process dies of that signal"""
    with Part("--threads", "threads") as t:
        t.ready()
        t.start(0, MODULE_RUN="wait")
        t.slot(0, "started")
        t.slot(0, "ready")
        t.start(2, MODULE_RUN="crash")
        t.ends_with(-signal.SIGSEGV)
        need("web:2 crashed: SIGSEGV" in t.said(), t.said())


def test_hung_slot():
    """SP24: a slot that hangs does not keep the others from their work"""
    with Part("--threads", "threads") as t:
        t.ready()
        t.start(0, MODULE_RUN="hang")
        t.slot(0, "started")
        t.slot(0, "ready")
        t.stop(0)
        t.start(1, MODULE_RUN="exit:4")
        t.slot(1, "started")
        t.slot(1, "ready")
        need(t.slot(1, "ended").get("CODE") == 4, "not 4")
        end = time.monotonic() + tc.PATIENCE
        while t.ping().get("TASKS") != 2:
            need(time.monotonic() < end, "the thread that ended is not joined")


def test_module_without_threads():
    """a module that is not REEVE_THREADS is refused"""
    with Part("--threads", "threads", module=PLAIN) as t:
        _, _, ready = t.ready()
        need("REEVE_THREADS" in ready.get("ERROR"), ready.get("ERROR"))
        t.start(0)
        need("could not be loaded" in t.read(tc.FAILED).get("TEXT"), "started")


# --- spawn, and programs --------------------------------------------------------------------


def test_spawn():
    """--spawn: arguments, exit code, SIGTERM, and what cannot be loaded"""
    def spawn(*args, **env):
        return subprocess.Popen([RUNNER, "--spawn", *args], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env={**os.environ, **env})

    with spawn(MODULE, "more", MODULE_RUN="say", REEVE_WORKER="web:3", REEVE_INDEX="3") as p:
        line = p.stdout.readline()
        need(line == f"web:3 3/1 1.1 module fds 0 - argv 2 {MODULE}\n", line)
        p.terminate()
        need(p.wait(20) == 0, "SIGTERM does not end it")
    with spawn(MODULE, MODULE_RUN="exit:255") as p:
        need(p.wait(20) == 255, "not 255")
    with spawn("/nonexistent.so") as p:
        need(p.wait(20) == 1 and "nonexistent" in p.stderr.read(), "no error")
    with spawn(LIBREEVE) as p:
        need(p.wait(20) == 1 and "exports no reeve_module" in p.stderr.read(), "no error")


def load_library():
    if b"__asan_init" in pathlib.Path(LIBREEVE).read_bytes():
        raise Skip("Python cannot load a library with a sanitizer")
    return ctypes.CDLL(LIBREEVE)


def call(library, name, *args):
    return getattr(library, name)(*args)


def test_library():
    """libreeve says what sd_notify says, and nothing outside Reeve"""
    library = load_library()
    calls = [("reeve_ready",), ("reeve_beat",), ("reeve_status", b"two\nlines"),
             ("reeve_progress", ctypes.c_uint64(1), ctypes.c_uint64(2)),
             ("reeve_jobs", ctypes.c_uint64(3)), ("reeve_busy", ctypes.c_bool(True)),
             ("reeve_fork_point",)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "n")
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as s:
            s.bind(path)
            s.settimeout(tc.PATIENCE)
            for one in calls:
                need(call(library, *one) == 0, f"{one[0]} outside Reeve")
            os.environ["NOTIFY_SOCKET"] = path
            for one in calls:
                need(call(library, *one) == 0, one[0])
            del os.environ["NOTIFY_SOCKET"]
            said = [s.recv(4096).decode() for _ in calls[:-1]]
    need(said == ["READY=1", "WATCHDOG=1", "STATUS=two", "X_REEVE_PROGRESS=1/2",
                  "X_REEVE_JOBS=3", "X_REEVE_BUSY=1"], f"{said}")
    need(not call(library, "reeve_stopping"), "stopping")
    os.kill(os.getpid(), signal.SIGTERM)
    need(call(library, "reeve_stopping") & 1, "not stopping")


def drain(server):
    words = []
    with contextlib.suppress(BlockingIOError):
        while True:
            words.append(server.recv(4096))
    return words


def fill(path):
    """The queue behind the path. One sender may be stopped by its own buffer before (a service
    manager makes queues longer)."""
    sent = 1
    while sent:
        sent = 0
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as other, \
                contextlib.suppress(BlockingIOError):
            other.setblocking(False)
            while True:
                other.sendto(b"STATUS=full", path)
                sent += 1


def test_library_beats():
    """reeve_beat() in any loop: four in a period are said, it never waits, and a lost one is said"""
    library = load_library()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "n")
        os.environ.update(NOTIFY_SOCKET=path, WATCHDOG_USEC="1")
        need(library.reeve_beat() == -errno.ENOENT, "nobody is there")
        os.environ["WATCHDOG_USEC"] = "1000000"
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as s:
            s.bind(path)
            s.setblocking(False)
            end = time.monotonic() + 0.9
            while time.monotonic() < end:
                need(library.reeve_beat() == 0, "it could not be said")
            said = drain(s)
            need(set(said) == {b"WATCHDOG=1"} and 2 <= len(said) <= 4, f"{said}")
            os.environ["WATCHDOG_USEC"] = "1"
            fill(path)
            need(library.reeve_beat() == -errno.EAGAIN, "it waited, or lied")
            drain(s)
            need(library.reeve_beat() == 0 and drain(s) == [b"WATCHDOG=1"], "it was not said again")
        del os.environ["NOTIFY_SOCKET"], os.environ["WATCHDOG_USEC"]


class ReeveFd(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("fd", ctypes.c_int)]


def test_library_descriptors():
    """libreeve finds the descriptors of the group by name"""
    library = load_library()
    child = os.fork()
    if child == 0:
        library.reeve_fds.restype = ctypes.c_size_t
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="3", LISTEN_FDNAMES="http:db")
        fds = (ReeveFd * 3)()
        n = library.reeve_fds(fds, ctypes.c_size_t(3))
        good = n == 3 and [(f.name, f.fd) for f in fds] == [(b"http", 3), (b"db", 4), (b"", 5)]
        os.environ["LISTEN_PID"] = "1"
        os._exit(0 if good and library.reeve_fds(fds, ctypes.c_size_t(3)) == 0 else 1)
    need(os.waitpid(child, 0)[1] == 0, "not those")


def main():
    if tc.LIBC.prctl(tc.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        return "prctl(PR_SET_CHILD_SUBREAPER) failed"
    tests = [value for name, value in globals().items()
             if name.startswith("test_") and (len(sys.argv) < 6 or sys.argv[5] in name)]
    failed = 0
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print(f"1..{len(tests)}")
    for number, test in enumerate(tests, 1):
        try:
            test()
            print(f"ok {number} - {test.__doc__}", flush=True)
        except Skip as why:
            print(f"ok {number} - {test.__doc__} # SKIP {why}", flush=True)
        except (tc.Broken, OSError, subprocess.TimeoutExpired) as error:
            failed += 1
            print(f"not ok {number} - {test.__doc__}\n# {error}", flush=True)
        tc.reap_all()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
