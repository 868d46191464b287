"""The worker of the forkserver group: leaves the same traces as the puppet (world.py), in Python."""
import fcntl
import os
import time

held = []  # the lock of the slot, as long as the process lives


def note(journal, word, text):
    """One entry as the puppet writes it, with one write."""
    line = f"{time.monotonic_ns() // 1000} {os.getpid()} {word} {text}\n".encode()
    fd = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    os.write(fd, line)
    os.close(fd)


def run():
    env = os.environ
    journal, pause = env["CHAOS_JOURNAL"], float(env["CHAOS_PAUSE"])
    name, life = env["REEVE_WORKER"], env["REEVE_INCARNATION"]
    note(journal, "note", f"{env['EPOCH']} {name} {life}")
    lock = os.open(f"{env['CHAOS_LOCKS']}/lock-{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    held.append(lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        note(journal, "double", name)
    number = 0
    while True:
        os.write(1, f"row-{env['EPOCH']}.{life}.{os.getpid()} {number}\n".encode())
        number += 1
        time.sleep(pause)
