"""Signals, stopping, shutting down."""
import os
import pty
import random
import signal
import time

from daemon import wait_quiet
from harness import Case, procs, until

STOPPING = {"stop": {"timeout": "400ms"}}


class Shutdown(Case):
    def puppets(self):
        return [p for p in procs.marked(self.mark, str(self.dir)) if procs.comm_of(p) == "puppet"]

    def test_SH01_stop_means_the_tree_is_empty(self):
        d = self.daemon(self.one(self.journal(), "fork=3", "[", "ignore=TERM,INT,HUP", "note=child",
                                 "wait", "]", "wait", **STOPPING))
        self.journal().wait("note", "child", n=3)
        d.until_worker("web:0", state="ready")
        d.ctl("stop", "web", code=0)
        self.assertEqual(self.puppets(), [])
        self.assertEqual(d.worker("web:0")["state"], "stopped")
        d.stop()

    def test_SH02_shutdown_cannot_be_turned_back(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "token", "on=TERM:slow:1200:0", "on=HUP:count", "wait"))
        d.until_worker("web:0", state="ready")
        d.send(signal.SIGTERM)
        journal.wait("signal", "TERM")
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGHUP):
            d.send(number)
        for method, parameters in (("Reload", {}), ("Start", {"targets": ["web"]}),
                                   ("Restart", {"targets": ["web"]}),
                                   ("Scale", {"group": "web", "workers": 3})):
            self.assert_refused("ShuttingDown", d.call, method, **parameters)
        d.ctl("start", "web", code=1)
        self.assertEqual(d.call("Version")["phase"], "warm")
        self.assertEqual(d.wait_exit(), 0)
        self.assertEqual(len(journal.entries("start")), 1)
        self.assertEqual(len(journal.entries("saved")), 1)
        self.assertEqual(len(journal.entries("signal")), 1)
        d.check_gone()

    def test_SH02_every_signal_in_every_phase(self):
        """Forward only: in the warm phase QUIT goes on to the cold one, nothing goes back."""
        journal = self.journal()
        d = self.daemon(self.one(journal, "token", "ignore=TERM", "on=HUP,USR1,USR2:count",
                                 "notify=READY=1", "wait", ready="notify", stop={"timeout": "1h"}))
        d.until_worker("web:0", state="ready")
        pids = d.roles
        d.send(signal.SIGTERM)
        until(lambda: d.call("Version")["phase"] == "warm", 10)
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCHLD,
                       signal.SIGPIPE, signal.SIGALRM, signal.SIGCONT, signal.SIGRTMIN):
            d.send(number)
            version = d.call("Version")
            self.assertEqual((version["phase"], version["manager_pid"]), ("warm", pids["manager_pid"]))
        self.assertEqual(d.worker("web:0")["incarnation"], 1)
        for number in (signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
            if d.poll() is None:
                d.send(number)
        self.assertEqual(d.wait_exit(), 0, d.text())
        self.assertEqual(len(journal.entries("start")), 1)
        self.assertEqual(journal.entries("signal"), [], "a worker heard what was said to the daemon")
        d.check_gone()

    def test_SH03_stop_cancels_restarts(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "token", "exit=1",
                                 restart={"delay": "1ms", "max_delay": "1ms", "limit": 0},
                                 workers=3))
        journal.wait("start", n=10)
        d.ctl("stop", "web", code=0)
        count = len(journal.entries("start"))
        self.never(lambda: len(journal.entries("start")) != count, 0.4, "started after the stop")
        self.assertEqual({w["state"] for w in d.workers().values()}, {"stopped"})
        d.stop()

    def test_SH04_two_signals_at_once_are_one(self):
        for gap in (0, 0.05):
            journal = self.journal(f"journal{gap}")
            d = self.daemon(self.one(journal, "on=TERM:slow:700:0", "wait"))
            d.until_worker("web:0", state="ready")
            d.send(signal.SIGINT)
            self.pause(gap)
            d.send(signal.SIGINT)
            self.assertEqual(d.wait_exit(), 0)
            self.assertEqual(len(journal.entries("saved")), 1, f"gap {gap}")
            d.check_gone()

    def test_SH04_the_second_signal_is_cold(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "on=TERM:slow:20000:0", "wait", stop={"timeout": "1h"}))
        d.until_worker("web:0", state="ready")
        d.send(signal.SIGINT)
        journal.wait("signal", "TERM")
        self.pause(0.35)
        begin = time.monotonic()
        d.send(signal.SIGINT)
        self.assertEqual(d.wait_exit(), 0)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(journal.entries("saved"), [])
        d.check_gone()

    def test_SH04_control_c_reaches_the_keeper_alone(self):
        self.need_not("pid1", "its own session belongs to the terminal's owner")
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        tty = os.ttyname(slave)
        os.chmod(tty, 0o666)
        os.close(slave)
        journal = self.journal()

        def terminal():
            fd = os.open(tty, os.O_RDWR)  # a session leader without one gets it
            for number in range(3):
                os.dup2(fd, number)
        d = self.daemon(self.one(journal, "on=TERM:exit:0", "on=INT,HUP:count", "fork=2",
                                 "[", "on=INT,HUP,TERM:count", "wait", "]", "wait",
                                 stop={"timeout": "300ms"}), before=terminal)
        d.until_worker("web:0", state="ready")
        os.write(master, b"\x03")
        self.assertEqual(d.wait_exit(), 0)
        names = {e.text.split()[0] for e in journal.entries("signal")}
        self.assertEqual(names, {"TERM"})
        d.check_gone()

    def test_SH05_warm_asks_the_main_process_only(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "fork=2", "[", "on=TERM:exit:0", "note=child", "wait",
                                 "]", "on=TERM:slow:500:0", "wait"))
        journal.wait("note", "child", n=2)
        d.until_worker("web:0", state="ready")
        d.ctl("stop", "web", code=0)
        saved = journal.entries("saved")
        self.assertEqual(len(saved), 1)
        for entry in journal.entries("signal"):
            if entry.pid != saved[0].pid:
                self.assertGreaterEqual(entry.us, saved[0].us, "a child was torn from its work")
        d.stop()

    def test_SH05_stop_to_pgrp_and_tree(self):
        groups = {}
        for to in ("main", "pgrp", "tree"):
            groups[to] = {"command": self.words(
                f"journal={self.dir}/{to}", "fork=1", "[", "on=TERM:count", "note=pgrp", "wait",
                "]", "fork=1", "[", "setsid", "on=TERM:count", "note=tree", "wait", "]",
                "on=TERM:count", "note=main", "wait"), "stop": {"to": to, "timeout": "400ms"}}
        d = self.daemon(groups)
        for to, expected in (("main", 1), ("pgrp", 2), ("tree", 3)):
            journal = self.journal(to)
            journal.wait("note", n=3)
            d.until_worker(f"{to}:0", state="ready")
            d.ctl("stop", to, code=0)
            self.assertEqual(len(journal.entries("signal", "TERM 1")), expected, to)
            self.assertEqual(journal.entries("signal", "TERM 2"), [], to)
        d.stop()

    def test_SH06_races_of_stop_and_exit(self):
        d = self.daemon(self.one("sleep=3", "exit=0", workers=6,
                                 restart={"delay": "2ms", "max_delay": "2ms", "limit": 0}))
        chance = random.Random(6)
        for _ in range(60):
            name = f"web:{chance.randrange(6)}"
            what = chance.choice(["Stop", "Start", "Kill", "Restart"])
            more = {} if what == "Kill" else {"wait": False}
            d.call(what, targets=[name], **more)
        results = d.call("Stop", targets=["all"])["results"]
        self.assertTrue(all(r["ok"] for r in results), results)
        self.assertEqual({w["state"] for w in d.workers().values()}, {"stopped"})
        self.assertEqual(self.puppets(), [])
        d.stop()

    def test_SH07_stop_in_every_state(self):
        groups = {
            "starting": {"command": self.words("wait"), "ready": "notify", "start_timeout": "1h"},
            "waiting": {"command": self.words("wait"), "after": ["starting"]},
            "ready": {"command": self.words("wait")},
            "backoff": {"command": self.words("exit=1"),
                        "restart": {"delay": "1h", "max_delay": "1h"}},
            "quarantined": {"command": self.words("exit=1"), "restart": {"limit": 1}},
            "done": {"command": self.words("exit=0"), "restart": {"when": "never"}},
            "stopped": {"command": self.words("wait"), "autostart": False},
            "stopping": {"command": self.words("ignore=TERM", "wait"), "stop": {"timeout": "500ms"}},
        }
        d = self.daemon(groups)
        d.until_worker("stopping:0", state="ready")
        d.call("Stop", targets=["stopping"], wait=False)
        for state in groups:
            d.until_worker(f"{state}:0", state=state)
        for state in groups:
            result = d.call("Stop", targets=[state], timeout_ms=10000)["results"]
            self.assertTrue(result[0]["ok"], (state, result))
            worker = d.worker(f"{state}:0")
            self.assertIn(worker["state"], ("stopped", "done", "quarantined"), state)
            self.assertEqual(worker["wanted"], "down", state)
        self.assertEqual(self.puppets(), [])
        d.stop()

    def test_SH07_every_command_in_every_state(self):
        """Each has one answer, and after it the worker is where the command wants it."""
        groups = {
            "starting": {"command": self.words("wait"), "ready": "notify", "start_timeout": "1h"},
            "waiting": {"command": self.words("wait"), "after": ["starting"]},
            "ready": {"command": self.words("wait")},
            "backoff": {"command": self.words("exit=1"),
                        "restart": {"delay": "1h", "max_delay": "1h"}},
            "quarantined": {"command": self.words("exit=1"),
                            "restart": {"limit": 1, "retry": "never"}},
            "done": {"command": self.words("exit=0"), "restart": {"when": "never"}},
            "stopped": {"command": self.words("wait"), "autostart": False},
            "stopping": {"command": self.words("ignore=TERM", "notify=READY=1", "wait"),
                         "ready": "notify", "stop": {"timeout": "1h"}},
        }
        d = self.daemon(groups)

        def bring():
            d.call("Start", targets=["all"], wait=False)
            d.call("Stop", targets=["stopped"])
            d.until_worker("stopping:0", state="ready")
            d.call("Stop", targets=["stopping"], wait=False)
            for state in groups:
                d.until_worker(f"{state}:0", state=state)

        runs = {"starting", "ready", "stopping"}
        for command in ("Start", "Restart", "Reset", "Kill", "Stop"):
            if command != "Stop":  # a signal that is ignored has changed nothing
                bring()
            before = d.worker("ready:0")["incarnation"]
            for state in groups:
                more = {} if command == "Reset" else \
                    {"signal": "WINCH"} if command == "Kill" else {"wait": False}
                result = d.call(command, targets=[state], **more)["results"][0]
                self.assertEqual(result["ok"], command != "Kill" or state in runs, (command, state))
                worker = d.worker(f"{state}:0")
                if command in ("Start", "Restart"):
                    self.assertEqual(worker["wanted"], "up", (command, state))
                elif command == "Stop":
                    self.assertEqual(worker["wanted"], "down", (command, state))
                elif command == "Kill":
                    self.assertEqual(worker["state"], state, command)
                if command == "Reset":  # who waited to be started again is, and may have died again
                    again = state in ("backoff", "quarantined")
                    self.assertLessEqual(worker["restarts"], 1 if again else 0, state)
            if command == "Restart":
                d.until_worker("ready:0", incarnation=before + 1)
                self.assertEqual(d.worker("waiting:0")["incarnation"], 0)
            if command != "Kill":
                d.call("Stop", targets=["all"], cold=True)
                self.assertEqual(self.puppets(), [], command)
        d.stop()

    def test_SH08_a_stop_can_be_made_cold(self):
        d = self.daemon(self.one("ignore=TERM", "wait", stop={"timeout": "1h"}))
        d.until_worker("web:0", state="ready")
        d.ctl("stop", "--no-wait", "web", code=0)
        d.until_worker("web:0", state="stopping")
        begin = time.monotonic()
        d.ctl("stop", "--cold", "web", code=0)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(self.puppets(), [])
        d.stop()

    def test_SH09_one_deaf_worker_delays_nobody(self):
        groups = {f"good{n}": {"command": self.words(f"journal={self.dir}/good", "on=TERM:exit:0",
                                                     "wait")} for n in range(20)}
        groups["deaf"] = {"command": self.words("ignore=TERM", "wait"), "stop": {"timeout": "1500ms"}}
        d = self.daemon(groups)
        d.until_all(state="ready")
        begin = time.monotonic()
        d.send(signal.SIGTERM)
        self.journal("good").wait("signal", n=20)
        self.assertLess(time.monotonic() - begin, 1.4, "the others waited for the deaf one")
        self.assertEqual(d.wait_exit(), 0)
        self.assertLess(time.monotonic() - begin, 6)
        d.check_gone()

    def test_SH09_the_warm_phase_can_be_bounded(self):
        d = self.daemon(self.one("ignore=TERM", "wait", stop={"timeout": "1h"}),
                        daemon={"shutdown_timeout": "600ms"})
        d.until_all(state="ready")
        begin = time.monotonic()
        d.stop()
        self.assertGreater(time.monotonic() - begin, 0.55)
        self.assertLess(time.monotonic() - begin, 8)

    def test_SH10_stopped_processes_are_woken(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "on=TERM:exit:7", "fork=1", "[", "stop", "wait", "]",
                                 "stop", "wait"))
        journal.wait("stopping", n=2)
        d.until_worker("web:0", state="ready")
        d.ctl("stop", "web", code=0)
        self.assertEqual(self.puppets(), [])
        last = d.worker("web:0")["last_exit"]
        self.assertEqual((last["code"], last["cause"]), (7, "stop"))
        d.stop()

    def test_SH11_a_frozen_tree_is_ended(self):
        self.need_cgroup()
        d = self.daemon(self.one("fork=2", "[", "wait", "]", "wait", **STOPPING))
        d.until_worker("web:0", state="ready")
        self.freeze(self.leaf_of(d, "web:0"))
        d.ctl("stop", "web", code=0)
        self.assertEqual(self.puppets(), [])
        d.stop()

    def leaf_of(self, d, worker):
        path = procs.read(f"/proc/{d.pid_of(worker)}/cgroup").rpartition("0::")[2].split("\n")[0]
        return self.context.cgroup.path / path.split(self.context.cgroup.path.name + "/", 1)[1]

    def freeze(self, leaf):
        (leaf / "cgroup.freeze").write_text("1")
        until(lambda: "frozen 1" in procs.read(leaf / "cgroup.events"), 10, "it is frozen")

    def test_SH11_a_frozen_worker_ends_by_itself(self):
        """It is thawed for a step of its ladder: its handler runs, it is not killed at the end."""
        self.need_cgroup()
        journal = self.journal()
        for to in ("main", "pgrp", "tree"):
            d = self.daemon(self.one(journal, "on=TERM:exit:3", "wait",
                                     stop={"timeout": "60s", "to": to}),
                            name=f"d-{to}")
            d.until_worker("web:0", state="ready")
            self.freeze(self.leaf_of(d, "web:0"))
            d.ctl("stop", "web", code=0)
            self.assertEqual(d.exits("web:0")[0]["code"], 3)
            d.stop()

    def test_SH15_many_exits_at_once(self):
        journal = self.journal()
        d = self.daemon({
            "burst": {"command": self.words(journal, "burst=700:9", "note=let-go", "wait")},
            "web": {"command": self.words(self.gate(), "exit=7"), "workers": 40,
                    "restart": {"when": "never"}},
        })
        journal.wait("note", "let-go")
        gate = self.dir / "gate"
        fd = os.open(gate, os.O_RDWR)
        for index in range(40):
            worker = d.until_worker(f"web:{index}", last_exit=lambda e: e is not None)
            self.assertEqual(worker["last_exit"]["code"], 7)
        os.close(fd)
        until(lambda: not [p for p in procs.children_of(d.pid) if procs.state_of(p) == "Z"], 10,
              "no child of the keeper is a zombie")
        d.stop()

    def test_SH16_reused_pids_are_never_signalled(self):
        self.need_only(("pid1",), "needs a small pid space of its own")

        def small():
            with open("/proc/sys/kernel/pid_max", "w", encoding="ascii") as file:
                file.write("700")
        d = self.daemon(self.one("daemon", "[", "sleep=2", "]", "exit=1", workers=4,
                                 restart={"delay": "1ms", "max_delay": "1ms", "limit": 0}),
                        before=small)
        home = os.open("/proc/self/ns/pid", os.O_RDONLY)
        inner = os.open(f"/proc/{d.pid}/ns/pid", os.O_RDONLY)
        procs.LIBC.setns(inner, procs.CLONE_NEWPID)
        decoys = []

        def herd():
            """A fresh decoy takes the next free number, which some worker had a moment ago."""
            pid = os.fork()
            if pid == 0:
                os.execv("/bin/sleep", ["sleep", "60"])
            decoys.append(pid)
        try:
            begin = time.monotonic()
            while time.monotonic() - begin < 3 or d.worker("web:0")["restarts"] <= 50:
                self.assertLess(time.monotonic() - begin, 40, "the numbers do not go round")
                if len(decoys) >= 100:
                    old = decoys.pop(0)
                    self.assertEqual(os.waitpid(old, os.WNOHANG), (0, 0), "a decoy died")
                    os.kill(old, signal.SIGKILL)
                    os.waitpid(old, 0)
                herd()
                self.pause(0.001)
            for pid in decoys:
                self.assertEqual(os.waitpid(pid, os.WNOHANG), (0, 0), "a decoy died")
        finally:
            procs.LIBC.setns(home, procs.CLONE_NEWPID)
            for pid in decoys:
                procs.kill(pid)
                os.waitpid(pid, 0)
            os.close(home)
            os.close(inner)
        d.send(signal.SIGQUIT)
        self.assertEqual(d.wait_exit(), 0)

    def test_SH17_zombies_do_not_hold_up_a_stop(self):
        d = self.daemon(self.one(self.journal(), "fork=20", "[", "exit=0", "]", "on=TERM:exit:0",
                                 "daemon", "[", "fork=5", "[", "exit=0", "]", "note=up", "wait",
                                 "]", "wait", stop={"timeout": "30s"}))
        self.journal().wait("note", "up")
        d.until_worker("web:0", state="ready")
        begin = time.monotonic()
        d.ctl("stop", "web", code=0)
        self.assertLess(time.monotonic() - begin, 10)
        d.stop()

    def test_SH20_stopping_is_quiet(self):
        d = self.daemon(self.one("ignore=TERM", "fork=20", "[", "ignore=TERM", "wait", "]", "wait",
                                 stop={"timeout": "1s"}), daemon={"log": {"level": "info"}})
        d.until_worker("web:0", state="ready")
        before = len(d.text().splitlines())
        d.ctl("stop", "web", code=0)
        self.assertLess(len(d.text().splitlines()) - before, 15, d.text())
        d.stop()

    def test_SH21_the_rest_of_the_grace_belongs_to_the_survivors(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "fork=1", "[", "on=TERM:slow:600:0", "note=child", "wait",
                                 "]", "on=TERM:exit:0", "wait"))
        journal.wait("note", "child")
        d.until_worker("web:0", state="ready")
        d.ctl("stop", "web", code=0)
        self.assertEqual(len(journal.entries("saved")), 1, "the child was not let to save")
        d.stop()

    def test_SH22_no_handlers(self):
        d = self.daemon(self.one("wait"))
        crash = sum(1 << n - 1 for n in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
                                         signal.SIGILL, signal.SIGABRT))
        for pid in (d.pid, d.role("manager"), d.role("logger")):
            caught = int(procs.status_of(pid)["SigCgt"], 16) & ~(crash | 0xffffffff80000000)
            self.assertEqual(caught, 0, f"{procs.comm_of(pid)} catches {caught:x}")
        d.stop()

    def test_SH23_signal_storm(self):
        d = self.daemon(self.one("wait", workers=3))
        d.until_all(state="ready")
        pids = {w["pid"] for w in d.workers().values()}
        chance = random.Random(23)
        for _ in range(20000):
            d.send(chance.choice([signal.SIGHUP, signal.SIGUSR1]))
        self.assertEqual({w["pid"] for w in d.workers().values()}, pids)
        for _ in range(20000):
            if d.poll() is None:
                d.send(chance.choice([signal.SIGHUP, signal.SIGUSR1, signal.SIGTERM,
                                        signal.SIGINT]))
        self.assertEqual(d.wait_exit(), 0, d.text()[-3000:])
        d.check_gone()

    def test_SH24_one_term_and_a_clean_death(self):
        journal = self.journal()
        d = self.daemon({"slow": {"command": self.words(journal, "on=TERM:slow:700:0", "wait")},
                         "plain": {"command": self.words("wait")}})
        d.until_all(state="ready")
        d.ctl("stop", "all", code=0)
        self.assertEqual([e.text.split(" from")[0] for e in journal.entries("signal")], ["TERM 1"])
        last = d.worker("plain:0")["last_exit"]
        self.assertEqual((last["signal"], last["cause"]), ("TERM", "stop"))
        self.assertEqual(d.worker("slow:0")["last_exit"]["code"], 0)
        self.assertEqual(d.worker("plain:0")["restarts"], 0)
        d.stop()

    def test_SH25_every_exit_code(self):
        d = self.daemon({"web": {"command": self.words("exit=@index@"), "workers": 256,
                                 "restart": {"when": "never"}}})
        until(lambda: all(w["last_exit"] for w in d.workers().values()), 40, "all have ended")
        for name, worker in d.workers().items():
            last = worker["last_exit"]
            self.assertEqual((last["code"], last.get("signal"), last["cause"]),
                             (worker["index"], None, "exit"), name)
        d.stop()

    def test_SH25_every_deadly_signal(self):
        d = self.daemon({"web": {"command": [str(self.puppet), "die=%{1+i}", "exit=200"],
                                 "workers": 31, "restart": {"when": "never"}}})
        # A worker leads its own session: the signals of a terminal's job control do not stop it.
        harmless = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
                    signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
        for number in range(1, 32):
            name = f"web:{number - 1}"
            if number == signal.SIGSTOP:
                until(lambda name=name: procs.state_of(d.pid_of(name)) == "T", 20, name)
                continue
            last = d.until_worker(name, 20, last_exit=lambda e: e is not None)["last_exit"]
            if number in harmless:
                self.assertEqual((last["code"], last.get("signal")), (200, None), name)
            else:
                wanted = signal.Signals(number).name[3:]
                self.assertEqual((last.get("code"), last["signal"], last["cause"]),
                                 (None, wanted, "signal"), name)
        d.stop()

    def test_SH25_every_signal_can_be_sent(self):
        names = [s.name[3:] for s in signal.Signals
                 if s.value < 32 and s not in (signal.SIGKILL, signal.SIGSTOP)]
        journal = self.journal()
        d = self.daemon(self.one(journal, f"on={','.join(names)}:count", "note=up", "wait"))
        journal.wait("note", "up")
        d.until_worker("web:0", state="ready")
        for name in names:
            d.ctl("kill", "-s", name, "web:0", code=0)
            journal.wait("signal", f"{name.replace('IO', 'POLL')} 1 ")
        d.ctl("kill", "-s", "STOP", "web:0", code=0)
        pid = d.pid_of("web:0")
        until(lambda: procs.state_of(pid) == "T", 10, "it is stopped")
        d.ctl("kill", "-s", "KILL", "web:0", code=0)
        last = d.until_worker("web:0", incarnation=2)["last_exit"]
        self.assertEqual((last["signal"], last["cause"]), ("KILL", "signal"))
        d.ctl("kill", "-s", "99", "web:0", code=2)
        d.send(signal.SIGQUIT)
        self.assertEqual(d.wait_exit(), 0)
        d.check_gone()

    def test_SH26_a_waiting_start_can_be_taken_back(self):
        journal = self.journal()
        d = self.daemon({
            "db": {"command": self.words("wait"), "ready": "notify", "start_timeout": "1h"},
            "web": {"command": self.words(journal, "token", "wait"), "after": ["db"]},
        })
        waiting = d.until_worker("web:0", state="waiting")
        self.assertEqual(waiting["waiting_for"], ["db"])
        d.call("Restart", targets=["web"], wait=False)
        d.call("Restart", targets=["web"], wait=False)
        d.ctl("stop", "web", code=0)
        self.assertEqual(d.worker("web:0")["state"], "stopped")
        d.ctl("stop", "db", code=0)
        self.never(lambda: journal.entries("start"), 0.2)
        d.stop()

    def test_SH26_a_steps_ladder(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "on=INT,QUIT,TERM:count", "note=up", "wait", stop={
            "steps": [{"signal": "INT", "wait": "200ms"}, {"signal": "QUIT", "wait": "200ms"},
                      {"signal": "TERM", "wait": "200ms"}]}))
        journal.wait("note", "up")
        d.until_worker("web:0", state="ready")
        begin = time.monotonic()
        d.ctl("stop", "web", code=0)
        self.assertGreater(time.monotonic() - begin, 0.58, "a step was not given its time")
        seen = journal.entries("signal")
        self.assertEqual([e.text.split()[0] for e in seen], ["INT", "QUIT", "TERM"])
        last = d.worker("web:0")["last_exit"]
        self.assertEqual((last["signal"], last["cause"]), ("KILL", "stop-timeout"))
        self.assertEqual(wait_quiet(self.puppets, 0.05), [])
        d.stop()
