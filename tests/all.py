#!/usr/bin/env python3
"""Runs every suite and adds up what they count; `./dev test` is the way to call it.

A step is a build, a check or a suite in one build. Its output streams through; what it counts is
read from what it prints: "N passed, N failed, N skipped" of our own runners, Criterion's synthesis
or TAP inside meson's log. A step that ends badly without saying what failed counts as one failure,
and so does a suite in which nothing ran.

On a machine that others use too, one of thousands of tests may fail that would not alone: it runs
once more, by itself, and counts by that. What failed, also the first time only, is said again in
front of the last line.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")
# A test that crashes is one that fails.
CRITERION = re.compile(r"Synthesis: Tested: (\d+) \| Passing: (\d+) \| Failing: (\d+) ")
REPORT = re.compile(r"ERROR: \w+Sanitizer|: runtime error: ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
TAP = re.compile(r"^(not )?ok\b[^#]*(#\s*skip\b.*)?", re.IGNORECASE)

ASAN = ("strict_string_checks=1:detect_stack_use_after_return=1:check_initialization_order=1"
        ":allocator_may_return_null=1")
# Without this Criterion says nothing of skipped tests.
CRITERION_NAMES_TESTS = {"CRITERION_VERBOSITY_LEVEL": "1"}
SECOND_TRIES = 4  # more programs of a suite than so many have another reason than a busy machine
UBSAN = "print_stacktrace=1:halt_on_error=1"


class Tally:
    """What was counted, and the lines that tell of failures."""

    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped
        self.failures = []

    def __iadd__(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        return self

    def __str__(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"

    def total(self):
        return self.passed + self.failed + self.skipped


def say(text):
    print(text, flush=True)


def end_session(process, number):
    """Signals the process group that `run` made for this process."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def failures_in(output):
    """The lines of a runner's output that tell of failures, with what is indented below them."""
    found, inside = [], False
    for line in output.splitlines():
        if not line.startswith("    "):
            inside = line.startswith(("FAILED ", "once more: "))
        if inside:
            found.append(line)
    return found


def run(command, timeout, env=None, quiet=False):
    """Runs a command in its own session; returns (exit code, its output), code None on time-out."""
    try:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **(env or {})},
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True, errors="replace",
                                   start_new_session=True)
    except OSError as error:
        say(f"{command[0]}: {error.strerror}")
        return 127, ""
    late = threading.Event()

    def stop():
        late.set()
        end_session(process, signal.SIGKILL)

    timer = threading.Timer(timeout, stop)
    timer.start()
    lines = []
    try:
        for line in process.stdout:
            lines.append(line)
            if not quiet:
                sys.stdout.write(line)
                sys.stdout.flush()
        process.wait()
    except BaseException:
        end_session(process, signal.SIGTERM)
        process.wait()
        raise
    finally:
        timer.cancel()
    if late.is_set():
        say(f"ended after {timeout} s: {' '.join(command)}")
        return None, "".join(lines)
    return process.returncode, "".join(lines)


def tally_of_runner(code, output):
    """The last line of counts that one of our own runners printed."""
    found = [COUNTS.match(line.strip()) for line in output.splitlines()]
    found = [match for match in found if match]
    tally = Tally(*map(int, found[-1].groups())) if found else Tally()
    if code != 0 and tally.failed == 0:
        say(f"ended with {code} without a failed test")
        tally.failed += 1
    return tally


def tally_of_meson_test(entry):
    """One line of meson's JSON log: the tests inside where they can be seen, else the program."""
    output = COLOUR.sub("", entry.get("stdout", "") + "\n" + (entry.get("stderr") or ""))
    tally = Tally()
    for line in output.splitlines():
        match = COUNTS.match(line.strip())
        if match:
            tally = Tally(*map(int, match.groups()))
            break
        match = CRITERION.search(line)
        if match:
            tested, passing, failing = map(int, match.groups())
            tally += Tally(passing, failing, tested - passing - failing)
            continue
        if line.startswith("[SKIP] "):
            say(f"skipped: {line[7:]}")
            tally.skipped += 1
            continue
        match = TAP.match(line)
        if match and match[2]:
            say(f"skipped: {entry['name']}: {line}")
        if match:
            tally += Tally(*((0, 0, 1) if match[2] else (0, 1, 0) if match[1] else (1, 0, 0)))
    result = entry["result"]
    if result == "SKIP":
        why = output.strip().splitlines()[-1:] or ["no reason given"]
        say(f"skipped: {entry['name']}: {why[0]}")
        return Tally(skipped=max(1, tally.skipped))
    if result not in ("OK", "EXPECTEDFAIL"):
        tally.failed = max(1, tally.failed)
    elif tally.total() == 0:
        tally.passed = 1
    # Criterion does not mind how a test's process ends after the test, so a leak is only said.
    if REPORT.search(output):
        say(f"FAILED {entry['name']}: the sanitizer reports\n{output.strip()}")
        tally.failed += 1
    return tally


