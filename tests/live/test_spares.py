"""template.spares: workers that are forked ahead and wait before GO."""
import errno
import os
import time

from harness import procs, signal, until
from test_handover import HandoverCase

POINTS = ("spare.row", "spare.bound", "fork.send", "fork.sent", "born.noted", "claim.sent",
          "spare.store", "spare.stored", "spare.parked", "spare.take", "spare.switch",
          "spare.taken", "spare.goes")
ENDS = ("spare.end", "spare.free", "spare.freed")
QUICK = {"settle": "0s", "restart": {"delay": "1ms", "limit": 0}}

SILENT = """
def silent():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("heard", os.environ["REEVE_INCARNATION"], file=sys.stderr, flush=True)
    reeve.ready()
    while os.environ["REEVE_INCARNATION"] == "1":
        reeve.beat()
        time.sleep(0.1)
    time.sleep(1000)
"""


class Spares(HandoverCase):
    def spared(self, n, workers=2, **keys):
        return self.group("app:runs", workers=workers, template={"spares": n}, **QUICK, **keys)

    def spares(self, d, n):
        """Pids of the processes that are neither role, worker nor template, once there are n."""
        def fits():
            try:
                known = {w["pid"] for w in d.workers().values()}
                template = self.template(d)
                found = self.inner_children(d) - known - {template and template.get("pid")}
                same = known == {w["pid"] for w in d.workers().values()}
            except (OSError, EOFError):
                return None
            return same and template and template.get("spares") == n == len(found) and [found]
        try:
            return until(fits, 20, every=0.02)[0]
        except procs.Late:
            raise procs.Late(f"not {n} spares: {self.template(d)} {d.workers()} " + "\n".join(
                [procs.describe(p) for p in procs.children_of(d.pid)]) + d.text()[-3000:]) from None

    def restarted(self, d, name, before):
        """Kill it; its next process, which has been one of these."""
        last = d.worker(name)
        restarts = last["restarts"]
        procs.kill(d.host(last["pid"]))
        worker = d.until_worker(name, state="ready", restarts=restarts + 1)
        self.assertIn(worker["pid"], before, d.text()[-3000:])
        self.assertEqual(worker["incarnation"], last["incarnation"] + 1)
        return worker["pid"]

    def test_a_restart_is_a_spare_that_was_let_go(self):
        d = self.forked({"web": self.spared(2)})
        d.until_all(state="ready", restarts=0)
        for _ in range(3):
            for name in ("web:0", "web:1"):
                before = self.spares(d, 2)
                self.restarted(d, name, before)
        self.spares(d, 2)
        self.assertEqual(len(d.workers()), 2)
        self.assertIn("2 spares", d.ctl("show", "web/template", code=0).out)
        self.assertEqual(d.worker("web:0")["source"], "web/template/1")
        self.started_once()
        self.assertEqual(sorted(self.starts.read_text().split("\n")[-3:-1]),
                         ["web:0 4", "web:1 4"])
        d.stop()

    def test_they_are_shown(self):
        """Below their workers, and in the sums of their group; never as workers."""
        d = self.forked({"web": self.spared(2)})
        d.until_all(state="ready")
        pids = self.spares(d, 2)
        tree = d.call("Tree", memory=True)["processes"]
        spares = [p for p in tree if p.get("spare")]
        self.assertEqual({p["pid"] for p in spares}, pids)
        self.assertEqual(sorted(p["worker"] for p in spares), ["web:0", "web:1"])
        self.assertTrue(all(p["pss_bytes"] > 0 and not p["main"] and not p["orphan"]
                            for p in spares), spares)
        self.assertEqual({p["worker"] for p in tree if p["main"]},
                         {"web:0", "web:1", "web/template"})
        self.assertEqual(d.ctl("tree", code=0).out.count("] spare\n"), 2)
        self.assertIn(", spare\n", d.ctl("show", "web:0", code=0).out)

        found = d.call("List", memory=True)
        group = found["groups"][0]
        self.assertEqual((group["workers"], group["spares"]), (2, 2))
        self.assertEqual(group["pss_bytes"], group["templates_pss_bytes"] +
                         group["spares_pss_bytes"] + sum(w["pss_bytes"] for w in found["workers"]))
        shown = d.ctl("status", "--memory", code=0).out
        self.assertRegex(shown, r"(?m)^web +2/2 .* template [\d.]+[KM], 2 spares [\d.]+[KM]$")
        d.stop()

    def test_native_notify_and_no_settle(self):
        d = self.forked({"web": self.native("ready", workers=1, ready="notify",
                                            template={"spares": 1}, **QUICK)})
        d.until_all(state="ready")
        self.restarted(d, "web:0", self.spares(d, 1))
        self.spares(d, 1)
        d.stop()

    def test_fewer_spares_than_workers(self):
        d = self.forked({"web": self.spared(1, workers=3)})
        d.until_all(state="ready")
        self.restarted(d, "web:0", self.spares(d, 1))
        self.restarted(d, "web:0", self.spares(d, 1))
        before = self.spares(d, 1)
        procs.kill(d.host(d.worker("web:2")["pid"]))
        worker = d.until_worker("web:2", state="ready", restarts=1)
        self.assertNotIn(worker["pid"], before)
        self.assertEqual(self.spares(d, 1), before)
        d.stop()

    def test_manager_and_template_are_killed_while_they_wait(self):
        d = self.forked({"web": self.spared(2)})
        d.roles_may_die = True
        d.until_all(state="ready")
        before = self.spares(d, 2)
        for _ in range(3):
            procs.kill(d.role("manager"))
            self.answers(d)
            self.assertEqual(self.spares(d, 2), before)
        procs.kill(d.host(self.template(d)["pid"]))
        self.restarted(d, "web:0", before)
        self.until_template(d, state="ready", incarnation=2)
        procs.kill(d.role("manager"))
        self.answers(d)
        self.restarted(d, "web:1", before)
        self.started_once()
        d.stop()

    def test_a_spare_that_ends_is_made_again(self):
        d = self.forked({"web": self.spared(1, workers=1)})
        d.until_all(state="ready")
        before = self.spares(d, 1)
        worker = d.worker("web:0")
        procs.kill(d.host(*before))
        until(lambda: "its spare is lost" in d.text(), 10)
        self.assertNotEqual(self.spares(d, 1), before)
        now = d.worker("web:0")
        self.assertEqual((now["pid"], now["restarts"]), (worker["pid"], 0))
        self.assertEqual(d.exits("web:0"), [])
        d.stop()

    def test_what_ends_spares(self):
        """Another number of workers, new code, a reload of the key, stop."""
        d = self.forked({"web": self.spared(1, workers=1)})
        d.until_all(state="ready")
        first = self.spares(d, 1)
        d.ctl("scale", "web", 2, code=0)
        second = self.spares(d, 1)
        self.assertFalse(first & second)
        d.write(self.conf({"web": self.spared(2, workers=1)}))
        self.assertIn("template.spares", d.ctl("plan", code=3).out)
        d.ctl("reload", code=0)
        self.assertTrue(second <= self.spares(d, 2))
        d.ctl("scale", "web", 1, code=0)
        until(lambda: len(d.workers()) == 1, 10)
        self.spares(d, 1)  # one worker, one spare
        d.write(self.conf({"web": self.spared(1, workers=1, env={"CODE": "new"})}))
        d.ctl("reload", code=0)
        d.until_worker("web:0", state="ready", generation=2)
        third = self.spares(d, 1)
        self.restarted(d, "web:0", third)
        d.ctl("stop", "web", code=0)
        until(lambda: not self.inner_children(d), 10, "nobody waits for a stopped group")
        d.ctl("start", "web", code=0)
        self.spares(d, 1)
        self.started_once()
        d.stop()

    # --- what a reload changes ------------------------------------------------------------------

    def silent(self, **keys):
        """Its first life gives signs of life, the others do not."""
        self.app(SILENT)
        keys = {"ready": "notify", "template": {"spares": 1}, "start_timeout": "1h",
                "limits": {"core": 0}, "restart": {"delay": "1h", "max_delay": "1h"}, **keys}
        return self.group("app:silent", **keys)

    def exit_of(self, d, name, incarnation):
        return until(lambda: [e for e in d.exits(name) if e["incarnation"] == incarnation], 15)[0]

    def test_NW09_a_spare_is_held_to_what_it_was_told(self):
        """Also where no other is forked after it."""
        d = self.forked({"web": self.silent(watchdog="1s")})
        d.until_all(state="ready")
        before = self.spares(d, 1)
        procs.kill(d.host(self.template(d)["pid"]))
        self.until_template(d, state="down")
        d.ctl("restart", "web:0", code=0)
        self.assertIn(d.worker("web:0")["pid"], before)
        last = self.exit_of(d, "web:0", 2)
        self.assertEqual((last["cause"], last["signal"]), ("watchdog", "ABRT"))
        d.stop()

    def test_NW09_a_spare_tells_its_worker_nothing(self):
        """The first watchdog comes by a reload: for the spare, not for who runs."""
        d = self.forked({"web": self.silent()})
        d.until_all(state="ready")
        first, pid = self.spares(d, 1), d.worker("web:0")["pid"]
        d.write(self.conf({"web": self.silent(watchdog="1s")}))
        d.ctl("reload", code=0)
        second = until(lambda: (now := self.spares(d, 1)) != first and now, 15, "a new spare")
        self.assertEqual(d.detail("web:0").get("watchdog_ms"), None)
        self.assertEqual(d.worker("web:0")["pid"], pid)
        d.ctl("restart", "web:0", code=0)
        self.assertIn(d.worker("web:0")["pid"], second)
        self.assertEqual(self.exit_of(d, "web:0", 2)["cause"], "watchdog")
        self.assertEqual(self.exit_of(d, "web:0", 1)["cause"], "stop")
        d.stop()

    def test_a_spare_from_before_a_reload_is_not_taken(self):
        d = self.forked({"web": self.silent(log={"stderr": "null"})})
        d.until_all(state="ready")
        first = self.spares(d, 1)
        d.write(self.conf({"web": self.silent(log={"stderr": "merge"})}))
        d.ctl("reload", code=0)
        d.ctl("restart", "web:0", code=0)
        worker = d.until_worker("web:0", state="ready", incarnation=2, generation=1)
        self.assertNotIn(worker["pid"], first)
        until(lambda: "heard 2" in d.lines("web"), 10, "its stderr is in the log")
        self.assertNotIn("heard 1", d.lines("web"))
        second = self.spares(d, 1)
        d.ctl("restart", "web:0", code=0)
        self.assertIn(d.worker("web:0")["pid"], second)
        until(lambda: "heard 3" in d.lines("web"), 10)
        d.stop()

    # --- what goes wrong ------------------------------------------------------------------------

    def test_where_none_can_be_made_it_is_tried_ever_more_slowly(self):
        self.need_not("eperm", "clone3 is refused, and threads with it")
        self.app("import threading\n"
                 "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n")
        d = self.forked({"web": self.group(preload=["app"], settle="0s",
                                           template={"spares": 1, "fallback": "spawn"})})
        lost = [until(lambda n=n: d.text().count("its spare is lost") >= n and time.monotonic(),
                      15, f"try {n}") for n in (1, 2, 3)]
        self.assertGreater(lost[2] - lost[0], 2.5)  # 1 s and 2 s
        self.assertEqual(d.worker("web:0")["source"], "exec")
        d.stop()

    def test_a_worker_waits_for_a_spare_on_its_way(self):
        d = self.armed({"web": self.group("app:runs", **QUICK, template={"spares": 1,
                                                                         "fork_timeout": "1m"})})
        d.until_all(state="ready")
        spare, template = *self.spares(d, 1), d.host(self.template(d)["pid"])
        os.kill(template, signal.SIGSTOP)
        asked = self.points.hits("fork.sent")
        procs.kill(d.host(spare))
        until(lambda: self.points.hits("fork.sent") > asked, 15, "the next one is asked for")
        procs.kill(d.host(d.worker("web:0")["pid"]))
        self.assertEqual(d.until_worker("web:0", state="waiting")["waiting_for"], ["spare"])
        os.kill(template, signal.SIGCONT)
        d.until_worker("web:0", state="ready", restarts=1, incarnation=2)
        self.spares(d, 1)
        self.started_once()
        d.stop()

    def test_a_spare_that_hangs_and_cannot_be_let_go_is_killed(self):
        # how many are ready is told, with a bell, before the spare is taken
        d = self.armed({"web": self.silent(restart={"delay": "3s", "max_delay": "3s"})})
        d.until_all(state="ready")
        spare = d.host(*self.spares(d, 1))
        os.kill(spare, signal.SIGSTOP)
        self.points.arm("notify.bind", "errno", value=errno.ENOSPC)
        procs.kill(d.host(d.worker("web:0")["pid"]))
        until(lambda: self.points.happened("notify.bind"), 15)
        self.points.disarm("notify.bind")
        until(lambda: not procs.alive(spare), 10, "nobody waits for it")
        d.until_worker("web:0", state="ready", restarts=1, incarnation=2)
        d.stop()

    # --- who is killed when ---------------------------------------------------------------------

    def test_the_manager_is_killed_at_every_point(self):
        d = self.armed({"web": self.spared(1, workers=1)})
        d.until_all(state="ready")
        restarts = 0
        for point in POINTS:
            self.spares(d, 1)
            pid = d.host(d.worker("web:0")["pid"])
            self.points.arm(point, "kill")
            procs.kill(pid)
            restarts += 1
            until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
            self.points.disarm(point)
            worker = self.at_rest_spared(d)
            self.assertEqual((worker["restarts"], worker["incarnation"]), (restarts, restarts + 1),
                             f"{point} {d.text()[-3000:]}")
            self.assertEqual(worker["last_exit"]["signal"], "KILL", point)
        self.spares(d, 1)
        self.started_once()
        d.stop()

    def test_the_manager_is_killed_while_a_spare_ends(self):
        d = self.armed({"web": self.spared(1, workers=1)})
        d.until_all(state="ready")
        for workers, point in enumerate(ENDS, 2):
            before = self.spares(d, 1)
            self.points.arm(point, "kill")
            d.ctl("scale", "web", workers, "--no-wait", code=0)
            until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
            self.points.disarm(point)
            self.answers(d)
            until(lambda n=workers: len(d.workers()) == n, 15)
            d.until_all(state="ready")
            self.assertFalse(self.spares(d, 1) & before, point)
        self.started_once()
        d.stop()

    def at_rest_spared(self, d):
        self.answers(d)
        self.spares(d, 1)
        return d.until_worker("web:0", state="ready")
