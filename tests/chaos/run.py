#!/usr/bin/env python3
"""
The chaos rig: run.py [--build DIR] [--mode M] [--minutes N] [--seed S] [--walk] [--kills N]
[PATTERN…]

Without --mode every mode runs (in a sanitizer build only the default one), for a minute in all.
The tests of this folder run as the live tests do, each in a process of its own (tests/live/run.py).
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "live"), str(HERE)]
sys.dont_write_bytecode = True

import harness  # noqa: E402
import run as live  # noqa: E402


def fails(steps, mode, build, scratch):
    """Tried three times: what goes wrong depends on moments that no plan fixes."""
    path = scratch / "plan.json"
    path.write_text(json.dumps({"steps": steps}))
    command = [sys.executable, __file__, "--build", build, "--mode", mode, "test_storm"]
    return any(subprocess.run(command, env={**os.environ, "REEVE_CHAOS_PLAN": str(path)},
                              stdout=subprocess.DEVNULL, check=False).returncode
               for _ in range(3))


def shrink(plan, mode, build):
    """Leaves out halves, quarters, … single steps; what still fails is PLAN.small."""
    steps = json.loads(pathlib.Path(plan).read_text())["steps"]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        size = max(len(steps) // 2, 1)
        while size:
            at = 0
            while at < len(steps):
                less = steps[:at] + steps[at + size:]
                if less and fails(less, mode, build, scratch):
                    steps = less
                    print(f"{len(steps)} steps still fail", flush=True)
                else:
                    at += size
            size //= 2
    pathlib.Path(f"{plan}.small").write_text(json.dumps({"why": "", "steps": steps}, indent=0))
    print(f"{plan}.small: {len(steps)} steps; with a reason it belongs into tests/chaos/kept")
    return 0


def main():
    parser = live.arguments(__doc__, 2)
    parser.set_defaults(build=os.environ.get("REEVE_BUILD", "build-gcc"))
    parser.add_argument("--mode", choices=harness.MODES)
    parser.add_argument("--walk", action="store_true", help="every failpoint, however long it takes")
    parser.add_argument("--kills", type=int, metavar="N",
                        help="kill manager and logger N times under a thousand workers")
    parser.add_argument("--minutes", type=float, help="so long in all, for each mode the same")
    parser.add_argument("--seed", type=int, help="the seed of a run that was shown")
    parser.add_argument("--shrink", metavar="PLAN",
                        help="leave out steps of a plan that fails, as long as it fails (with --mode)")
    options = parser.parse_args()
    if options.shrink:
        return shrink(options.shrink, options.mode or "default", options.build)
    patterns = options.patterns or (["walk.", "ends.", "points."] if options.walk else
                                    ["kills"] if options.kills else [])
    modes = live.modes_for(options)
    options.costly |= options.walk
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
    if options.walk and not options.patterns:
        tests += live.find_tests(["killed_at_every_point"])  # test_points.py: which those are
    run = live.Run(options)
    run.deadline = 180 + 60 * (options.minutes or 0)
    if options.walk or options.kills:
        run.deadline = 4 * 3600
    return live.run_all(run, "chaos", lambda: live.run_modes(run, modes, tests))


if __name__ == "__main__":
    sys.exit(main())
