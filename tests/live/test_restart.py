"""Restart policy: limits, counters, who wants what."""
import random
import signal

from daemon import wait_quiet
from harness import Case, procs, sanitized, until

FOREVER = {"delay": "1ms", "max_delay": "5ms", "limit": 0}


class Restart(Case):
    def test_RS01_every_exit_pattern_meets_the_limit(self):
        groups = {}
        for name, words in {"zero": ["exit=0"], "code": ["exit=3"], "signal": ["die=SEGV"],
                            "later": ["sleep=60", "exit=1"], "mixed": ["if=inc:2", "[", "exit=0",
                                                                        "]", "die=TERM"]}.items():
            groups[name] = {"command": self.words(f"journal={self.dir}/{name}", "token", *words),
                            "restart": {"limit": 4, "window": "1m"}, "settle": "0s"}
        d = self.daemon(groups)
        for name in groups:
            worker = d.until_worker(f"{name}:0", state="quarantined")
            self.assertEqual(worker["restarts"], 4, name)
            self.assertEqual(len(self.journal(name).entries("start")), 5, name)
        d.stop()

    def test_RS01_check_warns_about_limits_out_of_reach(self):
        d = self.daemon(self.one("wait", restart={"delay": "100ms", "factor": 1.1, "limit": 3,
                                                  "max_delay": "1h", "window": "10m"}), start=False)
        result = d.ctl("check", str(d.file), code=0)
        self.assertIn("max_delay", result.out + result.err)

    def test_RS02_quarantine_is_visible_and_start_leaves_it(self):
        go = self.dir / "go"
        d = self.daemon(self.one(f"ifnot=file:{go}", "[", "exit=9", "]", "wait",
                                 restart={"limit": 2}))
        worker = d.until_worker("web:0", state="quarantined")
        self.assertEqual(worker["last_exit"]["code"], 9)
        self.assertEqual(d.ctl("status").code, 3)
        self.assertIn("quarantined", d.ctl("status", "--failed").out)
        events = d.call("Events", targets=["web"], since=1)["events"]
        self.assertIn("quarantined", [e.get("to") for e in events])
        go.touch()
        d.ctl("start", "web", code=0)
        self.assertEqual(d.worker("web:0")["state"], "ready")
        d.ctl("status", code=0)
        d.stop()

    def test_RS02_quarantine_is_retried_slowly(self):
        journal = self.journal()
        go = self.dir / "go"
        d = self.daemon(self.one(journal, "token", f"ifnot=file:{go}", "[", "exit=9", "]", "wait",
                                 restart={"limit": 2, "retry": "1s"}))
        d.until_worker("web:0", state="quarantined")
        count = len(journal.entries("start"))
        self.assertEqual(count, 3)
        journal.wait("start", n=count + 2)
        times = [e.us for e in journal.entries("start")]
        self.assertGreater(times[-1] - times[-2], 900_000)
        go.touch()
        d.until_worker("web:0", state="ready")
        d.stop()

    def test_RS02_reset_zeroes(self):
        d = self.daemon(self.one("if=inc-from:1", "[", "ifnot=inc:4", "[", "exit=1", "]", "]", "wait",
                                 restart={"limit": 2}))
        d.until_worker("web:0", state="quarantined")
        d.ctl("reset", "web", code=0)
        worker = d.until_worker("web:0", state=lambda s: s != "quarantined")
        self.assertEqual(worker["restarts"], 0)
        d.stop()

    def test_RS03_counters_survive_reloads(self):
        groups = self.one("sleep=5", "exit=1", restart={"limit": 12, "delay": "60ms",
                                                        "max_delay": "60ms"})
        d = self.daemon(groups)
        for number in range(5):
            d.until_worker("web:0", restarts=lambda r, n=number: r >= n)
            groups["web"]["log"] = {"keep": number + 1}
            d.write(self.conf(groups))
            d.ctl("reload", code=0)
        worker = d.until_worker("web:0", state="quarantined")
        self.assertEqual((worker["restarts"], worker["incarnation"]), (12, 13))
        d.stop()

    def test_RS03_counters_survive_a_killed_manager(self):
        d = self.daemon(self.one("sleep=5", "exit=1", restart={"limit": 12, "delay": "60ms",
                                                               "max_delay": "60ms"}))
        d.roles_may_die = True
        for number in (1, 4, 7):
            d.until_worker("web:0", restarts=lambda r, n=number: r >= n)
            procs.kill(d.role("manager"))
            self.wait_control(d)
        worker = d.until_worker("web:0", state="quarantined")
        self.assertEqual((worker["restarts"], worker["incarnation"]), (12, 13))
        d.stop()

    def wait_control(self, d):
        def answers():
            try:
                return d.call("Version")
            except (OSError, EOFError):
                return None
        until(answers, 10, "a manager answers again")

    def test_RS04_the_wall_clock_jumps(self):
        """realtime jumps by a year at every look; no decision may notice."""
        jump = self.context.program("libjump.so")
        d = self.daemon(self.one("wait", workers=5),
                        env={"LD_PRELOAD": str(jump),
                             "ASAN_OPTIONS": "verify_asan_link_order=0:detect_leaks=0"})
        d.until_all(state="ready")
        d.ctl("restart", "web", code=0, env={"LD_PRELOAD": ""})
        procs.kill(d.pid_of("web:1"))
        d.until_worker("web:1", restarts=1, state="ready")
        workers = d.workers()
        self.assertEqual([w["restarts"] for w in workers.values()], [0, 1, 0, 0, 0])
        self.assertTrue(all(w["uptime_s"] < 60 for w in workers.values()), "uptime jumped")
        d.ctl("stop", "web", code=0, env={"LD_PRELOAD": ""})
        d.stop()

    def test_RS07_what_was_stopped_stays_stopped(self):
        journal = self.journal()
        groups = {"web": {"command": self.words(journal, "token", "exit=1"),
                          "restart": {"limit": 1, "retry": "1s"}},
                  "sane": {"command": self.words(journal, "token", "wait")}}
        d = self.daemon(groups)
        d.until_worker("web:0", state="quarantined")
        d.ctl("stop", "all", code=0)
        count = len(journal.entries("start"))
        groups["sane"]["log"] = {"keep": 2}
        d.write(self.conf(groups))
        d.ctl("reload", code=0)
        d.roles_may_die = True
        procs.kill(d.role("manager"))
        self.wait_control(d)
        self.never(lambda: len(journal.entries("start")) != count, 1.3, "it was started again")
        self.assertEqual({w["wanted"] for w in d.workers().values()}, {"down"})
        d.stop()

    def test_RS08_wanted_and_actual_meet_again(self):
        d = self.daemon(self.one("wait", workers=8, restart=FOREVER))
        d.until_all(state="ready")
        d.roles_may_die = True
        chance = random.Random(8)
        for number in range(40):
            victims = [d.host(w["pid"]) for w in d.workers().values() if w["pid"]]
            if victims:
                victim = chance.choice(victims)
                if victim:
                    procs.kill(victim)
            if number % 10 == 5:
                procs.kill(d.role("manager"))
                self.wait_control(d)
        workers = d.until_all(state="ready")
        self.assertEqual(len(workers), 8)
        self.assertEqual(len({w["pid"] for w in workers.values()}), 8)
        d.stop()

    def test_RS09_restarts_leak_nothing(self):
        d = self.daemon(self.one("exit=1", workers=4, restart=FOREVER))
        roles = [d.pid, d.role("manager"), d.role("logger")]

        def churn(number):
            d.until_worker("web:0", 30, restarts=lambda r: r >= number)

        def held():
            d.ctl("stop", "web", code=0)
            found = wait_quiet(lambda: [len(procs.fds_of(pid)) for pid in roles])
            memory = [int(procs.status_of(pid)["VmRSS"].split()[0]) for pid in roles]
            d.call("Start", targets=["web"], wait=False)
            return found, memory
        churn(40)
        before, memory = held()
        churn(140)
        after, grown = held()
        self.assertEqual(before, after, "descriptors leak")
        for one, two in zip(memory, grown):
            if not sanitized(self.context.build):  # ASan keeps what was freed
                self.assertLess(two - one, 2048, "KiB of memory leak")
        d.ctl("stop", "web", code=0)
        if d.cgroup:
            self.assertLess(len(d.cgroup.below()), 8, "cgroups leak")
        d.stop()

    def test_RS12_which_ends_are_expected(self):
        table = {  # words, when → (state, starts)
            "ok-always": (["exit=0"], "always", ("quarantined", 3)),
            "ok-failure": (["exit=0"], "failure", ("done", 1)),
            "listed": (["exit=3"], "failure", ("done", 1)),
            "bad-failure": (["exit=1"], "failure", ("quarantined", 3)),
            "bad-255": (["exit=255"], "failure", ("quarantined", 3)),
            "signal": (["die=TERM"], "failure", ("quarantined", 3)),
            "core": (["die=SEGV"], "failure", ("quarantined", 3)),
            "never": (["exit=1"], "never", (None, 1)),
            "no-restart": (["exit=5"], "always", (None, 1)),
        }
        groups = {name: {"command": self.words(f"journal={self.dir}/{name}", "token", *words),
                         "restart": {"when": when, "limit": 2, "success_codes": [0, 3],
                                     "no_restart_codes": [5]}}
                  for name, (words, when, _) in table.items()}
        d = self.daemon(groups)
        for name, (_, _, (state, starts)) in table.items():
            worker = d.until_worker(f"{name}:0", state=lambda s: s in ("done", "quarantined"))
            if state:
                self.assertEqual(worker["state"], state, name)
            self.assertEqual(len(self.journal(name).entries("start")), starts, name)
        good = {g for g in table if d.group(g)["well"] == 1}
        self.assertEqual(good, {"ok-failure", "listed"})
        d.stop()

    def test_RS14_one_crash_is_charged_once(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "token", "wait", restart=FOREVER))
        for number in range(1, 13):
            d.until_worker("web:0", state="ready", incarnation=number)
            journal.wait("start", n=number)
            procs.kill(d.pid_of("web:0"), signal.SIGKILL if number % 2 else signal.SIGSEGV)
        worker = d.until_worker("web:0", state="ready", incarnation=13)
        self.assertEqual(worker["restarts"], 12)
        self.assertEqual(len(journal.wait("start", n=13)), 13)
        exits = d.exits("web:0")
        self.assertEqual([e["incarnation"] for e in exits[:3]], [12, 11, 10])
        self.assertEqual([e["signal"] for e in exits[:2]], ["SEGV", "KILL"])
        d.stop()

    def test_RS14_back_off_grows_and_is_capped(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "token", "exit=1",
                                 restart={"delay": "40ms", "factor": 2.0, "max_delay": "160ms",
                                          "limit": 5}))
        d.until_worker("web:0", state="quarantined")
        times = [e.us for e in journal.entries("start")]
        gaps = [(b - a) / 1000 for a, b in zip(times, times[1:])]
        for gap, least in zip(gaps, (39, 79, 159, 159, 159)):
            self.assertGreater(gap, least, gaps)
            self.assertLess(gap, least + 5000, gaps)
        d.stop()

    def test_RS14_a_long_life_restarts_at_once(self):
        d = self.daemon(self.one("wait", restart={"delay": "1h", "max_delay": "1h",
                                                  "reset_after": "1500ms"}))
        d.until_worker("web:0", uptime_s=lambda u: u and u > 1.6)
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", state="ready", incarnation=2)
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", state="backoff")
        d.stop()
