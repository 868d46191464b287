"""The three roles: signals to the main pid, kill -9 of each, hanging ones, exit codes."""
import os
import signal
import subprocess
import time

from daemon import wait_quiet
from harness import Case, procs, until


class Roles(Case):
    def wait_control(self, d, timeout=10):
        def answers():
            try:
                return d.call("Version")
            except (OSError, EOFError):
                return None
        return until(answers, timeout, "the control socket answers")

    def test_names_of_the_roles(self):
        d = self.daemon(self.one("wait"))
        self.assertEqual(procs.comm_of(d.pid), "reeved")
        roles = d.call("Version")
        self.assertEqual(d.host(roles["keeper_pid"]), d.pid)
        self.assertEqual(d.host(roles["manager_pid"]), d.role("manager"))
        self.assertEqual(d.host(roles["logger_pid"]), d.role("logger"))
        worker = d.until_worker("web:0", state="ready")
        self.assertEqual(procs.stat_of(d.host(worker["pid"]))[1], str(d.pid))
        self.assertEqual(roles["phase"], "run")
        d.stop()

    def test_signals_of_the_main_pid(self):
        journal = self.journal()
        groups = self.one(journal, "token", "out=x", "on=TERM:exit:0", "wait")
        d = self.daemon(groups)
        d.until_all(state="ready")
        groups["web"]["env"] = {"A": "b"}
        d.write(self.conf(groups))
        d.send(signal.SIGHUP)
        journal.wait("start", n=2)
        until(d.log("web").exists, 10)
        d.until_all(state="ready")
        d.log("web").rename(d.log("old"))
        d.send(signal.SIGUSR1)
        self.pause(0.2)  # no event says that the signal has been carried out
        d.call("Restart", targets=["web"])
        until(d.log("web").exists, 10, "USR1 reopens")
        d.stop(signal.SIGTERM)
        d.start()
        d.until_all(state="ready")
        d.stop(signal.SIGINT)

    def test_quit_is_cold(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "on=TERM,QUIT,INT:count", "note=up", "wait",
                                 stop={"timeout": "1h"}))
        journal.wait("note", "up")
        begin = time.monotonic()
        d.stop(signal.SIGQUIT)
        self.assertLess(time.monotonic() - begin, 5)
        self.assertEqual(journal.entries("signal"), [])

    def test_shutdown_by_control(self):
        for args in ([], ["--cold"]):
            d = self.daemon(self.one("wait", workers=3))
            d.until_all(state="ready")
            d.ctl("shutdown", *args, code=0)
            self.assertEqual(d.wait_exit(), 0)
            d.check_gone()

    def test_exit_codes(self):
        d = self.daemon(self.one("wait"), start=False)
        for args, code in ((["--nonsense"], 2), (["--log-level", "loudest"], 2),
                           (["--version"], 0), (["--check"], 0), (["--check", "--offline"], 0)):
            d.args = args
            self.assertEqual(d.launch().wait_exit(), code, (args, d.text()))
        d.args = []
        d.write("groups: { web: {")
        self.assertEqual(d.launch().wait_exit(), 78)
        d.write(self.conf(self.one("wait"), daemon={"runtime_dir": "/proc/no/where"}))
        self.assertIn(d.launch().wait_exit(), (1, 78))

    def test_killed_manager_harms_no_worker(self):
        d = self.daemon({"web": {"command": self.words("notify=READY=1\\nSTATUS=s@index@", "wait"),
                                 "workers": 5, "ready": "notify"},
                         "sock": {"command": self.words("serve=3"), "sockets": [
                             {"name": "a", "listen": f"unix://{self.dir}/a.sock"}]}})
        before = d.until_all(state="ready")
        d.roles_may_die = True
        for _ in range(5):
            old = d.role("manager")
            procs.kill(old)
            until(lambda old=old: d.role("manager") != old, 5)
            self.wait_control(d)
            now = d.until_all(state="ready")
            for name, worker in before.items():
                for key in ("pid", "incarnation", "restarts", "generation"):
                    self.assertEqual(now[name][key], worker[key], (name, key))
        self.assertEqual(d.worker("web:3")["status"], "s3")
        procs.kill(d.pid_of("web:3"))
        d.until_worker("web:3", state="ready", incarnation=2)
        d.ctl("scale", "web", 7, code=0)
        d.stop()

    def test_killed_manager_in_the_middle(self):
        """During starts, stops, reloads: nothing doubled, nothing forgotten."""
        journal = self.journal()
        groups = self.one(journal, f"flock={self.dir}/slot.@index@", "token", "on=TERM:slow:30:0",
                          "wait", workers=12)
        d = self.daemon(groups, daemon={"start_concurrency": 3})
        d.roles_may_die = True
        for number in range(8):
            if number % 4 == 0:
                d.call("Restart", targets=["web"], wait=False)
            elif number % 4 == 1:
                d.call("Stop", targets=["web"], wait=False)
            elif number % 4 == 2:
                d.call("Start", targets=["web"], wait=False)
            else:
                groups["web"]["env"] = {"N": str(number)}
                d.write(self.conf(groups, daemon={"start_concurrency": 3}))
                d.call("Reload", wait=False)
            self.pause(0.01 * number)
            procs.kill(d.role("manager"))
            self.wait_control(d)
        d.until_all(30, state="ready")
        self.assertEqual(journal.entries("double"), [], "two in one slot")
        pids = [d.host(w["pid"]) for w in d.workers().values()]
        puppets = [p for p in d.survivors() if procs.comm_of(p) == "puppet"]
        self.assertEqual(sorted(puppets), sorted(pids))
        d.stop()

    def test_killed_manager_sees_what_it_missed(self):
        d = self.daemon(self.one(self.gate(), "exit=@index@", workers=10, restart={"when": "never"}))
        d.until_all(state="ready")
        d.roles_may_die = True
        manager = d.role("manager")
        os.kill(manager, signal.SIGSTOP)
        pids = [p for p in d.survivors() if procs.comm_of(p) == "puppet"]
        fd = os.open(self.dir / "gate", os.O_RDWR)
        until(lambda: not any(procs.alive(p) for p in pids), 10, "all have ended")
        procs.kill(manager)
        self.wait_control(d)
        for index in range(10):
            last = d.until_worker(f"web:{index}", last_exit=lambda e: e is not None)["last_exit"]
            self.assertEqual(last["code"], index)
        os.close(fd)
        d.stop()

    def test_killed_manager_while_it_reads_the_configuration(self):
        """A reload by signal is answered, whoever began it."""
        groups = self.one("wait")
        groups.update({f"g{i}": {"command": "/bin/true", "workers": 0} for i in range(800)})
        d = self.daemon(groups)
        before = d.until_worker("web:0", state="ready")
        d.roles_may_die = True
        groups["new"] = {"command": self.words("wait")}
        d.write(self.conf(groups))
        d.send(signal.SIGHUP)
        until(lambda: "SIGHUP: reading" in d.text(), 10, every=0.001)
        procs.kill(d.role("manager"))
        self.wait_control(d)
        until(lambda: d.workers().get("new:0", {}).get("state") == "ready", 15)
        self.assertEqual(d.worker("web:0")["pid"], before["pid"])
        d.stop()

    def test_killed_logger(self):
        d = self.daemon(self.one("out=one", self.gate(), "out=two", "wait"))
        before = d.until_all(state="ready")
        until(lambda: d.lines("web") == ["one"], 10)
        d.roles_may_die = True
        procs.kill(d.role("logger"))
        fd = os.open(self.dir / "gate", os.O_RDWR)
        until(lambda: d.lines("web") == ["one", "two"], 10)
        os.close(fd)
        self.assertEqual(d.worker("web:0")["pid"], before["web:0"]["pid"])
        d.ctl("logs", "web", code=0)
        d.stop()

    def test_killed_keeper_then_clean_start(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, f"flock={self.dir}/slot.@index@", "token", "fork=1", "[",
                                 "setsid", "ignore=TERM,HUP", "wait", "]", "wait", workers=4,
                                 stop={"timeout": "300ms"}))
        for number in range(1, 4):
            d.until_all(state="ready")
            self.assertEqual(len(journal.wait("start", n=4 * number)), 4 * number)
            if number < 3:
                d.send(signal.SIGKILL)
                d.wait_exit()
                d.start(timeout=30)
        self.assertEqual(journal.entries("double"), [], "two in one slot")
        until(lambda: len([p for p in d.survivors() if procs.comm_of(p) == "puppet"]) == 8, 10,
              "workers and their children, and nothing of an earlier life")
        d.stop()

    def test_killed_keeper_leaves_no_cgroups_of_workers(self):
        self.need_cgroup()
        self.need_not("pid1", "with pid 1 the kernel ends the manager, too")
        d = self.daemon(self.one("fork=1", "[", "setsid", "wait", "]", "wait", workers=4))
        d.until_all(state="ready")
        leaves = [p for p in d.cgroup.below() if p.name == "w"]
        self.assertEqual(len(leaves), 1)
        d.roles_may_die = True
        manager = d.role("manager")
        d.send(signal.SIGKILL)
        d.wait_exit()
        until(lambda: not procs.alive(manager), 10, "the manager has mourned")
        self.assertFalse(leaves[0].exists())
        d.start(timeout=30)
        d.until_all(state="ready")
        d.stop()

    def test_hanging_manager_does_not_hold_up_a_shutdown(self):
        for number, limit in ((signal.SIGTERM, 8), (signal.SIGQUIT, 4)):
            journal = self.journal(f"journal{number}")
            d = self.daemon(self.one(journal, "on=TERM:slow:100:0", "note=up", "wait"))
            d.until_all(state="ready")
            d.roles_may_die = True
            os.kill(d.role("manager"), signal.SIGSTOP)
            begin = time.monotonic()
            d.send(number)
            self.assertEqual(d.wait_exit(), 0, d.text())
            self.assertLess(time.monotonic() - begin, limit)
            self.assertEqual(len(journal.entries("saved")), int(number == signal.SIGTERM))
            d.check_gone()

    def test_hanging_logger_does_not_hold_up_a_shutdown(self):
        d = self.daemon(self.one("lines=0:100:x", workers=2))
        d.until_all(state="ready")
        d.roles_may_die = True
        os.kill(d.role("logger"), signal.SIGSTOP)
        begin = time.monotonic()
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0)
        self.assertLess(time.monotonic() - begin, 10)
        d.check_gone()

    def test_hanging_manager_is_replaced(self):
        d = self.daemon(self.one("wait"), daemon={"manager_watchdog": "1s"})
        before = d.until_all(state="ready")
        d.roles_may_die = True
        old = d.role("manager")
        os.kill(old, signal.SIGSTOP)
        client = d.connect(timeout=20)  # work that is not consumed
        self.addCleanup(client.close)
        client.send("Version")
        until(lambda: not procs.alive(old), 15, "it is killed")
        self.wait_control(d)
        self.assertEqual(d.worker("web:0")["pid"], before["web:0"]["pid"])
        d.stop()

    def test_hanging_logger_is_replaced(self):
        """Not in a write: its bell was rung, and it makes no turn."""
        journal = self.journal()
        d = self.daemon(self.one(journal, "out=one", self.gate(), "out=two", "note=said", "wait",
                                 workers=2), daemon={"manager_watchdog": "1s"})
        until(lambda: d.lines("web") == ["one", "one"], 10)
        d.roles_may_die = True
        old = d.role("logger")
        os.kill(old, signal.SIGSTOP)
        fd = os.open(self.dir / "gate", os.O_RDWR)
        journal.wait("note", "said", n=2)
        d.call("Restart", targets=["web:1"], wait=False)  # a stream ends and begins
        until(lambda: not procs.alive(old), 15, "it is killed")
        self.assertIn("reeve-logger (pid", d.text())
        until(lambda: len(d.lines("web")) == 6, 10)
        os.close(fd)
        self.assertEqual(sorted(d.lines("web")), ["one"] * 3 + ["two"] * 3)
        self.assertEqual(d.worker("web:0")["incarnation"], 1)
        d.stop()

    def test_the_keepers_file_answers_for_a_dead_manager(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        d.roles_may_die = True
        manager = d.role("manager")
        os.kill(manager, signal.SIGSTOP)
        result = d.ctl("status", "--timeout", "1s")
        self.assertIn(result.code, (4, 5), result)
        os.kill(manager, signal.SIGCONT)
        d.ctl("status", code=0)
        d.stop()

    def test_descriptors_of_the_roles_are_audited(self):
        d = self.daemon(self.one("notify=READY=1", "wait", ready="notify", workers=2))
        d.until_all(state="ready")

        def held():
            return [len(procs.fds_of(p)) for p in (d.pid, d.role("manager"), d.role("logger"))]
        before = wait_quiet(held)  # our copies of new pipes go once the keeper has them
        d.ctl("scale", "web", 30, code=0)
        grown = wait_quiet(held)
        for one, two, share in zip(before, grown, (2, 1, 1)):
            self.assertLessEqual(two - one, 28 * share, "descriptors per worker")
        d.ctl("scale", "web", 2, code=0)
        until(lambda: held() == before, 10, f"back to {before}")
        d.stop()

    def test_nothing_is_inherited_by_exec_of_reeved(self):
        """fds that were open when reeved was started do not stay open in any role."""
        path = self.dir / "inherited"
        path.write_text("")

        def leak():
            fd = os.open(path, os.O_RDWR)
            os.dup2(fd, 77)
            os.close(fd)
        d = self.daemon(self.one("wait"), before=leak)
        for pid in (d.role("manager"), d.role("logger")):
            self.assertNotIn(str(path), procs.fds_of(pid).values())
        d.stop()

    def test_progress_on_a_terminal(self):
        self.need_not("pid1", "its session belongs to the terminal's owner")
        import pty
        master, slave = pty.openpty()
        tty = os.ttyname(slave)
        os.chmod(tty, 0o666)
        os.close(slave)

        def terminal():
            fd = os.open(tty, os.O_RDWR)
            for number in range(3):
                os.dup2(fd, number)
        d = self.daemon(self.one(self.journal(), "on=TERM:count", "note=up", "wait",
                                 stop={"timeout": "1h"}), before=terminal)
        self.journal().wait("note", "up")
        os.set_blocking(master, False)
        said = b""

        def hears(word):
            nonlocal said
            try:
                said += os.read(master, 65536)
            except OSError:
                pass
            return word in said
        d.send(signal.SIGINT)
        until(lambda: hears(b"web:0"), 10, "it says who still runs")
        until(lambda: hears(b"Ctrl-C"), 10, "it says what to do")
        self.pause(0.3)
        d.send(signal.SIGINT)
        self.assertEqual(d.wait_exit(), 0)
        os.close(master)

    def test_help_and_completion_of_the_tool(self):
        tool = str(self.context.program("reevectl"))
        done = subprocess.run([tool, "--help"], capture_output=True, text=True, timeout=10)
        self.assertEqual(done.returncode, 0)
        self.assertIn("status", done.stdout)
