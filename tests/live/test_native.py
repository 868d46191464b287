"""One native module, every start method: readiness, ends, random numbers, reload, safety."""
import functools
import subprocess
import unittest

from harness import Case, merge, until

METHODS = ("spawn", "forkserver", "fork", "threads")
# By default these do not end a process.
HARMLESS = {17, 18, 19, 20, 21, 22, 23, 28}


def each_method(*but):
    """The test runs once for each start method but those, as a sub-test of its own daemon."""
    def decorate(test):
        @functools.wraps(test)
        def run(self):
            for method in METHODS:
                # where clone3 answers EPERM libc makes no threads
                if method in but or (method == "threads" and self.mode == "eperm"):
                    continue
                with self.subTest(method):
                    test(self, method)
        return run
    return decorate


class Native(Case):
    def group(self, method, run, **keys):
        return merge({"entry": str(self.context.program("module.so")), "start_method": method,
                      "env": {"MODULE_RUN": run}, "ready": "notify",
                      "log": {"file": f"{self.dir}/log/{method}.log"}}, keys)

    def native(self, method, run, name=None, **keys):
        """A daemon with one group "web" of the module."""
        how = {"start": False, "name": name or f"d-{method}",
               "env": {"REEVE_RUNNER": str(self.context.program("reeve-runner"))}}
        d = self.daemon({"web": self.group(method, run, **keys)}, **how)
        said = subprocess.run([str(d.binary), "--check", "-c", str(d.file)], capture_output=True,
                              text=True, timeout=30, env=d.environment())
        if "is not built into this version" in said.stderr + said.stdout:
            self.daemons.remove(d)
            raise unittest.SkipTest(f"start_method {method} is not built into this version")
        return d.start()

    def lines(self, d, method, word, n):
        """Lines of the group's log that begin so, sorted, once there are n."""
        def look():
            found = [line for line in d.lines(method) if line.startswith(word)]
            return len(found) >= n and sorted(found)
        return until(look, 15, f"{n} lines {word!r} in the log")

    @each_method()
    def test_ready_and_told(self, method):
        d = self.native(method, "say", workers=3)
        d.until_all(state="ready")
        lines = self.lines(d, method, "web:", 3)
        for i in range(3):
            self.assertTrue(lines[i].startswith(f"web:{i} {i}/3 1.1 web fds 0"), lines)
        w = d.until_worker("web:1", status="everything was said",
                           progress={"done": 1, "total": 2})
        self.assertEqual(w["start_method"], method)
        d.ctl("stop", "web", code=0)
        for i in range(3):
            last = d.worker(f"web:{i}")["last_exit"]
            self.assertEqual((last["code"], last["cause"]), (0, "stop"), last)
        d.stop()

    @each_method("fork", "threads")
    def test_sh25_exact_ends(self, method):
        """256 exit codes and 31 signals, each of a worker of its own. (A seed lives longer than its
        copies, and a thread cannot end by a signal of its own.)"""
        restart = {"when": "never"}
        ended = functools.partial(until, timeout=60)
        d = self.native(method, "exit:%i", workers=256, restart=restart, on_failure="ignore")
        found = ended(lambda: self.all_ended(d))
        for i in range(256):
            last = found[f"web:{i}"]["last_exit"]
            self.assertEqual((last["code"], last["signal"]), (i, None), last)
        d.stop()
        d = self.native(method, "signal:%{1+i}", name=f"s-{method}", workers=31, restart=restart,
                        on_failure="ignore")
        found = ended(lambda: self.all_ended(d))
        for number in range(1, 32):
            last = found[f"web:{number - 1}"]["last_exit"]
            if number in HARMLESS:
                self.assertEqual(last["code"], 100, last)
            else:
                self.assertIsNotNone(last["signal"], last)
                self.assertEqual(self.number_of(last["signal"]), number, last)
        d.stop()

    @staticmethod
    def number_of(name):
        import signal
        return int(getattr(signal, name if name.startswith("SIG") else f"SIG{name}"))

    @staticmethod
    def all_ended(d):
        found = d.workers()
        return all(w["last_exit"] for w in found.values()) and found

    @each_method("spawn")
    def test_random_numbers_differ(self, method):
        d = self.native(method, "rand", workers=4)
        d.until_all(state="ready")
        numbers = self.lines(d, method, "rand ", 4)
        for kind in (1, 2, 3):
            self.assertEqual(len({line.split()[kind] for line in numbers}), 4, numbers)
        d.stop()

    @each_method()
    def test_reload(self, method):
        d = self.native(method, "say", workers=2, env={"SAYS": "old"})
        d.until_all(state="ready")
        before = d.workers()
        whole = d.conf
        whole["groups"]["web"]["env"]["SAYS"] = "new"
        d.write(whole)
        d.ctl("reload", code=0)
        found = d.until_all(state="ready")
        for name, w in found.items():
            self.assertEqual(w["generation"], 2, w)
            self.assertGreater(w["incarnation"], before[name]["incarnation"])
        self.lines(d, method, "web:", 4)
        d.stop()

    def test_thread_in_the_template_is_refused(self):
        self.need_not("eperm", "clone3 is refused, and threads with it")
        d = self.native("forkserver", "wait", workers=1,
                        env={"MODULE_LOAD": "thread:QueueListener"})
        until(lambda: "template web: 2 threads (QueueListener)" in d.text(), 15, "the culprit")
        # whoever looked first says how to mend it: the template, or the daemon from outside
        self.assertRegex(d.text(), r"start (them|its thread) in @?after_fork")
        self.assertIsNone(d.worker("web:0")["pid"])
        d.stop()

    def test_thread_that_is_allowed(self):
        self.need_not("eperm", "clone3 is refused, and threads with it")
        d = self.native("forkserver", "wait", workers=1, fork_allow_threads=["QueueListener"],
                        env={"MODULE_LOAD": "thread:QueueListener"})
        d.until_all(state="ready")
        d.stop()

    def test_entry_that_fails(self):
        d = self.native("forkserver", "wait", workers=1, env={"MODULE_LOAD": "fail"})
        until(lambda: "Owner died" in d.text(), 15, "the error")
        d.stop()

    def test_environment_forces_spawn(self):
        """REEVE_START_METHOD=spawn! runs an entry by spawn, with the same behaviour."""
        d = self.daemon({"web": self.group("forkserver", "say", workers=2)},
                        env={"REEVE_RUNNER": str(self.context.program("reeve-runner")),
                             "REEVE_START_METHOD": "spawn!"})
        d.until_all(state="ready", start_method="spawn")
        self.assertIn("web:0 0/2 1.1 web", self.lines(d, "forkserver", "web:", 2)[0])
        d.stop()
