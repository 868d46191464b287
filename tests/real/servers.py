"""The six servers of conf/examples/real.conf: how each is asked something, and a network of its own."""
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import urllib.request

import procs

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP, IFF_LOOPBACK = 0x8914, 1, 8
HOST = "127.0.0.1"


def own_network():
    """
    This process gets a network namespace, so that tests beside each other use the same ports;
    where that is not permitted they take turns.
    """
    try:
        procs.libc("unshare", CLONE_NEWNET)
    except OSError:
        turn = os.open("/tmp/reeve-real.turn", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(turn, fcntl.LOCK_EX)
        return
    with socket.socket() as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP | IFF_LOOPBACK))


def http(port, path="/"):
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def exchange(port, request, end):
    """Sends a request of a line protocol; the answer up to `end`."""
    with socket.create_connection((HOST, port), 10) as sock:
        sock.sendall(request)
        answer = b""
        while not answer.endswith(end):
            part = sock.recv(4096)
            if not part:
                break
            answer += part
        return answer.decode()


def sql(statement):
    done = subprocess.run(["psql", "-h", HOST, "-p", "15432", "-U", "postgres", "-AtqX",
                           "-c", statement, "postgres"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=20, cwd="/")
    return done.stdout.strip() or done.stderr.strip()


# group → (program that must be there, port, notifies, request, what the answer holds)
SERVERS = {
    "nginx": ("nginx", 18080, False, lambda: http(18080), "nginx answers"),
    "redis": ("redis-server", 16379, True,
              lambda: exchange(16379, b"SET k v\r\nGET k\r\n", b"v\r\n"), "+OK\r\n$1\r\nv"),
    "postgres": ("psql", 15432, True, lambda: sql("select 40 + 2"), "42"),
    "gunicorn": ("gunicorn", 18000, True, lambda: http(18000),
                 "good morning from gunicorn in gunicorn:0"),
    "memcached": ("memcached", 11311, False,
                  lambda: exchange(11311, b"set k 0 0 1\r\nv\r\nget k\r\n", b"END\r\n"),
                  "STORED\r\nVALUE k 0 1\r\nv"),
    "haproxy": ("haproxy", 18081, True, lambda: http(18081, "/haproxy"), "haproxy answers"),
}


def missing():
    """Programs that are not installed here."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return [program for program, *_ in SERVERS.values() if not shutil.which(program, path=path)]


def bound(port):
    """True if something listens on the port, or holds it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False
