#!/usr/bin/python3
"""
A template that speaks bare packets (reeve-template(7)), and breaks the protocol in one way: the
trick that argv[1] names. Without a trick it is a well-behaved one. Workers do after GO what
RAW_WORKER in their environment says: "wait", "exit=N", "kill=N".
"""
import array
import os
import signal
import socket
import struct
import sys
import time

HELLO, LOADING, READY, FORK, SPAWNED, FAILED, UNSAFE, PING, PONG, QUIT = range(1, 11)
BORN, FAIL, GO = 32, 33, 34
VERSIONS, RUNTIME, TEXT, LOAD_US, TASKS, RSS, FDS = 1, 11, 12, 13, 14, 15, 16
NAME, ENV, FD_MAP, PID, STAGE, ERRNO = 18, 22, 27, 28, 29, 30


def record(tag, data, flags=0):
    return struct.pack("=HHI", tag, flags, len(data)) + data + b"\0" * (-len(data) % 8)


def packet(kind, request=0, *records):
    body = b"".join(records)
    return struct.pack("=HHIII", kind, 0, 16 + len(body), request, 0) + body


def u32(tag, value):
    return record(tag, struct.pack("=I", value))


def i32(tag, value):
    return record(tag, struct.pack("=i", value))


def parse(data):
    """kind, request, [(tag, data)]"""
    kind, _, _, request, _ = struct.unpack_from("=HHIII", data)
    found, at = [], 16
    while at < len(data):
        tag, _, size = struct.unpack_from("=HHI", data, at)
        found.append((tag, data[at + 8:at + 8 + size]))
        at += 8 + size + -size % 8
    return kind, request, found


def first(records, tag, default=b""):
    return next((data for t, data in records if t == tag), default)


hello = packet(HELLO, 0, record(VERSIONS, struct.pack("=II", 1, 1)), record(RUNTIME, b"raw 1"))
ready = packet(READY, 0, record(LOAD_US, struct.pack("=Q", 5)), u32(TASKS, 1),
               record(RSS, struct.pack("=Q", 1 << 20)), u32(FDS, 4))

trick = sys.argv[1] if len(sys.argv) > 1 else ""
channel = socket.socket(fileno=int(os.environ["REEVE_CHANNEL"]))
if os.path.exists(trick):  # a file: the trick of now, so that a test can change its mind
    trick = open(trick).read().strip()


kept = []


def receive(sock):
    data, ancillary, _, _ = sock.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
    fds = array.array("i")
    for level, kind, body in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(body[:len(body) - len(body) % fds.itemsize])
    return data, list(fds)


def act(what):
    word, _, number = what.partition("=")
    if word == "exit":
        os._exit(int(number))
    if word == "kill":
        signal.signal(int(number), signal.SIG_DFL) if int(number) not in (9, 19) else None
        os.kill(os.getpid(), int(number))
    while True:
        signal.pause()


def worker(records, own, fds, numbers):
    """Runs in the worker; never returns."""
    channel.close()
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    env = dict(data.decode().split("=", 1) for tag, data in records if tag == ENV)
    name = first(records, NAME)
    for fd, number in zip(fds, numbers):
        if number >= 0:
            os.dup2(fd, number)
        elif number == -2:
            try:
                with open(f"/proc/self/fd/{fd}/cgroup.procs", "w") as file:
                    file.write("0")
            except OSError:
                pass
    born = packet(BORN, 0, record(NAME, name), i32(PID, os.getpid()))
    if trick == "worker-gone":
        os._exit(4)
    if trick == "worker-fail":
        own.send(packet(FAIL, 0, record(STAGE, b"after_fork"), i32(ERRNO, 2),
                        record(TEXT, b"no such model")))
        os._exit(1)
    if trick == "worker-garbage":
        own.send(b"\xff" * 40)
    if trick == "worker-other-name":
        born = packet(BORN, 0, record(NAME, b"another:0"))
    if trick == "worker-hang":
        time.sleep(1000)
    own.send(born)
    if trick == "worker-closes":
        own.close()
        open(env["RAW_CLOSED"], "w").close()
        time.sleep(1000)
    if trick == "worker-twice":
        own.send(born)
    if trick == "worker-stranger" and os.fork() == 0:
        os._exit(0)
    data = own.recv(65536)
    if not data or parse(data)[0] != GO:
        os._exit(0)
    act(env.get("RAW_WORKER", "wait"))


def fork(records, fds):
    """Fork twice, as where adoption is not to be had; the worker's pid."""
    numbers = struct.unpack(f"={len(fds)}i", first(records, FD_MAP))
    own = socket.socket(fileno=fds[0])
    middle = os.fork()
    if middle == 0:
        if os.fork() == 0:
            worker(records, own, fds, numbers)
        os._exit(0)
    os.waitpid(middle, 0)
    if trick == "worker-closes":
        kept.append(own)
    else:
        own.close()
    for fd in fds[1:]:
        os.close(fd)
    return middle


