"""As the first process of a container: in mode pid1, and in mode eperm under the filter as well."""
import os
import pwd
import resource
import signal

from command import Command
from harness import Case, procs, sanitized, until

CLONE_NEWUSER = 0x10000000


class First(Case):
    """Everything here runs as pid 1 of a pid namespace."""

    stretch = 2

    def setUp(self):
        super().setUp()
        self.need_only(("pid1", "eperm"), "a first process, without a filter and with it")
        self.need_root()

    def boot(self, groups, **how):
        return self.daemon(groups, pid1=True, **how)

    def zombies(self, d):
        return [p for p in procs.children_of(d.pid) if procs.state_of(p) == "Z"]

    def test_PI01_signals_of_the_runtime(self):
        """The kernel ignores for a first process what it has not asked for: it has asked."""
        journal = self.journal()
        d = self.boot(self.one(journal, "on=TERM:slow:300:0", "note=up", "wait"))
        journal.wait("note", "up")
        d.write(self.conf({**self.one(journal, "on=TERM:slow:300:0", "note=up", "wait"),
                           "new": {"command": self.words("wait")}}))
        d.send(signal.SIGHUP)
        until(lambda: d.workers().get("new:0", {}).get("state") == "ready", 15)
        d.send(signal.SIGUSR1)
        d.stop(signal.SIGINT)
        journal.wait("saved")

    def test_PI01_quit_is_cold(self):
        journal = self.journal()
        d = self.boot(self.one(journal, "ignore=TERM", "note=up", "wait"))
        journal.wait("note", "up")
        d.send(signal.SIGQUIT)
        self.assertEqual(d.wait_exit(5), 0)
        d.check_gone()

    def test_PI02_PI03_strangers_are_reaped(self):
        """A hundred thousand orphans of nobody's tree end: none stays a zombie, and that is all."""
        count = 10000 if sanitized(self.context.build) else 100000
        journal = self.journal()
        d = self.boot({"web": {"command": self.words("on=TERM:go", "wait")},
                       "noise": {"command": self.words(journal, f"burst={count}:3", "note=done",
                                                       "on=TERM:go", "wait"), "stop": {"timeout": "2s"}}})
        before = d.until_worker("web:0", state="ready")
        journal.wait("note", "done", timeout=100)
        until(lambda: not self.zombies(d), 10, "no zombie is left")
        after = d.workers()
        self.assertEqual((after["web:0"]["pid"], after["web:0"]["restarts"]), (before["pid"], 0))
        self.assertEqual(after["noise:0"]["restarts"], 0)
        self.assertEqual(d.poll(), None)
        d.stop()

    def test_PI04_without_what_is_newer(self):
        """clone3, pidfd_*, close_range, openat2 and cgroups answer EPERM or EROFS."""
        def closed():
            for line in procs.read("/proc/self/mountinfo").splitlines():
                if " - cgroup2 " in line:  # bind, remount, read-only
                    procs.libc("mount", b"none", line.split()[4].encode(), None, 0x1021, None)
        journal = self.journal()
        d = self.boot({"web": {"command": self.words(journal, "daemon", "[", "note=child", "wait", "]",
                                                     "on=TERM:go", "note=up", "wait"), "workers": 3}},
                      before=closed, prefix=[self.context.program("eperm")], cgroup=False)
        journal.wait("note", n=6)
        d.until_all(state="ready")
        doctor = d.ctl("doctor").out
        self.assertIn("degraded  starts", doctor)
        self.assertIn("no cgroups", doctor)
        d.stop()

    def test_PI05_budget_of_the_stop(self):
        """daemon.shutdown_timeout bounds the warm phase, whatever the groups ask for."""
        journal = self.journal()
        d = self.boot(self.one(journal, "ignore=TERM", "note=up", "wait", stop={"timeout": "1h"}),
                      daemon={"shutdown_timeout": "400ms"})
        journal.wait("note", "up")
        d.stop(timeout=8)

    def test_PI09_kill_everybody(self):
        """A worker says kill -1: TERM is a request, KILL hits all but the first process."""
        journal = self.journal()
        d = self.boot({"web": {"command": self.words(journal, "note=up", "wait"), "workers": 2},
                       "bad": {"command": ["/bin/sh", "-c", "trap '' TERM; kill -KILL -1; exit 0"],
                               "autostart": False, "restart": {"when": "never"}}})
        d.roles_may_die = True
        for name in ("web:0", "web:1"):
            d.until_worker(name, state="ready")
        manager = d.role("manager")
        d.ctl("start", "bad", "--no-wait", code=0)
        until(lambda: not procs.alive(manager), 10, "it was hit")
        d.until_worker("web:0", state="ready", incarnation=2)
        d.until_worker("web:1", state="ready", incarnation=2)
        self.assertEqual(d.exits("web:0")[0]["signal"], "KILL")
        d.stop()

    def test_PI09_signals_from_inside(self):
        """TERM from a worker is the same request as from the runtime; KILL does nothing."""
        journal = self.journal()
        d = self.boot({"web": {"command": self.words(journal, "on=TERM:slow:100:0", "notify=READY=1",
                                                     "wait"), "ready": "notify"},
                       "bad": {"command": ["/bin/sh", "-c", "kill -KILL 1; kill -STOP 1; kill -TERM 1"],
                               "restart": {"when": "never"}, "after": ["web"]}})
        self.assertEqual(d.wait_exit(), 0)
        journal.wait("saved")
        d.check_gone()

    def test_inherited_environment_and_user(self):
        """inherit_env is [ "*" ] here, but whose home it is says `user`."""
        name, entry = self.some_user()
        folder = self.open_folder()
        d = self.boot({"web": {"command": self.words(f"dump={folder}/dump", "wait"), "user": name,
                               "env": {"LIVE_MARK": self.mark}}},
                      env={"HOME": "/root", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/x",
                           "CITY": "Delft"})
        env = self.dump(folder / "dump")["env"]
        for wanted in (f"HOME={entry.pw_dir}", f"USER={name}", f"LOGNAME={name}", "CITY=Delft"):
            self.assertIn(wanted, env)
        d.stop()

    def test_run_as_first_process(self):
        """PI01, PI02: `reevectl run` is the container's init."""
        count = 10000 if sanitized(self.context.build) else 100000
        journal = self.journal()
        d = Command(self, [self.puppet, journal, "on=TERM:go", f"burst={count}", "daemon",
                           "[", "note=child", "wait", "]", "note=up", "wait", "exit=33"], pid1=True)
        self.daemons.append(d.launch())
        journal.wait("note", n=2, timeout=100)
        until(lambda: not self.zombies(d), 10, "no zombie is left")
        self.assertEqual(procs.status_of(d.pid)["NSpid"].split()[1], "1")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 33)


