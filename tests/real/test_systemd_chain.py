"""Our unit under a real systemd: kill modes, failures of roles, freezing, hardening, upgrade."""
import json
import os

import system
from harness import sanitized, until
from system import SERVICE, Service

JOURNALD = "/lib/systemd/systemd-journald"


class Chain(Service):
    """What the service manager may do to us, and what a failure of one role means to it."""

    def test_SY01_four_kill_modes(self):
        """Whatever systemd signals besides: work is finished, nothing is left, all is well."""
        self.system.boot()
        for mode in ("mixed", "process", "control-group"):
            with self.subTest(mode):
                journal = self.journal(f"journal-{mode}")
                self.drop_in("kill", f"KillMode={mode}\n")
                self.configure({"web": {"command": self.words(
                    journal, "on=TERM:slow:400:0", "daemon", "[", "scrub", "note=up", "wait", "]",
                    "note=up", "wait"), "workers": 2}})
                self.system.systemctl("daemon-reload")
                self.system.systemctl("start", SERVICE)
                journal.wait("note", "up", n=4)
                self.system.systemctl("stop", SERVICE)
                self.assertEqual(self.system.show(SERVICE, "Result"), "success")
                self.assertEqual(self.system.show(SERVICE, "ExecMainStatus"), "0")
                self.assertEqual(len(journal.entries("saved")), 4, journal.entries())
                self.assert_nothing_left()

    def test_SY01_kill_mode_none(self):
        """systemd asks nobody; with ExecStop it is our own shutdown that ends everything."""
        journal = self.journal()
        ctl = self.context.program("reevectl")
        self.drop_in("kill", f"KillMode=none\nExecStop={ctl} --system shutdown\n")
        self.start({"web": {"command": self.words(journal, "on=TERM:slow:400:0", "note=up", "wait")}})
        journal.wait("note", "up")
        self.system.systemctl("stop", SERVICE)
        self.assertEqual(self.system.show(SERVICE, "Result"), "success")
        journal.wait("saved")
        self.assert_nothing_left()

    def test_SY01_keeper_killed_under_kill_mode_process(self):
        """Then systemd ends nobody: parent-death signals and the manager do."""
        journal = self.journal()
        self.drop_in("kill", "KillMode=process\nRestart=no\n")
        self.start({"web": {"command": self.words(journal, "ignore=TERM", "fork=1", "[", "setsid",
                                                  "note=up", "wait", "]", "wait"), "workers": 2}})
        journal.wait("note", "up", n=2)
        self.system.run("kill", "-9", self.system.show(SERVICE, "MainPID"))
        self.system.until_shows(SERVICE, ActiveState="failed")
        self.assert_nothing_left()

    def test_SY04_manager_that_hangs_is_replaced(self):
        """By us, before systemd's watchdog ends the service: it is fed meanwhile."""
        self.drop_in("watchdog", "WatchdogSec=20\n")
        self.configure({"web": {"command": self.words("on=TERM:go", "wait")}})
        text = self.file.read_text()
        self.file.write_text(text + "\ndaemon: { manager_watchdog = \"1s\"; };\n")
        self.system.boot()
        self.system.systemctl("start", SERVICE)
        before = self.until_worker("web:0", state="ready")
        main = self.system.show(SERVICE, "MainPID")
        self.system.run("pkill", "-STOP", "-x", "-P", main, "reeve-manager")
        after = self.until_worker("web:0", state="ready")
        self.assertEqual(after["pid"], before["pid"])
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="0", MainPID=main)

    def test_SY07_daemon_reload_leaves_our_cgroups(self):
        self.start({"web": {"command": self.words("on=TERM:go", "wait"), "workers": 2}})
        before = [self.worker(name) for name in ("web:0", "web:1")]
        paths = [self.system.run("cat", f"/proc/{w['pid']}/cgroup").stdout for w in before]
        for _ in range(2):
            self.system.systemctl("daemon-reload")
            self.system.systemctl("reset-failed")
        for worker, path in zip(before, paths):
            self.assertIn(f"/{SERVICE}/w/web/", path)
            self.assertEqual(self.system.run("cat", f"/proc/{worker['pid']}/cgroup").stdout, path)
        self.system.systemctl("stop", SERVICE)
        self.assertEqual(self.system.show(SERVICE, "Result"), "success")
        self.assert_nothing_left()

    def test_SY09_frozen_and_thawed(self):
        """No clock of ours ends while nobody could have met it."""
        gate, journal = self.gate(), self.journal()
        self.drop_in("watchdog", "WatchdogSec=0\n")
        self.configure({"web": {"command": self.words(journal, "token", gate, "notify=READY=1",
                                                      "on=TERM:go", "wait"),
                                "ready": "notify", "start_timeout": "2s"}})
        self.system.boot()
        self.system.systemctl("start", "--no-block", SERVICE)
        journal.wait("start")
        switch = self.context.cgroup.path / "systemd/system.slice" / SERVICE / "cgroup.freeze"
        switch.write_text("1")  # as `systemctl freeze` does it, which asks over D-Bus
        self.pause(3)
        gate.open()
        switch.write_text("0")
        self.until_worker("web:0", state="ready", incarnation=1)
        self.assertEqual(len(journal.entries("start")), 1)
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="0")

    def test_SY10_hardened_unit(self):
        """Everything a careful administrator adds: what we need is still there."""
        if sanitized(self.context.build):
            self.leave_out("LeakSanitizer traces, and the filter forbids that")
        journal = self.journal()
        self.drop_in("hard", "NoNewPrivileges=yes\nProtectSystem=strict\nProtectHome=read-only\n"
                             "ProtectKernelTunables=yes\nProtectKernelModules=yes\n"
                             "ProtectKernelLogs=yes\nProtectClock=yes\nProtectHostname=yes\n"
                             "RestrictRealtime=yes\nRestrictSUIDSGID=yes\nLockPersonality=yes\n"
                             "MemoryDenyWriteExecute=yes\nRestrictNamespaces=yes\n"
                             "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n"
                             "SystemCallFilter=@system-service\nSystemCallErrorNumber=EPERM\n"
                             f"ReadWritePaths=/run {self.dir}\n")
        self.start({"web": {"command": self.words(journal, "notify=READY=1", "out=hello",
                                                  "on=TERM:slow:200:0", "note=up", "wait"),
                            "ready": "notify", "workers": 2}})
        for name in ("web:0", "web:1"):
            self.until_worker(name, state="ready")
        done = self.ctl("doctor", code=None)
        self.assertNotIn("unmet", done)
        worker = self.worker("web:0")
        self.system.run("kill", "-9", worker["pid"])
        self.until_worker("web:0", state="ready", incarnation=2)
        self.system.systemctl("reload", SERVICE)
        self.ctl("restart", "web")
        self.system.systemctl("stop", SERVICE)
        self.assertEqual(self.system.show(SERVICE, "Result"), "success")
        self.assertIn("hello", (self.dir / "log/web.log").read_text())
        self.assert_nothing_left()

    def test_DC07_upgrade_keeps_the_main_pid(self):
        """SY04 too: systemd sees one process that goes on, and feeds on."""
        self.drop_in("watchdog", "WatchdogSec=2\n")
        journal = self.journal()
        self.start({"web": {"command": self.words(journal, "token", "on=TERM:slow:200:0", "wait"),
                            "workers": 2}})
        before = [self.worker(name) for name in ("web:0", "web:1")]
        main = self.system.show(SERVICE, "MainPID")
        self.ctl("upgrade")
        self.system.run("kill", "-USR2", main)
        self.pause(3)
        self.system.until_shows(SERVICE, ActiveState="active", SubState="running", NRestarts="0",
                                MainPID=main)
        after = [self.worker(name) for name in ("web:0", "web:1")]
        for key in ("pid", "incarnation", "restarts"):
            self.assertEqual([w[key] for w in after], [w[key] for w in before])
        self.assertEqual(len(journal.entries("start")), 2)
        self.system.systemctl("reload", SERVICE)
        self.system.systemctl("stop", SERVICE)
        self.assertEqual(self.system.show(SERVICE, "Result"), "success")
        self.assertEqual(len(journal.entries("saved")), 2)
        self.assert_nothing_left()

    def test_SY11_user_instance(self):
        """The unit for users under a `systemd --user`: no controllers, and all the same."""
        name, entry = self.some_user()
        self.give(entry)
        journal = self.journal()
        folder = self.dir / "user-units"
        folder.mkdir()
        for target in ("boot", "basic", "shutdown", "default", "exit"):
            (folder / f"{target}.target").write_text(system.TARGET.format(target))
        reeved = self.context.program("reeved")
        text = (system.UNITS / "reeved-user.service.in").read_text()
        (folder / SERVICE).write_text(text.replace("@sbindir@/reeved --user",
                                                   f"{reeved} --user -c {self.file}"))
        self.system.unit("user.service", f"""[Service]
User={name}
Type=notify
Delegate=yes
RuntimeDirectory=user
Environment=XDG_RUNTIME_DIR=/run/user HOME={self.dir} SYSTEMD_UNIT_PATH={folder}
Environment=XDG_STATE_HOME={self.dir}/state XDG_CONFIG_HOME={self.dir}/config
ExecStart={system.SYSTEMD} --user --unit=boot.target --log-target=console
KillMode=mixed
""")
        self.configure({"web": {"command": self.words(journal, "token", "on=TERM:slow:300:0", "daemon",
                                                      "[", "note=child", "wait", "]", "wait"),
                                "workers": 2}})
        self.system.boot()
        self.system.systemctl("start", "user.service")

        def as_user(*command, code=0):
            done = self.system.run("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}",
                                   "--clear-groups", "env", "XDG_RUNTIME_DIR=/run/user", *command)
            self.assertEqual(done.returncode, code, f"{command}: {done.stdout}{done.stderr}\n"
                                                    f"{self.system.console()}")
            return done.stdout
        as_user("systemctl", "--user", "start", SERVICE)
        journal.wait("note", "child", n=2)
        ctl = self.context.program("reevectl")
        main = as_user("systemctl", "--user", "show", "--value", "-p", "MainPID", SERVICE).strip()
        status = json.loads(as_user(ctl, "--json", "status"))
        self.assertEqual([w["state"] for w in status], ["ready", "ready"])
        # Whether the user's systemd marks what it delegates depends on its version.
        self.assertRegex(as_user(ctl, "doctor"), "(ok|degraded) +cgroups: (one cgroup per worker|.*"
                                                 "is not delegated)")
        as_user("systemctl", "--user", "reload", SERVICE)
        as_user("kill", "-USR2", main)
        as_user(ctl, "wait", "web", "--for", "ready")
        as_user("systemctl", "--user", "stop", SERVICE)
        self.assertEqual(as_user("systemctl", "--user", "show", "--value", "-p", "Result",
                                 SERVICE).strip(), "success")
        self.assertEqual(len(journal.entries("start")), 2)
        self.assertEqual(len(journal.entries("saved")), 4)

    def test_SY08_journal_restarted(self):
        """Workers write to a journal that goes away and comes back: nobody dies of it."""
        if not os.path.exists(JOURNALD):
            self.skipTest("no systemd-journald")
        self.system.unit("journal.service", f"""[Unit]
DefaultDependencies=no
[Service]
Type=notify
ExecStartPre=/bin/sh -c 'mkdir -p /run/systemd/journald.conf.d && printf "[Journal]\\nStorage=volatile\\nReadKMsg=no\\n" >/run/systemd/journald.conf.d/a.conf'
ExecStart={JOURNALD}
FileDescriptorStoreMax=100
Restart=always
RestartSec=0
""")
        journal = self.journal()
        self.configure({"web": {"command": self.words(journal, "on=PIPE:count", "on=TERM:go",
                                                      "loop=100000", "[", "lines=1:0:line",
                                                      "sleep=20", "]", "wait"),
                                "log": {"to": "journal"}, "stop": {"timeout": "100ms"}}})
        self.system.boot()
        self.system.systemctl("start", "journal.service")
        self.system.systemctl("start", SERVICE)
        before = self.until_worker("web:0", state="ready")

        def lines():
            done = self.system.run("journalctl", "-q", "-o", "cat", "-D", "/run/log/journal",
                                   f"_PID={before['pid']}")
            return done.stdout.count("line")
        until(lambda: lines() > 3, 15, "lines in the journal", every=0.1)
        self.system.systemctl("kill", "-s", "KILL", "journal.service")
        self.system.until_shows("journal.service", ActiveState="active", NRestarts="1")
        self.pause(0.5)
        after = self.worker("web:0")
        for key in ("pid", "incarnation"):
            self.assertEqual(after[key], before[key])
        self.assertEqual(journal.entries("signal"), [])
        self.system.until_shows(SERVICE, ActiveState="active", NRestarts="0")
