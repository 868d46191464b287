#!/usr/bin/env python3
"""Does a program keep the promises of a template (reeve-template(7))? TAP on stdout.

    template_conformance.py [--entry ENTRY] [--preload NAME]… -- COMMAND [ARGUMENT…]

The command is started as reeved starts it. Its workers must do this: print one line, the value of
the variable SAYS, a space and a random number drawn in the usual way of their language; read one
line from standard input; end with the exit code that stands there.
"""
import argparse
import array
import ctypes
import errno
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

HELLO, LOADING, READY, FORK, SPAWNED, FAILED, UNSAFE, PING, PONG, QUIT = range(1, 11)
BORN, FAIL, GO = 32, 33, 34
TAGS = ("VERSIONS MODE GROUP COUNT GENERATION ENTRY PRELOAD PRELOAD_ERRORS ALLOW_THREAD PATH RUNTIME "
        "TEXT LOAD_US TASKS RSS FDS ERROR NAME INDEX INCARNATION ARG ENV CWD UMASK NICE LIMIT FD_MAP "
        "PID STAGE ERRNO STATE CODE PROGRESS JOBS BUSY").split()
TAG = {name: number for number, name in enumerate(TAGS, 1)}
FORMATS = {"VERSIONS": "II", "COUNT": "I", "GENERATION": "I", "LOAD_US": "Q", "TASKS": "I",
           "RSS": "Q", "FDS": "I", "INDEX": "I", "INCARNATION": "I", "UMASK": "I", "NICE": "i",
           "LIMIT": "IIQQ", "PID": "i", "ERRNO": "i", "CODE": "i", "PROGRESS": "QQ", "JOBS": "Q",
           "BUSY": "I"}
PATIENCE = float(os.environ.get("CONFORMANCE_PATIENCE", "20"))
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None, use_errno=True)


class Broken(Exception):
    """A promise was not kept."""


def need(condition, text):
    if not condition:
        raise Broken(text)


# --- codec ----------------------------------------------------------------------------------


def record(name, value, flags=0):
    tag = TAG[name] if isinstance(name, str) else name
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, int):
        value = (value,)
    if isinstance(value, tuple):
        value = struct.pack("=" + FORMATS[name], *value)
    return struct.pack("=HHI", tag, flags, len(value)) + value + bytes(-len(value) % 8)


def packet(kind, request=0, *records):
    body = b"".join(records)
    return struct.pack("=HHIII", kind, 0, 16 + len(body), request, 0) + body


class Message:
    def __init__(self, data):
        need(len(data) >= 16, f"a packet of {len(data)} bytes")
        self.kind, flags, length, self.request, zero = struct.unpack_from("=HHIII", data)
        need(length == len(data), f"the header says {length} bytes, the packet has {len(data)}")
        need(flags == 0 and zero == 0, "a field that has to be zero is not")
        self.records = []
        at = 16
        while at < len(data):
            need(len(data) - at >= 8, "bytes behind the last record")
            tag, flags, length = struct.unpack_from("=HHI", data, at)
            end = at + 8 + length
            need(end + -length % 8 <= len(data), "a record longer than its packet")
            need(not any(data[end:end + -length % 8]), "padding that is not zero")
            need(flags & ~1 == 0, "unknown flags of a record")
            name = TAGS[tag - 1] if 1 <= tag <= len(TAGS) else None
            need(name or flags & 1, f"unknown tag {tag}")
            value = data[at + 8:end]
            if name in FORMATS:
                need(length == struct.calcsize("=" + FORMATS[name]), f"{name} of {length} bytes")
                value = struct.unpack("=" + FORMATS[name], value)
                value = value[0] if len(value) == 1 else value
            elif name == "FD_MAP":
                need(length % 4 == 0, f"FD_MAP of {length} bytes")
                value = struct.unpack(f"={length // 4}i", value)
            elif name:
                need(b"\0" not in value, f"NUL in {name}")
                value = value.decode(errors="replace")
            self.records.append((name, value))
            at = end + -length % 8

    def get(self, name):
        values = [value for key, value in self.records if key == name]
        need(values, f"message {self.kind} without {name}")
        return values[0]

    def all(self, name):
        return [value for key, value in self.records if key == name]


