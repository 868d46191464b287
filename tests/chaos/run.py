#!/usr/bin/env python3
"""
The chaos rig: run.py [--build DIR] [--mode M] [--minutes N] [--seed S] [--walk] [--kills N]
[PATTERN…]

Without --mode every mode runs (in a sanitizer build only the default one), for a minute in all.
The tests of this folder run as the live tests do, each in a process of its own (tests/live/run.py).
"""
import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "live"), str(HERE)]
sys.dont_write_bytecode = True

import harness  # noqa: E402
import run as live  # noqa: E402


def main():
    parser = live.arguments(__doc__, 2)
    parser.set_defaults(build=os.environ.get("REEVE_BUILD", "build-gcc"))
    parser.add_argument("--mode", choices=harness.MODES)
    parser.add_argument("--walk", action="store_true", help="every failpoint, however long it takes")
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
    tests = [test for test in live.find_tests(patterns, HERE, "chaos.")
             if options.kills or "kills" not in test[0]]
    run = live.Run(options)
    run.deadline = 180 + 60 * (options.minutes or 0)
    if options.walk or options.kills:
        run.deadline = 4 * 3600
    return live.run_all(run, "chaos", lambda: live.run_modes(run, modes, tests))


if __name__ == "__main__":
    sys.exit(main())
