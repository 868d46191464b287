"""
Random operations × random faults × puppets, against what is promised whatever happens.

REEVE_CHAOS_SEED draws the plan (plan.py), REEVE_CHAOS_SECONDS bounds the run; REEVE_CHAOS_PLAN
names the file of a plan to be done instead. The plan that was done is left as plan.json. What is
looked at, and which invariant of failures each look is for: README.md.
"""
import collections
import json
import os
import pathlib
import random
import socket
import time

import client
import decoys
import procs
import test_walk
import varlink
import world
from failpoints import Failpoints
from harness import signal, until
from plan import FORKED, GROUPS, Drawn

SECONDS = float(os.environ.get("REEVE_CHAOS_SECONDS", "6"))
HERE = os.path.dirname(os.path.abspath(__file__))
MEET_S = 30
PAUSE_US = 2500
NEVER_TOUCHED = ("flaky", "steady", "block", "copies")
PYTHON = "/usr/bin/python3"


def flaky_code(incarnation):
    return incarnation % 7 + 1


class Storm(test_walk.Workload):
    """One daemon, one plan."""

    # --- the world ----------------------------------------------------------------------------

    def groups(self, guest=0, greeting=0):
        life = lambda *words: world.life(self, self.records, *words)  # noqa: E731
        ends = [word for n in range(7) for word in ("if=mod7:%d" % n, "[", f"exit={n + 1}", "]")]
        groups = {
            "web": {"command": life("notify=READY=1\nSTATUS=@inc@", "notify=MAINPID=1\nWATCHDOG=1",
                                    "notify=X=1\nREADY=0", world.rows(PAUSE_US)),
                    "workers": GROUPS["web"], "ready": "notify", "env": {"GREETING": str(greeting)},
                    "sockets": [{"name": "a", "listen": f"unix://{self.dir}/web.sock"}]},
            "plain": {"command": life(world.rows(PAUSE_US)), "workers": GROUPS["plain"],
                      "stop": {"timeout": "300ms"}, "log": {"format": "json"}},
            "tree": {"command": life("fork=2", "[", "setsid", "ignore=TERM", "wait", "]",
                                     "orphan=1", "[", "wait", "]", "wait"),
                     "workers": GROUPS["tree"], "stop": {"timeout": "80ms"}},
            "flaky": {"command": life("sleep=120", *ends, "exit=99"), "workers": GROUPS["flaky"]},
            "steady": {"command": life(world.rows(PAUSE_US)), "workers": GROUPS["steady"],
                       "log": {"max_size": "60K", "keep": 1000, "stderr": "separate"}},
            "block": {"command": life(world.rows(500)), "workers": GROUPS["block"],
                      "log": {"overflow": "block", "max_size": "100K", "keep": 1000,
                              "format": "json"}},
        }
        groups.update(self.started_otherwise())
        if guest:
            groups["guest"] = {"command": life(world.rows(PAUSE_US)), "workers": 2}
        return groups

    def started_otherwise(self):
        """Forked from a template (Python's and the native one), from a seed, and threads."""
        env = {"CHAOS_JOURNAL": str(self.records.path), "CHAOS_LOCKS": str(self.dir)}
        python = {"python": PYTHON, "cwd": str(self.dir), "env": env}
        groups = {
            "pool": {"entry": "life:run", "start_method": "forkserver", **python},
            "seed": {"entry": "life:seed", "start_method": "fork", **python},
            "slots": {"entry": "life:slot", "start_method": "threads", **python},
            "copies": {"entry": str(self.dir / "module.so"), "start_method": "forkserver",
                       "env": {**env, "MODULE_RUN": "life"}},
        }
        if self.mode == "eperm":  # the C library makes no thread where clone3 answers EPERM
            del groups["slots"]
        for name, group in groups.items():
            group["workers"] = GROUPS[name]
            if name != "slots":
                group["template"] = {"fork_timeout": "500ms"}
        return groups

    def prepare_storm(self, path):
        self.seed = test_walk.draw()
        self.records = self.journal()
        self.scaled = lambda name: name.startswith(("guest:", "plain:"))
        self.oracles = world.Oracles(self, self.records, lambda name: not self.scaled(name))
        self.guest, self.greeting, self.epoch, self.event_seq = 0, 0, 1, 0
        self.fp = Failpoints(self.context.program("reeved"), self.dir / "failpoints")
        self.addCleanup(self.fp.close)
        self.calm, self.point, self.herd, self.later = True, None, None, []
        self.did, self.kills = collections.Counter(), collections.defaultdict(set)
        self.failed = set()  # lives that could not be started, as their records say
        self.unborn = 0  # lives that were killed at a point before their program ran
        self.runtimes = world.bring_runtimes(self)
        self.given = path is not None
        if path:
            with open(path, encoding="utf-8") as file:
                self.plan = json.load(file)["steps"]
        else:
            self.plan = Drawn(self.seed, self.fp.points, self.mode).steps(int(SECONDS * 40) + 10)

    def launch(self):
        before = decoys.narrow if self.mode == "pid1" else None
        env = dict(self.runtimes)
        if self.fp.points:
            env["REEVE_FAILPOINTS"] = str(self.fp.path)
        self.d = self.daemon(self.whole(), start=False, env=env, before=before)
        self.d.roles_may_die = True
        self.d.start(test_walk.READY_S)
        if self.mode == "pid1":
            self.herd = decoys.Herd(self.d.pid)
            self.addCleanup(self.herd.close)  # its namespace ends only when they are reaped
            self.herd.add(decoys.HERD)

    # --- steps: operations --------------------------------------------------------------------

    def call(self, method, **parameters):
        """As a client that does not wait for ever: while faults are on, no answer is no failure."""
        try:
            client.ask(self.d.socket, method, 5, **parameters)
            self.did[method] += 1
        except varlink.Refused as error:
            self.did[f"{method} refused"] += 1
            self.assertIn(error.name, ("NoSuchTarget", "Timeout", "Failed", "InvalidConfig",
                                       "ExpectedMore"), error)
        except TimeoutError:
            self.did[f"{method} late"] += 1

    def do_start(self, target):
        self.call("Start", targets=[target], wait=False)

    def do_stop(self, target, cold, wait):
        self.call("Stop", targets=[target], cold=cold, wait=wait, timeout_ms=1000)

    def do_restart(self, target, cold):
        self.call("Restart", targets=[target], wait=False)

    def do_scale(self, workers):
        self.call("Scale", group="plain", workers=workers, wait=False)

    def do_reload(self, greeting, guest, by):
        self.greeting, self.guest = greeting, guest
        self.d.write(self.whole())
        if by == "signal":
            self.d.send(signal.SIGHUP)
        else:
            self.call("Reload", wait=False)

    def do_renew(self):
        self.call("Reload", groups=["web"], wait=False)

    def do_upgrade(self):
        self.d.send(signal.SIGUSR2)

    def do_look(self):
        try:
            shown = client.ask(self.d.socket, "Show", 5, targets=NEVER_TOUCHED)
        except TimeoutError:
            return
        self.check_ends(shown["details"])

    # --- steps: noise -------------------------------------------------------------------------

    def do_signal(self, signal, times):  # pylint: disable=redefined-outer-name
        for _ in range(times):
            self.d.send(getattr(self.signals, f"SIG{signal}"))

    signals = signal

    def talk(self, data, read, hold_ms=0):
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(.2)
                s.connect(str(self.d.socket))
                s.sendall(data)
                time.sleep(hold_ms / 1000)
                if read:
                    s.recv(100)
        except OSError:
            pass

    def do_garbage(self, bytes, read):  # pylint: disable=redefined-builtin
        self.talk(bytes.replace("\\0", "\0").encode(), read)

    def do_cut(self, method, target, hold_ms):
        call = {"method": f"{varlink.INTERFACE}.{method}", "more": True,
                "parameters": {"targets": [target], **({"follow": True} if method in
                                                       ("Events", "Logs") else {})}}
        self.talk(json.dumps(call).encode() + b"\0", False, hold_ms)

    # --- steps: faults ------------------------------------------------------------------------

    def role_pid(self, name):
        return procs.roles_of(self.d.pid).get(name)

    def kill_role(self, name):
        pid = self.role_pid(name)
        if pid and procs.kill(pid):
            self.did[f"kill {name}"] += 1

    def do_kill_manager(self):
        self.kill_role("manager")

    def do_kill_logger(self):
        self.kill_role("logger")

    def hold(self, pid, ms):
        if pid and procs.kill(pid, signal.SIGSTOP):
            self.later.append((time.monotonic() + ms / 1000, lambda: procs.kill(pid, signal.SIGCONT)))

    def do_hold_role(self, role, ms):
        self.hold(self.role_pid(role), ms)

    def newest(self, worker):
        """(incarnation, pid here) of the newest life that wrote its token, if it still runs."""
        lives = [(key[2], entries[-1]) for key, entries in self.oracles.claims().items()
                 if key[0] == self.epoch and key[1] == worker]
        if not lives:
            return None, None
        number, entry = max(lives, key=lambda life: life[0])
        pid = self.d.host(entry.pid)
        return number, pid if pid and world.wrote(pid, entry) else None

    def do_kill_worker(self, worker, signal):  # pylint: disable=redefined-outer-name
        number, pid = self.newest(worker)
        if pid:
            self.kills[self.epoch, worker, number].add(signal)
            procs.kill(pid, getattr(self.signals, f"SIG{signal}"))
            self.did["kill worker"] += 1

    def do_hold_worker(self, worker, ms):
        self.hold(self.newest(worker)[1], ms)

    def template(self, group):
        """Pid here of the template that serves or loads, None while nobody knows."""
        try:
            shown = client.ask(self.d.socket, "Show", 1, targets=[f"{group}/template"])
        except (TimeoutError, varlink.Refused):
            return None
        for template in shown["details"][0].get("templates", []):
            pid = self.d.host(template.get("pid"))
            if pid and f"/{group}/template/" in procs.read(f"/proc/{pid}/environ"):
                return pid
        return None

    def do_kill_template(self, group):
        pid = self.template(group)
        if pid and procs.kill(pid):
            self.did["kill template"] += 1

    def do_hold_template(self, group, ms):
        self.hold(self.template(group), ms)

    def do_error(self, point, errno, skip, times):
        self.fp.arm(point, "errno", errno, skip, times)

    def do_slow(self, point, ms):
        self.fp.arm(point, "pause")
        self.later.append((time.monotonic() + ms / 1000, lambda: self.fp.disarm(point)))

    def do_at_point(self, point, action, skip):
        self.count_unborn(point)
        self.fp.arm(point, action, 0, skip)
        self.did["armed"] += 1

    def count_unborn(self, *points):
        """Before a point is armed anew, which clears what happened there."""
        children = {name for role, name in self.fp.points if role == "C"} - {"role.exec"}
        self.unborn += sum(self.fp.happened(p) for p in points or children if p in children)

    def do_clock(self, seconds):
        self.fp.step_clock(seconds)

    def do_freeze(self, worker, ms):
        if not self.d.cgroup:
            return
        group, _, index = worker.partition(":")
        leaves = [p for p in self.d.cgroup.below() if p.parts[-3:-1] == ("w", group) and
                  p.name.startswith(f"{index}.")]
        for leaf in leaves:
            self.freeze(leaf, 1)
            self.later.append((time.monotonic() + ms / 1000, lambda at=leaf: self.freeze(at, 0)))

    def freeze(self, leaf, on):
        try:
            (leaf / "cgroup.freeze").write_text(str(on))
            if on:
                until(lambda: "frozen 1" in procs.read(leaf / "cgroup.events", "frozen 1"), 2)
                self.did["frozen"] += 1
        except OSError:
            pass  # its worker has ended

    def do_decoys(self, turn):
        self.herd.turn(turn)

    def do_kill_keeper(self):
        """Every tree ends; the next daemon begins clean. (Both of keeper and manager at once leave
        what left its session to the next start: test_ends.py.)"""
        self.quiet()
        self.ask("Version")
        if self.herd:  # they live in its namespace, and go with it
            self.assertEqual(self.herd.hurt(), [])
            self.herd.close()
        procs.kill(self.d.pid)
        until(lambda: self.d.poll() is not None, 10, "it is dead")
        until(lambda: not self.d.survivors(), 10, "every tree has ended")
        self.epoch += 1
        self.event_seq = 0
        self.did["kill keeper"] += 1
        self.launch()

    # --- what must hold -----------------------------------------------------------------------

    def check_ends(self, details):
        """8: each end is what the test did to that life, or what the life did itself."""
        self.oracles.check_records(details, self.epoch)
        tokens = self.oracles.tokens()
        for detail in details:
            name = detail["worker"]["worker"]
            for record in detail.get("exits", []):
                number = record["incarnation"]
                ours = self.kills[self.epoch, name, number]
                said = (record.get("code"), record.get("signal"))
                if record.get("error"):
                    self.failed.add((self.epoch, name, number))
                    continue
                if said[1] == "KILL" and (self.epoch, name, number) not in tokens:
                    continue  # killed before its program ran, at a point: check_numbers
                if name.startswith("flaky"):
                    good = said[0] == flaky_code(number)
                else:
                    good = said[1] in ours
                self.assertTrue(good, f"{name} {number} ended {said}, was sent {ours}: {record}")

    def check_counters(self):
        """12, of the groups that no operator touches; who runs is the one that said so last."""
        for name, worker in client.workers(self.d.socket).items():
            if not name.startswith(NEVER_TOUCHED):
                continue
            self.oracles.check_counter(worker)
            if worker["state"] == "ready" and not name.startswith("flaky"):
                number = worker["incarnation"]
                until(lambda n=name, i=number: self.last_life(n) >= i, 10, f"{name} {number} begins")
                self.assertEqual(self.last_life(name), number, name)

    def last_life(self, name):
        return max((number for epoch, who, number in self.oracles.tokens()
                    if (epoch, who) == (self.epoch, name)), default=0)

    def check_numbers(self):
        """8, 23: the lives of a slot that nobody stops are numbered 1, 2, 3 … Each left a token, but
        for those whose record says that their start failed, and for as many that were killed as
        were killed at points between clone and program. Records go when newer ones come, so some
        are never seen; how many that concerns is printed."""
        lives = collections.defaultdict(set)
        for epoch, name, number in self.oracles.tokens():
            if name.startswith(NEVER_TOUCHED):
                lives[epoch, name].add(number)
        self.assertEqual(len([1 for epoch, _ in lives if epoch == self.epoch]),
                         sum(GROUPS[group] for group in NEVER_TOUCHED), "a slot without a life")
        missing = {(*who, n) for who, numbers in lives.items()
                   for n in set(range(1, max(numbers) + 1)) - numbers} - self.failed
        said = {life: self.oracles.seen[life][:2] for life in missing if life in self.oracles.seen}
        self.did["unseen"] = len(missing) - len(said)
        self.assertLessEqual(len(said), self.unborn, f"lives that left no token: {said}")
        self.assertLessEqual(set(said.values()), {(None, "KILL")}, said)

    def check_tree(self):
        """Nothing runs that the daemon does not know: 26, 31."""
        lives = [(who, entry) for who, entries in self.oracles.claims().items()
                 for entry in entries if who[0] == self.epoch]
        known = {w["pid"] for w in client.workers(self.d.socket).values() if w.get("pid")}
        hosts = procs.host_pids(self.d.pid)
        found = {(who, hosts.get(entry.pid), entry) for who, entry in lives
                 if entry.pid not in known}
        strangers = [(who, procs.describe(pid)) for who, pid, entry in found
                     if pid and world.wrote(pid, entry)]
        self.assertEqual(strangers, [], "main processes that the daemon does not know")

    def check_gone(self, group):
        """3, of lives whose environment is their template's: none of them runs."""
        hosts = procs.host_pids(self.d.pid)
        left = [(who, procs.describe(pid))
                for who, entries in self.oracles.claims().items() for entry in entries
                if who[0] == self.epoch and who[1].startswith(f"{group}:") and
                (pid := hosts.get(entry.pid)) and world.wrote(pid, entry)]
        self.assertEqual(left, [], f"{group} is stopped")

    def quiet(self):
        """Faults stop."""
        self.fp.disarm_all()
        self.fp.step_clock(0)
        for _, act in self.later:
            act()
        self.later = []

    def calm_down(self):
        self.quiet()
        self.settled()
        until(self.logs_are_well, MEET_S, "logs are written again")
        self.check_counters()  # before Start, which zeroes those of who waits for its back-off
        self.ask("Scale", group="plain", workers=GROUPS["plain"], wait=True)
        self.ask("Start", targets=["all"], wait=False)
        # not for those that die all the time: an answer is of one moment, theirs may never come
        rest = sorted({n.split(":")[0] for n in client.workers(self.d.socket)} - {"flaky"})
        answer = self.ask("Start", targets=rest, wait=True, timeout_ms=MEET_S * 1000)
        self.assertEqual([r for r in answer["results"] if not r["ok"]], [])

    def settled(self):
        """10: wanted and actual meet when faults stop."""
        def meets():
            for w in client.workers(self.d.socket).values():
                good = ("ready",) if w["wanted"] == "up" else ("stopped", "done")
                if w["state"] not in good and not w["worker"].startswith("flaky"):
                    return False
            return True
        try:
            until(meets, MEET_S, every=.02)
        except procs.Late:
            bad = {n: (w["state"], w["wanted"], w["incarnation"]) for n, w in
                   client.workers(self.d.socket).items()}
            self.fail(f"wanted and actual do not meet: {bad}\n{self.d.text()[-4000:]}")

    def check_all(self):
        self.calm_down()
        self.oracles.check_single()
        self.do_look()
        self.check_tree()
        self.oracles.check_zombies(self.d.pid)
        with self.d.connect() as talk:
            self.oracles.check_events(self.d.socket, talk)
        if self.herd:
            self.assertEqual(self.herd.hurt(), [], "signals went to strangers")
        self.ask("Stop", targets=["all"], wait=True)
        begun = set(self.oracles.tokens())
        for group in GROUPS:
            self.oracles.check_stopped(group)
            self.check_gone(group)
        if self.herd:
            self.assertEqual(self.herd.hurt(), [], "signals went to strangers")
            self.herd.close()
            self.herd = None
        self.d.stop()
        self.assertEqual(set(self.oracles.tokens()), begun, "started after the stop")
        self.count_unborn()
        self.check_numbers()
        # what a slot that is scaled away had to say while the disk was full is dropped, and told
        return self.oracles.check_lines("web", "steady", "block", *FORKED, "slots", "plain",
                                        lossy=("plain",), spoken=FORKED)

    # --- the run ------------------------------------------------------------------------------

    def take_steps(self):
        done, end = [], time.monotonic() + SECONDS
        for step in self.plan:
            if time.monotonic() > end and not self.given:
                break
            done.append(step)
            arguments = {k: v for k, v in step.items() if k not in ("do", "after_ms")}
            getattr(self, f"do_{step['do']}")(**arguments)
            self.did[step["do"]] += 1
            now = time.monotonic()
            for item in [i for i in self.later if i[0] <= now]:
                self.later.remove(item)
                item[1]()
            time.sleep(step["after_ms"] / 1000)
            self.assertIsNone(self.d.poll(), f"reeved ended: {self.d.code}")
            if len(done) % 50 == 0:
                self.oracles.check_single()
            if len(done) % 15 == 0:
                self.do_look()
        return done

    def keep_plan(self):
        (self.dir / "plan.json").write_text(json.dumps(
            {"seed": self.seed, "mode": self.mode, "steps": self.plan}, indent=0))

    def test_kept_plans(self):
        """What once failed, made small (run.py --shrink)."""
        for path in sorted(pathlib.Path(HERE, "kept").glob("*.json")):
            self.storm(path)
            for log in (self.dir / "log").iterdir():
                log.unlink()
            self.records.path.unlink()

    def test_storm(self):
        self.storm(os.environ.get("REEVE_CHAOS_PLAN"))

    def storm(self, path):
        self.prepare_storm(path)
        self.keep_plan()
        self.launch()
        self.settled()
        try:
            self.plan = self.take_steps()
            lines = self.check_all()
        except (AssertionError, TimeoutError) as error:
            self.keep_plan()
            raise AssertionError(f"seed {self.seed}, mode {self.mode}: {error}") from error
        self.assertGreater(lines, 10)
        did = {k: self.did[k] for k in ("kill manager", "kill logger", "kill worker", "kill keeper",
                                        "kill template", "frozen", "armed", "upgrade", "unseen")}
        print(f"storm ({self.mode}): seed {self.seed}, {len(self.plan)} steps, {lines} lines, "
              f"{len(self.oracles.tokens())} lives, {did}", flush=True)