def wait_readable(fd, what):
    if not select.select([fd], [], [], PATIENCE)[0]:
        raise Broken(f"nothing came within {PATIENCE:.0f} s: {what}")


def receive(sock, what):
    """(message, pid of the sender as the kernel knows it); (None, None) at the end."""
    wait_readable(sock, what)
    try:
        data, control, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(12) + socket.CMSG_SPACE(16))
    except ConnectionResetError:
        return None, None
    pid = None
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = struct.unpack_from("=i", value)[0]
        elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            for fd in array.array("i", value[:len(value) & ~3]):
                os.close(fd)
            raise Broken("descriptors that nobody asked for")
    return (Message(data), pid) if data else (None, None)


# --- what is driven -------------------------------------------------------------------------


class Worker:
    def __init__(self, name):
        self.name = name
        self.channel, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.stdin_theirs, self.stdin = os.pipe()
        self.stdout, self.stdout_theirs = os.pipe()
        self.pid = None

    def sent(self):
        self.theirs.close()
        os.close(self.stdin_theirs)
        os.close(self.stdout_theirs)

    def born(self):
        message, self.pid = receive(self.channel, f"BORN of {self.name}")
        need(message, "the worker's channel ended before BORN")
        need(message.kind == BORN, f"message {message.kind} instead of BORN: {message.records}")
        need(message.get("NAME") == self.name, f"BORN by {message.get('NAME')}")
        return self

    def go(self):
        self.channel.send(packet(GO))
        wait_readable(self.stdout, f"the first line of {self.name}")
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self.stdout, 4096)
            need(more, f"no line, only {line!r}")
            line += more
        return line.decode().split()

    def status(self):
        """Its status from wait(2): it is our child by then."""
        end = time.monotonic() + PATIENCE
        fd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        if fd is not None:
            wait_readable(fd, f"the end of {self.name}")
            os.close(fd)
        while time.monotonic() < end:
            try:
                return os.waitpid(self.pid, 0)[1]
            except ChildProcessError:
                time.sleep(0.001)  # the middle process has not ended yet
        raise Broken(f"{self.name} is not our child")

    def finish(self, code=0):
        os.write(self.stdin, b"%d\n" % code)
        status = self.status()
        need(os.WIFEXITED(status) and os.WEXITSTATUS(status) == code,
             f"{self.name} ended with {status:#x}, not with {code}")
        self.close()

    def close(self):
        self.channel.close()
        for name in ("stdin", "stdout"):
            if getattr(self, name) is not None:
                os.close(getattr(self, name))
                setattr(self, name, None)


