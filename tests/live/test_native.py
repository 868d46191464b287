"""One native module, every start method: readiness, ends, random numbers, reload, safety."""
import functools

from harness import Case, costly, merge, until

METHODS = ("spawn", "forkserver", "fork", "threads")


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
        return self.daemon({"web": self.group(method, run, **keys)}, name=name or f"d-{method}",
                           env={"REEVE_RUNNER": str(self.context.program("reeve-runner"))})

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

    @each_method("spawn")
    def test_random_numbers_differ(self, method):
        d = self.native(method, "rand", workers=4)
        d.until_all(state="ready")
        numbers = self.lines(d, method, "rand ", 4)
        for kind in (1, 2, 3):
            self.assertEqual(len({line.split()[kind] for line in numbers}), 4, numbers)
        d.stop()

    @costly("off")
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

    @each_method()
    def test_environment_forces_spawn(self, method):
        """REEVE_START_METHOD=spawn! runs an entry by spawn, with the same behaviour."""
        d = self.daemon({"web": self.group(method, "say", workers=2)}, name=f"d-{method}",
                        env={"REEVE_RUNNER": str(self.context.program("reeve-runner")),
                             "REEVE_START_METHOD": "spawn!"})
        workers = d.until_all(state="ready", start_method="spawn", source="exec",
                              status="everything was said")
        self.assertEqual(len({w["pid"] for w in workers.values()}), 2)
        self.assertIn("web:0 0/2 1.1 web", self.lines(d, method, "web:", 2)[0])
        d.ctl("stop", "web", code=0)
        self.assertEqual({w["last_exit"]["code"] for w in d.workers().values()}, {0})
        d.stop()