def misbehave(request, pid):
    """What a trick sends in the place of SPAWNED; None: the usual."""
    spawned = packet(SPAWNED, request, i32(PID, pid))
    failed = packet(FAILED, request, record(STAGE, b"fork"), i32(ERRNO, 11),
                    record(TEXT, b"no memory"))
    return {
        "spawned-unknown": [packet(SPAWNED, request + 1000, i32(PID, pid))],
        "spawned-zero": [packet(SPAWNED, 0, i32(PID, pid))],
        "spawned-twice": [spawned, spawned],
        "spawned-failed": [spawned, failed],
        "pid-none": [packet(SPAWNED, request, i32(PID, 0))],
        "pid-all": [packet(SPAWNED, request, i32(PID, -1))],
        "pid-keeper": [packet(SPAWNED, request, i32(PID, os.getppid()))],
        "pid-again": [packet(SPAWNED, request, i32(PID, os.getpid()))],
        "pid-init": [packet(SPAWNED, request, i32(PID, 1))],
        "no-pid": [packet(SPAWNED, request)],
        "trailing": [spawned + b"\0" * 8],
        "huge": [struct.pack("=HHIII", SPAWNED, 0, 0xffffffff, request, 0) + spawned[16:]],
        "short": [spawned[:20]],
        "header": [spawned[:7]],
        "tag": [packet(SPAWNED, request, i32(PID, pid), record(999, b"x"))],
        "type": [packet(99, request)],
        "long-text": [packet(FAILED, request, record(STAGE, b"s" * 60000), i32(ERRNO, 5),
                             record(TEXT, b"\x1b[31m" * 100))],
        "hello-late": [spawned, hello],
        "ready-twice": [spawned, ready],
        "pong": [spawned, packet(PONG, 77, u32(TASKS, 1), record(RSS, b"\0" * 8), u32(FDS, 1))],
        "loading-late": [spawned, packet(LOADING, 0, record(TEXT, b"more"))],
        "no-means": [failed],
        "unsaid": [],
        "unsafe": [packet(UNSAFE, request, record(TEXT, b"2 threads (\x1bBad)"))],
    }.get(trick, [spawned])


def serve():
    while True:
        data, fds = receive(channel)
        if not data:
            return
        kind, request, records = parse(data)
        if kind == QUIT:
            return
        if kind == PING:
            channel.send(packet(PONG, request, u32(TASKS, 1), record(RSS, b"\0" * 8), u32(FDS, 4)))
        if kind != FORK:
            continue
        if trick == "silent":
            continue
        if trick == "die":
            os._exit(9)
        if trick == "slow":
            time.sleep(0.3)
        refuses = trick in ("long-text", "unsafe", "no-means")
        pid = fork(records, fds) if not refuses else 0
        for fd in fds if refuses else ():
            os.close(fd)
        if trick == "die-after":
            os.kill(os.getpid(), 9)
        if trick == "child-answers":
            child = os.fork()
            if child == 0:
                channel.send(packet(SPAWNED, request, i32(PID, pid)))
                os._exit(0)
            os.waitpid(child, 0)
            continue
        for reply in misbehave(request, pid):
            if trick == "fds":
                channel.sendmsg([reply], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                           array.array("i", [0, 1, 2]))])
            else:
                channel.send(reply)
        if trick == "leak":
            kept.append(os.open(__file__, os.O_RDONLY))
        if trick == "close":
            channel.close()
            time.sleep(1000)


def main():
    if trick == "exit-early":
        os._exit(7)
    kind, _, _ = parse(receive(channel)[0])
    assert kind == HELLO
    if trick == "hello-never":
        time.sleep(1000)
    if trick == "garbage":
        channel.send(b"GET / HTTP/1.1\r\n\r\n")
    if trick == "deaf":
        channel.send(b"GET / HTTP/1.1\r\n\r\n")
        time.sleep(1000)
    if trick == "print":
        os.write(channel.fileno(), b"loading numpy...\n")
    if trick == "version":
        channel.send(packet(HELLO, 0, record(VERSIONS, struct.pack("=II", 7, 9)),
                            record(RUNTIME, b"raw 1")))
    elif trick != "no-hello":
        channel.send(hello)
    if trick == "hello-twice":
        channel.send(hello)
    if trick == "gpu":
        os.open("/dev/nvidia0", os.O_RDWR)
    if trick == "load-forever":
        time.sleep(1000)
    channel.send(ready)
    serve()


main()
