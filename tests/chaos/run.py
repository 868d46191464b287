#!/usr/bin/env python3
"""
The chaos rig: run.py [--build DIR] [--mode M] [--minutes N] [--seed S] [--walk] [--kills N]
[PATTERN…]

Without --mode every mode runs (in a sanitizer build only the default one), for a minute in all.
The tests of this folder run as the live tests do, each in a process of its own (tests/live/run.py).
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


def find_tests(patterns):
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for kind in vars(module).values():
            if not (isinstance(kind, type) and issubclass(kind, harness.Case)
                    and kind.__module__ == path.stem):
                continue
            for method in unittest.TestLoader().getTestCaseNames(kind):
                full = f"chaos.{path.stem[5:]}.{method}"
                if not patterns or any(word in full for word in patterns):
                    found.append((full, kind, method))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--mode", choices=harness.MODES)
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("--build", default=os.environ.get("REEVE_BUILD", "build-gcc"))
    parser.add_argument("--keep", action="store_true", help="keep the files of good tests too")
    parser.add_argument("--walk", action="store_true", help="every failpoint, however long it takes")
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--kills", type=int, metavar="N",
                        help="kill manager and logger N times under a thousand workers")
    parser.add_argument("--minutes", type=float, help="so long in all, for each mode the same")
    parser.add_argument("--seed", type=int, help="the seed of a run that was shown")
    options = parser.parse_args()
    patterns = options.patterns or (["walk", "ends"] if options.walk else
                                    ["kills"] if options.kills else [])
    modes = live.modes_for(options)
    if not options.walk:
        os.environ.setdefault("REEVE_WALK_SECONDS", "3")
    if options.kills:
        os.environ["REEVE_CHAOS_KILLS"] = str(options.kills)
    if options.minutes:
        os.environ["REEVE_CHAOS_SECONDS"] = str(60 * options.minutes / len(modes))
    if options.seed is not None:
        os.environ["REEVE_CHAOS_SEED"] = str(options.seed)
    tests = [test for test in find_tests(patterns) if options.kills or "kills" not in test[0]]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    run = live.Run(options)
    run.deadline = 180 + 60 * (options.minutes or 0)
    if options.walk or options.kills:
        run.deadline = 4 * 3600
    begin = time.monotonic()
    try:
        for mode in modes:
            if mode == "pid1" and os.getuid() != 0:
                run.count["skipped"] += len(tests)
                print(f"skipped {mode}: needs root")
                continue
            run.all([(mode, i, *test) for i, test in enumerate(tests)])
            live.reap_strangers()
    finally:
        run.close()
    print(f"chaos: {time.monotonic() - begin:.0f} s")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**run.count))
    return 1 if run.count["failed"] or not run.count["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
