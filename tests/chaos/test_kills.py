"""
Kills of manager and logger at random moments, by the thousand, while a thousand workers run, start,
crash, stop and log: spawned, forked from a native and a Python template, and threads.
REEVE_CHAOS_KILLS says how many (0: the test is skipped; run.py --kills N), REEVE_CHAOS_SECONDS for
how long at most (run.py --minutes).
"""
import collections
import os
import random
import time

import client
import procs
import test_walk
import world
from harness import PYTHON, Case, merge, until

KILLS = int(os.environ.get("REEVE_CHAOS_KILLS", "0"))
SIZES = {"steady": int(os.environ.get("REEVE_CHAOS_STEADY", "600")), "lines": 50, "raw": 20,
         "flaky": 80, "churn": 80, "copies": 100, "born": 40, "pool": 20, "slots": 10}
LASTING = ("steady", "lines", "raw", "copies")  # nobody of these ever ends
ENDING = ("flaky", "born", "pool", "slots")  # each with the code of its life
SECONDS = float(os.environ.get("REEVE_CHAOS_SECONDS", "inf"))
LOOK_EVERY = 250  # kills
READ_EVERY_S = 8  # four records are kept of each worker, of lives of 4 s and longer
MEET_S = 240


def code_of(incarnation):
    return incarnation % 7 + 1