class Template:
    def __init__(self, options, versions=(1, 1), hello=True):
        self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.errors = tempfile.TemporaryFile()
        self.requests = 0
        self.process = subprocess.Popen(
            options.command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
            pass_fds=[theirs.fileno()], start_new_session=True,
            env={**os.environ, "REEVE_CHANNEL": str(theirs.fileno()), "REEVE_GROUP": "web"})
        theirs.close()
        if hello:
            self.hello(options, versions)

    def hello(self, options, versions):
        records = [record("VERSIONS", versions), record("MODE", "template"),
                   record("GROUP", "web"), record("COUNT", 4), record("GENERATION", 1)]
        if options.entry:
            records.append(record("ENTRY", options.entry))
        records += [record("PRELOAD", name) for name in options.preload]
        records.append(record("PRELOAD_ERRORS", "warn"))
        records.append(record(9999, b"from the future", 1))
        self.channel.send(packet(HELLO, 0, *records))

    def read(self, kind, *others):
        message, _ = receive(self.channel, f"message {kind} of the template")
        need(message, f"the template ended; it said: {self.said()}")
        need(message.kind in (kind, *others),
             f"message {message.kind} instead of {kind}: {message.records}")
        return message

    def ready(self):
        """HELLO and READY; what came between."""
        hello = self.read(HELLO)
        loading = []
        while True:
            message, _ = receive(self.channel, "READY")
            need(message, f"the template ended before READY; it said: {self.said()}")
            if message.kind == READY:
                return hello, loading, message
            need(message.kind == LOADING, f"message {message.kind} before READY")
            loading.append(message.get("TEXT"))

    def order(self, index, *records, fds=(), count=4, cwd="/", says="hello", worker=None):
        """Send FORK; the worker that is to come."""
        worker = worker or Worker(f"web:{index}")
        self.requests += 1
        worker.request = self.requests
        passed = [(worker.theirs.fileno(), -1), (worker.stdin_theirs, 0),
                  (worker.stdout_theirs, 1), (self.errors.fileno(), 2), *fds]
        body = [record("NAME", worker.name), record("INDEX", index), record("COUNT", count),
                record("INCARNATION", 1), record("GENERATION", 1), record("ARG", "conformance"),
                record("ENV", "PATH=" + os.environ.get("PATH", "/usr/bin:/bin")),
                record("ENV", "SAYS=" + says), record("CWD", cwd),
                record("FD_MAP", struct.pack(f"={len(passed)}i", *[at for _, at in passed])),
                *records]
        socket.send_fds(self.channel, [packet(FORK, self.requests, *body)],
                        [fd for fd, _ in passed])
        worker.sent()
        return worker

    def spawned_or_failed(self, worker):
        """The pid, or None; answers come in order."""
        message = self.read(SPAWNED, FAILED)
        need(message.request == worker.request,
             f"an answer to request {message.request}, not {worker.request}")
        return message.get("PID") if message.kind == SPAWNED else None

    def spawned(self, worker):
        message = self.read(SPAWNED)
        need(message.request == worker.request,
             f"SPAWNED for request {message.request}, not {worker.request}")
        return message.get("PID")

    def ping(self):
        self.requests += 1
        self.channel.send(packet(PING, self.requests))
        message = self.read(PONG)
        need(message.request == self.requests, "PONG for another request")
        return message

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace").strip()

    def ends_with(self, *codes):
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Broken("the template does not end") from None
        need(code in codes, f"the template ended with {code}; it said: {self.said()}")

    def close(self):
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.errors.close()


def status_of(pid):
    with open(f"/proc/{pid}/status") as f:
        return dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return f.read().split()


# --- promises -------------------------------------------------------------------------------


def check_greeting(options, template):
    """HELLO, LOADING, READY with every figure"""
    hello, _, ready = template.ready()
    low, high = hello.get("VERSIONS")
    need(low <= 1 <= high, f"versions {low} to {high}")
    need(hello.get("RUNTIME"), "an empty RUNTIME")
    need(ready.get("TASKS") == 1, f"{ready.get('TASKS')} tasks")
    need(ready.get("RSS") > 4096, "no RSS")
    need(ready.get("FDS") >= 4, f"{ready.get('FDS')} descriptors")
    ready.get("LOAD_US")
    # the entry may be told of, too
    told = [name for name in ready.all("PRELOAD") if name != options.entry]
    need(told == options.preload, f"preloads {ready.all('PRELOAD')}")
    need(not ready.all("ERROR"), f"errors {ready.all('ERROR')}")


def check_ping(options, template):
    """PING is answered with the same request"""
    template.ready()
    for _ in range(3):
        need(template.ping().get("TASKS") == 1, "more than one task")


