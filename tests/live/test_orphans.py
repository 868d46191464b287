"""Trees that fall apart: children that escape, storm, outlive or outnumber their worker."""
import itertools
import os
import shutil
import signal
import socket

from harness import Case, procs, until

FAST = {"stop": {"timeout": "300ms"}}


class Orphans(Case):
    def puppets(self):
        return [p for p in procs.marked(self.mark, str(self.dir), True)
                if procs.comm_of(p) == "puppet"]

    def test_OR01_every_way_to_escape(self):
        groups, strays = {}, set()
        for number, ways in enumerate(itertools.product((0, 1), repeat=4)):
            session, orphan, scrub, close = ways
            name = f"g{number}"
            if session and scrub:
                strays.add(name)
            words = ["ignore=TERM,HUP,INT,QUIT"]
            words += ["setsid"] * session + ["scrub"] * scrub
            words += [f"journal={self.dir}/{name}", "note=escaped"]
            words += ["closefds=all"] * close + ["wait"]
            groups[name] = {"command": self.words("orphan=1" if orphan else "fork=1", "[", *words,
                                                  "]", "wait"), **FAST}
        d = self.daemon(groups)
        d.until_all(state="ready")
        escaped = {name: d.host(self.journal(name).wait("note")[0].pid) for name in groups}
        for name in groups:
            d.ctl("stop", name, code=0)
            # Without a cgroup a process that left its session and its environment is a stray.
            if self.has_cgroup() or name not in strays:
                self.assert_gone(escaped[name], name)
        d.stop()

    def test_OR01_many_trees_end_at_once(self):
        """A tree must not look empty because of what goes on beside it."""
        d = self.daemon(self.one("fork=2", "[", "ignore=TERM", "wait", "]", "wait", workers=15,
                                 stop={"timeout": "150ms"}))
        for _ in range(3):
            d.until_all(state="ready")
            d.call("Stop", targets=["web"])
            self.assertEqual([procs.describe(p) for p in self.puppets()], [])
            d.call("Start", targets=["web"])
        d.stop()

    def test_OR02_a_self_daemonising_program_is_never_doubled(self):
        journal = self.journal()
        d = self.daemon(self.one("daemon", "[", journal, f"flock={self.dir}/slot", "token",
                                 "ignore=TERM", "wait", "]", "sleep=60", "exit=0",
                                 restart={"limit": 3}, stop={"timeout": "200ms"}))
        d.until_worker("web:0", state="quarantined")
        self.assertEqual(journal.entries("double"), [])
        self.assertEqual(self.puppets(), [])
        d.stop()

    def test_OR02_orphans_wait_adopts_it(self):
        journal = self.journal()
        d = self.daemon(self.one("daemon", "[", journal, "token", "on=TERM:exit:0", "wait", "]",
                                 "exit=0", orphans="wait"))
        journal.wait("start")
        self.never(lambda: len(journal.entries("start")) > 1, 0.4, "started beside it")
        d.ctl("stop", "web", code=0)
        self.assertEqual(len(journal.entries("signal", "TERM")), 1)
        self.assertEqual(self.puppets(), [])
        d.stop()

    def test_OR03_restart_waits_for_the_old_tree(self):
        journal = self.journal()
        d = self.daemon(self.one(f"if=inc-from:1", "[", "fork=1", "[", journal,
                                 f"flock={self.dir}/port", "ignore=TERM", "note=holding", "wait",
                                 "]", "]", "wait", **FAST))
        for number in range(1, 4):
            journal.wait("note", "holding", n=number)
            d.ctl("restart", "web", code=0)
        journal.wait("note", "holding", n=4)
        self.assertEqual(journal.entries("double"), [], "two held the port")
        self.assertEqual(d.worker("web:0")["restarts"], 0, "a restart by hand is no crash")
        d.stop()

    def test_OR04_alien_zombies_are_nobodys_business(self):
        journal = self.journal()
        d = self.daemon({"burst": {"command": self.words("loop=10", "[", "burst=100:3", "]", journal,
                                                         "note=over", "wait")},
                         "web": {"command": self.words("wait"), "workers": 3}},
                        daemon={"log": {"level": "info"}})
        journal.wait("note", "over", timeout=30)
        until(lambda: not [p for p in procs.children_of(d.pid) if procs.state_of(p) == "Z"], 10)
        for worker in d.workers().values():
            self.assertEqual((worker["restarts"], worker["incarnation"]), (0, 1))
        self.assertLess(len(d.text().splitlines()), 100)
        d.stop()

    def test_OR05_no_status_goes_to_the_wrong_one(self):
        gate = self.gate()
        d = self.daemon({
            "alien": {"command": self.words("loop=0", "[", "burst=20:9", "orphan=5", "[", "die=KILL",
                                            "]", "]"), "stop": {"timeout": "100ms"}},
            "web": {"command": self.words(gate, "exit=@index@"), "workers": 30,
                    "restart": {"when": "never"}}})
        until(lambda: d.worker("web:29")["pid"], 10)
        gate.open()
        for index in range(30):
            last = d.until_worker(f"web:{index}", last_exit=lambda e: e is not None)["last_exit"]
            self.assertEqual((last["code"], last["cause"]), (index, "exit"))
        d.stop()

    def test_OR06_policy_kill(self):
        journal = self.journal()
        d = self.daemon(self.one("fork=1", "[", "setsid", journal, "on=TERM:slow:200:0", "note=child",
                                 "wait", "]", self.gate(), "exit=3", restart={"when": "never"}))
        journal.wait("note", "child")
        self.open_gate()
        last = d.until_worker("web:0", state=lambda s: s in ("done", "quarantined"))["last_exit"]
        self.assertEqual((last["code"], last["cause"]), (3, "exit"))
        self.assertEqual(len(journal.entries("saved")), 1)
        self.assertEqual(self.puppets(), [])
        d.stop()

    def open_gate(self):
        fd = os.open(self.dir / "gate", os.O_RDWR | os.O_CLOEXEC)
        self.addCleanup(os.close, fd)

    def test_OR06_policy_leave(self):
        self.need_not("pid1", "nothing outlives pid 1")
        journal = self.journal()
        d = self.daemon(self.one("if=inc:1", "[", "daemon", "[", journal, "note=child",
                                 "on=TERM,HUP:count", "wait", "]", self.gate(), "exit=3", "]",
                                 "wait", orphans="leave"))
        child = d.host(journal.wait("note", "child")[0].pid)
        self.allowed.add(child)
        self.open_gate()
        d.until_worker("web:0", state="ready", incarnation=2)
        self.assert_alive(child)
        d.ctl("stop", "web", code=0)
        self.assert_alive(child)
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0)
        self.assert_alive(child)
        self.assertEqual(journal.entries("signal"), [])
        self.assertRegex(d.text(), "left|leave", "it is not said")

    def test_OR06_the_directory_of_a_group_that_is_gone_goes_with_its_last_leaf(self):
        """Also where somebody was left in that, and the group went first."""
        self.need_cgroup()
        journal = self.journal()
        conf = self.one("daemon", "[", journal, "note=child", "wait", "]", "exit=0",
                        orphans="leave", restart={"when": "never"})
        other = {"other": {"command": self.words("wait")}}
        d = self.daemon({**conf, **other})
        child = d.host(journal.wait("note", "child")[0].pid)
        d.until_worker("web:0", state="done")
        d.write(self.conf(other))
        d.ctl("reload", code=0)
        until(lambda: "web:0" not in d.workers(), 10)
        folder, = [p for p in d.cgroup.below() if p.name == "web"]  # its leaf is in use
        procs.kill(child)
        until(lambda: not folder.exists(), 10, "nobody is left")
        d.stop()

    def test_OR07_what_may_not_be_killed_is_reported(self):
        self.need_root()
        self.need_not("eperm", "no new privileges there")
        self.need_not("pid1", "a user's pid 1 needs a user namespace")
        uid = self.give(self.some_user()[1])
        root_puppet = self.dir / "root-puppet"
        shutil.copy(self.puppet, root_puppet)
        os.chown(root_puppet, 0, 0)
        os.chmod(root_puppet, 0o4755)
        if os.statvfs(self.dir).f_flag & os.ST_NOSUID:
            self.skipTest("the file system ignores set-id bits")
        journal = self.journal()
        d = self.daemon(self.one("fork=1", "[", "exec", root_puppet, "become-root", journal,
                                 "note=root", "ignore=TERM", "wait", "]", "wait",
                                 stop={"timeout": "200ms"}),
                        uid=uid, daemon={"cgroup": "off"}, cgroup=False)
        survivor = journal.wait("note", "root")[0].pid
        self.allowed.add(survivor)
        d.until_worker("web:0", state="ready")
        result = d.ctl("stop", "--timeout", "3s", "web")
        self.assertIn(result.code, (1, 4), result)
        self.assert_alive(survivor)
        self.assertNotEqual(d.worker("web:0")["state"], "stopped")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(40), 70, d.text())
        self.assertRegex(d.text(), rf"pid {survivor} .*uid 0, .*survived")

    def test_OR08_fork_storms_end(self):
        for kind in ("", ":setsid"):
            d = self.daemon(self.one(f"storm=20:20000{kind}", "wait", stop={"timeout": "100ms"}))
            d.until_worker("web:0", state="ready")
            d.ctl("stop", "web", code=0)  # "stuck" would be 1
            self.assertEqual(self.puppets(), [])
            d.stop()

    def test_OR08_a_storm_at_shutdown(self):
        d = self.daemon(self.one("storm=20:20000:setsid", "scrub", "storm=10:20000:setsid", "wait"))
        d.until_worker("web:0", state="ready")
        d.stop(signal.SIGQUIT)

    def test_OR10_a_zombie_with_a_parent_is_not_ours(self):
        d = self.daemon(self.one(self.journal(), "fork=5", "[", "exit=1", "]", "note=up", "wait"))
        self.journal().wait("note", "up")
        worker = d.until_worker("web:0", state="ready")
        main = d.host(worker["pid"])
        until(lambda: [procs.state_of(p) for p in procs.children_of(main)] == ["Z"] * 5, 10)
        self.never(lambda: len(procs.children_of(main)) != 5, 0.2, "somebody reaped them")
        self.assertEqual(d.worker("web:0")["restarts"], 0)
        d.stop()

    def test_OR11_a_crash_is_cleaned_like_a_stop(self):
        journal = self.journal()
        d = self.daemon(self.one(f"flock={self.dir}/slot", "fork=2", "[", "setsid", journal,
                                 "on=TERM:slow:150:0", "note=child", "wait", "]", journal, "token",
                                 "wait"))
        journal.wait("note", "child", n=2)
        d.until_worker("web:0", state="ready")
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", incarnation=2, state="ready")
        journal.wait("start", n=2)
        saved, started = journal.entries("saved"), journal.entries("start")
        self.assertEqual((len(saved), len(started)), (2, 2))
        self.assertGreater(started[1].us, max(e.us for e in saved), "started too early")
        self.assertEqual(journal.entries("double"), [])
        d.stop()

    def test_OR12_nested_masters(self):
        inner = ["fork=2", "[", "setsid", "subreaper", "orphan=2", "[", "setsid",
                 "ignore=TERM,HUP,INT", "note=leaf", "wait", "]", "ignore=TERM", "wait", "]"]
        journal = self.journal()
        d = self.daemon(self.one(journal, *inner, "wait", **FAST))
        journal.wait("note", "leaf", n=4)
        d.until_worker("web:0", state="ready")
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", incarnation=2, state="ready")
        journal.wait("note", "leaf", n=8)
        first = {e.pid for e in journal.entries("note", "leaf")[:4]}
        for pid in first:
            self.assert_gone(d.host(pid))
        d.ctl("stop", "web", code=0)
        self.assertEqual(self.puppets(), [])
        d.stop()

    def test_OR12_strays_of_an_earlier_life_are_swept(self):
        """What a killed keeper could not take along is ended by the next start."""
        self.need_not("pid1", "nothing outlives pid 1")
        journal = self.journal()
        # The grandchild has no parent-death signal; only the sweep of the next start finds it.
        d = self.daemon(self.one("daemon", "[", journal, "ignore=TERM,HUP", "note=child", "wait",
                                 "]", "wait", **FAST))
        child = journal.wait("note", "child")[0].pid
        d.until_worker("web:0", state="ready")
        d.send(signal.SIGKILL)
        d.wait_exit()
        d.start()
        d.until_worker("web:0", state="ready")
        self.assert_gone(child, "it should have been swept")
        d.stop()


    def test_OR12_strays_without_a_marker_are_swept_by_their_cgroup(self):
        self.need_cgroup()
        self.need_not("pid1", "nothing outlives pid 1")
        journal = self.journal()
        d = self.daemon(self.one("daemon", "[", "scrub", journal, "ignore=TERM,HUP", "note=child",
                                 "wait", "]", "wait", **FAST))
        child = journal.wait("note", "child")[0].pid
        d.until_worker("web:0", state="ready")
        d.send(signal.SIGKILL)
        d.wait_exit()
        d.start()
        d.until_worker("web:0", state="ready")
        self.assert_gone(child, "it should have been swept")
        d.stop()

    def test_OR04_strangers_in_our_cgroup_are_left_alone(self):
        self.need_cgroup()
        d = self.daemon(self.one("wait"), start=False)
        decoy = os.fork()
        if decoy == 0:
            (d.cgroup.path / "cgroup.procs").write_text("0")
            os.execve("/bin/sleep", ["sleep", "50"], {})
        until(lambda: decoy in d.cgroup.members(), 10)
        d.start()
        d.until_all(state="ready")
        d.send(signal.SIGQUIT)
        self.assertEqual(d.wait_exit(), 0, d.text())
        self.assertEqual(os.waitpid(decoy, os.WNOHANG), (0, 0), "a stranger was killed")
        os.kill(decoy, signal.SIGKILL)
        os.waitpid(decoy, 0)


class Ports(Case):
    def test_OR03_a_listening_socket_survives_restarts(self):
        path = self.dir / "web.sock"
        d = self.daemon(self.one("on=TERM:go", "serve=3", workers=2,
                                 sockets=[{"name": "http", "listen": f"unix://{path}"}]))
        d.until_all(state="ready")

        def ask():
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(10)
                sock.connect(str(path))
                return sock.recv(100).decode().split()
        self.assertEqual(len(ask()), 3)
        d.call("Restart", targets=["web"], wait=False)
        for _ in range(30):
            self.assertEqual(len(ask()), 3, "a connection was refused or lost")
        d.until_all(state="ready")
        d.stop()
        self.assertFalse(path.exists(), "the socket's file is left")