class Kills(Case):
    def groups(self):
        life = lambda *words: world.life(self, self.records, *words)  # noqa: E731
        ends = [word for n in range(7) for word in ("if=mod7:%d" % n, "[", f"exit={n + 1}", "]")]
        groups = {
            "steady": {"command": life("wait")},
            "churn": {"command": life("wait")},
            "lines": {"command": life(world.rows(40000))},
            "raw": {"command": life(world.rows(40000)), "log": {"format": "raw"}},
            "flaky": {"command": life("sleep=4000", *ends, "exit=99")},
            "copies": self.native(CHAOS_LINE_US="500000"),
            "born": self.native(CHAOS_LINE_US="100000", CHAOS_LINES="50"),
            "pool": self.python("run", "forkserver"),
            "slots": self.python("slot", "threads"),
        }
        common = {"restart": {"limit": 0, "delay": "10ms", "max_delay": "200ms"},
                  "log": {"max_size": "1M", "keep": 1000}}
        return {name: merge({**common, "workers": SIZES[name]}, groups[name]) for name in SIZES}

    def traces(self, **env):
        return {"CHAOS_JOURNAL": str(self.records.path), "CHAOS_LOCKS": str(self.dir), **env}

    def native(self, **env):
        return {"entry": str(self.dir / "module.so"), "start_method": "forkserver",
                "template": {"fork_timeout": "60s"}, "env": self.traces(MODULE_RUN="life", **env)}

    def python(self, entry, method):
        group = {"entry": f"life:{entry}", "start_method": method, "python": PYTHON,
                 "cwd": str(self.dir), "env": self.traces(CHAOS_LINE_US="200000", CHAOS_LINES="40")}
        return {**group, "template": {"fork_timeout": "60s"}} if method == "forkserver" else group

    def begin(self):
        self.records = self.journal()
        self.oracles = world.Oracles(self, self.records)
        self.seed = test_walk.draw()
        self.random = random.Random(self.seed)
        self.did = collections.Counter()
        conf = self.conf(self.groups(), daemon={"log": {"level": "warn"}},
                         defaults={"env": {"EPOCH": "1"}})
        self.d = self.daemon(conf, start=False, env=world.bring_runtimes(self))
        self.d.roles_may_die = True
        self.d.start(60)
        until(lambda: self.all_meet(1), MEET_S, every=.1)
        self.first = {n: w["pid"] for n, w in client.workers(self.d.socket).items()
                      if n.startswith(LASTING)}
        self.known = procs.roles_of(self.d.pid)

    def kill_one(self):
        name = self.random.choice(("manager", "manager", "logger"))
        pid = self.known[name] = procs.newest_role(self.d.pid, name, self.known.get(name))
        if pid and procs.kill(pid):
            self.did[name] += 1

    def operate(self):
        """An operator's wish, whether or not somebody is there to hear it."""
        target = f"churn:{self.random.randrange(SIZES['churn'])}"
        method = self.random.choice(("Stop", "Start", "Restart", "Restart"))
        try:
            client.ask(self.d.socket, method, .1, targets=[target], wait=False)
            self.did[method] += 1
        except TimeoutError:
            self.did["late"] += 1

    def read_records(self):
        """8: the code of each end says which life it was."""
        shown = []
        for part in self.stream("Show", {"targets": list(ENDING)}):
            shown += part["details"]
        self.oracles.check_records(shown, 1)
        for (_, name, number), (code, sig, _) in list(self.oracles.seen.items()):
            self.assertEqual((code, sig), (code_of(number), None), f"{name} {number}")

    def stream(self, method, parameters):
        end = time.monotonic() + MEET_S
        while True:
            try:
                with self.d.connect(60) as talk:
                    return list(talk.stream(method, parameters))
            except (OSError, EOFError):
                self.assertLess(time.monotonic(), end)

    def all_meet(self, least=0):
        """name → Worker once all are ready, but for those that come and go: of these, so many lives
        have begun."""
        found = client.workers(self.d.socket, 60)
        return found if all(w["state"] == "ready" or
                            n.startswith((*ENDING, "churn")) and w["incarnation"] >= least
                            for n, w in found.items()) else None

    def look(self):
        """With the faults held back a moment: nobody lost, nobody doubled, all counted."""
        found = until(self.all_meet, MEET_S)
        self.assertEqual({n: found[n]["pid"] for n in self.first}, self.first, "workers were lost")
        for name, worker in found.items():
            if name.startswith((*LASTING, *ENDING)):
                self.oracles.check_counter(worker)
        self.oracles.check_single()
        self.read_records()
        self.oracles.check_zombies(self.d.pid)

    def all_go_on(self):
        """10: who ends again and again is ready again, too, when faults stop."""
        awaited = {n for n in client.workers(self.d.socket, 60) if n.startswith(ENDING)}

        def none_left():
            awaited.difference_update(n for n, w in client.workers(self.d.socket, 60).items()
                                      if w["state"] == "ready")
            return not awaited
        try:
            until(none_left, MEET_S, every=.1)
        except procs.Late:
            self.fail(f"never ready again: {sorted(awaited)}")

    def finish_kills(self):
        client.ask(self.d.socket, "Stop", 120, targets=["all"], wait=True)
        self.assertEqual([procs.describe(p) for p in self.d.survivors()
                          if procs.comm_of(p) == "puppet"], [], "left after stop")
        running = [(who, procs.describe(entry.pid)) for who, entries in self.oracles.claims().items()
                   for entry in entries if world.wrote(entry.pid, entry)]
        self.assertEqual(running, [], "left after stop")
        self.d.stop(timeout=60)
        numbers = collections.defaultdict(set)
        for _, name, number in self.oracles.tokens():
            numbers[name].add(number)
        for name, seen in numbers.items():
            if not name.startswith("churn"):
                self.assertEqual(seen, set(range(1, len(seen) + 1)), f"{name}: a life is missing")
        lines = self.oracles.check_lines("lines", "raw", "copies", "born", "pool", "slots",
                                         raw=("raw",), spoken=("copies", "born", "pool"))
        self.lives = collections.Counter()
        for name, seen in numbers.items():
            self.lives[name.partition(":")[0]] += len(seen)
        return lines

    def test_kills(self):
        if not KILLS:
            self.leave_out("takes long: ./dev chaos --kills N")
        self.begin()
        begin = last = time.monotonic()
        looked = 0
        while (kills := self.did["manager"] + self.did["logger"]) < KILLS and \
                time.monotonic() < begin + SECONDS:
            self.kill_one()
            if self.random.random() < .2:
                self.operate()
            time.sleep(self.random.uniform(.002, .06))
            if time.monotonic() - last > READ_EVERY_S:
                last = time.monotonic()
                self.read_records()
                self.known = procs.roles_of(self.d.pid)
            if kills >= looked + LOOK_EVERY:
                looked = kills
                self.look()
        self.look()
        self.all_go_on()
        took = time.monotonic() - begin
        lines = self.finish_kills()
        print(f"kills ({self.mode}): seed {self.seed}, {dict(self.did)} in {took:.0f} s, "
              f"{sum(SIZES.values())} workers, lives {dict(self.lives)}, "
              f"{len(self.oracles.seen)} exit records read, {lines} lines", flush=True)
