"""start_method "fork": worker 0 is the seed, its siblings are copies made at its fork point."""
from harness import costly, procs, signal, until
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


# Behind its fork point it does what workers do: runs a thread, holds a lock.
WORKS = """
import fcntl, threading
def works():
    {before}
    reeve.fork_point()
    threading.Thread(target=time.sleep, args=(3600,), name="feeder", daemon=True).start()
    held = open(os.environ["REEVE_WORKER"] + ".lock", "w")
    fcntl.flock(held, fcntl.LOCK_EX)
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

ANEW = " % of its memory is its own: forked anew"
BAD = ("bad.noted", "bad.closed")
RELEASE = ("seed.release", "seed.released")
POINTS = ("sharing.returns", "sharing.note", "sharing.noted", "sharing.asked", "sharing.fail",
          "sharing.failed", "sharing.looked")

# A worker writes to all that it shares while its name stands in the folder, and takes it away. The
# seed is there while another one is written to: it comes to fork points all the time.
WRITES = """
SHARED = bytearray(64 << 20)
def fill(with_what):
    for at in range(0, len(SHARED), 4096):
        SHARED[at] = with_what
fill(1)

def writes():
    while not reeve.stopping():
        reeve.fork_point()
        own = os.path.join("{folder}", os.environ["REEVE_WORKER"])
        if os.path.exists(own):
            fill(2)
            os.rename(own, own + ".done")
        time.sleep(0.01)
    return 0
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

    def works(self, before="pass", again="pass", **keys):
        self.need_not("eperm", "the C library makes no thread where clone3 answers EPERM")
        self.app(WORKS.replace("{before}", before).replace("{again}", again))
        return self.forked({"web": self.group("app:works", start_method="fork", workers=3,
                                              template={"fork_timeout": "1s"}, **keys)})

    def test_a_seed_at_work_may_have_threads_and_locks(self):
        """It is not asked to be fit for a fork any more: whom it does not fork is executed."""
        for name, again in (("away", "pass"), ("back", "reeve.fork_point()")):
            d = self.works(again=again)
            d.until_all(state="ready", restarts=0)
            self.assertEqual(d.worker("web:1")["source"], "web:0/1", name)
            d.roles_may_die = True
            for n in (1, 2):
                procs.kill(d.pid_of("web:1"))
                worker = d.until_worker("web:1", state="ready", restarts=n)
                self.assertEqual((worker["source"], worker["incarnation"]), ("exec", n + 1), name)
                procs.kill(d.role("manager"))
                until(lambda d=d: self.alive(d), 15, "a manager answers")
            d.ctl("restart", "web:2", code=0)
            self.assertEqual(d.worker("web:2")["source"], "exec", name)
            d.stop()

    def alive(self, d):
        try:
            return d.call("Version")
        except (OSError, EOFError):
            return None

    def test_a_seed_that_is_unfit_at_its_fork_point_is_refused(self):
        d = self.works("threading.Thread(target=time.sleep, args=(99,), name='early').start()",
                       restart={"limit": 2})
        for name in ("web:1", "web:2"):
            d.until_worker(name, state="quarantined", status=lambda s: s and "seed web:0" in s)
        text = d.worker("web:1")["status"]
        self.assertRegex(text, r"^seed web:0: \d threads \(.*early.*\); start .+ after "
                         r"fork_point\(\)$")
        d.ctl("stop", "web:0", "--cold", code=0)
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

    def test_a_copy_that_is_there_is_not_started_once_more_by_exec(self):
        """Its seed forked it and does not come to say so; the keeper has not answered for it yet."""
        d = self.armed({"web": self.raw_group("unsaid", start_method="fork", workers=2,
                                              settle="0s", restart={"delay": "1ms"},
                                              template={"fork_timeout": "2s"})})
        d.until_all(state="ready")
        self.points.arm("claim.send", "pause")
        procs.kill(d.pid_of("web:1"))
        until(lambda: self.points.happened("claim.send"), 15)
        procs.kill(d.pid, signal.SIGSTOP)
        self.points.disarm("claim.send")
        self.never(lambda: "started by spawn" in d.text(), 2.5, "it was forked")
        procs.kill(d.pid, signal.SIGCONT)
        worker = d.until_worker("web:1", state="ready", restarts=1)
        self.assertEqual(worker["source"], "web:0/1")
        d.stop()

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
        def start(groups):
            return self.armed(groups, arm=lambda: self.points.arm(  # the first one is its HELLO
                "template.heard", "kill", skip=1))
        d, gate = self.warming(start)
        gate.touch()
        until(lambda: self.points.happened("template.heard"), 15)
        self.assert_copies(d)
        d.stop()

    def test_the_manager_dies_when_it_lets_the_seed_go_on(self):
        """What the seed does behind its fork point is held against nobody by the successor either."""
        self.need_not("eperm", "the C library makes no thread where clone3 answers EPERM")
        self.app(WORKS.replace("{before}", "pass").replace("{again}", "pass"))
        for point in RELEASE:
            d = self.armed({"web": self.group("app:works", start_method="fork", workers=3,
                                              template={"fork_timeout": "1s"})},
                           name=point, arm=lambda p=point: self.points.arm(p, "kill"))
            until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
            self.answers(d)
            d.until_all(state="ready")
            procs.kill(d.host(d.worker("web:1")["pid"]))
            worker = d.until_worker("web:1", state="ready", restarts=1)
            self.assertEqual((worker["source"], worker["incarnation"]), ("exec", 2), point)
            d.stop()

    def test_a_seed_that_broke_the_protocol_is_ended_by_a_successor(self):
        for point, skip in (*((point, 0) for point in BAD), ("state.set", 3)):
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


