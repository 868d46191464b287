"""
Forked workers between FORK and GO: whoever is killed wherever in it, no worker is lost, doubled or
left waiting, and no exit status is wrong.
"""
import collections
import os
import sys
import time

from harness import costly, procs, signal, until
from test_template import SOURCE, TemplateCase

sys.path.insert(0, str(SOURCE / "tests/chaos"))

import failpoints  # noqa: E402

# In the order of a start; template.heard and born.heard are met for each message.
POINTS = ("fork.send", "fork.sent", "template.heard", "born.heard", "born.noted", "claim.send",
          "claim.sent", "go.store", "go.stored", "go.send", "go.sent")
BIG = bool(os.environ.get("REEVE_BIG"))

RUNS = """
def runs():
    with open("{journal}", "a") as file:
        file.write(os.environ["REEVE_WORKER"] + " " + os.environ["REEVE_INCARNATION"] + "\\n")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(1000)
"""


class HandoverCase(TemplateCase):
    def setUp(self):
        super().setUp()
        self.starts = self.dir / "starts"
        self.starts.write_text("")
        self.app(RUNS.replace("{journal}", str(self.starts)))

    def armed(self, groups, name="d0", arm=None, **how):
        """A daemon with failpoints; `arm` is called before it starts."""
        binary = self.context.program("reeved")
        if not failpoints.listed(binary):
            self.skipTest("a build without failpoints")
        self.points = failpoints.Failpoints(binary, self.dir / f"points-{name}")
        self.addCleanup(self.points.close)
        d = self.forked(groups, name=name, start=False, **how,
                        env=self.env(REEVE_FAILPOINTS=str(self.points.path)))
        d.roles_may_die = True
        if arm:
            arm()
        return d.start()

    def both(self):
        """A group of each runtime."""
        quick = {"settle": "0s", "restart": {"delay": "1ms", "limit": 0},
                 "template": {"fork_timeout": "2s"}, "workers": 2}
        return {"py": self.group("app:runs", **quick), "nat": self.native(**quick)}

    def answers(self, d):
        def ask():
            try:
                return d.call("Version")
            except (OSError, EOFError):
                return None
        return until(ask, 15, "a manager answers")

    def inner_children(self, d):
        """The keeper's children but for the roles, by the numbers that the daemon knows."""
        roles = {"reeve-manager", "reeve-logger"}
        return {int(procs.status_of(p).get("NSpid", "0").split()[-1])
                for p in procs.children_of(d.pid) if procs.comm_of(p) not in roles}

    def at_rest(self, d):
        """Every worker is ready, and the keeper has no child too many."""
        self.answers(d)

        def fits():
            try:
                workers = d.workers()
                templates = [t for g in ("py", "nat", "web") if (t := self.template(d, g))]
            except (OSError, EOFError):
                return None
            if not all(w["state"] == "ready" for w in workers.values()):
                return None
            known = {w["pid"] for w in workers.values()} | {t.get("pid") for t in templates}
            return known - {None} == self.inner_children(d) and workers
        try:
            return until(fits, 20, every=0.02)
        except procs.Late:
            lines = d.text().splitlines()[-40:]
            children = [procs.describe(p) for p in procs.children_of(d.pid)]
            raise procs.Late("\n".join(["not at rest", str(d.workers()), *children, *lines])
                             ) from None

    def started_once(self):
        seen = collections.Counter(self.starts.read_text().splitlines())
        self.assertEqual([line for line, n in seen.items() if n > 1], [], "started twice")


