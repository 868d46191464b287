"""`watchdog`: who gives no sign of life is ended, and nobody else."""
import os
import pathlib
import re
import signal
import sys

from harness import Case, costly, procs, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import failpoints  # noqa: E402

POINTS = ("watchdog.beat", "watchdog.seen", "watchdog.noted")
BEATS = ("loop=0", "[", "notify=WATCHDOG=1", "sleep=150", "]")
WATCHED = {"watchdog": "1s", "ready": "notify", "start_timeout": "1h", "limits": {"core": 0},
           "restart": {"delay": "10ms", "limit": 0}, "stop": {"timeout": "5s"}}


class Watchdog(Case):
    def hangs_once(self, *first, **more):
        """A group whose worker is silent in its first life and beats in the next."""
        return {"command": self.words(*first, "notify=READY=1", "if=inc:1", "[", "wait", "]",
                                      *BEATS), **WATCHED, **more}

    def check_hung(self, d, name, **wanted):
        """Its first life, and no other, was ended by the watchdog."""
        worker = d.until_worker(name, state="ready", incarnation=2, restarts=1)
        last = d.exits(name)[0]
        wanted = {"cause": "watchdog", "signal": "ABRT", "incarnation": 1, **wanted}
        self.assertEqual({key: last.get(key) for key in wanted}, wanted)
        return worker

    def said(self, d, pattern, n=1):
        until(lambda: len(re.findall(pattern, d.text())) >= n, 15, f"{pattern} is in the log")

    # --- who hangs -----------------------------------------------------------------------------

    def test_NW09_who_is_silent_is_ended(self):
        journal = self.journal()
        d = self.daemon({
            "hung": self.hangs_once(journal, "note=@env:WATCHDOG_USEC@ @env:WATCHDOG_PID@"),
            "exec": {**self.hangs_once(), "ready": "exec", "settle": "100ms"},
            "well": {"command": self.words("notify=READY=1", *BEATS), **WATCHED}})
        d.until_all(state="ready")
        self.check_hung(d, "hung:0")
        self.check_hung(d, "exec:0")
        self.assertEqual(d.worker("well:0")["incarnation"], 1)
        note = journal.entries("note")[0]
        self.assertEqual(note.text, f"1000000 {note.pid}")
        detail = d.detail("well:0")
        self.assertEqual(detail["watchdog_ms"], 1000)
        until(lambda: d.detail("well:0")["last_beat_at"] > detail["last_beat_at"], 10, "it beats")
        self.assertRegex(d.ctl("show", "well:0", code=0).out, r"watchdog +1s\n")
        self.assertRegex(d.text(), r"hung:0: no sign of life for \d+ ms: it hangs")
        d.stop()

    def test_NW09_it_is_a_failure_whatever_its_code(self):
        d = self.daemon(self.one("on=ABRT:exit:0", "notify=READY=1", "wait",
                                 **{**WATCHED, "restart": {"when": "failure", "limit": 2,
                                                           "delay": "1ms",
                                                           "no_restart_codes": [0]}}))
        worker = d.until_worker("web:0", state="quarantined")
        self.assertEqual(worker["restarts"], 2)
        self.assertEqual((worker["last_exit"]["cause"], worker["last_exit"]["code"]),
                         ("watchdog", 0))
        d.stop()

    def test_NW09_who_is_deaf_is_killed_with_all_that_is_its(self):
        journal = self.journal()
        d = self.daemon({"web": self.hangs_once("if=inc:1", "[", "ignore=ABRT,TERM",
                                                "fork", "[", journal, "note=child", "wait", "]",
                                                "]", stop={"timeout": "300ms"})})
        self.check_hung(d, "web:0", signal="KILL")
        self.assert_gone(d.host(journal.wait("note", "child")[0].pid))
        d.stop()

    def test_NW08_odd_periods(self):
        periods = {"none": (0, None), "ever": (2**64 - 1, None), "tiny": (1, 1000),
                   "long": (2**64 - 2, 365 * 86400000), "own": (7000000, 7000)}
        groups = {name: {"command": self.words("notify=READY=1", f"notify=WATCHDOG_USEC={usec}",
                                               "notify=STATUS=said", *BEATS), **WATCHED,
                         "watchdog": "1h"} for name, (usec, _) in periods.items()}
        groups["odd"] = {"command": self.words("notify=READY=1", "notify=WATCHDOG_USEC=",
                                               "notify=WATCHDOG_USEC=-1", "notify=WATCHDOG_USEC=1s",
                                               "notify=WATCHDOG_USEC=18446744073709551616",
                                               "notify=WATCHDOG=0", "notify=WATCHDOG=triggers",
                                               "notify=STATUS=said", "wait"), **WATCHED,
                         "watchdog": "1h"}
        groups["off"] = {"command": self.words("notify=READY=1", "notify=WATCHDOG_USEC=1000",
                                               "notify=STATUS=said", "wait"), "ready": "notify"}
        d = self.daemon(groups)
        d.until_all(state="ready", status="said")
        for name, (_, ms) in {**periods, "odd": (0, 3600000), "off": (0, None)}.items():
            self.assertEqual(d.detail(f"{name}:0").get("watchdog_ms"), ms, name)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {1})
        d.stop()

    def test_NW08_a_period_of_its_own_is_kept(self):
        d = self.daemon({"web": self.hangs_once("notify=WATCHDOG_USEC=1000000", watchdog="1h")})
        self.check_hung(d, "web:0")
        d.stop()

    def test_NW08_extending_is_bounded(self):
        """Beyond extend_max no extension counts, however often it is asked for."""
        asks = ("if=inc:1", "[", "notify=READY=1", "loop=0", "[",
                "notify=EXTEND_TIMEOUT_USEC=18446744073709551615", "sleep=50", "]", "]")
        d = self.daemon({"web": {**self.hangs_once(*asks),
                                 "stop": {"timeout": "5s", "extend_max": "500ms"}}})
        self.check_hung(d, "web:0")
        self.assertGreaterEqual(int(re.search(r"life for (\d+) ms", d.text())[1]), 1500)
        d.stop()

    def test_NW08_trigger(self):
        """With a watchdog or without, ready or not."""
        once = ("if=inc:1", "[", "notify=WATCHDOG=trigger", "wait", "]")
        d = self.daemon({
            "ready": {"command": self.words("notify=READY=1", *once, "wait"), **WATCHED,
                      "watchdog": "never"},
            "early": {"command": self.words(*once, "notify=READY=1", "wait"), **WATCHED,
                      "watchdog": "1h"}})
        self.check_hung(d, "ready:0")
        self.check_hung(d, "early:0")
        self.assertNotIn("not ready in time", d.text())
        d.stop()

    def test_NW08_periods_without_end_are_not_all_said(self):
        d = self.daemon(self.one("notify=READY=1", "loop=50", "[", "notify=WATCHDOG_USEC=60000000",
                                 "notify=WATCHDOG_USEC=70000000", "]", "notify=STATUS=said", "wait",
                                 ready="notify"))
        d.until_worker("web:0", status="said")
        self.assertEqual(len(re.findall("web:0: WATCHDOG_USEC=", d.text())), 3)
        d.stop()

    # --- who does not --------------------------------------------------------------------------

    def test_NW14_beats_of_an_earlier_life(self):
        self.need_not("pid1", "nothing outlives pid 1")
        journal = self.journal()
        d = self.daemon(self.one("if=inc:1", "[", "daemon", "[", journal, "note=alive", *BEATS, "]",
                                 "exit=1", "]", "notify=READY=1", "if=inc:2", "[", "wait", "]",
                                 *BEATS, orphans="leave", **WATCHED))
        self.allowed.add(d.host(journal.wait("note", "alive")[0].pid))
        d.until_worker("web:0", state="ready", incarnation=3)
        self.assertEqual(d.exits("web:0")[0]["cause"], "watchdog")
        d.send(signal.SIGQUIT)
        self.assertEqual(d.wait_exit(), 0)

    def test_NW05_beats_of_another_user(self):
        self.need_root()
        one, first = self.some_user()
        other, _ = self.some_user(avoid=(first.pw_uid,))
        folder = self.open_folder()
        journal = self.journal("open/journal")
        d = self.daemon({
            "web": {"command": self.words("notify=READY=1", "if=inc:1", "[",
                                          f"append={folder}/where:@env:NOTIFY_SOCKET@", "wait", "]",
                                          *BEATS), **WATCHED, "watchdog": "2s", "user": one},
            "liar": {"command": self.words(f"gate={self.gate().path}", "loop=0", "[",
                                           f"script={self.dir}/lie", journal, "note=lied",
                                           "sleep=100", "]"),
                     "user": other}})
        where = until(lambda: procs.read(folder / "where").strip(), 10)
        (self.dir / "lie").write_text(f"notify-to={where}|WATCHDOG=1\n")
        fd = os.open(self.dir / "gate", os.O_RDWR)
        self.addCleanup(os.close, fd)
        journal.wait("note", "lied", n=3)
        self.check_hung(d, "web:0")
        d.stop()

    def test_25_a_stopped_worker_has_its_time_again(self):
        d = self.daemon(self.one("notify=READY=1", *BEATS, **WATCHED))
        pid = d.until_worker("web:0", state="ready") and d.pid_of("web:0")
        procs.kill(pid, signal.SIGSTOP)
        self.said(d, r"no sign of life, but it is stopped: one more period", 2)
        procs.kill(pid, signal.SIGCONT)
        self.goes_on(d, pid)
        d.stop()

    def test_25_SH11_a_frozen_worker_has_its_time_again(self):
        self.need_cgroup()
        d = self.daemon(self.one("notify=READY=1", *BEATS, **WATCHED))
        pid = d.until_worker("web:0", state="ready") and d.pid_of("web:0")
        freeze = self.context.cgroup.path / procs.read(f"/proc/{pid}/cgroup").strip().split(
            self.context.cgroup.path.name + "/", 1)[1] / "cgroup.freeze"
        freeze.write_text("1")
        self.said(d, r"no sign of life, but it is frozen: one more period", 2)
        freeze.write_text("0")
        self.goes_on(d, pid)
        d.stop()

    def goes_on(self, d, pid):
        """It has beaten again, and is the same."""
        beat = d.detail("web:0")["last_beat_at"]
        until(lambda: d.detail("web:0")["last_beat_at"] > beat, 10, "it beats")
        self.pause(1.2)  # a whole period
        worker = d.worker("web:0")
        self.assertEqual((worker["state"], worker["incarnation"], d.host(worker["pid"])),
                         ("ready", 1, pid))
        self.assertNotIn("it hangs", d.text())

    def test_25_who_is_being_stopped_need_not_beat(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "notify=READY=1", "on=TERM:slow:1800:0", *BEATS,
                                 **WATCHED))
        d.until_worker("web:0", state="ready")
        d.ctl("stop", "web", code=0)
        last = d.exits("web:0")[0]
        self.assertEqual((last["cause"], last["code"]), ("stop", 0))
        d.stop()

    def test_25_who_is_starting_need_not_beat(self):
        gate = self.gate()
        d = self.daemon(self.one(gate, "notify=READY=1", *BEATS, **WATCHED))
        self.never(lambda: d.worker("web:0")["state"] != "starting", 1.5, "it was watched")
        gate.open()
        d.until_worker("web:0", state="ready", incarnation=1)
        d.stop()

    @costly("off")
    def test_NW09_DC10_nobody_ran(self):
        """The daemon alone, and together with its workers, for longer than a period."""
        d = self.daemon(self.one("notify=READY=1", *BEATS, workers=4, **WATCHED))
        d.until_all(state="ready")
        roles = [d.pid, d.role("manager"), d.role("logger")]
        pids = [d.host(w["pid"]) for w in d.workers().values()]
        for together in (roles, roles + pids):
            for pid in together:
                os.kill(pid, signal.SIGSTOP)
            self.pause(3)
            for pid in together:
                os.kill(pid, signal.SIGCONT)
            self.pause(1.5)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {1})
        self.assertNotIn("it hangs", d.text())
        d.stop()

    @costly()
    def test_NW09_DC10_a_frozen_tree(self):
        self.need_cgroup()
        d = self.daemon(self.one("notify=READY=1", *BEATS, workers=4, **WATCHED))
        d.until_all(state="ready")
        freeze = d.cgroup.path / "cgroup.freeze"
        freeze.write_text("1")
        until(lambda: "frozen 1" in (d.cgroup.path / "cgroup.events").read_text(), 5)
        self.pause(3)
        freeze.write_text("0")
        self.pause(1.5)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {1})
        self.assertNotIn("it hangs", d.text())
        d.stop()

    # --- changes -------------------------------------------------------------------------------

    @costly()
    def test_NW09_a_reload_is_fair(self):
        """Longer and never at once; shorter, or for the first time, from the next start."""
        def conf(told, silent):
            return self.conf({
                "told": {"command": self.words("notify=READY=1", "wait"), **WATCHED,
                         "notify": True, "watchdog": told},
                "silent": self.hangs_once(watchdog=silent)})
        d = self.daemon(conf("1h", "10s"))
        d.until_all(state="ready")
        periods = []
        for told in ("2h", "never", "30m", "1s", "3h", "never"):
            d.write(conf(told, "1h"))
            d.ctl("reload", code=0)
            periods.append(d.detail("told:0").get("watchdog_ms"))
        self.assertEqual(periods, [7200000, None, 3600000, 3600000, 10800000, None])
        d.ctl("restart", "told", code=0)
        d.write(conf("1h", "1h"))
        d.ctl("reload", code=0)
        self.assertIsNone(d.detail("told:0").get("watchdog_ms"), "it was told of none")
        d.ctl("restart", "told", code=0)
        self.assertEqual(d.detail("told:0")["watchdog_ms"], 3600000)
        self.assertEqual(d.worker("told:0")["incarnation"], 3)
        self.pause(10.5)
        self.assertEqual(d.worker("silent:0")["incarnation"], 1, "its old time counted")
        d.stop()

    # --- the manager dies ----------------------------------------------------------------------

    @costly("eperm")
    def test_NW09_a_manager_dies_around_the_deadline(self):
        """Whoever judges, once: in the successor of a successor, and before and after the verdict."""
        points = self.points()
        names = (*POINTS[1:], "state.set", "ladder.sent")
        silent = [word for n in range(1, 11, 2) for word in (f"if=inc:{n}", "[", "wait", "]")]
        d = self.daemon(self.one("notify=READY=1", *silent, *BEATS, **WATCHED),
                        env={"REEVE_FAILPOINTS": str(points.path)})
        d.roles_may_die = True
        d.until_worker("web:0", state="ready")
        for number, point in enumerate(names, 1):
            points.arm(point, "kill")
            until(lambda p=point: points.happened(p), 15, f"{point} is met")
            points.disarm(point)
            until(lambda n=number: self.seen(d, incarnation=2 * n, restarts=1, state="ready"), 20,
                  f"restarted after {point}")
            last = d.exits("web:0")[0]
            self.assertEqual((last["cause"], last["signal"]), ("watchdog", "ABRT"), point)
            d.ctl("restart", "web", code=0)
        for _ in range(4):
            self.pause(0.3)
            procs.kill(d.role("manager"))
        until(lambda: self.seen(d, incarnation=10, restarts=1, state="ready"), 20, "restarted")
        self.assertEqual(d.exits("web:0")[0]["cause"], "watchdog")
        self.pause(1.2)
        self.assertEqual(d.worker("web:0")["incarnation"], 10)
        d.stop()

    def points(self):
        binary = self.context.program("reeved")
        if not failpoints.listed(binary):
            self.skipTest("a build without failpoints")
        points = failpoints.Failpoints(binary, self.dir / "points")
        self.addCleanup(points.close)
        return points

    def seen(self, d, **wanted):
        try:
            worker = d.worker("web:0")
        except (OSError, EOFError, KeyError):
            return False
        return all(worker[key] == value for key, value in wanted.items())

    def test_NW09_managers_come_and_go_and_nobody_is_ended(self):
        """At any time, and with a beat in the hand: it is read again."""
        points = self.points()
        d = self.daemon(self.one("notify=READY=1", *BEATS, workers=4, **WATCHED),
                        env={"REEVE_FAILPOINTS": str(points.path)})
        d.until_all(state="ready")
        d.roles_may_die = True
        for _ in range(4):
            procs.kill(d.role("manager"))
            self.pause(0.4)
            points.arm("watchdog.beat", "kill")
            until(lambda: points.happened("watchdog.beat"), 10, "a beat is heard")
            points.disarm("watchdog.beat")
        until(lambda: self.seen(d, state="ready"), 20, "a manager answers")
        self.pause(1.2)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {1})
        d.stop()
