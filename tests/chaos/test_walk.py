"""
Every failpoint × kill -9, one after the other: each operation of a small workload is done once
unarmed, to see which points it passes; then once for each of them, with the process killed there.
After each the promise is looked at (world.py): done exactly once, nothing lost, doubled or left.

REEVE_WALK_SECONDS bounds a run (points then come in an order drawn from REEVE_CHAOS_SEED);
REEVE_WALK_ONLY takes points whose name holds it. Points nobody passes are a failure.
"""
import os
import random
import time

import client
import procs
import world
from failpoints import Failpoints
from harness import Case, signal, until

SECONDS = float(os.environ.get("REEVE_WALK_SECONDS", "0"))
ONLY = os.environ.get("REEVE_WALK_ONLY", "").split(",")
WITHOUT_CGROUPS = {"leaf.make", "leaf.open", "leaf.remove"}  # nobody is there to pass them
SLOW_LINES = 4000  # µs between two lines
READY_S = 15


def draw():
    return int(os.environ.get("REEVE_CHAOS_SEED", random.randrange(1 << 32)))


class Workload(Case):
    """The groups, the operations on them (do_*), what must hold after each."""

    def groups(self, guest=0, greeting=0):
        j = self.records
        life = lambda *words: world.life(self, j, *words)  # noqa: E731
        groups = {
            "web": {"command": life("notify=READY=1\nSTATUS=@inc@", world.rows(SLOW_LINES)),
                    "workers": 2, "ready": "notify", "env": {"GREETING": str(greeting)},
                    "sockets": [{"name": "a", "listen": f"unix://{self.dir}/web.sock"}]},
            "steady": {"command": life(world.rows(1000)), "workers": 2,
                       "log": {"max_size": "40K", "keep": 1000, "stderr": "separate"}},
            "tree": {"command": life("fork=1", "[", "setsid", "ignore=TERM", "wait", "]",
                                     "orphan=1", "[", "wait", "]", "wait"),
                     "stop": {"timeout": "60ms"}},
            "rest": {"command": life("fork=1", "[", "setsid", "wait", "]", "wait")},
            "extra": {"command": life(world.rows(SLOW_LINES)), "workers": 1,
                      "log": {"max_size": "40K", "keep": 1000, "format": "json"}},
            "unborn": {"command": self.words("wait"), "env_file": [f"{self.dir}/no-such-file"],
                       "autostart": False, "restart": {"limit": 1, "delay": "5ms"}},
            "full": {"command": life("fill=300K:x", "out=", "wait")},
        }
        if guest:
            groups["guest"] = {"command": life(world.rows(SLOW_LINES)), "workers": 1,
                               "sockets": [{"name": "g", "listen": f"unix://{self.dir}/guest-%i"}]}
        return groups

    def whole(self):
        return self.conf(self.groups(self.guest, self.greeting),
                         defaults={"env": {"EPOCH": str(self.epoch)},
                                   "restart": {"limit": 0, "delay": "5ms", "max_delay": "20ms"}})

    def prepare(self):
        self.records = self.journal()
        comes_and_goes = ("guest:", "extra:1", "extra:2")
        self.oracles = world.Oracles(self, self.records,
                                     lambda worker: not worker.startswith(comes_and_goes))
        self.guest, self.greeting, self.epoch = 0, 0, 1
        self.fp = Failpoints(self.context.program("reeved"), self.dir / "failpoints")
        self.addCleanup(self.fp.close)
        if not self.fp.points:
            self.skipTest("a build without failpoints (meson setup -Dfailpoints=true)")
        self.calm, self.complaints = True, []

    def start(self):
        self.d = self.daemon(self.whole(), start=False,
                             env={"REEVE_FAILPOINTS": str(self.fp.path)})
        self.d.roles_may_die = True
        self.d.start(READY_S)
        self.settle()

    def ask(self, method, **parameters):
        return client.ask(self.d.socket, method, **parameters)

    def workers(self):
        return client.workers(self.d.socket)

    def settle(self):
        """When faults stop, wanted and actual meet (10)."""
        seen = {}

        def meets():
            seen.clear()
            seen.update(self.workers())
            return all(w["state"] == ("ready" if w["wanted"] == "up" else "stopped") or
                       w["worker"].startswith("unborn") for w in seen.values())
        try:
            until(meets, READY_S, every=.01)
        except procs.Late:
            bad = {n: (w["state"], w["wanted"]) for n, w in seen.items()}
            self.fail(f"wanted and actual do not meet: {bad}\n{self.d.text()[-6000:]}")

    # --- operations ---------------------------------------------------------------------------

    def assert_next(self, before, *names):
        """One life later, once."""
        now = self.workers()
        for name in names:
            if self.calm:
                self.assertEqual(now[name]["incarnation"], before[name]["incarnation"] + 1, name)
            else:
                self.assertGreater(now[name]["incarnation"], before[name]["incarnation"], name)

    def do_restart(self):
        before = self.workers()
        answer = self.ask("Restart", targets=["web"], wait=True)
        self.assertTrue(all(r["ok"] for r in answer["results"]), answer)
        self.assert_next(before, "web:0", "web:1")

    def do_crash(self):
        before = self.workers()
        pid = self.d.host(before["steady:0"]["pid"])
        procs.kill(pid)
        until(lambda: self.workers()["steady:0"]["incarnation"] > before["steady:0"]["incarnation"],
              READY_S)
        self.settle()
        self.assert_next(before, "steady:0")
        detail = self.ask("Show", targets=["steady:0"])["details"][0]
        record = [e for e in detail["exits"]
                  if e["incarnation"] == before["steady:0"]["incarnation"]]
        self.assertEqual([e.get("signal") for e in record], ["KILL"], detail["exits"])
        if self.calm:
            self.assertEqual(detail["worker"]["restarts"], before["steady:0"]["restarts"] + 1)

    def do_stop_and_start(self):
        for group in ("tree", "rest"):
            self.ask("Stop", targets=[group], wait=True)
            self.oracles.check_stopped(group)
            self.ask("Start", targets=[group], wait=True)

    def do_leader_dies(self):
        """Its children are ended before the next life."""
        before = self.workers()
        for name in ("tree:0", "rest:0"):
            procs.kill(self.d.host(before[name]["pid"]), signal.SIGSEGV)
        until(lambda: all(self.workers()[name]["incarnation"] > before[name]["incarnation"]
                          for name in ("tree:0", "rest:0")), READY_S)

    def do_scale(self):
        self.ask("Scale", group="extra", workers=3, wait=True)
        self.ask("Scale", group="extra", workers=1, wait=True)
        self.assertEqual([n for n in self.workers() if n.startswith("extra")], ["extra:0"])

    def do_reload(self):
        """A group comes and goes, another is renewed, both ways of asking."""
        for self.guest in (1, 0):
            self.greeting += 1
            before = self.workers()
            self.d.write(self.whole())
            self.ask("Reload", wait=True)
            self.settle()
            self.assertEqual(any(n.startswith("guest") for n in self.workers()), bool(self.guest))
            self.assert_next(before, "web:0", "web:1")
        self.ask("Plan")
        answered = self.fp.hits("reload.answered")
        self.d.send(signal.SIGHUP)
        until(lambda: self.fp.hits("reload.answered") > answered, READY_S, "SIGHUP is answered")

    def do_renew(self):
        before = self.workers()
        self.ask("Reload", groups=["web"], wait=True)
        self.settle()
        self.assert_next(before, "web:0", "web:1")

    def do_reopen(self):
        self.d.send(signal.SIGUSR1)

    def do_logs(self):
        end = time.monotonic() + READY_S
        while True:
            try:
                with self.d.connect(READY_S) as talk:
                    lines = [l for part in talk.stream("Logs", {"targets": ["steady"], "lines": 5})
                             for l in part["lines"]]
                self.assertGreaterEqual(len(lines), 5)
                return
            except (OSError, EOFError):
                self.assertLess(time.monotonic(), end)
                time.sleep(.01)

    def do_unborn(self):
        """A start that cannot be prepared: charged, quarantined, nothing else suffers."""
        self.ask("Start", targets=["unborn"], wait=False)
        until(lambda: self.workers()["unborn:0"]["state"] == "quarantined", READY_S)
        self.ask("Stop", targets=["unborn"], wait=True)
        self.ask("Reset", targets=["unborn"])

    def do_no_means(self):
        """No process, no pipe: tried again, not charged."""
        self.fp.arm("spawn.clone", "errno", "EAGAIN") if self.point != "spawn.clone" else None
        before = self.workers()
        self.ask("Restart", targets=["web:1"], wait=True)
        self.fp.disarm("spawn.clone") if self.point != "spawn.clone" else None
        self.assert_next(before, "web:1")

    def do_unfinished(self):
        """The manager dies before the process is made; its successor makes it."""
        if self.point != "start.bound":
            self.fp.arm("start.bound", "kill")
        before = self.workers()
        self.ask("Restart", targets=["web:1"], wait=True)
        self.assert_next(before, "web:1")

    def do_overflow(self):
        """A disk that is full for a while: bytes are dropped and counted."""
        other = self.point != "write.put"
        if other:
            self.fp.arm("write.put", "errno", "ENOSPC", times=1 << 30)
        before = self.dropped()
        self.ask("Restart", targets=["full"], wait=True)
        if other:
            until(lambda: self.dropped() > before, READY_S)
            self.fp.disarm("write.put")
        until(self.logs_are_well, READY_S, "the logs are written again")  # else bytes may be dropped

    def logs_are_well(self):
        checks = {c["name"]: c["status"] for c in self.ask("Doctor")["checks"]}
        return checks["log destinations"] == "ok"

    def dropped(self):
        return self.ask("Show", targets=["full"])["details"][0]["log_dropped_bytes"]

    def do_rest(self):
        """Streams at rest give their memory back after two seconds."""
        self.ask("Restart", targets=["full"], wait=True)
        self.pause(2.3)

    def do_manager(self):
        procs.kill(self.d.role("manager"))
        self.settle()

    def do_logger(self):
        procs.kill(self.d.role("logger"))
        self.settle()

    def ops(self):
        return sorted(name for name in dir(self) if name.startswith("do_"))

    def run_op(self, name):
        getattr(self, name)()
        self.settle()

    def look(self):
        self.oracles.check_single()
        shown = self.ask("Show", targets=["web", "steady", "tree"])
        self.oracles.check_records(shown["details"], self.epoch)

    def assert_missed(self, missed):
        """Everything is passed but for what the mode has nothing of."""
        without = WITHOUT_CGROUPS if self.mode in ("off", "user") else set()
        self.assertLessEqual(missed, without, "nobody passes these points")


