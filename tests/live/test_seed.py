"""start_method "fork": worker 0 is the seed, its siblings are copies made at its fork point."""
from harness import procs, until
from test_handover import HandoverCase
from test_template import TemplateCase

SEED = """
WARM = []
def seeded():
    WARM.append(os.getpid())
    reeve.fork_point()
    print("warmed by", WARM[0], flush=True)
    while not reeve.stopping():
        time.sleep(0.02)
        {again}
    return 0
"""


WARMS = """
def warms():
    print("warming", flush=True)
    while not os.path.exists("{gate}"):
        time.sleep(0.01)
    reeve.fork_point()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    time.sleep(1000)
"""


class Seed(TemplateCase):
    def seed(self, again=True, **keys):
        self.app(SEED.replace("{again}", "reeve.fork_point()" if again else "pass"))
        return self.group("app:seeded", start_method="fork", workers=3, **keys)

    def test_siblings_are_copies_of_the_warm_seed(self):
        d = self.forked({"web": self.seed()})
        d.until_all(state="ready", restarts=0)
        workers = d.workers()
        self.assertEqual([workers[f"web:{i}"]["source"] for i in range(3)],
                         ["exec", "web:0/1", "web:0/1"])
        until(lambda: len(d.lines("web")) >= 3, 10)
        self.assertEqual(set(d.lines("web")), {f"warmed by {workers['web:0']['pid']}"})
        procs.kill(d.host(workers["web:1"]["pid"]))
        worker = d.until_worker("web:1", state="ready", restarts=1)
        self.assertEqual(worker["source"], "web:0/1")
        self.assertEqual(d.detail("web:0")["templates"], [])
        d.stop()

    def test_a_dead_seed_is_replaced(self):
        d = self.forked({"web": self.seed()})
        d.until_all(state="ready")
        before = d.workers()
        procs.kill(d.host(before["web:0"]["pid"]))
        seed = d.until_worker("web:0", state="ready", incarnation=2)
        self.assertEqual(seed["source"], "exec")
        for name in ("web:1", "web:2"):
            self.assertEqual(d.worker(name)["pid"], before[name]["pid"])
        until(lambda: len(d.lines("web")) >= 4, 10, "the new seed waits for nobody")
        procs.kill(d.host(before["web:2"]["pid"]))
        worker = d.until_worker("web:2", state="ready", restarts=1)
        self.assertEqual(worker["source"], "web:0/2")
        d.stop()

    def test_a_seed_that_does_not_come_back(self):
        d = self.forked({"web": self.seed(False, template={"fork_timeout": "300ms"})})
        d.until_all(state="ready")
        procs.kill(d.host(d.worker("web:1")["pid"]))
        worker = d.until_worker("web:1", state="ready", restarts=1)
        self.assertEqual(worker["source"], "exec")
        self.assertIn("started by spawn", d.text())
        d.stop()

    def test_a_killed_manager_loses_no_sibling(self):
        d = self.forked({"web": self.seed()})
        d.roles_may_die = True
        d.until_all(state="ready")
        for number in range(1, 4):
            procs.kill(d.pid_of("web:1"))
            procs.kill(d.role("manager"))

            def fits():
                try:
                    workers = d.workers()
                except (OSError, EOFError):
                    return False
                return (workers["web:1"]["restarts"] == number and
                        all(w["state"] == "ready" for w in workers.values()))
            until(fits, 20)
        self.assertEqual(d.worker("web:0")["incarnation"], 1)
        d.stop()


class SeedHandover(HandoverCase):
    """A seed and its manager: whatever the successor does not know, copies are made."""

    def warming(self, start, **keys):
        """A daemon whose seed warms up until the file is there, and the file."""
        gate = self.dir / "gate"
        self.app(WARMS.replace("{gate}", str(gate)))
        d = start({"web": self.group("app:warms", start_method="fork", workers=3, settle="0s",
                                     **keys)})
        d.roles_may_die = True
        until(lambda: "warming" in d.lines("web"), 15, "the seed warms up")
        return d, gate

    def assert_copies(self, d):
        def fits():
            try:
                workers = d.workers()
            except (OSError, EOFError):
                return None
            return all(w["state"] == "ready" and w["pid"] for w in workers.values()) and workers
        workers = until(fits, 20, "all are ready")
        self.assertEqual([workers[f"web:{i}"]["source"] for i in range(3)],
                         ["exec", "web:0/1", "web:0/1"], d.text())

    def test_the_manager_dies_while_the_seed_warms_up(self):
        d, gate = self.warming(self.forked)
        procs.kill(d.role("manager"))
        self.answers(d)
        gate.touch()
        self.assert_copies(d)
        d.stop()

    def test_the_manager_dies_with_the_READY_of_a_seed(self):
        d, gate = self.warming(self.armed)
        self.points.arm("template.heard", "kill", skip=1)  # the first one is its HELLO
        gate.touch()
        until(lambda: self.points.happened("template.heard"), 15)
        self.assert_copies(d)
        d.stop()

    def test_a_seed_that_broke_the_protocol_is_ended_by_a_successor(self):
        for point, skip in (("bad.noted", 0), ("bad.closed", 0),
                            ("state.set", 3)):
            d = self.armed({"web": self.raw_group("deaf", start_method="fork", workers=2,
                                                  settle="15s", restart={"when": "never"})},
                           name=point, arm=lambda p=point, s=skip: self.points.arm(p, "kill",
                                                                                   skip=s))
            until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
            self.answers(d)
            worker = d.until_worker("web:0", state="done")
            self.assertEqual((worker["last_exit"]["signal"], worker["last_exit"]["cause"]),
                             ("KILL", "probe"), point)
            d.stop()
