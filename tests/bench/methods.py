#!/usr/bin/env python3
"""
Start methods side by side: from the request to the first statement of a worker, and the memory of
many workers.

    methods.py [--rounds N] [--each N] [--workers N] [--python PATH] [--build DIR] [--only WORD]…
               [--json]

Subjects take turns, a few starts each, round after round; the table shows the median of each and its
ratio to `adoption`, the bare operation in the same run. A machine that others use makes the figures
larger and leaves the ratios.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
STDLIB = ("json logging.handlers asyncio http.client http.server sqlite3 decimal email.message "
          "xml.etree.ElementTree urllib.request concurrent.futures subprocess argparse csv ssl ctypes "
          "hashlib unittest").split()
LOADS = {"bare": [], "stdlib": STDLIB, "numpy": ["numpy"]}
SUBJECTS = ("adoption", "os.fork", "reeve forkserver", "mp fork", "mp forkserver", "reeve spawn",
            "mp spawn")
SLOW = ("reeve spawn", "mp spawn")
# The same in C: methods_native.c, with so many MiB of touched heap.
NATIVE = ("adoption", "raw template", "fork", "fork twice", "reeve-runner template", "posix_spawn",
          "reeve-runner spawn")
HEAPS = {"C": 0, "C 200 MB": 200}


class Subject:
    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, text=True, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)
        self.process.stdout.readline()

    def ask(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


def python_subject(options, load, name):
    return Subject(name, [options.python, HERE / "methods_subject.py", name, ",".join(LOADS[load]),
                          options.build])


def native_subject(options, load, name):
    return Subject(name, [options.build / "tests/bench/methods-native", name, str(HEAPS[load]),
                          options.build / "lib/reeve-runner",
                          options.build / "tests/bench/methods-module.so"])


def rollup(pid):
    """(PSS, private) of a process in KiB."""
    found = {"Pss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        key, _, value = line.partition(":")
        if key in found:
            found[key] = int(value.split()[0])
    return found["Pss"], found["Private_Clean"] + found["Private_Dirty"]


def measure_first(options, load):
    native = load in HEAPS
    subjects = [(native_subject if native else python_subject)(options, load, name)
                for name in (NATIVE if native else SUBJECTS)]
    times = {subject.name: [] for subject in subjects}
    for _ in range(options.rounds):
        for subject in subjects:
            each = max(1, options.each // 10) if subject.name in SLOW else options.each
            times[subject.name] += subject.ask(f"first {each}")
    for subject in subjects:
        subject.close()
    base = statistics.median(times["adoption"])
    return [{"bench": "first line", "load": load, "subject": name, "us": statistics.median(t) / 1e3,
             "p90_us": statistics.quantiles(t, n=10)[-1] / 1e3, "ratio": statistics.median(t) / base}
            for name, t in times.items()]


def measure_memory(options, load, how):
    rows = []
    for name in SUBJECTS:
        count = options.workers
        subject = python_subject(options, load, name)
        workers, rest = subject.ask(f"memory {count} {how}")
        figures = [rollup(pid) for pid in workers]
        whole = sum(pss for pss, _ in figures) + sum(rollup(pid)[0] for pid in rest)
        rows.append({"bench": f"memory, {how}", "load": load, "subject": name, "workers": count,
                     "pss_mib": whole / 1024,
                     "private_kib": statistics.median(private for _, private in figures)})
        subject.process.stdin.write("end\n")
        subject.close()
    base = next(r["pss_mib"] for r in rows if r["subject"] == "adoption")
    for row in rows:
        row["ratio"] = row["pss_mib"] / base
    return rows


def show(rows):
    for row in rows:
        if "us" in row:
            text = f"{row['us']:9.0f} us  p90 {row['p90_us']:9.0f}"
        else:
            text = f"{row['pss_mib']:7.1f} MiB of {row['workers']}, private {row['private_kib']:6.0f} KiB"
        print(f"{row['bench']:16} {row['load']:8} {row['subject']:21} {text}  x {row['ratio']:.2f}",
              file=sys.stderr)


def can_load(options, load):
    if load in HEAPS:
        return (options.build / "tests/bench/methods-native").exists()
    return subprocess.run([options.python, "-c", "import sys; [__import__(m) for m in sys.argv[1:]]",
                           *LOADS[load]], stderr=subprocess.DEVNULL, check=False).returncode == 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.
                                     RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--build", type=lambda path: pathlib.Path(path).resolve(),
                        default=HERE.parent.parent / "build")
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for load in [*HEAPS, *LOADS]:
        plan = {f"{load} first": lambda load=load: measure_first(options, load)}
        if load in LOADS:
            plan |= {f"{load} memory": lambda load=load: measure_memory(options, load, "stay"),
                     f"{load} collect": lambda load=load: measure_memory(options, load, "collect")}
        for name, run in plan.items():
            if options.only and not any(word in name for word in options.only):
                continue
            if not can_load(options, load):
                print(f"{name}: skipped, it cannot be loaded here", file=sys.stderr)
                continue
            rows = run()
            show(rows)
            if options.json:
                for row in rows:
                    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