def failure_of_meson_test(entry):
    """What of its output speaks of a failure, indented; the end of it when nothing does."""
    output = COLOUR.sub("", entry.get("stdout", "") + "\n" + (entry.get("stderr") or ""))
    lines = [line for line in output.splitlines() if line.strip(" [-]")]
    told = [line for i, line in enumerate(lines)
            if re.match(r"not ok|\[----\]|\[(FAIL|CRASH|ERR )", line)
            or (line.startswith("#") and i and lines[i - 1].startswith(("#", "not ok")))]
    return ["    " + line for line in (told or lines)[-40:]]


class Run:
    """One call of this program: what was asked for, what was counted."""

    def __init__(self, names, scratch):
        self.names = names
        self.scratch = scratch
        self.tally = Tally()
        self.failed_steps = []

    def wants(self, name):
        return not self.names or any(word in name for word in self.names)

    def step(self, name, work):
        if not self.wants(name):
            return
        say(f"\n== {name}")
        start = time.monotonic()
        tally = work()
        if tally.total() == 0:
            say("nothing ran")
            tally.failed = 1
        if tally.failed:
            self.failed_steps.append(name)
        if tally.failures:
            tally.failures.insert(0, f"-- {name}")
        self.tally += tally
        say(f"== {name}: {tally} in {time.monotonic() - start:.0f} s")


def check(command, timeout, env=None):
    code, _ = run(command, timeout, env)
    return Tally(passed=1) if code == 0 else Tally(failed=1)


def build(kind):
    return check(["./dev", "build", kind], 900)


def meson_tests(kind, suite, env, *options):
    """Runs them; [(name, Tally, what is to be said of it)]"""
    base = f"reeve-{suite}"
    log = ROOT / f"build-{kind}/meson-logs/{base}.json"
    log.unlink(missing_ok=True)
    run(["meson", "test", "-C", f"build-{kind}", "--no-rebuild", "--print-errorlogs",
         "--suite", suite, "--logbase", base, *options], 900, {**env, **CRITERION_NAMES_TESTS})
    entries = log.read_text(errors="replace").splitlines() if log.exists() else []
    return [(entry["name"].split()[-1], tally_of_meson_test(entry), failure_of_meson_test(entry))
            for entry in map(json.loads, entries)]


def meson_suite(kind, suite, env):
    tally = Tally()
    tests = meson_tests(kind, suite, env)
    broken = [name for name, counts, _ in tests if counts.failed]
    if 0 < len(broken) <= SECOND_TRIES:
        for name, counts, text in tests:
            if counts.failed:
                tally.failures += [f"once more: {name}", *text]
        tests = [test for test in tests if test[0] not in broken]
        for name in broken:
            again = meson_tests(kind, suite, env, name)
            tests += again or [(name, Tally(failed=1), ["    did not run again"])]
    for name, counts, text in tests:
        tally += counts
        if counts.failed:
            tally.failures += [f"FAILED {name}", *text]
    return tally


def runner(suite, kind, env):
    code, output = run([sys.executable, f"tests/{suite}/run.py", "--build", f"build-{kind}",
                        "--second-try"], 2400, env)
    tally = tally_of_runner(code, output)
    tally.failures += failures_in(output)
    return tally


def reported(scratch, work):
    """Runs a suite of the sanitizer build whose processes write their reports into files."""
    reports = pathlib.Path(tempfile.mkdtemp(prefix="reports-", dir=scratch))
    reports.chmod(0o1777)
    env = {"ASAN_OPTIONS": f"{ASAN}:detect_leaks=0:log_path={reports}/asan",
           "UBSAN_OPTIONS": f"{UBSAN}:log_path={reports}/ubsan"}
    tally = work(env)
    for report in sorted(reports.iterdir()):
        text = report.read_text(errors="replace")
        say(f"-- {report.name}\n{text}")
        tally.failed += 1
        tally.failures += [f"FAILED {report.name}", *text.splitlines()[:40]]
    return tally


def c_files():
    folders = [ROOT / name for name in ("conf", "ctl", "daemon", "lib", "tests")]
    return sorted(str(path) for folder in folders for path in folder.rglob("*.[ch]"))


