"""
What operators ask for while the manager dies, point by point: it is done, once, and who asked learns
how it ended, from whichever manager is there by then (CT15).
"""
import json
import os
import pathlib
import sys

from harness import Case, costly, procs, signal, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import failpoints  # noqa: E402

# An operation is not known yet, accepted, carried out and not noted, done and not answered.
POINTS = ("op.begun", "op.accepted", "op.acted", "op.done")
FOR_EVER = {"delay": "1h", "max_delay": "1h"}
GIVEN_UP = {"delay": "10ms", "max_delay": "10ms", "limit": 1, "window": "1h"}


class Operations(Case):
    stretch = 3

    def groups(self, greeting=0):
        """Workers in the states in which nothing but an order moves them: as long as there is no
        file "well", two groups wait for an hour, three are quarantined."""
        sick = ("ifnot=file:%s" % (self.dir / "well"), "[", "exit=1", "]", "wait")
        groups = {name: {"command": self.words(*sick), "restart": restart}
                  for name, restart in (("late", FOR_EVER), ("later", FOR_EVER), ("bad", GIVEN_UP),
                                        ("worse", GIVEN_UP), ("worst", GIVEN_UP))}
        return {**groups,
                "job": {"command": self.words(self.records, "token", "exit=0"), "autostart": False,
                        "restart": {"when": "never"}},
                "deaf": {"command": self.words("ignore=TERM", "wait"), "stop": {"timeout": "1h"}},
                "web": {"command": self.words(self.records, "on=USR1:count", "note=up", "wait"),
                        "workers": 2, "env": {"GREETING": str(greeting)}}}

    def begin(self):
        binary = self.context.program("reeved")
        if not failpoints.listed(binary):
            self.skipTest("a build without failpoints")
        self.points = failpoints.Failpoints(binary, self.dir / "points")
        self.addCleanup(self.points.close)
        self.records = self.journal()
        self.d = self.daemon(self.groups(), start=False,
                             env={"REEVE_FAILPOINTS": str(self.points.path)})
        self.d.roles_may_die = True
        self.d.start()
        for name in ("late", "later"):
            self.d.until_worker(f"{name}:0", state="backoff")
        for name in ("bad", "worse", "worst"):
            self.d.until_worker(f"{name}:0", state="quarantined")
        self.d.until_worker("web:1", state="ready")
        (self.dir / "well").write_text("")

    def ask(self, point, *words, code=0):
        """The tool, with a manager that dies at the point; what the workers were and are."""
        before = self.d.workers()
        self.points.arm(point, "kill")
        done = self.d.ctl(*words)
        self.assertTrue(self.points.happened(point), f"{words} passes {point}")
        self.points.disarm(point)
        self.assertIn(done.code, code if isinstance(code, tuple) else (code,), (words, done))
        return before, self.d.workers(), done

    def once(self, point, *words, of=None, state="ready"):
        """One life more of each worker of the group, and no other has changed."""
        before, now, done = self.ask(point, *words)
        for name, worker in now.items():
            more = name.startswith(f"{of or words[1]}:")
            self.assertEqual(worker["incarnation"], before[name]["incarnation"] + more,
                             (point, words, name))
            if more:
                self.assertEqual(worker["state"], state, (point, words, name))
        return done

    def each_verb(self, point):
        self.once(point, "start", "job", state="done")
        self.once(point, "restart", "job", state="done")
        self.assertEqual(len(self.records.entries("start")), 2, point)
        self.once(point, "start", "late")
        self.once(point, "restart", "later")
        self.once(point, "start", "bad")
        self.once(point, "restart", "worse")
        self.ask(point, "reset", "worst")
        self.d.until_worker("worst:0", state="ready", incarnation=3)
        _, now, _ = self.ask(point, "stop", "--cold", "deaf")
        self.assertEqual(now["deaf:0"]["state"], "stopped")
        self.once(point, "start", "deaf")
        _, now, _ = self.ask(point, "scale", "web", "3")
        self.assertEqual([now[f"web:{i}"]["incarnation"] for i in range(3)], [1, 1, 1])
        self.once(point, "reload", "web")
        self.d.write(self.conf(self.groups(greeting=1)))
        done = self.once(point, "reload", of="web")
        self.assertRegex(done.out, "web.*env|nothing is left to change .*`reevectl events`")
        self.assertRegex(self.d.ctl("events", code=0).out, "reload.* 1 change")
        self.signal_once(point)
        self.points.arm(point, "kill")
        self.d.ctl("shutdown", "--cold", code=0)
        self.assertEqual(self.d.wait_exit(), 0, self.d.text())
        self.assertTrue(self.points.happened(point), point)
        self.d.check_gone()

    def signal_once(self, point):
        """Whether it was sent cannot be known where the manager dies between: that is said."""
        self.records.wait("note", "up", n=2 + 1 + 3 + 3)
        _, _, done = self.ask(point, "kill", "-s", "USR1", "web:0", code=(0, 1))
        if done.code:
            self.assertIn("may or may not have been sent", done.err + done.out)
        else:
            self.records.wait("signal", "USR1")
        self.assertLessEqual(len(self.records.entries("signal")), 1)

    @costly()
    def test_CT15_every_verb_over_a_death_at_every_point(self):
        for point in POINTS:
            self.begin()
            self.each_verb(point)
            (self.dir / "well").unlink()
            self.records.path.unlink()

    def test_CT15_a_resent_operation_is_done_once(self):
        d = self.daemon(self.one("wait", workers=2))
        d.until_all(state="ready")
        op = "0123456789abcdef" * 2
        for _ in range(3):
            results = d.call("Restart", targets=["web"], op=op)["results"]
            self.assertTrue(all(r["ok"] for r in results), results)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {2})
        d.call("Restart", targets=["web"], op="f" * 32)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {3})
        d.stop()

    def test_CT15_a_resent_operation_over_the_managers_death(self):
        d = self.daemon(self.one("ignore=TERM", "wait", workers=3, stop={"timeout": "600ms"}))
        d.until_all(state="ready")
        d.roles_may_die = True
        call = {"targets": ["web"], "op": "ab" * 16}
        first = d.connect()
        first.send("Restart", call)
        d.until_worker("web:0", state="stopping")
        os.kill(d.role("manager"), signal.SIGKILL)
        with self.assertRaises((EOFError, OSError)):
            first.reply()
        first.close()
        self.assertEqual(d.call("Restart", **call)["results"], [{"target": "web", "ok": True}])
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {2})
        tool = d.spawn_ctl("restart", "web")
        d.until_worker("web:0", state="stopping")
        os.kill(d.role("manager"), signal.SIGKILL)
        out, _ = tool.communicate(timeout=20)
        self.assertEqual(tool.returncode, 0, out)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {3})
        d.stop()

    def test_CT15_a_successor_knows_the_operations(self):
        d = self.daemon(self.one("wait", workers=2))
        d.until_all(state="ready")
        op = "00112233445566778899aabbccddeeff"
        d.call("Restart", targets=["web"], op=op)
        d.roles_may_die = True
        procs.kill(d.role("manager"))

        def again():
            try:
                return d.call("Restart", targets=["web"], op=op)["results"]
            except (OSError, EOFError):
                return None
        self.assertTrue(all(r["ok"] for r in until(again, 10)))
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {2}, "done twice")
        d.stop()

    def test_DC13_those_that_take_long(self):
        """In flight over three deaths: start, reload, upgrade, shutdown (others: test_recovery)."""
        slow = self.words("on=TERM:slow:300:0", "sleep=300", "notify=READY=1", "wait")
        conf = {"web": {"command": slow, "ready": "notify", "workers": 3},
                "new": {"command": slow, "ready": "notify", "autostart": False}}
        d = self.daemon(conf)
        d.roles_may_die = True
        before = d.until_worker("web:2", state="ready") and d.workers("web")
        for words in (("start", "new"), ("reload", "web"), ("reload",), ("upgrade",)):
            if words == ("reload",):
                d.write(self.conf({**conf, "web": {**conf["web"], "env": {"A": "b"}}}))
            tool = d.spawn_ctl(*words)
            for _ in range(3):
                self.kill_manager(d)
            self.assertEqual(tool.wait(30), 0, (words, tool.stdout.read(), d.text()))
        self.assertEqual(d.worker("new:0")["incarnation"], 1)
        for name, worker in d.workers("web").items():
            self.assertEqual((worker["state"], worker["incarnation"]),
                             ("ready", before[name]["incarnation"] + 2), worker)
        tool = d.spawn_ctl("shutdown")
        until(lambda: "warm shutdown" in d.text(), 10)
        procs.kill(d.role("manager"))
        self.assertEqual(tool.wait(30), 0, tool.stdout.read())
        self.assertEqual(d.wait_exit(), 0)
        d.check_gone()

    def test_CT11_following_events_over_the_managers_death(self):
        """Each once, in order: what happened while nobody was there to tell it comes later."""
        d = self.daemon(self.one("wait", workers=2))
        d.until_all(state="ready")
        d.roles_may_die = True
        follow = d.spawn_ctl("events", "-f", "--json", "--since", "1")
        for number in range(1, 4):
            procs.kill(d.pid_of("web:0"))
            self.kill_manager(d)
            d.until_worker("web:0", state="ready", incarnation=number + 1)
        seen, last = [], d.call("Events", since=1)["events"][-1]["seq"]
        while not seen or seen[-1]["seq"] < last:
            seen.append(json.loads(follow.stdout.readline()))
        self.assertEqual([e["seq"] for e in seen], list(range(1, last + 1)))
        self.assertEqual(len([e for e in seen if e.get("what") == "role-ended"]), 3)
        follow.kill()
        follow.wait()
        d.stop()

    def kill_manager(self, d):
        old = d.role("manager")
        procs.kill(old, signal.SIGSEGV)
        until(lambda: d.role("manager") != old, 10)

        def answers():
            try:
                return d.call("Version")
            except (OSError, EOFError):
                return None
        until(answers, 10)
