"""The sd_notify protocol: true, false and hostile."""
import os
import resource
import signal
import time

from harness import Case, procs, until

NOTIFY = {"ready": "notify", "start_timeout": "1h"}


class Notify(Case):
    def test_NW01_empty_and_odd_datagrams(self):
        words = ["notify-hex=", "notify==", "notify=READY", "notify=READY=2", "notify-hex=00",
                 "notify-hex=fffefd", "notify=\\n\\n\\n", "notify=XREADY=1", "notify=READY=1x",
                 "notify-pad=200000|STATUS=", "notify-many=300|WHATEVER=1", "notify=MAINPID=",
                 "notify=WATCHDOG_USEC=18446744073709551615",
                 "notify=EXTEND_TIMEOUT_USEC=18446744073709551615", "notify=ERRNO=-99999999999999",
                 "notify-hex=52454144593d31004e554c", "notify=X_REEVE_PROGRESS=9/0",
                 "notify=X_REEVE_PROGRESS=-1/99999999999999999999", "note=said"]
        journal = self.journal()
        d = self.daemon(self.one(journal, *words, self.gate(), "notify=READY=1\\nSTATUS=really",
                                 "wait", **NOTIFY))
        journal.wait("note", "said")
        self.never(lambda: d.worker("web:0")["ready"], 0.3, "it was believed")
        fd = os.open(self.dir / "gate", os.O_RDWR)
        worker = d.until_worker("web:0", state="ready", status="really")
        os.close(fd)
        self.assertEqual(worker["restarts"], 0)
        d.stop()

    def test_NW02_notify_and_exit_is_not_lost(self):
        d = self.daemon(self.one("notify=READY=1\\nSTATUS=w@index@", "exit=0", workers=60,
                                 restart={"when": "never"}, **NOTIFY))
        d.until_all(30, state="done")
        for name, worker in d.workers().items():
            self.assertEqual((worker["last_exit"]["cause"], worker["last_exit"]["code"]),
                             ("exit", 0), name)
            self.assertEqual(worker["status"], f"w{worker['index']}")
        d.stop()

    def test_NW02_barrier(self):
        d = self.daemon(self.one(self.journal(), "notify=READY=1", "barrier", "wait", **NOTIFY))
        self.assertEqual(self.journal().wait("barrier")[0].text, "passed")
        d.until_worker("web:0", state="ready")
        d.stop()

    def test_NW03_main_pid_only_within_the_tree(self):
        decoy = os.fork()
        if decoy == 0:
            os.execv("/bin/sleep", ["sleep", "50"])
        dead = os.fork()
        if dead == 0:
            os._exit(0)
        os.waitpid(dead, 0)
        claims = [0, 1, -1, decoy, dead, 2147483648, 4294967297, "self", "@ppid@", "12x"]
        d = self.daemon(self.one(*[f"notify=MAINPID={c}" for c in claims], "notify=READY=1",
                                 self.journal(), "note=@pid@", "wait", **NOTIFY))
        worker = d.until_worker("web:0", state="ready")
        self.assertEqual(worker["pid"], int(self.journal().wait("note")[0].text))
        d.ctl("restart", "web", code=0)
        d.ctl("stop", "web", code=0)
        self.assertEqual(os.waitpid(decoy, os.WNOHANG), (0, 0), "the decoy was hit")
        os.kill(decoy, signal.SIGKILL)
        os.waitpid(decoy, 0)
        d.stop()

    def test_NW04_hostile_status(self):
        d = self.daemon({
            "long": {"command": self.words("notify-pad=60000|STATUS=", "notify-pad=3000|READY=1\\nSTATUS=", "wait"), **NOTIFY},
            "nasty": {"command": self.words("notify-hex=" + b"READY=1\nSTATUS=a\x1b[31mred\x07\x85\xff"
                                            .hex(), "wait"), **NOTIFY},
            "lines": {"command": self.words("notify=STATUS=one\\nREADY=1\\nSTATUS=two", "wait"),
                      **NOTIFY},
        })
        d.until_all(state="ready")
        d.until_worker("lines:0", status="two")
        before = {n: w["status"] for n, w in d.workers().items()}
        shown = d.ctl("status", "--all", code=0).out + d.ctl("show", "nasty:0", code=0).out
        self.assertNotRegex(shown, "[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]")
        d.roles_may_die = True
        procs.kill(d.role("manager"))

        def same():
            try:
                return {n: w["status"] for n, w in d.workers().items()} == before
            except OSError:
                return False
        until(same, 10, "the texts are the same with a new manager")
        d.stop()

    def test_NW05_ready_of_another_user_counts_for_nothing(self):
        self.need_root()
        one, first = self.some_user()
        other, _ = self.some_user(avoid=(first.pw_uid,))
        folder = self.open_folder()
        journal = self.journal("open/journal")
        d = self.daemon({
            "web": {"command": self.words(f"append={folder}/where:@env:NOTIFY_SOCKET@", "wait"),
                    "user": one, **NOTIFY},
            "liar": {"command": self.words(f"gate={self.gate().path}", f"script={self.dir}/lie",
                                           journal, "note=lied", "wait"), "user": other},
        })
        where = until(lambda: procs.read(folder / "where").strip(), 10)
        (self.dir / "lie").write_text(f"notify-to={where}|READY=1\\nMAINPID=1\n")
        fd = os.open(self.dir / "gate", os.O_RDWR)
        journal.wait("note", "lied")
        os.close(fd)
        self.never(lambda: d.worker("web:0")["ready"], 0.3, "a stranger was believed")
        d.stop()

    def test_NW06_an_exit_without_ready_is_a_failure_at_once(self):
        d = self.daemon(self.one("exit=0", restart={"when": "always", "limit": 2}, **NOTIFY))
        worker = d.until_worker("web:0", state="quarantined")
        self.assertEqual(worker["restarts"], 2)
        events = d.call("Events", targets=["web"], since=1)["events"]
        self.assertNotIn("ready", [e.get("to") for e in events])
        d.stop()

    def test_NW06_start_timeout(self):
        d = self.daemon(self.one("on=TERM:exit:0", "wait", ready="notify", start_timeout="200ms",
                                 restart={"limit": 1}))
        worker = d.until_worker("web:0", state="quarantined")
        self.assertEqual(worker["last_exit"]["cause"], "start-timeout")
        d.stop()

    def test_NW06_extending_the_start(self):
        d = self.daemon(self.one("notify=EXTEND_TIMEOUT_USEC=10000000", "sleep=700",
                                 "notify=READY=1", "wait", ready="notify", start_timeout="300ms"))
        worker = d.until_worker("web:0", state="ready")
        self.assertEqual(worker["incarnation"], 1)
        d.stop()

    def test_NW06_extending_the_stop(self):
        journal = self.journal()
        d = self.daemon({
            "kind": {"command": self.words(journal, "notify=READY=1", "on=TERM:go", "wait",
                                           "notify=EXTEND_TIMEOUT_USEC=10000000", "sleep=700",
                                           "note=kind"), "stop": {"timeout": "300ms"}, **NOTIFY},
            "abuse": {"command": self.words("notify=READY=1", "on=TERM:go", "wait", "loop=0", "[",
                                            "notify=EXTEND_TIMEOUT_USEC=18446744073709551615",
                                            "sleep=20", "]"),
                      "stop": {"timeout": "200ms", "extend_max": "600ms"}, **NOTIFY},
        })
        d.until_all(state="ready")
        d.ctl("stop", "all", "--timeout", "15s", code=0)
        self.assertEqual(len(journal.entries("note", "kind")), 1)
        self.assertEqual(d.worker("abuse:0")["last_exit"]["cause"], "stop-timeout")
        d.stop()

    def test_NW11_descriptors_that_come_along(self):
        journal = self.journal()
        words = ["notify-fds=1|STATUS=a", "notify-fds=253|STATUS=b", "notify-fds=100|FDSTORE=1",
                 "notify-fds=2|BARRIER=1", "notify-fds=3|READY=1"]
        d = self.daemon(self.one(journal, "notify=STATUS=first", self.gate(), *words, "note=said",
                                 "wait", **NOTIFY))
        d.until_worker("web:0", status="first")
        manager = d.role("manager")
        count = len(procs.fds_of(manager))
        if os.getuid() == 0:
            now = resource.prlimit(manager, resource.RLIMIT_NOFILE)
            resource.prlimit(manager, resource.RLIMIT_NOFILE,
                             (max(procs.fds_of(manager)) + 4, now[1]))
        fd = os.open(self.dir / "gate", os.O_RDWR)
        journal.wait("note", "said")
        os.close(fd)
        d.until_worker("web:0", state="ready")
        until(lambda: len(procs.fds_of(manager)) <= count, 10, "all of them are closed")
        self.assertEqual(journal.entries("notify-error"), [])
        d.stop()

    def test_NW13_forged_senders(self):
        """Root may claim any pid; the socket says who it is."""
        self.need_root()
        journal = self.journal()
        d = self.daemon({
            "web": {"command": self.words(f"append={self.dir}/pid:@pid@", "wait"), **NOTIFY},
            "liar": {"command": self.words(self.gate(), f"script={self.dir}/lie", journal,
                                           "note=lied", "wait"), **NOTIFY},
        })
        pid = until(lambda: procs.read(self.dir / "pid").strip(), 10)
        (self.dir / "lie").write_text(f"notify-forge={pid}|READY=1\\nSTATUS=forged\n"
                                      f"notify-forge=1|READY=1\\nMAINPID=1\n")
        fd = os.open(self.dir / "gate", os.O_RDWR)
        journal.wait("note", "lied")
        os.close(fd)
        self.never(lambda: d.worker("web:0")["ready"], 0.3, "a forged sender was believed")
        self.assertNotEqual(d.worker("web:0")["status"], "forged")
        d.stop()

    def test_NW14_words_of_an_earlier_life(self):
        self.need_not("pid1", "nothing outlives pid 1")
        journal = self.journal()
        d = self.daemon(self.one("if=inc:1", "[", "daemon", "[", journal, "note=alive", self.gate(),
                                 "notify=READY=1\\nSTATUS=late", "note=sent", "wait", "]", "exit=1",
                                 "]", "wait", orphans="leave", **NOTIFY))
        self.allowed.add(d.host(journal.wait("note", "alive")[0].pid))
        d.until_worker("web:0", state="starting", incarnation=2)
        fd = os.open(self.dir / "gate", os.O_RDWR)
        journal.wait("note", "sent")
        os.close(fd)
        self.never(lambda: d.worker("web:0")["ready"], 0.3, "an earlier life was believed")
        self.assertNotEqual(d.worker("web:0")["status"], "late")
        d.send(signal.SIGQUIT)
        self.assertEqual(d.wait_exit(), 0)

    def test_NW14_progress_and_status(self):
        d = self.daemon(self.one("notify=READY=1\\nSTATUS=half way\\nX_REEVE_PROGRESS=3/6", "wait",
                                 **NOTIFY))
        worker = d.until_worker("web:0", state="ready")
        self.assertEqual((worker["status"], worker["progress"]), ("half way", {"done": 3, "total": 6}))
        d.stop()

    def test_NW14_a_worker_that_never_comes_up_does_not_hold_ready_up(self):
        d = self.daemon({
            "bad": {"command": self.words("exit=1"), "workers": 2, "ready": "notify",
                    "restart": {"limit": 0, "delay": "50ms", "max_delay": "50ms"}},
            # fails twice and then works: waited for
            "slow": {"command": self.words("if=inc-from:3", "[", "wait", "]", "exit=1")},
            "last": {"command": self.words("wait"), "after": ["bad"]}}, start=False)
        d.listen_notify()
        d.start()
        d.said("READY=1")
        self.assertEqual(d.worker("slow:0")["incarnation"], 3)
        self.assertEqual(d.worker("last:0")["state"], "waiting")
        for index in range(2):
            self.assertGreaterEqual(d.worker(f"bad:{index}")["restarts"], 3)
        d.ctl("shutdown", "--cold", code=0)
        self.assertEqual(d.wait_exit(), 0)

    def test_NW14_the_service_manager_is_told(self):
        d = self.daemon(self.one("notify=READY=1", "wait", **NOTIFY), start=False)
        d.listen_notify()
        d.start()
        d.said("READY=1")
        d.until_all(state="ready")
        d.send(signal.SIGHUP)
        self.assertRegex("".join(d.said("READY=1")), r"RELOADING=1[^$]*MONOTONIC_USEC=\d+")
        d.send(signal.SIGTERM)
        d.said("STOPPING=1")
        self.assertEqual(d.wait_exit(), 0)
        d.check_gone()

    def test_NW07_reloading_that_never_ends(self):
        """The word alone takes nothing away: the worker stays ready and can be stopped."""
        d = self.daemon(self.one("notify=READY=1", "notify=RELOADING=1\\nMONOTONIC_USEC=1\\nSTATUS=again",
                                 "wait", **NOTIFY))
        worker = d.until_worker("web:0", status="again")
        self.assertEqual((worker["state"], worker["ready"]), ("ready", True))
        d.ctl("restart", "web", code=0)
        d.ctl("stop", "web", code=0)
        d.stop()

    def test_NW08_extensions_are_bounded(self):
        """The largest number there is, again and again: extend_max decides, nothing overflows."""
        d = self.daemon(self.one("on=TERM:exit:0", "loop=0", "[",
                                 "notify=EXTEND_TIMEOUT_USEC=18446744073709551615", "sleep=20", "]",
                                 ready="notify", start_timeout="200ms", restart={"limit": 1},
                                 stop={"timeout": "1s", "extend_max": "400ms"}))
        worker = d.until_worker("web:0", state="quarantined", timeout=20)
        self.assertEqual(worker["last_exit"]["cause"], "start-timeout")
        d.stop()

    def test_NW09_no_false_deadline_after_a_pause(self):
        """Keeper and manager stood still for longer than a deadline: one fresh look before it fires."""
        journal, gate = self.journal(), self.gate()
        d = self.daemon(self.one(journal, "token", gate, "notify=READY=1", "wait", ready="notify",
                                 start_timeout="1s"))
        journal.wait("start")
        stopped = (d.pid, d.role("manager"))
        for pid in stopped:
            procs.kill(pid, signal.SIGSTOP)
        self.pause(2)
        gate.open()
        for pid in reversed(stopped):
            procs.kill(pid, signal.SIGCONT)
        worker = d.until_worker("web:0", state="ready")
        self.assertEqual(worker["incarnation"], 1)
        d.stop()

    def test_NW12_a_flood_is_its_own_affair(self):
        """One worker floods: another's READY comes through, the control socket answers, and when the
        manager stands still for a while nobody loses a word."""
        journal, gate = self.journal(), self.gate()
        d = self.daemon({
            "flood": {"command": self.words("notify=READY=1", "loop=0", "[",
                                            "notify-many=1000|STATUS=flood", "]"), **NOTIFY},
            "quiet": {"command": self.words(journal, "token", gate, "notify=STATUS=said\\nREADY=1",
                                            "wait"), "ready": "notify"}})
        d.until_worker("flood:0", state="ready")
        journal.wait("start")
        took = []
        for _ in range(20):
            begin = time.monotonic()
            d.call("Version")
            took.append(time.monotonic() - begin)
        self.assertLess(sorted(took)[-2], 0.5, took)
        manager = d.role("manager")
        procs.kill(manager, signal.SIGSTOP)
        gate.open()
        self.pause(0.5)
        procs.kill(manager, signal.SIGCONT)
        worker = d.until_worker("quiet:0", state="ready")
        self.assertEqual(worker["status"], "said")
        d.stop()

    def test_NW15_barrier_is_let_go_at_once(self):
        """Its descriptor is closed when it is read; with none, or more, nothing hangs either."""
        journal = self.journal()
        d = self.daemon(self.one(journal, "notify=READY=1", "loop=50", "[", "barrier=5000", "]",
                                 "notify=BARRIER=1", "notify-fds=2|BARRIER=1", "barrier=5000",
                                 "note=done", "wait", **NOTIFY))
        journal.wait("note", "done", timeout=10)
        self.assertEqual(journal.entries("barrier", "hangs"), [])
        d.stop()