def check_order(options, template):
    """nothing of the worker's own runs before GO; its pid is what the kernel says"""
    template.ready()
    worker = template.order(2).born()
    hint = template.spawned(worker)
    need(hint == worker.pid, f"SPAWNED says {hint}, the kernel {worker.pid}")
    need(int(status_of(worker.pid)["PPid"]) == os.getpid(), "the worker is not our child")
    need(not select.select([worker.stdout], [], [], 0.1)[0], "it wrote before GO")
    need(worker.go()[0] == "hello", "not the value of SAYS")
    worker.finish(7)


def check_closed_behind_go(options, template):
    """the end of the channel behind GO means nothing"""
    template.ready()
    for code in (9, 8, 7):
        worker = template.order(2).born()
        template.spawned(worker)
        worker.channel.send(packet(GO))
        worker.channel.close()
        wait_readable(worker.stdout, "the first line")
        worker.finish(code)


def check_state(options, template):
    """session, signals, directory, umask, limits and nice of the worker"""
    template.ready()
    nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = record("LIMIT", (resource.RLIMIT_NOFILE, 0, 77, nofile if nofile > 0 else 2**64 - 1))
    core = record("LIMIT", (resource.RLIMIT_CORE, 0, 0, 0))
    worker = template.order(1, limit, core, record("UMASK", 0o27), record("NICE", 3), cwd="/usr")
    worker.born()
    template.spawned(worker)
    status = status_of(worker.pid)
    need(os.getsid(worker.pid) == worker.pid, "no session of its own")
    need(int(status["SigBlk"], 16) == 0, f"blocked signals {status['SigBlk']}")
    # some languages ignore SIGPIPE and SIGXFSZ by themselves
    ignored = int(status["SigIgn"], 16) & ~(1 << 12 | 1 << 24)
    need(ignored == 0, f"ignored signals {status['SigIgn']}")
    need(status["Umask"] == "0027", f"umask {status['Umask']}")
    need(os.readlink(f"/proc/{worker.pid}/cwd") == "/usr", "another directory")
    need(os.getpriority(os.PRIO_PROCESS, worker.pid) == 3, "another nice")
    need(resource.prlimit(worker.pid, resource.RLIMIT_NOFILE)[0] == 77, "another limit")
    need(resource.prlimit(worker.pid, resource.RLIMIT_CORE) == (0, 0), "another hard limit")
    worker.go()
    name = status_of(worker.pid)["Name"]  # may come behind BORN
    need(name == "web:1", f"its name is {name}")
    worker.finish()


def check_descriptors(options, template):
    """all descriptors but those of the map are closed; those are where the map wants them"""
    template.ready()
    files = [tempfile.TemporaryFile() for _ in range(3)]
    try:
        # numbers in another order than any that they may come with
        fds = [(f.fileno(), at) for f, at in zip(files, (5, 3, 4))]
        worker = template.order(0, fds=fds).born()
        template.spawned(worker)
        folder = f"/proc/{worker.pid}/fd"
        links = {int(n): os.readlink(f"{folder}/{n}") for n in os.listdir(folder)}
        for f, at in zip(files, (5, 3, 4)):
            theirs, ours = os.stat(f"{folder}/{at}"), os.fstat(f.fileno())
            need((theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino),
                 f"fd {at} is {links.get(at)}")
        # what the language itself has opened since, for its loop, is no file of anybody's
        extra = {n: link for n, link in links.items() if n > 5 and "anon_inode" not in link}
        need(len(extra) == 1 and "socket" in "".join(extra.values()),
             f"open besides the channel: {extra}")
        need(set(links) >= set(range(6)), f"only {sorted(links)} are open")
    finally:
        for f in files:
            f.close()
    worker.go()
    worker.finish()


def check_no_go(options, template):
    """without GO the worker ends and runs nothing"""
    template.ready()
    worker = template.order(0).born()
    template.spawned(worker)
    worker.channel.close()
    status = worker.status()
    need(os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0, f"it ended with {status:#x}")
    need(os.read(worker.stdout, 100) == b"", "it wrote something")
    worker.close()


