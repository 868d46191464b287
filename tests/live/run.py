#!/usr/bin/env python3
"""
Runs the live tests: run.py [--mode M] [--jobs N] [--build DIR] [--repeat N] [PATTERN…]

Without --mode every mode runs, in a sanitizer build only the default one. A pattern is a piece of
"file.method". Each test runs in a process of its own with a private directory, a cgroup and a
deadline; whatever it leaves is ended by pid. The last line says what was counted.

With --second-try a test that failed amid the others runs once more at the end, alone, and counts by
that; it is named in the line before the last one. At most SECOND_TRIES tests get one.
"""
import argparse
import importlib
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import harness  # noqa: E402
import procs  # noqa: E402

DEADLINE = 60
SECOND_TRIES = 12  # more than so many have another reason than a busy machine


def find_tests(patterns, folder=HERE, prefix=""):
    """(name, class, method) of every test there, in the order of the files."""
    found = []
    for path in sorted(folder.glob("test_*.py")):
        module = importlib.import_module(path.stem)
        for kind in vars(module).values():
            if not (isinstance(kind, type) and issubclass(kind, harness.Case)
                    and kind.__module__ == path.stem):
                continue
            for method in unittest.TestLoader().getTestCaseNames(kind):
                full = f"{prefix}{path.stem[5:]}.{method}"
                if not patterns or any(word in full for word in patterns):
                    found.append((full, kind, method))
    return found


def one_result(kind, method):
    """Run one test here: {"result": passed|failed|skipped|left out, "text"}."""
    result = unittest.TestResult()
    test = kind(method)
    test.run(result)
    broken = result.failures + result.errors
    if broken:
        return {"result": "failed", "text": "\n".join(text for _, text in broken)}
    if result.skipped:
        word = "left out" if test.left_out else "skipped"
        return {"result": word, "text": result.skipped[0][1]}
    if result.unexpectedSuccesses or result.expectedFailures:
        return {"result": "failed", "text": "expected failures are not used here"}
    return {"result": "passed", "text": ""}


class Test:
    """A test in flight."""

    def __init__(self, run, *entry):
        self.entry = entry
        self.run = run
        mode, number, self.full, self.kind, self.method = entry
        self.mode = mode
        self.root = run.scratch / f"{mode[0]}{number}"
        self.root.mkdir(mode=0o755)
        os.link(run.scratch / "puppet", self.root / "puppet")
        self.cgroup = None
        if run.cgroup:
            self.cgroup = procs.Cgroup(run.cgroup.path / f"{mode[0]}{number}")
            self.cgroup.path.mkdir()
        self.context = harness.Context(mode, run.build, self.root, self.cgroup)
        self.mark = harness.mark_of(self.root)
        self.begin = time.monotonic()
        self.answer = b""
        self.pipe, inner = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self.child(inner)
        os.close(inner)

    def child(self, pipe):
        answer = {"result": "failed", "text": "no result"}
        try:
            os.setsid()
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 0)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if self.mode == "user" and os.getuid() == 0:
                if self.cgroup:  # not to be used by it, only to find what it leaves
                    (self.cgroup.path / "cgroup.procs").write_text("0")
                    self.context.cgroup = None
                os.chown(self.root, harness.NOBODY, harness.NOBODY)
                os.setgroups([])
                os.setresgid(*[harness.NOBODY] * 3)
                os.setresuid(*[harness.NOBODY] * 3)
                procs.libc("prctl", procs.PR_SET_DUMPABLE, 1, 0, 0, 0)
            procs.become_subreaper()
            os.chdir(self.root)
            os.umask(0o022)
            os.environ["LIVE_MARK"] = self.mark
            self.kind.context = self.context
            answer = one_result(self.kind, self.method)
        except BaseException:  # pylint: disable=broad-except
            answer["text"] = traceback.format_exc()
        finally:
            with open(pipe, "wb", closefd=False) as out:
                out.write(json.dumps(answer).encode())
            os._exit(0)

    def late(self):
        return time.monotonic() - self.begin > self.run.deadline * self.kind.stretch

    def sweep(self):
        """End what the test left; complaints."""
        left = [p for p in procs.marked(self.mark, str(self.root), True)]
        text = [f"left behind: {procs.describe(p)}" for p in left]
        for pid in left:
            procs.kill(pid)
        if self.cgroup:
            text += [f"left in its cgroup: {procs.describe(p)}" for p in self.cgroup.members()
                     if p not in left]
            try:
                self.cgroup.clear()
            except AssertionError as error:
                text.append(str(error))
        return text

    def finish(self):
        """The outcome, when the process is over or its time is up."""
        if self.late() and not self.answer:
            text = [f"not over after {self.run.deadline * self.kind.stretch} s"]
            text += [procs.describe(p) for p in procs.marked(self.mark, str(self.root))]
            procs.kill(self.pid)
            outcome = {"result": "failed", "text": "\n".join(text)}
        else:
            try:
                outcome = json.loads(self.answer)
            except ValueError:
                outcome = {"result": "failed", "text": "the test process died"}
        os.close(self.pipe)
        os.waitpid(self.pid, 0)
        left = self.sweep()
        if left and outcome["result"] == "passed":
            outcome = {"result": "failed", "text": "\n".join(left)}
        outcome["seconds"] = time.monotonic() - self.begin
        if outcome["result"] == "failed" or self.run.keep_all:
            self.keep(outcome["text"])
        shutil.rmtree(self.root, ignore_errors=True)
        return outcome

    def keep(self, text):
        target = self.run.logs / self.mode / self.full
        shutil.rmtree(target, ignore_errors=True)
        try:
            target.mkdir(parents=True)
        except OSError as error:  # somebody else's build
            print(f"    its files are not kept: {error}")
            return
        harness.copy_for_reading(self.root, target)
        (target / "failure.txt").write_text(text)