class Anywhere(Case):
    def test_PI07_user_namespace(self):
        """setgroups denied, ids that are not mapped: the start says so, and others go on."""
        name = self.some_user(avoid=(os.getuid(),))[0]
        uid, gid = os.getuid(), os.getgid()
        probe = os.fork()
        if probe == 0:
            try:
                procs.libc("unshare", CLONE_NEWUSER)
                os._exit(0)
            finally:
                os._exit(1)
        if os.waitpid(probe, 0)[1]:
            self.skipTest("no user namespaces here")

        def before():
            procs.libc("unshare", CLONE_NEWUSER)
            for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"),
                               ("gid_map", f"0 {gid} 1")):
                fd = os.open(f"/proc/self/{file}", os.O_WRONLY)
                os.write(fd, text.encode())
                os.close(fd)
        self.need_not("pid1", "the namespace of pids belongs to another user namespace")
        d = self.daemon({"web": {"command": self.words("wait")},
                         "other": {"command": self.words("wait"), "user": name,
                                   "restart": {"limit": 1}}},
                        before=before, cgroup=False, daemon={"cgroup": "off"})
        d.until_worker("web:0", state="ready")
        d.until_worker("other:0", state="quarantined")
        uid = pwd.getpwnam(name).pw_uid
        self.assertIn(f"other:0: user id {uid} is not mapped into this user namespace", d.text())
        d.stop()

    def test_PI08_no_subreaper(self):
        """Not the first process, and orphans do not come to us: said, and to be seen."""
        self.need_not("pid1", "orphans come to a first process")
        d = self.daemon(self.one("wait"), prefix=[self.context.program("eperm"), "--subreaper"])
        d.until_worker("web:0", state="ready")
        self.assertIn("cannot be a subreaper (Operation not permitted): orphans go to pid 1", d.text())
        self.assertRegex(d.ctl("doctor").out, "degraded +orphans: .*go to pid 1")
        d.stop()

    def test_PI10_recorded_pids_mean_nothing(self):
        """A container's second life finds pids of its first, which are others' by now."""
        decoy = os.fork()
        if decoy == 0:
            signal.pause()
        self.allowed.add(decoy)
        d = self.daemon(self.one("wait"), start=False)
        d.run.mkdir()
        d.run.chmod(0o755)
        (d.run / "keeper").write_text(f"pid={decoy}\nstate=running\nmanager=running\n"
                                      f"manager_pid={decoy}\nsince=2026-01-01T00:00:00Z\n")
        (d.run / "lock").touch()
        d.start()
        d.until_worker("web:0", state="ready")
        self.assert_alive(decoy)
        d.stop()
        self.assert_alive(decoy)
        os.kill(decoy, signal.SIGKILL)
        os.waitpid(decoy, 0)

    def test_file_size_limit_is_the_workers(self):
        """The maps that the roles share are larger; the worker has it as it was."""
        hard = resource.RLIM_INFINITY

        def before():
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, hard))
        for n, run in enumerate((False, True)):
            dump = self.dir / f"dump{n}"
            if run:
                d = Command(self, [self.puppet, f"dump={dump}"], before=before)
                self.daemons.append(d.launch())
                self.assertEqual(d.wait_exit(), 0, d.text())
            else:
                d = self.daemon(self.one(f"dump={dump}", "wait"), before=before)
                limits = self.dump(dump)["limits"]
                d.stop()
            limits = self.dump(dump)["limits"]
            self.assertEqual(limits["fsize"], [65536, -1])

    def test_file_size_limit_that_cannot_be_raised(self):
        """Nothing is started, and what is in the way is named."""
        def before():
            resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
            procs.libc("prctl", 24, 24, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_SYS_RESOURCE: gone at exec
        self.need_root()
        d = self.daemon(self.one("wait"), start=False, before=before, cgroup=False,
                        daemon={"cgroup": "off"})
        self.assertEqual(d.launch().wait_exit(), 1)
        self.assertIn("the file size limit (ulimit -f) is 65536 bytes and may not be raised", d.text())