def check_failure(options, template):
    """a step that fails is told on the worker's channel"""
    template.ready()
    worker = template.order(0, cwd="/nonexistent/folder")
    message, worker.pid = receive(worker.channel, "FAIL")
    need(message and message.kind == FAIL, "no FAIL")
    need(message.get("ERRNO") == errno.ENOENT and message.get("STAGE"),
         f"FAIL says {message.records}")
    template.spawned(worker)
    need(worker.status() == 1 << 8, "another exit code than 1")
    worker.close()


def check_many(options, template):
    """twenty orders at once: each is served once; no zombie and no descriptor is left"""
    template.ready()
    before = template.ping().get("FDS")
    workers = [template.order(i) for i in range(20)]
    for worker in workers:
        worker.born()
        template.spawned(worker)
    need(len({worker.pid for worker in workers}) == 20, "not twenty processes")
    need(children_of(template.process.pid) == [], "the template has children")
    need(template.ping().get("FDS") == before, "descriptors are left open")
    numbers = [worker.go()[1] for worker in workers]
    need(len(set(numbers)) > 15, f"random numbers repeat: {numbers}")
    for code, worker in enumerate(workers):
        worker.finish(code * 12)


def check_unwanted(options, template):
    """workers that nobody wants any more end, others beside them do not"""
    template.ready()
    workers = [template.order(i) for i in range(12)]
    for worker in workers[::2]:
        worker.channel.close()
    for worker in workers:
        worker.pid = template.spawned_or_failed(worker)
        need(worker.pid or worker in workers[::2], f"{worker.name} was not made")
    for worker in workers[::2]:
        # it may not be made at all; an end before BORN may be told as a failure
        need(not worker.pid or worker.status() in (0, 1 << 8), "it ends otherwise")
        need(os.read(worker.stdout, 100) == b"", "it wrote something")
        worker.close()
    for code, worker in enumerate(workers[1::2]):
        worker.born().go()
        worker.finish(code)


def check_quit(options, template):
    """QUIT ends the template with 0, and no worker"""
    template.ready()
    worker = template.order(0).born()
    template.spawned(worker)
    worker.go()
    template.channel.send(packet(QUIT))
    template.ends_with(0)
    worker.finish(3)


def check_end(options, template):
    """the end of the channel ends the template with 0"""
    template.ready()
    template.channel.close()
    template.ends_with(0)


def check_skips(options, template):
    """an unknown record that is optional is skipped"""
    template.ready()
    worker = template.order(0, record(4000, b"future", 1)).born()
    template.spawned(worker)
    worker.go()
    worker.finish()


def refuses(options, data, fds=()):
    template = Template(options)
    try:
        template.ready()
        socket.send_fds(template.channel, [data], fds)
        template.ends_with(1)
        need(template.said(), "it ended without a word")
    finally:
        template.close()


BAD_RECORD = struct.pack("=HHI", TAG["NAME"], 0, 3) + b"web\0\0\0\0\1"


def check_unknown_type(options):
    """an unknown type of message ends it with 1 and a word"""
    refuses(options, packet(999))


def check_unknown_tag(options):
    """an unknown record that is not optional ends it"""
    refuses(options, packet(PING, 5, record(4000, b"x")))


def check_length(options):
    """a length in the header that is not the packet's ends it"""
    refuses(options, struct.pack("=HHIII", PING, 0, 24, 5, 0))


def check_zeros(options):
    """a field that has to be zero and is not ends it"""
    refuses(options, struct.pack("=HHIII", PING, 0, 16, 5, 1))


def check_padding(options):
    """padding that is not zero ends it"""
    refuses(options, packet(FORK, 5, BAD_RECORD))


def check_cut_record(options):
    """a record longer than its packet ends it"""
    refuses(options, packet(FORK, 5, struct.pack("=HHI", TAG["NAME"], 0, 4000)))


