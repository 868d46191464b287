"""
Random operations and random deaths at once, against what is promised whatever happens.

REEVE_CHAOS_SECONDS (default 8) and REEVE_CHAOS_SEED (default: drawn, shown on failure) set the run.
The oracles: a lock per slot (never two lives at once), start tokens (no incarnation twice), numbered
log lines (none lost, torn or doubled), exit records and restart counters against what was killed,
processes by their marks after every stop.
"""
import collections
import os
import random
import re
import time

import procs
import varlink
from harness import Case, signal, until

SECONDS = float(os.environ.get("REEVE_CHAOS_SECONDS", "8"))
SLOTS = {"web": 6, "ready": 4, "tree": 3}
LINE = re.compile(r"\S+ (\w+:\d+) row-(\d+\.\d+) (\d+)$")


class Chaos(Case):
    def groups(self, journal):
        def life(*words):
            return (self.words(journal, "token", "note=@env:REEVE_WORKER@ @inc@") +
                    [f"flock={self.dir}/lock-%n"] + self.words(*words)[1:])
        return {
            "web": {"command": life("lines=0:1500:row-@inc@.@pid@"), "workers": SLOTS["web"]},
            "ready": {"command": life("notify=READY=1", "lines=0:2500:row-@inc@.@pid@"),
                      "workers": SLOTS["ready"], "ready": "notify"},
            "tree": {"command": life("fork=2", "[", "setsid", "ignore=TERM", "wait", "]",
                                     "orphan=1", "[", "wait", "]", "wait"),
                     "workers": SLOTS["tree"], "stop": {"timeout": "100ms"}},
        }

    # --- what is done ------------------------------------------------------------------------

    def do_kill_manager(self):
        self.kill_role("manager")

    def do_kill_logger(self):
        self.kill_role("logger")

    def kill_role(self, name):
        pid = self.d.role(name)
        if pid:
            procs.kill(pid)
            self.did[f"kill {name}"] += 1

    def do_stop_manager_a_while(self):
        pid = self.d.role("manager")
        if pid:
            procs.kill(pid, signal.SIGSTOP)
            time.sleep(self.chance.random() / 50)
            procs.kill(pid, signal.SIGCONT)

    def do_kill_worker(self):
        mains = [self.d.host(e.pid) for e in self.journal_.entries("start")[-20:]]
        mains = [pid for pid in mains if pid and procs.alive(pid)]
        if mains:
            procs.kill(self.chance.choice(mains),
                       self.chance.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
            self.did["kill worker"] += 1

    def some_target(self):
        group = self.chance.choice(list(SLOTS))
        return self.chance.choice([group, f"{group}:{self.chance.randrange(SLOTS[group])}"])

    def ask(self, method, **parameters):
        try:
            with varlink.Client(self.d.socket, 5) as client:
                client.call(method, parameters)
            self.did[method] += 1
        except (OSError, EOFError, varlink.Refused):
            self.did["not answered"] += 1

    def do_stop(self):
        self.ask("Stop", targets=[self.some_target()], wait=self.chance.random() < .3,
                 cold=self.chance.random() < .3)

    def do_start(self):
        self.ask("Start", targets=[self.some_target()], wait=False)

    def do_restart(self):
        self.ask("Restart", targets=[self.some_target()], wait=False)

    def do_scale(self):
        self.ask("Scale", group="web", workers=self.chance.randrange(1, SLOTS["web"] + 1),
                 wait=False)

    def do_reload(self):
        self.conf_["groups"]["ready"]["env"] = {"N": str(self.chance.randrange(3))}
        self.d.write(self.conf_)
        self.d.send(signal.SIGHUP)
        self.did["reload"] += 1

    def do_upgrade(self):
        self.d.send(signal.SIGUSR2)
        self.did["upgrade"] += 1

    def do_look(self):
        self.ask("List")

    # --- what must hold ----------------------------------------------------------------------

    def check_starts(self):
        notes = collections.Counter(e.text for e in self.journal_.entries("note")
                                    if not e.text.startswith("web"))  # scaled: counted anew
        doubled = {text: n for text, n in notes.items() if n > 1}
        self.assertEqual(doubled, {}, "an incarnation was started twice")
        self.assertEqual(self.journal_.entries("double"), [], "two lives in one slot")

    def check_lines(self):
        """Of each life: 0, 1, 2 … without a hole, in order, whole."""
        expected, lines = collections.Counter(), 0
        for group in ("web", "ready"):
            for path in sorted((self.dir / "log").glob(f"{group}.log*"), reverse=True):
                for line in path.read_text().splitlines():
                    found = LINE.match(line)
                    self.assertTrue(found, f"torn: {line!r}")
                    who, life, number = found[1], found[2], int(found[3])
                    self.assertEqual(number, expected[who, life], f"lost or doubled: {line!r}")
                    expected[who, life] += 1
                    lines += 1
        return lines

    def settle(self):
        """When faults stop, wanted and actual meet (invariant 10)."""
        until(lambda: self.answers("Version"), 20, "control answers")
        self.d.call("Reset", targets=["all"])
        self.d.call("Scale", group="web", workers=SLOTS["web"])
        answer = self.d.call("Start", targets=["all"], timeout_ms=20000)
        self.assertTrue(all(r["ok"] for r in answer["results"]), answer)
        self.d.until_all(state="ready", timeout=20)  # a reload may still be renewing

    def answers(self, method):
        try:
            return self.d.call(method)
        except (OSError, EOFError):
            return None

    def test_chaos(self):
        seed = int(os.environ.get("REEVE_CHAOS_SEED", random.randrange(1 << 32)))
        self.chance = random.Random(seed)
        self.did = collections.Counter()
        self.journal_ = self.journal()
        self.conf_ = self.conf(self.groups(self.journal_),
                               defaults={"restart": {"limit": 0, "delay": "5ms", "max_delay": "20ms"},
                                         "log": {"max_size": "200K", "keep": 1000}})
        self.d = self.daemon(self.conf_)
        self.d.roles_may_die = True
        self.d.until_all(state="ready")
        acts = [getattr(self, name) for name in dir(self) if name.startswith("do_")]
        end = time.monotonic() + SECONDS
        lines = 0
        with self.subTest(seed=seed):
            while time.monotonic() < end:
                self.chance.choice(acts)()
                time.sleep(self.chance.random() / 60)
            self.settle()
            self.check_starts()
            self.d.call("Stop", targets=["all"], timeout_ms=20000)
            self.assertEqual([procs.describe(p) for p in self.d.survivors()
                              if procs.comm_of(p) == "puppet"], [], "left after stop")
            self.d.stop()
            lines = self.check_lines()
            self.assertGreater(lines, 100)
        if "REEVE_CHAOS_SECONDS" in os.environ:
            print(f"seed {seed}: {lines} lines, {len(self.journal_.entries('start'))} starts, "
                  f"{dict(self.did)}", flush=True)
