#!/usr/bin/env python3
"""Measures Reeve against the least that any supervisor does (floor) and bare kernel operations
(limit), in one run and in turns: only the ratios of one run say something on a machine that is
not idle. One JSON object per line on stdout, a table on stderr at the end. See README.md."""
import argparse
import ctypes
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile
import shutil

import gauge
import report
import scenarios
import subjects

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PR_SET_CHILD_SUBREAPER = 36


def say(text):
    print(text, file=sys.stderr, flush=True)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split(". ")[0] + ".")
    parser.add_argument("--build", default=str(ROOT / "build"), help="meson's build directory")
    parser.add_argument("--quick", action="store_true", help="small N, a few seconds a scenario")
    parser.add_argument("--only", action="append", metavar="NAME", default=[],
                        help="scenarios whose name begins so (start, restart, stop, idle, list, "
                             "log…); may be given again")
    parser.add_argument("--n", type=int, help="only this number of workers")
    parser.add_argument("--worker", choices=["glibc", "nolibc", *subjects.LOADS],
                        help="only this worker")
    parser.add_argument("--subject", action="append", metavar="NAME",
                        help="only " + ", ".join(subjects.ALL) + "; may be given again")
    parser.add_argument("--rounds", type=int, help="instead of the scenario's own number")
    parser.add_argument("--realtime", action="store_true",
                        help="run all subjects and workers as SCHED_RR (root): on a machine that "
                             "is not idle latencies are of no use without it")
    parser.add_argument("--readme", action="store_true",
                        help="put the table of --from-json into README.md")
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    parser.add_argument("--from-json", metavar="FILE", help="only print the table of a former run")
    return parser.parse_args()


def show(options):
    lines = pathlib.Path(options.from_json).read_text().splitlines()
    text = report.table([row for row in map(json.loads, lines) if "metric" in row])
    if not options.readme:
        print(text)
        return 0
    readme = pathlib.Path(__file__).with_name("README.md")
    before, mark, rest = readme.read_text().partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end of table -->\n")
    if not mark or not end:
        say("README.md has no marks for the table")
        return 1
    readme.write_text(before + mark + text + "\n" + end + after)
    return 0


def chosen(options):
    for case in scenarios.cases(options.quick):
        if options.only and not any(case.bench.startswith(name) for name in options.only):
            continue
        if options.n is not None and case.n != options.n:
            continue
        if options.worker and case.worker != options.worker:
            continue
        if not subjects.has_cgroups():
            case.subjects = [name for name in case.subjects if name != "reeve-cgroup"]
        if options.subject:
            case.subjects = [name for name in case.subjects if name in options.subject]
        if options.rounds:
            case.rounds = options.rounds
        yield case


def run_once(case, name, scratch, build):
    directory = tempfile.mkdtemp(prefix="run-", dir=scratch)
    subject = subjects.ALL[name](subjects.Place(directory, build), case.make_job())
    try:
        return case.measure(subject)
    finally:
        subject.close()


def run_case(case, scratch, build):
    results = {name: [] for name in case.subjects}
    failed = {}
    for number in range(case.rounds):
        turn = case.subjects[number % len(case.subjects):] + case.subjects[
            :number % len(case.subjects)]
        for name in turn:
            if name in failed:
                continue
            try:
                results[name].append(run_once(case, name, scratch, build))
            except (gauge.Late, RuntimeError, OSError, KeyError) as error:
                failed[name] = f"{type(error).__name__}: {error}"
                say(f"{case.bench} {name} n={case.n} {case.worker}: {failed[name]}")
    rows = report.rows_of(case, results)
    for name, text in failed.items():
        rows.append({"bench": case.bench, "subject": name, "n": case.n, "worker": case.worker,
                     "error": text})
    return rows


def make_scratch():
    """tmpfs where there is one: a disk would be what is measured."""
    home = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    scratch = tempfile.mkdtemp(prefix="reeve-bench-", dir=home)
    os.chmod(scratch, 0o755)
    return scratch


def prepare():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def main():
    options = parse()
    if options.from_json:
        return show(options)
    todo = list(chosen(options))
    if options.list:
        for case in todo:
            print(f"{case.bench} n={case.n} {case.worker} x{case.rounds}: "
                  + " ".join(case.subjects))
        return 0
    if not (pathlib.Path(options.build) / "tests/bench/bench-worker-glibc").exists():
        say(f"{options.build}: built without its tests; ./dev bench builds what it needs")
        return 2
    prepare()
    if options.realtime:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    scratch = make_scratch()
    rows = []
    try:
        if any(case.bench.startswith("log") for case in todo):
            scenarios.warm_up(scratch)
        for case in todo:
            for row in run_case(case, scratch, options.build):
                print(json.dumps(row), flush=True)
                rows.append(row)
    finally:
        gauge.sweep()
        shutil.rmtree(scratch, ignore_errors=True)
    say(report.table([row for row in rows if "metric" in row]))
    return 1 if any("error" in row for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