class Handover(HandoverCase):
    stretch = 60 if BIG else 2

    @costly("eperm")
    def test_the_manager_is_killed_at_every_point(self):
        d = self.armed(self.both())
        self.at_rest(d)
        restarts = {n: 0 for n in d.workers()}
        for point in POINTS:
            for group in ("py", "nat"):
                name = f"{group}:1"
                self.points.arm(point, "kill")
                procs.kill(d.host(self.at_rest(d)[name]["pid"]))
                restarts[name] += 1
                until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
                self.points.disarm(point)
                worker = self.at_rest(d)[name]
                self.assertEqual(worker["restarts"], restarts[name], f"{point} {d.text()[-3000:]}")
                self.assertEqual(worker["last_exit"]["signal"], "KILL", point)
                self.assertEqual(worker["incarnation"], restarts[name] + 1, point)
        self.started_once()
        d.stop()

    @costly("off")
    def test_the_template_is_killed_at_every_point(self):
        d = self.armed(self.both())
        self.at_rest(d)
        restarts = {n: 0 for n in d.workers()}
        for point in POINTS:
            for group in ("py", "nat"):
                name = f"{group}:1"
                workers = self.at_rest(d)
                template = d.host(self.template(d, group)["pid"])
                self.points.arm(point, "pause")
                procs.kill(d.host(workers[name]["pid"]))
                restarts[name] += 1
                until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
                procs.kill(template)
                until(lambda t=template: not procs.alive(t), 10)
                self.points.disarm(point)
                worker = self.at_rest(d)[name]
                self.assertEqual(worker["restarts"], restarts[name], f"{point} {d.text()[-3000:]}")
        self.started_once()
        d.stop()

    @costly("off")
    def test_both_are_killed_at_every_point(self):
        d = self.armed(self.both())
        self.at_rest(d)
        restarts = {n: 0 for n in d.workers()}
        for point in POINTS:
            for group in ("py", "nat"):
                name = f"{group}:0"
                workers = self.at_rest(d)
                template = d.host(self.template(d, group)["pid"])
                self.points.arm(point, "pause")
                procs.kill(d.host(workers[name]["pid"]))
                until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
                restarts[name] += 1
                procs.kill(template)
                procs.kill(d.role("manager"))
                self.points.disarm(point)
                worker = self.at_rest(d)[name]
                self.assertEqual(worker["restarts"], restarts[name], f"{point} {d.text()[-3000:]}")
                self.assertEqual(worker["last_exit"]["signal"], "KILL", point)
        self.started_once()
        d.stop()

    def test_the_worker_is_killed_before_go(self):
        """Its start is made again: nobody sees a worker that never ran."""
        d = self.armed({"web": self.group("app:runs", settle="0s", restart={"delay": "1ms"})})
        self.at_rest(d)
        for point in ("born.noted", "claim.sent", "go.store", "go.stored"):
            known = {d.host(self.template(d)["pid"]), d.host(d.worker("web:0")["pid"])}
            roles = {"reeve-manager", "reeve-logger"}
            self.points.arm(point, "pause")
            procs.kill(d.host(d.worker("web:0")["pid"]))
            until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
            fresh = [p for p in procs.children_of(d.pid)
                     if p not in known and procs.comm_of(p) not in roles]
            self.assertEqual(len(fresh), 1, [procs.describe(p) for p in fresh])
            procs.kill(fresh[0])
            until(lambda p=fresh[0]: not procs.alive(p), 10)
            self.points.disarm(point)
            self.at_rest(d)
        self.started_once()
        d.stop()

    def test_a_restart_of_a_start_on_its_way_is_done_once(self):
        """A start that is taken back gives its number to the next one, which is the restart."""
        d = self.forked({"web": self.native(settle="0s", restart={"delay": "1ms"}, workers=2)})
        d.until_all(state="ready")
        template = d.host(self.template(d)["pid"])
        procs.kill(template, signal.SIGSTOP)
        procs.kill(d.host(d.worker("web:1")["pid"]))
        d.until_worker("web:1", state="starting")
        d.call("Restart", targets=["web:1"], wait=False)
        procs.kill(template, signal.SIGCONT)
        worker = d.until_worker("web:1", state="ready")
        self.assertEqual((worker["incarnation"], worker["restarts"]), (2, 0))  # a restart zeroes
        self.assertEqual(d.text().count("web:1: starting -> stopping"), 1)
        d.stop()

    def test_a_leaf_that_was_busy_is_not_removed_under_the_next_start(self):
        """Of a start that never was somebody hangs in its leaf, which is that of the start after it."""
        self.need_cgroup()
        d = self.armed({"web": self.native(settle="0s", restart={"delay": "1ms", "limit": 0})})
        self.at_rest(d)
        template = d.host(self.template(d)["pid"])
        known = {template, d.pid_of("web:0")}
        self.points.arm("born.noted", "pause")
        procs.kill(d.pid_of("web:0"))
        until(lambda: self.points.happened("born.noted"), 15)
        hangs, = [p for p in procs.children_of(d.pid) if p not in known and
                  procs.comm_of(p) not in ("reeve-manager", "reeve-logger")]
        procs.kill(hangs, signal.SIGSTOP)
        procs.kill(template, signal.SIGSTOP)
        sent = self.points.hits("fork.sent")
        procs.kill(d.role("manager"))
        self.points.disarm("born.noted")
        until(lambda: self.points.hits("fork.sent") > sent, 15, "asked again")
        leaf = self.leaf_of(hangs)
        procs.kill(hangs)
        until(lambda: not procs.alive(hangs), 10)
        self.never(lambda: not leaf.exists(), 0.5, "removed under the next start")
        procs.kill(template, signal.SIGCONT)
        worker = d.until_worker("web:0", state="ready", incarnation=2)
        self.assertEqual(worker["restarts"], 1)
        self.assertEqual([e["incarnation"] for e in d.exits("web:0")], [1])
        d.stop()

    def test_a_stop_waits_for_who_was_claimed_under_a_predecessor(self):
        """Its process has no request any more, and hangs: "stopped" means that it has ended."""
        d = self.armed({"web": self.native(settle="0s", restart={"delay": "1ms", "limit": 0})})
        self.at_rest(d)
        for cold in (True, False):
            known = {d.host(self.template(d)["pid"]), d.pid_of("web:0")}
            self.points.arm("go.store", "pause")
            procs.kill(d.pid_of("web:0"))
            until(lambda: self.points.happened("go.store"), 15)
            hangs, = [p for p in procs.children_of(d.pid) if p not in known and
                      procs.comm_of(p) not in ("reeve-manager", "reeve-logger")]
            procs.kill(hangs, signal.SIGSTOP)
            self.points.arm("kill.send", "pause")  # the keeper's, of what the successor asks for
            procs.kill(d.role("manager"))
            self.points.disarm("go.store")
            until(lambda: self.points.happened("kill.send"), 15)
            self.answers(d)
            d.call("Stop", targets=["web:0"], cold=cold, wait=False)
            self.never(lambda: d.worker("web:0")["state"] == "stopped", 0.5, "it is there")
            self.points.disarm("kill.send")
            d.until_worker("web:0", state="stopped")
            self.assert_gone(hangs)
            d.ctl("start", "web:0", code=0)
            self.at_rest(d)
        self.started_once()
        d.stop()

    def test_a_template_that_hung_is_killed_once_over_a_death(self):
        """The verdict is noted, and the manager dies: that it is repeated is no sign of being stuck."""
        d = self.armed({"web": self.native(settle="0s", restart={"delay": "1ms", "limit": 0},
                                           template={"fork_timeout": "500ms"})})
        self.at_rest(d)
        self.points.arm("bad.closed", "kill")
        template = d.host(self.template(d)["pid"])
        procs.kill(template, signal.SIGSTOP)
        procs.kill(d.pid_of("web:0"))
        until(lambda: self.points.happened("bad.closed"), 15)
        until(lambda: not procs.alive(template), 15)
        self.at_rest(d)
        self.assertNotIn("SIGKILL had no effect", d.text())
        self.assertNotIn("stuck", d.text())
        d.stop()

    def test_a_channel_full_of_predecessors_requests_is_no_fault_of_the_template(self):
        """A successor cannot even say PING; what came with those requests is no surprise to it."""
        d = self.forked({"web": self.native(workers=32, settle="0s", restart={
            "delay": "1ms", "limit": 0}, template={"fork_timeout": "60s"})},
            env=self.env(REEVE_RUNNER=str(self.dir / "reeve-runner")))
        d.roles_may_die = True
        self.at_rest(d)
        template = d.host(self.template(d)["pid"])
        procs.kill(template, signal.SIGSTOP)
        for worker in d.workers().values():
            procs.kill(d.host(worker["pid"]))

        def is_full():
            if "asking web/template for a fork: Resource temporarily unavailable" in d.text():
                return True
            self.answers(d)
            procs.kill(d.role("manager"))
            return False
        until(is_full, 40)
        procs.kill(d.role("manager"))
        self.answers(d)
        procs.kill(template, signal.SIGCONT)
        self.at_rest(d)
        self.assertNotIn("was not open at READY", d.text())
        self.assertEqual(d.host(self.template(d)["pid"]), template)
        d.stop()

    def test_the_clock_of_a_start_that_lacked_means_makes_nobody_ready(self):
        """The manager dies when it has set the clock and not yet left `starting`."""
        self.need_cgroup()
        d = self.armed({"web": self.native(settle="0s", restart={"delay": "1ms", "limit": 0})})
        self.at_rest(d)
        template = d.host(self.template(d)["pid"])
        procs.kill(template, signal.SIGSTOP)
        self.points.arm("leaf.open", "errno", "EMFILE")
        self.points.arm("no.means-clock", "pause")
        procs.kill(d.pid_of("web:0"))
        until(lambda: self.points.happened("no.means-clock"), 15)
        sent = self.points.hits("fork.sent")
        self.points.arm("state.set", "kill")
        self.points.disarm("no.means-clock")
        until(lambda: self.points.hits("fork.sent") > sent, 15, "asked by the successor")
        self.answers(d)
        self.never(lambda: d.worker("web:0")["state"] != "starting", 1, "nobody was born")
        procs.kill(template, signal.SIGCONT)
        worker = self.at_rest(d)["web:0"]
        self.assertEqual((worker["incarnation"], worker["restarts"]), (2, 1))
        d.stop()

    def test_DC10_a_fork_on_its_way_outlives_a_pause(self):
        """Nobody ran for longer than fork_timeout: neither template nor worker is blamed for it."""
        d = self.forked({"web": self.native(settle="0s", restart={"delay": "1ms"},
                                            template={"fork_timeout": "1s"})})
        self.at_rest(d)
        template = d.host(self.template(d)["pid"])
        procs.kill(template, signal.SIGSTOP)
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", state="starting")
        roles = [d.pid, d.role("manager"), d.role("logger")]
        for pid in roles:
            procs.kill(pid, signal.SIGSTOP)
        self.pause(2.5)
        for pid in roles:
            procs.kill(pid, signal.SIGCONT)
        until(lambda: "did not run for" in d.text(), 10)
        procs.kill(template, signal.SIGCONT)
        worker = self.at_rest(d)["web:0"]
        self.assertEqual((worker["incarnation"], worker["restarts"]), (2, 1))
        self.assertNotIn("within fork_timeout", d.text())
        self.assertEqual(d.host(self.template(d)["pid"]), template)
        d.stop()

    @costly("eperm")
    def test_DC10_NW09_ten_minutes_are_missing(self):
        """A paused machine: nobody runs, and then every clock is ten minutes on. Whoever was starting,
        stopping, being forked or waiting for its back-off goes on where it was."""
        gate, journal = self.gate(), self.journal()
        groups = {"start": {"command": self.words(gate, "notify=READY=1", "wait"),
                            "ready": "notify", "start_timeout": "20s"},
                  "stop": {"command": self.words(journal, "on=TERM:slow:2000:0", "note=up", "wait"),
                           "stop": {"timeout": "20s"}},
                  "back": {"command": self.words("if=inc:1", "[", "exit=1", "]", "wait"),
                           "restart": {"delay": "5s", "max_delay": "5s"}},
                  "nat": self.native(workers=2, settle="0s", restart={"delay": "1ms"})}
        if self.mode != "eperm":  # the C library makes no thread there
            groups["thr"] = {**self.native(workers=2), "start_method": "threads"}
        d = self.armed(groups)
        d.until_worker("back:0", state="backoff")
        journal.wait("note", "up")
        for name in ("nat", "thr"):
            if name in groups:
                for index in (0, 1):
                    d.until_worker(f"{name}:{index}", state="ready")
        before = d.workers()
        template = d.host(self.template(d, "nat")["pid"])
        procs.kill(template, signal.SIGSTOP)
        procs.kill(d.host(before["nat:0"]["pid"]))
        d.until_worker("nat:0", state="starting")
        d.call("Stop", targets=["stop"], wait=False)
        stopped = [d.pid, d.role("manager"), d.role("logger"),
                   *{d.host(w["pid"]) for n, w in d.workers().items() if w.get("pid")}]
        for pid in stopped:
            procs.kill(pid, signal.SIGSTOP)
        self.points.skip_time(600)
        for pid in reversed(stopped):
            procs.kill(pid, signal.SIGCONT)
        until(lambda: "did not run for 60" in d.text(), 10)  # 600 s and a little
        procs.kill(template, signal.SIGCONT)
        gate.open()
        d.until_worker("start:0", state="ready", incarnation=1)
        d.until_worker("stop:0", state="stopped")
        last = d.exits("stop:0")[0]
        self.assertEqual((last["cause"], last["code"]), ("stop", 0), last)
        d.until_worker("back:0", state="ready", incarnation=2)
        d.until_worker("nat:0", state="ready", incarnation=2)
        now = d.workers()
        for name in (n for n in before if n.startswith("thr") or n in ("nat:1", "start:0")):
            self.assertEqual(now[name]["pid"], before[name]["pid"], name)
        self.assertEqual(d.host(self.template(d, "nat")["pid"]), template)
        for word in ("hangs", "within fork_timeout"):
            self.assertNotIn(word, d.text())
        d.roles_may_die = False
        d.stop()

    def leaf_of(self, pid):
        """The directory of its cgroup."""
        line = [l for l in procs.read(f"/proc/{pid}/cgroup").splitlines() if l.startswith("0::")][0]
        return until(lambda: next((p for p in self.context.cgroup.below()
                                   if str(p).endswith(line[3:])), None), 1)

    @costly("user")
    def test_the_manager_is_killed_at_random_under_load(self):
        d = self.forked({"web": self.group("app:runs", workers=12, settle="0s",
                                           restart={"delay": "1ms", "limit": 0})})
        d.roles_may_die = True
        self.at_rest(d)
        for number in range(60 if BIG else 8):
            pids = [d.host(w["pid"]) for w in self.at_rest(d).values()]
            for pid in pids:
                procs.kill(pid)
            time.sleep(0.004 * (number % 8))  # somewhere in the hand-over of twelve
            procs.kill(d.role("manager"))
        workers = self.at_rest(d)
        self.assertEqual({w["last_exit"]["signal"] for w in workers.values()}, {"KILL"})
        self.started_once()
        d.stop()

    def kill_template(self, d, least):
        """Once it is ready and has forked so many."""
        t = self.template(d)
        pid = t and t["state"] == "ready" and t["forks"] > least and d.host(t["pid"])
        return bool(pid and procs.kill(pid))

    def pipelined(self, group, code_of):
        """40 % die at once, the template is killed again and again: 0 wrong statuses."""
        workers, waves, kills = (500, 10, 5) if BIG else (150, 2, 3)
        d = self.forked({"web": {**group, "workers": workers, "settle": "0s",
                                 "template": {"fork_timeout": "60s"},
                                 "restart": {"when": "never"}}}, daemon={"log": {"level": "info"}})
        wrong, killed = [], 0
        for wave in range(waves):
            if wave:
                d.ctl("restart", "--no-wait", "web", code=0)
            for _ in range(kills):
                until(lambda: self.kill_template(d, workers // 20), 30 * self.stretch,
                      "the template forks")
                killed += 1
            until(lambda w=wave: all(x["state"] == "done" and x["incarnation"] == w + 1
                                     for x in d.workers().values()), 30 * self.stretch,
                  "all have ended", every=0.1)
            for name, worker in d.workers().items():
                if worker["last_exit"]["code"] != code_of(worker["index"]):
                    wrong.append((name, wave, worker["last_exit"], worker["status"]))
        print(f"{workers * waves} forks, {killed} templates killed, {len(wrong)} wrong", flush=True)
        self.assertEqual(wrong, [], f"{len(wrong)} of {workers * waves}, {killed} kills")
        d.stop()

    @costly("user")
    def test_pipelined_forks_with_early_deaths_and_template_kills(self):
        self.pipelined(self.group("app:early"), lambda i: 40 + i % 7 if i % 5 < 2 else 0)

    @costly("pid1")
    def test_pipelined_native_forks_with_early_deaths_and_template_kills(self):
        self.pipelined(self.native("exit:%{(i-5*(i/5))/3}"), lambda i: i % 5 // 3)

    def test_PY05_workers_killed_at_random_hold_nobody_up(self):
        """No lock is shared: whoever dies wherever, the others go on beating."""
        self.app("""
def beats():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    n = 0
    while True:
        n += 1
        reeve.progress(n, 1000000)
        print("beat", n, flush=True)
        time.sleep(0.01)
""")
        d = self.forked({"web": self.group("app:beats", workers=6, notify=True, settle="0s",
                                           restart={"delay": "1ms", "limit": 0})})
        d.until_all(state="ready")
        for number in range(30):
            victim = f"web:{number % 5}"
            pid = d.host(d.worker(victim)["pid"])
            if pid:
                procs.kill(pid)
        survivor = d.worker("web:5")
        self.assertEqual(survivor["incarnation"], 1)
        before = until(lambda: d.worker("web:5")["progress"], 10, "it reports")["done"]
        until(lambda: d.worker("web:5")["progress"]["done"] > before + 10, 10, "it goes on")
        d.until_all(state="ready")
        d.stop()

    def test_kill_of_the_keeper_ends_what_was_forked(self):
        d = self.forked({"web": self.group("app:runs", workers=3)})
        d.until_all(state="ready")
        pids = [d.host(w["pid"]) for w in d.workers().values()]
        pids.append(d.host(self.template(d)["pid"]))
        d.roles_may_die = True
        d.send(signal.SIGKILL)
        d.wait_exit()
        until(lambda: not any(procs.alive(p) for p in pids), 10, "all of them are gone")

    def test_kernels_that_name_the_sender_by_number_only(self):
        """Before Linux 6.5: who does not hold the channel that it was given is not the one."""
        closed = self.dir / "closed"
        groups = self.both()
        groups["raw"] = self.raw_group("worker-closes", settle="0s", autostart=False,
                                       env={"RAW_CLOSED": str(closed)}, restart={"when": "never"})
        d = self.armed(groups, prefix=[self.context.program("eperm"), "--no-pidfd-passing"])
        for name in ("py:0", "py:1", "nat:0", "nat:1"):
            d.until_worker(name, state="ready", restarts=0)
        self.points.arm("born.heard", "pause")
        d.ctl("start", "--no-wait", "raw", code=0)
        for tries in (1, 2):
            until(lambda: self.points.happened("born.heard") and closed.exists(), 15)
            closed.unlink()
            if tries == 1:  # nothing is heard of the second one before we listen again
                self.points.arm("fork.sent", "pause")
            self.points.disarm("born.heard")
            if tries == 1:
                until(lambda: self.points.happened("fork.sent"), 15)
                self.points.arm("born.heard", "pause")
                self.points.disarm("fork.sent")
        d.until_worker("raw:0", state="done")
        self.assertIn("it ended before it was let go", d.exits("raw:0")[0]["error"])
        d.stop()