class Walk(Workload):
    """All that happens while the daemon runs."""

    def learn(self):
        """point → the quickest operation that passes it."""
        found = {}
        for name in self.ops():
            before, begin = self.fp.all_hits(), time.monotonic()
            self.run_op(name)
            took = time.monotonic() - begin
            for point, hits in self.fp.all_hits().items():
                if hits > before[point] and took < found.get(point, (1e9,))[0]:
                    found[point] = (took, name)
        return {point: name for point, (_, name) in found.items()}

    def walk_one(self, point, op, action, calm):
        self.point, self.calm = point, calm
        self.fp.arm(point, action, "EAGAIN")
        try:
            for name in (op, *self.ops()):  # what passed it once may have been an echo
                self.run_op(name)
                if self.fp.happened(point):
                    break
            self.assertTrue(self.fp.happened(point), "nobody passes it again")
            self.look()
        except (AssertionError, TimeoutError) as error:
            text = str(error).splitlines()
            self.complaints.append(f"{point} × {action} in {op}: {' | '.join(text)[:1500]}")
        finally:
            self.fp.disarm_all()
            self.settle()

    def walk(self, actions, roles):
        self.point = None
        where = self.learn()
        self.fp.disarm_all()
        order = [(name, action) for role, name in self.fp.points for action in actions
                 if role in roles and name in where and any(word in name for word in ONLY)]
        end = time.monotonic() + SECONDS if SECONDS else None
        if end:
            random.Random(draw()).shuffle(order)
        done = 0
        for point, action in order:
            if end and time.monotonic() > end:
                break
            # a child that is killed is a crash, and one that fails is charged
            self.walk_one(point, where[point], action, roles != "C" or action == "kill-manager")
            done += 1
        return where, done

    def finish_walk(self, done):
        self.settle()
        self.assertEqual(self.complaints, [], "\n" + "\n".join(self.complaints))
        self.look()
        with self.d.connect() as talk:
            self.oracles.check_events(self.d.socket, talk)
        self.ask("Stop", targets=["all"], wait=True)
        self.oracles.check_stopped("steady")
        self.d.stop()
        lines = self.oracles.check_lines("steady", "web", "extra")
        self.assertGreater(lines, 100)
        print(f"walk {self.id().rpartition('.')[2]} ({self.mode}): {done} walked, {lines} lines",
              flush=True)

    def run_walk(self, actions, roles):
        self.prepare()
        self.start()
        where, done = self.walk(actions, roles)
        self.finish_walk(done)
        missed = {n for role, n in self.fp.points if role in roles and n not in where
                  and not n.startswith(ELSEWHERE)}
        self.assert_missed(missed)

    def test_manager_killed_at_each_point(self):
        self.run_walk(["kill"], "M")

    def test_logger_killed_at_each_point(self):
        self.run_walk(["kill"], "L")

    def test_child_killed_at_each_point(self):
        self.run_walk(["kill", "errno"], "C")

    def test_manager_killed_while_the_keeper_or_a_child_is_there(self):
        self.run_walk(["kill-manager"], "KC")


# Points of the beginning and the end (test_ends.py); of templates and hosts (tests/live).
ELSEWHERE = ("boot.", "end.", "phase.", "gone.", "fork.", "template.", "born.", "claim.", "go.",
             "thread.", "watchdog.", "sharing.", "spare.", "bad.", "seed.")