class SeedSharing(HandoverCase):
    """Copies that have come to share little with their seed. Minutes pass at once."""
    stretch = 2

    def writing(self, **keys):
        """A daemon of a seed and two copies, which share nearly everything still."""
        self.folder = self.open_folder()
        self.app(WRITES.replace("{folder}", str(self.folder)))
        d = self.armed({"web": self.group("app:writes", start_method="fork", workers=3,
                                          settle="0s", **keys)})
        d.until_all(state="ready")
        return d

    def write(self, name):
        (self.folder / name).touch()
        done = self.folder / f"{name}.done"
        until(done.exists, 15, f"{name} has written")
        done.unlink()

    def pass_by(self, d, seconds):
        """So long later something happens."""
        self.points.skip_time(seconds)
        d.ctl("reset", "web:0", code=0)  # asked again if the manager dies in it

    def look(self, d, seconds, word="", point="sharing.looked"):
        """The same, and all that is measured then is measured: until the log has the word, or the
        point is met. A process that waits uninterruptibly just then is not looked at."""
        start = len(d.text())
        for _ in range(5):
            seen, met = self.points.hits("sharing.looked"), self.points.happened(point)
            self.pass_by(d, seconds)
            until(lambda s=seen, m=met: self.points.hits("sharing.looked") > s or
                  self.points.happened(point) > m, 15, "it is measured")
            if word in d.text()[start:] and (point == "sharing.looked" or
                                             self.points.happened(point) > met):
                return
            seconds = 61
        self.fail(f"no {word or point}: {d.text()[-3000:]}")

    def nobody_is_looked_at(self, d, seconds):
        looks = self.points.hits("sharing.looked")
        self.pass_by(d, seconds)
        self.never(lambda: self.points.hits("sharing.looked") > looks, 0.5, "it is measured")

    def own(self, d, name):
        w = next(w for w in d.call("List", memory=True)["workers"] if w["worker"] == name)
        return w["private_bytes"] / (w["private_bytes"] + w["shared_bytes"])

    def test_a_copy_that_shares_little_is_made_anew(self):
        d = self.writing()
        d.roles_may_die = False
        before = d.workers()
        self.write("web:1")
        self.assertGreater(self.own(d, "web:1"), 0.75)
        self.look(d, 660, ANEW)
        worker = d.until_worker("web:1", incarnation=2, state="ready")
        self.assertEqual((worker["source"], worker["restarts"]), ("web:0/1", 0))
        self.assertEqual((worker["last_exit"]["cause"], worker["last_exit"]["code"]),
                         ("recycle", 0))
        self.assertRegex(d.text(), r"web:1: [789]\d % of its memory is its own: forked anew")
        self.assertLess(self.own(d, "web:1"), 0.5)
        self.look(d, 61)
        self.look(d, 660)
        now = d.workers()
        self.assertEqual(now["web:1"]["pid"], worker["pid"], "it shares again")
        for name in ("web:0", "web:2"):
            self.assertEqual(now[name]["pid"], before[name]["pid"], name)
        d.stop()

    @costly("eperm")
    def test_one_copy_after_the_other(self):
        d = self.writing()
        d.roles_may_die = False
        for name in ("web:1", "web:2"):
            self.write(name)
        self.look(d, 660, ANEW)

        def renewed():
            return sorted(n for n, w in d.workers().items() if w["incarnation"] == 2)
        first = until(renewed, 15)
        d.until_all(state="ready")
        self.assertEqual(len(renewed()), 1, "the first one is looked at before")
        self.look(d, 61, ANEW)
        until(lambda: renewed() == ["web:1", "web:2"], 15, f"after {first}")
        d.until_all(state="ready", restarts=0)
        d.stop()

    @costly("pid1")
    def test_where_it_does_not_help_one_has_to_try_it(self):
        d = self.writing()
        d.roles_may_die = False
        for name in ("web:1", "web:2"):
            self.write(name)
        self.look(d, 660, ANEW)
        until(lambda: [n for n, w in d.workers().items() if w["incarnation"] == 2], 15)
        d.until_all(state="ready")
        before = d.workers()
        tried = next(n for n, w in before.items() if w["incarnation"] == 2)
        self.write(tried)
        self.look(d, 61, "no other is")
        self.assertRegex(d.text(), tried + r": [789]\d % of its memory is its own, although it was")
        self.nobody_is_looked_at(d, 660)
        for worker, was in zip(d.workers().values(), before.values()):
            self.assertEqual((worker["state"], worker["pid"]), ("ready", was["pid"]))
        self.reload(d)
        self.write("web:1")
        self.look(d, 660, ANEW)
        d.until_worker("web:1", incarnation=before["web:1"]["incarnation"] + 2, state="ready")
        d.stop()

    def reload(self, d):
        """Another generation of the group."""
        d.ctl("reload", "web", code=0)
        d.until_all(state="ready", generation=2)

    @costly()
    def test_young_ones_are_not_measured(self):
        d = self.writing()
        self.write("web:1")
        for seconds in (300, 200):
            self.nobody_is_looked_at(d, seconds)
        self.assertEqual(d.worker("web:1")["incarnation"], 1)
        d.stop()

    @costly("off")
    def test_a_seed_that_does_not_come_back_is_not_waited_for(self):
        d = self.once_only()
        d.roles_may_die = False
        for name in ("web:1", "web:2"):
            self.write(name)
        for seconds in (660, 61, 61):
            self.look(d, seconds)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {1}, d.text())
        self.assertNotIn("forked anew", d.text())
        d.stop()

    def once_only(self):
        """As writing(); the seed comes to fork points while there is a file "again"."""
        self.folder = self.open_folder()
        again = f"        if os.path.exists('{self.folder}/again'): reeve.fork_point()"
        self.app(WRITES.replace("{folder}", str(self.folder))
                 .replace("        reeve.fork_point()", again)
                 .replace("def writes():", "def writes():\n    reeve.fork_point()"))
        d = self.armed({"web": self.group("app:writes", start_method="fork", workers=3,
                                          settle="0s")})
        d.until_all(state="ready")
        return d

    @costly("off")
    def test_a_seed_that_comes_back_no_more_makes_none(self):
        d = self.once_only()
        for name in ("web:1", "web:2"):
            self.write(name)
        (self.folder / "again").touch()
        self.look(d, 660)
        until(lambda: self.points.hits("sharing.returns"), 15, "it comes back once")
        (self.folder / "again").unlink()
        self.look(d, 61, ANEW)
        tried = until(lambda: [n for n, w in d.workers().items() if w["incarnation"] == 2], 15)
        d.until_all(state="ready", restarts=0)
        self.assertEqual([d.worker(n)["source"] for n in tried], ["exec"])
        self.look(d, 61, "no other is")
        self.assertIn(f"{tried[0]}: was to be forked anew and was executed", d.text())
        self.assertEqual(len([w for w in d.workers().values() if w["incarnation"] == 2]), 1)
        d.stop()

    @costly("user")
    def test_the_manager_dies_while_one_is_made_anew(self):
        d = self.writing()
        for number, point in enumerate(("sharing.returns", "sharing.note", "sharing.noted",
                                        "sharing.asked", "sharing.looked"), 1):
            self.write("web:1")
            said = d.text().count(ANEW)
            self.points.arm(point, "kill")
            self.look(d, (600 << number - 1) + 60, point=point)
            self.answers(d)
            if d.text().count(ANEW) == said or point in ("sharing.note", "sharing.noted"):
                self.look(d, 61, ANEW)  # it is found once more
            worker = d.until_worker("web:1", incarnation=number + 1, state="ready")
            self.assertEqual((worker["restarts"], worker["source"]), (0, "web:0/1"), point)
            self.assertEqual(worker["last_exit"]["cause"], "recycle", point)
        self.assertEqual(d.worker("web:2")["incarnation"], 1)
        d.stop()

    @costly("eperm")
    def test_the_manager_dies_when_it_has_not_helped(self):
        d = self.writing()
        for generation, point in enumerate(("sharing.fail", "sharing.failed"), 1):
            if generation > 1:
                self.reload(d)
            was = d.worker("web:1")["incarnation"]
            self.write("web:1")
            self.look(d, 660, ANEW)
            d.until_worker("web:1", incarnation=was + 1, state="ready")
            self.write("web:1")
            self.points.arm(point, "kill")
            self.look(d, 61, point=point)
            self.answers(d)
            if point == "sharing.fail":
                self.look(d, 61, "no other is")
            self.nobody_is_looked_at(d, 660)
            self.assertEqual(d.worker("web:1")["incarnation"], was + 1, point)
        d.stop()
