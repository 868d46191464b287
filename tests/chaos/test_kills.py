"""
Kills of manager and logger at random moments, by the thousand, while a thousand workers run, start,
crash, stop and log. REEVE_CHAOS_KILLS says how many (0: the test is skipped; run.py --kills N).
"""
import collections
import os
import random
import time

import client
import procs
import test_walk
import world
from harness import Case, until

KILLS = int(os.environ.get("REEVE_CHAOS_KILLS", "0"))
SIZES = {"steady": int(os.environ.get("REEVE_CHAOS_STEADY", "750")), "lines": 50, "flaky": 100,
         "churn": 100}
LOOK_EVERY = 250  # kills
MEET_S = 120


def code_of(incarnation):
    return incarnation % 7 + 1


class Kills(Case):
    def groups(self):
        life = lambda *words: world.life(self, self.records, *words)  # noqa: E731
        ends = [word for n in range(7) for word in ("if=mod7:%d" % n, "[", f"exit={n + 1}", "]")]
        words = {"steady": ("wait",), "churn": ("wait",), "lines": (world.rows(25000),),
                 "flaky": ("sleep=2000", *ends, "exit=99")}
        return {name: {"command": life(*words[name]), "workers": SIZES[name],
                       "restart": {"limit": 0, "delay": "10ms", "max_delay": "200ms"},
                       "log": {"max_size": "1M", "keep": 1000}} for name in SIZES}

    def begin(self):
        self.records = self.journal()
        self.oracles = world.Oracles(self, self.records)
        self.seed = test_walk.draw()
        self.random = random.Random(self.seed)
        self.did = collections.Counter()
        conf = self.conf(self.groups(), daemon={"log": {"level": "warn"}},
                         defaults={"env": {"EPOCH": "1"}})
        self.d = self.daemon(conf, start=False)
        self.d.roles_may_die = True
        self.d.start(60)
        self.d.until_all(state="ready", timeout=120)
        self.first = {n: w["pid"] for n, w in client.workers(self.d.socket).items()
                      if n.startswith(("steady", "lines"))}

    def kill_one(self):
        name = self.random.choice(("manager", "manager", "logger"))
        pid = procs.roles_of(self.d.pid).get(name)
        if pid and procs.kill(pid):
            self.did[name] += 1

    def operate(self):
        """An operator's wish, whether or not somebody is there to hear it."""
        target = f"churn:{self.random.randrange(SIZES['churn'])}"
        method = self.random.choice(("Stop", "Start", "Restart", "Restart"))
        try:
            client.ask(self.d.socket, method, .3, targets=[target], wait=False)
            self.did[method] += 1
        except TimeoutError:
            self.did["late"] += 1

    def read_records(self):
        """8: the code of each end of a flaky worker says which life it was."""
        shown = []
        for part in self.stream("Show", {"targets": ["flaky"]}):
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

    def look(self):
        """With the faults held back a moment: nobody lost, nobody doubled, all counted."""
        def meets():
            found = client.workers(self.d.socket, 60)
            return found if all(w["state"] == "ready" or n.startswith(("flaky", "churn"))
                                for n, w in found.items()) else None
        found = until(meets, MEET_S)
        self.assertEqual({n: found[n]["pid"] for n in self.first}, self.first, "workers were lost")
        for name, worker in found.items():
            if name.startswith(("steady", "lines", "flaky")):
                self.oracles.check_counter(worker)
        self.oracles.check_single()
        self.read_records()
        strangers = [p for p in map(int, procs.read(
            f"/proc/{self.d.pid}/task/{self.d.pid}/children").split())
            if procs.state_of(p) == "Z"]
        self.assertLess(len(strangers), 50, "zombies pile up")

    def finish_kills(self):
        client.ask(self.d.socket, "Stop", 120, targets=["all"], wait=True)
        self.assertEqual([procs.describe(p) for p in self.d.survivors()
                          if procs.comm_of(p) == "puppet"], [], "left after stop")
        self.d.stop(timeout=60)
        numbers = collections.defaultdict(set)
        for _, name, number in self.oracles.tokens():
            numbers[name].add(number)
        for name, seen in numbers.items():
            if not name.startswith("churn"):
                self.assertEqual(seen, set(range(1, len(seen) + 1)), f"{name}: a life is missing")
        return self.oracles.check_lines("lines"), sum(map(len, numbers.values()))

    def test_kills(self):
        if not KILLS:
            self.leave_out("takes long: ./dev chaos --kills N")
        self.begin()
        begin = last = time.monotonic()
        looked = 0
        while (kills := self.did["manager"] + self.did["logger"]) < KILLS:
            self.kill_one()
            if self.random.random() < .3:
                self.operate()
            time.sleep(self.random.uniform(.002, .06))
            if time.monotonic() - last > 3:
                last = time.monotonic()
                self.read_records()
            if kills >= looked + LOOK_EVERY:
                looked = kills
                self.look()
        self.look()
        took = time.monotonic() - begin
        lines, lives = self.finish_kills()
        print(f"kills ({self.mode}): seed {self.seed}, {dict(self.did)} in {took:.0f} s, "
              f"{sum(SIZES.values())} workers, {lives} lives, {len(self.oracles.seen)} exit records "
              f"read, {lines} lines", flush=True)
