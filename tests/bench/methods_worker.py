"""The Python worker of the `method` benches: a mark (mark.h) with its first statement, then nothing."""
import importlib
import os
import select
import struct
import time

import reeve

for name in filter(None, os.environ["BENCH_MODULES"].split(",")):
    importlib.import_module(name)


def mark():
    now = time.monotonic_ns()
    fd = os.open(reeve.environ()["BENCH_MARKS"], os.O_WRONLY)
    index = int(reeve.environ()["REEVE_INDEX"])
    os.write(fd, struct.pack("=QIHH", now, os.getpid(), index, 0))
    os.close(fd)


def main():
    reeve.fork_point()
    mark()
    stop = reeve.stop_fd
    while not select.select([stop], [], [], 0.001 if is_seed() else None)[0]:
        before = reeve.environ()["REEVE_INDEX"]
        reeve.fork_point()
        if reeve.environ()["REEVE_INDEX"] != before:
            mark()
            stop = reeve.stop_fd


def is_seed():
    own = reeve.environ()
    return own["BENCH_METHOD"] == "fork" and own["REEVE_INDEX"] == "0"
