#!/usr/bin/env python3
"""
Runs the tests with other people's software: run.py [--jobs N] [--build DIR] [PATTERN…]

They stand on the harness of tests/live: each test runs in a process of its own with a private
directory, a cgroup and a deadline, and whatever it leaves is a failure. The last line says what was
counted.
"""
import argparse
import importlib
import os
import pathlib
import signal
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "live"), str(HERE)]
sys.dont_write_bytecode = True

import harness  # noqa: E402
import run as live  # noqa: E402

# Data base clusters are made and whole systems are booted here.
DEADLINE = 240


def find_tests(patterns):
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for kind in vars(module).values():
            if not (isinstance(kind, type) and issubclass(kind, harness.Case)
                    and kind.__module__ == path.stem):
                continue
            for method in unittest.TestLoader().getTestCaseNames(kind):
                full = f"{path.stem[5:]}.{method}"
                if not patterns or any(word in full for word in patterns):
                    found.append((full, kind, method))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--build", default="build")
    parser.add_argument("--keep", action="store_true", help="keep the files of good tests too")
    parser.add_argument("patterns", nargs="*")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = live.Run(options)
    run.logs, run.deadline = run.build / "real-logs", DEADLINE
    begin = time.monotonic()
    try:
        tests = find_tests(options.patterns)
        run.all([("default", i, *test) for i, test in enumerate(tests)])
    finally:
        run.close()
    print(f"real: {time.monotonic() - begin:.0f} s")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**run.count))
    return 1 if run.count["failed"] or not run.count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
