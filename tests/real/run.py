#!/usr/bin/env python3
"""
Runs the tests with other people's software: run.py [--jobs N] [--build DIR] [PATTERN…]

They stand on the harness of tests/live: each test runs in a process of its own with a private
directory, a cgroup and a deadline, and whatever it leaves is a failure. The last line says what was
counted.
"""
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "live"), str(HERE)]
sys.dont_write_bytecode = True

import run as live  # noqa: E402

# Data base clusters are made and whole systems are booted here.
DEADLINE = 240


def main():
    options = live.arguments(__doc__, 1).parse_args()
    run = live.Run(options)
    run.logs, run.deadline = run.build / "real-logs", DEADLINE
    tests = live.find_tests(options.patterns, HERE)
    return live.run_all(run, "real", lambda: run.all([("default", i, *test)
                                                      for i, test in enumerate(tests)]))


if __name__ == "__main__":
    sys.exit(main())
