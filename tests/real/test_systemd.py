"""Our unit under a real systemd: readiness, status, reload, drain, exit codes, watchdog."""
from harness import until
from system import SERVICE, Service


class Systemd(Service):
    def test_active_when_every_worker_has_come_to_rest(self):
        gate = self.gate()
        self.configure({
            "slow": {"command": self.words(gate, "notify=READY=1", "on=TERM:go", "wait"),
                     "ready": "notify"},
            "bad": {"command": self.words("exit=3"), "restart": {"limit": 1}},
            "behind": {"command": self.words("wait"), "after": ["bad"]},
            "once": {"command": self.words("exit=0"), "restart": {"when": "failure"}},
        })
        self.system.boot()
        self.system.systemctl("start", "--no-block", SERVICE)
        self.until_worker("bad:0", state="quarantined")
        self.until_worker("once:0", state="done")
        self.assertEqual(self.worker("slow:0")["state"], "starting")
        self.assertEqual(self.worker("behind:0")["state"], "waiting")
        self.assertEqual(self.system.show(SERVICE, "ActiveState"), "activating")
        gate.open()
        self.system.until_shows(SERVICE, ActiveState="active", SubState="running",
                                StatusText=lambda text: "4 workers" in text)
        self.system.systemctl("stop", SERVICE)
        self.assertEqual(self.system.show(SERVICE, "Result"), "success")
        self.assert_nothing_left()

    def test_workers_have_cgroups_of_their_own(self):
        """Delegate=yes is used: a leaf for each life, the roles beside them."""
        self.start({"web": {"command": self.words("on=TERM:go", "wait"), "workers": 2}})
        paths = {self.system.run("cat", f"/proc/{self.worker(name)['pid']}/cgroup").stdout
                 for name in ("web:0", "web:1")}
        self.assertEqual(len(paths), 2, self.system.console() + self.ctl("doctor", code=None))
        for path in paths:
            self.assertRegex(path, rf"0::/system\.slice/{SERVICE}/w/web/")
        self.system.systemctl("stop", SERVICE)
        self.assert_nothing_left()

    def test_SY03_reload_by_systemctl(self):
        self.start({"web": {"command": self.words("on=TERM:go", "wait")},
                    "old": {"command": self.words("on=TERM:go", "wait")}})
        before = self.worker("web:0")["pid"]
        self.configure({"web": {"command": self.words("on=TERM:go", "wait")},
                        "new": {"command": self.words("on=TERM:go", "wait")}})
        self.system.systemctl("reload", SERVICE)
        self.until_worker("new:0", state="ready")
        self.ctl("status", "old", code=7)
        self.assertEqual(self.worker("web:0")["pid"], before)
        self.system.until_shows(SERVICE, ActiveState="active", SubState="running")

    def test_SY02_drain_longer_than_the_stop_timeout(self):
        """SY02: the daemon asks for more time while a worker finishes its work."""
        self.drop_in("stop", "TimeoutStopSec=2\n")
        journal = self.journal()
        self.start({"web": {"command": self.words(journal, "on=TERM:slow:5000:0", "note=up", "wait"),
                            "stop": {"timeout": "30s"}}})
        journal.wait("note", "up")
        self.system.systemctl("stop", SERVICE)
        self.assertEqual(self.system.show(SERVICE, "Result"), "success")
        self.assertEqual(self.system.show(SERVICE, "ExecMainStatus"), "0")
        journal.wait("saved")
        self.assert_nothing_left()

    def test_SY06_configuration_error_is_not_restarted(self):
        """SY06"""
        self.file.write_text("groups: { web: { comand = \"/bin/true\"; }; };\n")
        self.system.boot()
        self.system.systemctl("start", SERVICE, code=1)
        self.system.until_shows(SERVICE, ActiveState="failed", ExecMainStatus="78", NRestarts="0")
        self.assertIn("reeve.conf:1", self.system.console())

    def test_worker_killed(self):
        self.start({"web": {"command": self.words("on=TERM:go", "wait")}})
        pid = self.worker("web:0")["pid"]
        self.system.run("kill", "-9", pid)
        after = self.until_worker("web:0", state="ready", incarnation=2)
        self.assertEqual(after["last_exit"]["signal"], "KILL")
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="0")

    def test_manager_and_logger_killed(self):
        self.start({"web": {"command": self.words("on=TERM:go", "wait")}})
        before = self.worker("web:0")["pid"]
        main = self.system.show(SERVICE, "MainPID")
        for role in ("reeve-manager", "reeve-logger"):
            done = self.system.run("pkill", "-9", "-x", "-P", main, role)
            self.assertEqual(done.returncode, 0, f"no {role}")
        self.until_worker("web:0", state="ready", pid=before, incarnation=1)
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="0", MainPID=main)
        self.system.systemctl("stop", SERVICE)
        self.assertEqual(self.system.show(SERVICE, "Result"), "success")
        self.assert_nothing_left()

    def test_keeper_killed_is_started_again(self):
        """Nothing of the first life runs beside the second."""
        journal = self.journal()
        self.start({"web": {"command": self.words(journal, f"flock={self.dir}/lock", "token",
                                                  "on=TERM:go", "wait")}})
        main = self.system.show(SERVICE, "MainPID")
        self.system.run("kill", "-9", main)
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="1",
                                MainPID=lambda pid: pid not in (main, "0"))
        self.until_worker("web:0", state="ready")
        self.assertEqual(journal.entries("double"), [])

    def test_SY04_watchdog_ends_a_hanging_keeper(self):
        self.drop_in("watchdog", "WatchdogSec=2\nWatchdogSignal=SIGKILL\n")
        self.start({"web": {"command": self.words("on=TERM:go", "wait")}})
        main = self.system.show(SERVICE, "MainPID")
        self.assertEqual(self.system.show(SERVICE, "ActiveState"), "active")
        self.system.run("kill", "-STOP", main)
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="1",
                                MainPID=lambda pid: pid not in (main, "0"))

    def test_watchdog_is_fed(self):
        """With a short period and nothing to do: still the same process after several periods."""
        self.drop_in("watchdog", "WatchdogSec=1\n")
        journal = self.journal()
        self.start({"web": {"command": self.words(journal, "sleep=4000", "note=late", "on=TERM:go",
                                                  "wait")}})
        journal.wait("note", "late")
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="0")