def check_format():
    """Other versions of clang-format lay out a few lines differently: 14 decides."""
    version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True)
    match = re.search(r"version (\d+)", version.stdout)
    if not match or match[1] != "14":
        say(f"skipped: clang-format 14 decides, here is {version.stdout.strip() or 'none'}")
        return Tally(skipped=1)
    _, output = run(["clang-format", "--dry-run", *c_files()], 120, quiet=True)
    unformatted = sorted({line.split(":")[0] for line in output.splitlines()
                          if "[-Wclang-format-violations]" in line})
    for path in unformatted:
        say(f"FAILED {path}: ./dev fmt formats it")
    return Tally(failed=len(unformatted)) if unformatted else Tally(passed=1)


def check_manual(page):
    """mandoc finds errors, man shows what groff thinks of it."""
    lint, output = run(["mandoc", "-T", "lint", "-W", "error", str(page)], 60, quiet=True)
    shown, warnings = run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", str(page)], 60,
                          {"LC_ALL": "C.UTF-8", "MANPAGER": "cat", "MANROFFSEQ": ""}, quiet=True)
    complaints = [line for line in warnings.splitlines() if re.match(r"(troff|grotty|man|<)", line)]
    good = lint == 0 and shown == 0 and not complaints
    say(f"{'ok' if good else 'FAILED'} {page.name}")
    if not good:
        say(output + "\n".join(complaints))
    return Tally(passed=1) if good else Tally(failed=1)


def check_state_table():
    """The table in the manual is the table in the code."""
    code, table = run(["build-gcc/tests/support/state-table"], 30, quiet=True)
    missing = set(table.splitlines()) - set(
        (ROOT / "daemon/reeved.8.scd").read_text().splitlines())
    good = code == 0 and table and not missing
    say(f"{'ok' if good else 'FAILED'} table of worker states in reeved.8")
    for line in sorted(missing):
        say(f"    not in reeved.8.scd: {line}")
    return Tally(passed=1) if good else Tally(failed=1)


def check_manuals():
    tally = Tally()
    sources = [path for folder in ("conf", "ctl", "daemon", "lib")
               for path in (ROOT / folder).rglob("*.scd")]
    for source in sorted(sources):
        built = sorted((ROOT / "build-gcc").rglob(source.stem))
        if built:
            tally += check_manual(built[0])
        else:
            say(f"FAILED {source.stem} was not built")
            tally.failed += 1
    tally += check_state_table()
    return tally


def plain_steps(this):
    this.step("build gcc", lambda: build("gcc"))
    this.step("build clang", lambda: build("clang"))
    this.step("format", check_format)
    this.step("manuals", check_manuals)
    for suite in ("unit", "golden", "fuzz"):
        this.step(f"{suite} gcc", lambda: meson_suite("gcc", suite, {}))
    for suite in ("live", "chaos", "real"):
        this.step(f"{suite} gcc", lambda: runner(suite, "gcc", {}))


def sanitizer_steps(this):
    env = {"ASAN_OPTIONS": f"{ASAN}:detect_leaks=1", "UBSAN_OPTIONS": UBSAN}
    this.step("build san", lambda: build("san"))
    for suite in ("unit", "golden", "fuzz"):
        this.step(f"{suite} san", lambda: meson_suite("san", suite, env))
    for suite in ("live", "chaos", "real"):
        this.step(f"{suite} san", lambda: reported(
            this.scratch, lambda env: runner(suite, "san", env)))


def fuzz_steps(this, seconds):
    for harness in sorted((ROOT / "build-fuzz/tests/fuzz").glob("fuzz_*")):
        if not os.access(harness, os.X_OK) or harness.is_dir():
            continue
        corpus = ROOT / "tests/fuzz/corpus" / harness.name.removeprefix("fuzz_")
        found = ROOT / "build-fuzz/found" / harness.name
        found.mkdir(parents=True, exist_ok=True)
        this.step(harness.name, lambda: check(
            [str(harness), f"-max_total_time={seconds}", f"-artifact_prefix={found}/",
             str(found), *([str(corpus)] if corpus.is_dir() else [])], seconds + 120))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="only steps whose name holds one of these")
    parser.add_argument("--only-san", action="store_true", help="only the sanitizer build")
    parser.add_argument("--fuzz", type=int, metavar="SECONDS", help="only fuzz, so long each")
    options = parser.parse_args()
    scratch = tempfile.mkdtemp(prefix="reeve-test-")
    os.chmod(scratch, 0o755)
    this = Run(options.names, scratch)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if options.fuzz is not None:
            fuzz_steps(this, options.fuzz)
        else:
            if not options.only_san:
                plain_steps(this)
            sanitizer_steps(this)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if this.tally.failures:
        say("\n" + "\n".join(this.tally.failures))
    if this.failed_steps:
        say("\nfailed: " + ", ".join(this.failed_steps))
    say(str(this.tally))
    return 1 if this.tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