def check_descriptors_and_map(options):
    """a FORK with more or fewer descriptors than its FD_MAP ends it"""
    for sent, mapped in (3, 4), (4, 3), (0, 4), (4, 0):
        numbers = [-1, 0, 1, 2][:mapped]
        refuses(options, packet(
            FORK, 5, record("NAME", "web:0"), record("INDEX", 0), record("COUNT", 1),
            record("INCARNATION", 1), record("GENERATION", 1), record("CWD", "/"),
            record("FD_MAP", struct.pack(f"={mapped}i", *numbers))), [0, 0, 1, 2][:sent])


def check_second_hello(options):
    """a message out of turn ends it"""
    refuses(options, packet(HELLO, 0, record("VERSIONS", (1, 1)), record("MODE", "template"),
                            record("GROUP", "web")))


def check_versions(options):
    """versions that it does not speak end it"""
    template = Template(options, versions=(7, 9))
    try:
        template.ends_with(1)
        need(template.said(), "it ended without a word")
    finally:
        template.close()


def play_keeper(options, pipe, worker):
    """The keeper of check_death_signal: it will be killed."""
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    template = Template(options)
    template.ready()
    template.order(0, worker=worker).born()
    template.spawned(worker)
    worker.go()
    os.write(pipe, struct.pack("=ii", template.process.pid, worker.pid))
    while True:
        signal.pause()


def check_death_signal(options):
    """a running worker dies with the keeper"""
    theirs, ours = os.pipe()
    worker = Worker("web:0")  # its standard input stays open here when the keeper is dead
    keeper = os.fork()
    if keeper == 0:
        try:
            play_keeper(options, ours, worker)
        finally:
            os._exit(1)
    os.close(ours)
    try:
        wait_readable(theirs, "the worker of another keeper")
        data = os.read(theirs, 8)
        need(len(data) == 8, "it did not get that far")
    finally:
        os.close(theirs)
        os.kill(keeper, signal.SIGKILL)
        os.waitpid(keeper, 0)
    template, worker.pid = struct.unpack("=ii", data)
    worker.sent()
    status = worker.status()
    worker.close()
    os.waitpid(template, 0)
    need(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
         f"it ended with {status:#x}")


WITH_TEMPLATE = [check_greeting, check_ping, check_order, check_closed_behind_go, check_state,
                 check_descriptors, check_no_go, check_failure, check_many, check_unwanted,
                 check_quit, check_end, check_skips]
ALONE = [check_unknown_type, check_unknown_tag, check_length, check_zeros, check_padding,
         check_cut_record, check_descriptors_and_map, check_second_hello, check_versions,
         check_death_signal]


def perform(check, options):
    if check in ALONE:
        check(options)
        return
    template = Template(options)
    try:
        check(options, template)
    except Broken as error:
        if template.process.poll() is None and template.said():
            raise Broken(f"{error}; it said: {template.said()}") from None
        raise
    finally:
        template.close()


def reap_all():
    """What a failed promise left behind: our children are nobody else's."""
    for pid in children_of(os.getpid()):
        try:
            os.kill(int(pid), signal.SIGKILL)
            os.waitpid(int(pid), 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--entry")
    parser.add_argument("--preload", action="append", default=[])
    parser.add_argument("--only", help="checks whose name holds this")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        return "prctl(PR_SET_CHILD_SUBREAPER) failed"
    checks = [c for c in WITH_TEMPLATE + ALONE if not options.only or options.only in c.__name__]
    failed = 0
    print(f"1..{len(checks)}")
    for number, check in enumerate(checks, 1):
        try:
            perform(check, options)
            print(f"ok {number} - {check.__doc__}", flush=True)
        except (Broken, OSError) as error:
            failed += 1
            print(f"not ok {number} - {check.__doc__}", flush=True)
            text = str(error) if isinstance(error, Broken) else traceback.format_exc()
            print("".join(f"# {line}\n" for line in text.splitlines()), flush=True)
        reap_all()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