class Run:
    def __init__(self, options):
        self.build = pathlib.Path(options.build).resolve()
        self.jobs, self.keep_all = options.jobs, options.keep
        if options.costly:
            os.environ["REEVE_TEST_COSTLY"] = "1"
        self.tries_left = SECOND_TRIES if options.second_try else 0
        self.again = []
        self.deadline = 2 * DEADLINE if harness.sanitized(self.build) else DEADLINE
        self.logs = self.build / "live-logs"
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="rl-", dir="/tmp"))
        self.scratch.chmod(0o755)
        build = harness.Context("", self.build, self.scratch)
        (self.scratch / "bin").mkdir()
        (self.scratch / "bin").chmod(0o755)
        for name in ("reeved", "reeved-next", "reevectl", "eperm", "libjump.so",
                     "reeve-runner", "module.so"):
            shutil.copy(build.built(name), self.scratch / "bin")
        self.copy_package()
        shutil.copy(build.built("puppet"), self.scratch / "puppet")
        self.cgroup = self.make_cgroup()
        self.count = {"passed": 0, "failed": 0, "skipped": 0, "left out": 0}
        procs.become_subreaper()

    def copy_package(self):
        """The Python runtime, compiled: other users may not write beside it."""
        target = self.scratch / "bin" / "python"
        shutil.copytree(HERE.parents[1] / "lib" / "python", target,
                        ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(self.build / "lib" / "libreeve-template.so", target)
        subprocess.run([harness.PYTHON, "-m", "compileall", "-q", target], check=False)

    def make_cgroup(self):
        home = procs.find_cgroup2()
        if home is None:
            return None
        path = home / f"reeve-live.{os.getpid()}"
        try:
            path.mkdir()
        except OSError:
            return None
        return procs.Cgroup(path)

    def close(self):
        if self.cgroup:
            self.cgroup.clear()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def report(self, test, outcome):
        later = outcome["result"] == "failed" and self.tries_left > 0
        if later:
            self.tries_left -= 1
            self.again.append(test.entry)
        else:
            self.count[outcome["result"]] += 1
        text = outcome["text"].strip()
        word = {"passed": "ok", "failed": "FAILED"}.get(outcome["result"], outcome["result"])
        reason = f": {text.splitlines()[0]}" if text and word in ("skipped", "left out") else ""
        word = "once more:" if later else word
        print(f"{word} {test.mode} {test.full} {outcome['seconds']:.1f}s{reason}", flush=True)
        if outcome["result"] == "failed":
            for line in text.splitlines()[-40:]:
                print(f"    {line}")

    def all(self, work):
        """Run (mode, number, full, kind, method) entries, `jobs` at a time."""
        flying, work = {}, list(reversed(work))
        try:
            while work or flying:
                while work and len(flying) < self.jobs:
                    test = Test(self, *work.pop())
                    flying[test.pipe] = test
                ready = select.select(list(flying), [], [], 0.5)[0]
                for pipe in list(flying):
                    test = flying[pipe]
                    data = os.read(pipe, 1 << 20) if pipe in ready else None
                    if data:
                        test.answer += data
                    if data == b"" or test.late():
                        del flying[pipe]
                        self.report(test, test.finish())
        finally:
            for test in flying.values():
                procs.kill(test.pid)
                test.finish()


    def second_tries(self):
        """Those that failed among others, one by one."""
        again, self.again, self.tries_left, self.jobs = self.again, [], 0, 1
        self.all([(mode, f"again{i}", *test) for i, (mode, _, *test) in enumerate(again)])
        if again:
            names = ", ".join(f"{mode} {full}" for mode, _, full, _, _ in again)
            print(f"needed a second try: {names}")


def reap_strangers():
    """Orphans of tests that died come to us."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def modes_for(options):
    if options.mode:
        return [options.mode]
    chosen = os.environ.get("REEVE_TEST_MODE")
    if chosen:
        return [chosen]
    return ["default"] if harness.sanitized(options.build) else list(harness.MODES)


def arguments(doc, jobs):
    """What every runner takes."""
    parser = argparse.ArgumentParser(description=doc.strip().splitlines()[0])
    parser.add_argument("--jobs", type=int, default=jobs * (os.cpu_count() or 1))
    parser.add_argument("--build", default=os.environ.get("REEVE_BUILD", "build"))
    parser.add_argument("--keep", action="store_true", help="keep the files of good tests too")
    parser.add_argument("--costly", action="store_true",
                        help="costly tests in every mode, not only where they differ most")
    parser.add_argument("--second-try", action="store_true",
                        help="run what failed once more at the end, alone")
    parser.add_argument("patterns", nargs="*")
    return parser


def run_all(run, name, work):
    """Call work() with the run open, then say what was counted; the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    begin = time.monotonic()
    try:
        work()
        run.second_tries()
    finally:
        run.close()
    print(f"{name}: {time.monotonic() - begin:.0f} s, "
          f"{run.count['left out']} left out where their mode has nothing to say about them")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**run.count))
    return 1 if run.count["failed"] or not run.count["passed"] else 0


def run_modes(run, modes, tests):
    for mode in modes:
        if mode == "pid1" and os.getuid() != 0:
            run.count["skipped"] += len(tests)
            print(f"skipped {mode}: needs root")
            continue
        run.all([(mode, i, *test) for i, test in enumerate(tests)])
        reap_strangers()


def main():
    parser = arguments(__doc__, 2)
    parser.add_argument("--mode", choices=harness.MODES)
    parser.add_argument("--repeat", type=int, default=1, help="each test so many times")
    parser.add_argument("--list", action="store_true", help="only name the tests")
    options = parser.parse_args()
    tests = find_tests(options.patterns)
    if options.list:
        print("\n".join(full for full, _, _ in tests))
        return 0
    run = Run(options)
    return run_all(run, "live", lambda: run_modes(run, modes_for(options),
                                                  tests * options.repeat))


if __name__ == "__main__":
    sys.exit(main())
