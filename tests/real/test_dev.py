"""The front door, and the counting behind its last line."""
import contextlib
import importlib.util
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys

import harness

ROOT = pathlib.Path(__file__).resolve().parents[2]


def load_counting():
    spec = importlib.util.spec_from_file_location("reeve_all", ROOT / "tests/all.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Dev(harness.Case):
    def dev(self, *words):
        return subprocess.run([ROOT / "dev", *words], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=60, cwd="/")

    def test_help_names_every_command(self):
        done = self.dev("help")
        self.assertEqual(done.returncode, 0, done.stderr)
        for command in ("run", "test", "build", "bench", "fmt", "san", "fuzz"):
            self.assertRegex(done.stdout, rf"(?m)^  {command}\b")

    def test_unknown_command(self):
        done = self.dev("tset")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("usage: ./dev COMMAND", done.stderr)

    def test_what_is_built_holds_the_tests(self):
        """Where Criterion is installed, which it is by now."""
        tools = self.dir / "tools"
        tools.mkdir()
        for name in ("meson", "ninja"):
            (tools / name).write_text(f'#!/bin/sh\nmkdir -p build && echo {name} "$@" >>said\n')
            (tools / name).chmod(0o755)
        shutil.copy(ROOT / "dev", self.dir)
        done = subprocess.run([self.dir / "dev", "build"], stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=60, check=False,
                              env={**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"})
        self.assertEqual((done.returncode, (self.dir / "said").read_text()),
                         (0, "meson setup build -Dtests=true\nninja -C build\n"), done.stderr)


class Bench(harness.Case):
    def bench(self, build, *words):
        return subprocess.run([sys.executable, ROOT / "tests/bench/run.py", "--build", build, *words],
                              stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=60,
                              check=False)

    def test_a_measurement(self):
        done = self.bench(self.context.build, "--only", "start", "--n", "1", "--worker", "glibc",
                          "--rounds", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertLessEqual({"limit", "floor", "reeve"}, {row["subject"] for row in rows})
        self.assertIn("| start | 1 | glibc | stop, s |", done.stderr)

    def test_a_measurement_of_python(self):
        if harness.sanitized(self.context.build):
            self.leave_out("an interpreter without a sanitizer cannot load the library of this build")
        done = self.bench(self.context.build, "--only", "method start", "--worker", "bare", "--quick",
                          "--rounds", "1", "--subject", "forkserver")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_build_without_tests(self):
        done = self.bench(self.dir)
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("./dev bench", done.stderr)


class Counting(harness.Case):
    def setUp(self):
        super().setUp()
        self.all = load_counting()
        self.said = io.StringIO()

    def counted(self, **entry):
        with contextlib.redirect_stdout(self.said):
            return str(self.all.tally_of_meson_test({"name": "t", **entry}))

    def test_one_meson_test(self):
        line = "[====] Synthesis: Tested: 5 | Passing: 3 | Failing: 2 | Crashing: 2 \n"
        skip = "[SKIP] a::s: no root\n"
        tap = "1..3\nok 1 - a\nnot ok 2 - b\nok 3 - c # SKIP no root\n"
        for entry, counts in (
                ({"result": "OK", "stdout": "nothing"}, "1 passed, 0 failed, 0 skipped"),
                ({"result": "FAIL", "stdout": "nothing"}, "0 passed, 1 failed, 0 skipped"),
                ({"result": "TIMEOUT", "stdout": tap[:16]}, "1 passed, 1 failed, 0 skipped"),
                ({"result": "FAIL", "stdout": tap}, "1 passed, 1 failed, 1 skipped"),
                ({"result": "FAIL", "stderr": line}, "3 passed, 2 failed, 0 skipped"),
                ({"result": "OK", "stderr": skip + line}, "3 passed, 2 failed, 1 skipped"),
                ({"result": "OK", "stdout": "7 passed, 0 failed, 2 skipped\n"},
                 "7 passed, 0 failed, 2 skipped"),
                ({"result": "SKIP", "stdout": "because"}, "0 passed, 0 failed, 1 skipped")):
            self.assertEqual(self.counted(**entry), counts, entry)
        self.assertIn("skipped: t: because", self.said.getvalue())

    def test_a_report_of_a_sanitizer_is_a_failure(self):
        line = "[====] Synthesis: Tested: 1 | Passing: 1 | Failing: 0 | Crashing: 0 \n"
        for report in ("==1==ERROR: LeakSanitizer: detected memory leaks", "x.c:1:2: runtime error: y"):
            self.assertEqual(self.counted(result="OK", stderr=line + report),
                             "1 passed, 1 failed, 0 skipped")

    def test_a_runner(self):
        with contextlib.redirect_stdout(self.said):
            for code, output, counts in (
                    (0, "2 passed, 0 failed, 1 skipped\n", "2 passed, 0 failed, 1 skipped"),
                    (1, "2 passed, 3 failed, 0 skipped\n", "2 passed, 3 failed, 0 skipped"),
                    (1, "2 passed, 0 failed, 0 skipped\n", "2 passed, 1 failed, 0 skipped"),
                    (None, "ok something\n", "0 passed, 1 failed, 0 skipped")):
                self.assertEqual(str(self.all.tally_of_runner(code, output)), counts)

    def test_steps_add_up(self):
        with contextlib.redirect_stdout(self.said):
            this = self.all.Run([], self.dir)
            this.step("good", lambda: self.all.Tally(2, 0, 1))
            this.step("empty", self.all.Tally)
            this.step("bad", lambda: self.all.Tally(1, 2, 0))
        self.assertEqual(str(this.tally), "3 passed, 3 failed, 1 skipped")
        self.assertEqual(this.failed_steps, ["empty", "bad"])

    def test_a_step_that_hangs_is_ended(self):
        with contextlib.redirect_stdout(self.said):
            code, output = self.all.run(
                [sys.executable, "-uc", "print('begun'); import signal; signal.pause()"], 1)
        self.assertEqual((code, output), (None, "begun\n"))
