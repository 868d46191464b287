"""Groups in order, groups that end, numbers of workers: what §4 of the reference says."""
import os
import re
import signal
import socket

from harness import Case, procs, until


class Order(Case):
    def gate_open(self, name="gate"):
        fd = os.open(self.dir / name, os.O_RDWR | os.O_CLOEXEC)
        self.addCleanup(os.close, fd)

    def test_after_waits_for_ready(self):
        journal = self.journal()
        d = self.daemon({
            "db": {"command": self.words(self.gate(), journal, "note=db-@index@", "notify=READY=1",
                                         "wait"), "ready": "notify", "workers": 2},
            "web": {"command": self.words(journal, "note=web", "wait"), "after": ["db"]},
            "top": {"command": self.words(journal, "note=top", "wait"), "after": ["web", "db"]},
        })
        self.assertEqual(d.until_worker("top:0", state="waiting")["waiting_for"], ["web", "db"])
        self.never(lambda: journal.entries("note"), 0.2)
        self.gate_open()
        d.until_all(state="ready")
        words = [e.text for e in journal.entries("note")]
        self.assertEqual(set(words[:2]), {"db-0", "db-1"})
        self.assertEqual(words[2:], ["web", "top"])
        d.stop()

    def test_after_a_group_that_is_done(self):
        d = self.daemon({
            "setup": {"command": self.words("sleep=50", "exit=0"), "restart": {"when": "never"}},
            "web": {"command": self.words("wait"), "after": ["setup"]},
            "empty": {"command": self.words("wait"), "workers": 0},
            "never": {"command": self.words("wait"), "after": ["empty"]},
        })
        d.until_worker("web:0", state="ready")
        self.assertEqual(d.worker("setup:0")["state"], "done")
        self.assertEqual(d.worker("never:0")["state"], "waiting")
        d.ctl("scale", "empty", 1, code=0)
        d.until_worker("never:0", state="ready")
        d.stop()

    def test_a_recovered_crash_does_not_reach_dependents(self):
        d = self.daemon({"db": {"command": self.words("wait")},
                         "web": {"command": self.words("wait"), "after": ["db"]}})
        before = d.until_all(state="ready")
        procs.kill(d.pid_of("db:0"))
        d.until_worker("db:0", state="ready", incarnation=2)
        self.assertEqual(d.worker("web:0")["pid"], before["web:0"]["pid"])
        d.stop()

    def test_settle(self):
        d = self.daemon({"slow": {"command": self.words("wait"), "settle": "400ms"},
                         "short": {"command": self.words("sleep=100", "exit=1"), "settle": "1h", "start_timeout": "2h",
                                   "restart": {"limit": 2}}})
        self.assertEqual(d.worker("slow:0")["state"], "starting")
        worker = d.until_worker("slow:0", state="ready")
        self.assertGreaterEqual(worker["uptime_s"], 0.39)
        d.until_worker("short:0", state="quarantined")
        d.stop()

    def test_start_concurrency(self):
        d = self.daemon(self.one("wait", workers=40), daemon={"start_concurrency": 1})
        d.until_all(state="ready")
        d.stop()

    def test_on_failure_shutdown(self):
        for how, code in ({"exit_code": "fixed"}, 75), ({"exit_code": "worker"}, 9):
            d = self.daemon({"web": {"command": self.words("exit=9"), "on_failure": "shutdown",
                                     "restart": {"limit": 2}, **how},
                             "other": {"command": self.words("wait")}}, start=False)
            self.assertEqual(d.launch().wait_exit(), code, d.text())
            d.check_gone()
        d = self.daemon({"web": {"command": self.words("die=SEGV"), "on_failure": "shutdown",
                                 "restart": {"when": "never"}, "exit_code": "worker"}}, start=False)
        self.assertEqual(d.launch().wait_exit(), 128 + signal.SIGSEGV, d.text())

    def test_on_failure_ignore(self):
        d = self.daemon({"web": {"command": self.words("exit=9"), "on_failure": "ignore",
                                 "restart": {"when": "never"}},
                         "other": {"command": self.words("wait")}})
        d.until_worker("web:0", last_exit=lambda e: e is not None)
        d.until_worker("other:0", state="ready")
        d.stop()

    def test_on_done_shutdown(self):
        for code, how in ((0, {}), (3, {"exit_code": "worker"})):
            d = self.daemon({"job": {"command": self.words(f"exit={code}"), "workers": 3,
                                     "on_done": "shutdown",
                                     "restart": {"when": "never", "success_codes": [0, 3]}, **how},
                             "other": {"command": self.words("wait")}}, start=False)
            self.assertEqual(d.launch().wait_exit(), code if how else 0, d.text())
            d.check_gone()

    def test_scale_outlives_a_reload(self):
        groups = self.one("wait", workers=2)
        d = self.daemon(groups)
        d.until_all(state="ready")
        d.ctl("scale", "web", 4, code=0)
        self.assertEqual(len(d.workers()), 4)
        groups["web"]["log"] = {"keep": 3}
        d.write(self.conf(groups))
        d.ctl("reload", code=0)
        self.assertEqual(len(d.workers()), 4)
        d.roles_may_die = True
        procs.kill(d.role("manager"))
        until(lambda: self.count(d) == 4, 10)
        groups["web"]["workers"] = 3
        d.write(self.conf(groups))
        d.ctl("reload", code=0)
        self.assertEqual(len(d.workers()), 3)
        d.stop()

    def count(self, d):
        try:
            return len(d.workers())
        except (OSError, EOFError):
            return None

    def test_stopped_by_hand_outlives_a_reload(self):
        groups = {"web": {"command": self.words("wait"), "workers": 2}}
        d = self.daemon(groups)
        d.until_all(state="ready")
        d.ctl("stop", "web:1", code=0)
        groups["web"]["env"] = {"X": "1"}
        d.write(self.conf(groups))
        d.ctl("reload", code=0)
        states = {n: w["state"] for n, w in d.workers().items()}
        self.assertEqual(states, {"web:0": "ready", "web:1": "stopped"})
        d.ctl("start", "web", code=0)
        d.until_all(state="ready")
        d.stop()

    def test_autostart_and_enabled(self):
        d = self.daemon({"hand": {"command": self.words("wait"), "autostart": False},
                         "gone": {"command": self.words("wait"), "enabled": False},
                         "web": {"command": self.words("wait")}})
        d.until_worker("web:0", state="ready")
        self.assertEqual(d.worker("hand:0")["state"], "stopped")
        self.assertNotIn("gone:0", d.workers())
        shown = d.ctl("status", code=0).out  # what is not wanted does not count
        self.assertNotIn("hand:0", shown, "it is as it is wanted")
        self.assertIn("hand:0", d.ctl("status", "--all", code=0).out)
        d.ctl("stop", "web", code=0)
        self.assertNotIn("web:0", d.ctl("status", code=0).out)
        d.ctl("start", "hand", code=0)
        d.until_worker("hand:0", state="ready")
        d.stop()

    def test_sockets_per_worker_and_shared(self):
        probe = socket.create_server(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        d = self.daemon({
            "shared": {"command": self.words("serve=3"), "workers": 3, "sockets": [
                {"name": "http", "listen": f"tcp://127.0.0.1:{port}"}]},
            "each": {"command": self.words("serve=3"), "workers": 2, "sockets": [
                {"name": "own", "listen": f"unix://{self.dir}/each.%i.sock", "mode": "0600"}]},
        })
        d.until_all(state="ready")
        for index in range(2):
            path = self.dir / f"each.{index}.sock"
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(path))
                self.assertEqual(sock.recv(99).split()[0], str(index).encode())
        answers = set()
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port), 10) as sock:
                answers.add(sock.recv(99).split()[0])
        self.assertLessEqual(answers, {b"0", b"1", b"2"})
        d.stop()

    def test_show_tree_and_last_words(self):
        d = self.daemon(self.one("out=first", "out=second", "fork=2", "[", "wait", "]",
                                 self.gate(), "exit=4", restart={"when": "never"}))
        d.until_all(state="ready")
        until(lambda: len(d.detail("web:0")["tree"]) == 3, 10, "its children are there")
        detail = d.detail("web:0")
        self.assertEqual([p["main"] for p in detail["tree"]].count(True), 1)
        self.assertIn("nofile", [limit["name"] for limit in detail["limits"]])
        tree = d.ctl("tree", "web", code=0).out
        self.assertEqual(tree.count("puppet"), 3)
        self.gate_open()
        d.until_worker("web:0", last_exit=lambda e: e is not None)
        record = until(lambda: [e for e in d.exits("web:0") if e.get("lines")], 10)[0]
        self.assertEqual(record["lines"], ["first", "second"])
        self.assertEqual((record["code"], record["cause"], record["core"]), (4, "exit", False))
        self.assertGreater(record["max_rss_bytes"], 0)
        shown = d.ctl("show", "web:0", code=0).out
        self.assertIn("second", shown)
        self.assertTrue(re.search(r"\b4\b", shown))
        d.stop()

    def test_logs_of_the_tool(self):
        d = self.daemon(self.one("lines=50:0:row", "wait", workers=2))
        until(lambda: sum("row 49" in line for line in d.lines("web")) == 2, 10)
        out = d.ctl("logs", "web:1", "-n", "5", code=0).out
        self.assertEqual([re.search(r"row \d+", line)[0] for line in out.splitlines()],
                         [f"row {n}" for n in range(45, 50)])
        self.assertNotIn("web:0", out)
        d.ctl("logs", "nope", code=7)
        d.stop()
