"""
Roles that die or do not run for a while (failures.md B11): what goes on where it was, and what never
happens twice. Upgrades, which take the same path, are in test_upgrade.
"""
import os
import pathlib
import re
import resource
import signal
import sys
import time

from harness import Case, costly, procs, sanitized, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import failpoints  # noqa: E402


class Recovery(Case):
    def kill_manager(self, d):
        d.roles_may_die = True
        old = d.role("manager")
        procs.kill(old)
        until(lambda: d.role("manager") != old, 10)

    def answers(self, d):
        def call():
            try:
                return d.call("Version")
            except (OSError, EOFError):
                return None
        return until(call, 10)

    # --- the keeper dies ---------------------------------------------------------------------

    @costly("off")
    def test_DC01_DC11_nobody_is_left_to_clean_up(self):
        """Keeper killed while the manager cannot do its last duty: the next start sweeps."""
        journal = self.journal()
        d = self.daemon(self.one(journal, f"flock={self.dir}/slot.@index@", "token", "fork=1", "[",
                                 "setsid", "ignore=TERM,HUP", "wait", "]", "wait", workers=3))
        d.until_all(state="ready")
        manager = d.role("manager")
        os.kill(manager, signal.SIGSTOP)
        d.send(signal.SIGKILL)
        d.wait_exit()
        d.start(timeout=30)
        d.until_all(state="ready")
        self.assertFalse(procs.alive(manager), "the old manager holds the lock no more")
        self.assertEqual(journal.entries("double"), [], "two in one slot")
        puppets = [p for p in d.survivors() if procs.comm_of(p) == "puppet"]
        self.assertEqual(len(puppets), 6, "something of the earlier life is left")
        d.stop(signal.SIGQUIT)

    def test_DC01_a_keeper_that_nobody_has_reaped_is_dead(self):
        """As where it was started by something that does not look after its children."""
        self.need_not("pid1", "all of it ends with the namespace")
        groups = self.one("wait", workers=2)
        for recycled in (False, True):
            d = self.daemon(groups)
            d.until_all(state="ready")
            manager = d.role("manager")
            os.kill(manager, signal.SIGSTOP)  # it holds the lock
            d.send(signal.SIGKILL)
            until(lambda: procs.state_of(d.pid) == "Z", 10)
            if recycled:  # the number is ours by now
                file = d.run / "keeper"
                file.write_text(file.read_text().replace(f"pid={d.pid}\n", f"pid={os.getpid()}\n", 1))
            d2 = self.daemon(groups)
            d2.until_all(state="ready")
            self.assertFalse(procs.alive(manager))
            d.wait_exit()
            d2.stop()

    def test_DC02_stale_files_name_strangers(self):
        """What is written in the runtime directory never gets a process killed."""
        d = self.daemon(self.one("wait"), start=False)
        decoy = os.fork()
        if decoy == 0:
            signal.pause()
            os._exit(0)
        self.addCleanup(procs.kill, decoy)
        self.allowed.add(decoy)
        d.run.mkdir(mode=0o755)
        (d.run / "identity").write_text("00112233445566778899aabbccddeeff\n")
        (d.run / "keeper").write_text(f"pid={decoy}\nstate=running\nmanager=running\n"
                                      f"manager_pid={decoy}\nsince=2001-01-01T00:00:00.000000Z\n")
        d.start()
        d.until_all(state="ready")
        d.stop()
        self.assert_alive(decoy)

    def test_DC03_broken_files_in_the_runtime_directory(self):
        for text in ("", "garbage", "0011", "zz" * 16, "\0" * 64, "9" * 4096):
            d = self.daemon(self.one("wait"), start=False)
            d.run.mkdir(mode=0o755, exist_ok=True)
            for name in ("identity", "keeper"):
                (d.run / name).write_text(text)
            d.start()
            d.until_all(state="ready")
            d.stop()

    def test_DC01_two_daemons_never_touch_each_other(self):
        """Same configuration, two runtime directories: killed, swept, stopped one by one."""
        groups = self.one("fork=1", "[", "setsid", "wait", "]", "wait", workers=2)
        a = self.daemon(groups)
        b = self.daemon(self.conf(groups, name="d1"), name="d1")
        pids = {d: {n: w["pid"] for n, w in d.until_all(state="ready").items()} for d in (a, b)}
        a.send(signal.SIGKILL)
        a.wait_exit()
        self.never(lambda: {n: w["pid"] for n, w in b.workers().items()} != pids[b], 0.3)
        a.start(timeout=30)
        a.until_all(state="ready")
        a.ctl("stop", "all", "--cold", code=0)
        self.assertEqual({n: w["pid"] for n, w in b.workers().items()}, pids[b])
        a.send(signal.SIGTERM)
        self.assertEqual(a.wait_exit(), 0)
        self.assertEqual({n: w["pid"] for n, w in b.workers().items()}, pids[b])
        self.assertTrue(all(w["incarnation"] == 1 for w in b.workers().values()))
        b.stop()

    def test_DC01_two_daemons_in_one_delegated_cgroup(self):
        """Both are told that all of it is theirs, as when two are started in one scope of systemd."""
        self.need_only(("default",), "needs a cgroup of our own that outlives the daemon")
        self.need_cgroup()
        groups = self.one("fork=1", "[", "setsid", "scrub", "wait", "]", "wait", workers=2)
        a = self.daemon(groups, start=False)
        b = self.daemon(self.conf(groups, name="d1"), start=False, name="d1")
        b.cgroup = a.cgroup
        os.setxattr(a.cgroup.path, "trusted.delegate", b"1")
        shell = os.fork()  # from which both are started: it stays
        if shell == 0:
            (a.cgroup.path / "cgroup.procs").write_text("0")
            os.execve("/bin/sleep", ["sleep", "60"], {})
        self.allowed.add(shell)
        until(lambda: shell in a.cgroup.members(), 10)
        pids = {}
        for one, other in ((a, b), (b, a), (a, b), (b, a)):
            if one.pid and one.poll() is None:
                one.send(signal.SIGKILL)
                one.wait_exit()
            one.start(timeout=30)
            pids[one] = {n: w["pid"] for n, w in one.until_all(state="ready").items()}
            self.assertEqual(len({self.base_of(pid) for pid in pids[one].values()}), 1)
            if other in pids:
                now = other.workers().items()
                self.assertEqual({n: w["pid"] for n, w in now}, pids[other], one.text())
                self.assertNotEqual(*(self.base_of(pids[d]["web:0"]) for d in (a, b)))
        a.send(signal.SIGTERM)
        self.assertEqual(a.wait_exit(), 0)
        self.assertEqual({n: w["pid"] for n, w in b.workers().items()}, pids[b])
        b.stop()
        self.assert_alive(shell)

    def base_of(self, pid):
        return procs.read(f"/proc/{pid}/cgroup").partition("0::")[2].partition("/w/")[0]

    # --- the manager dies --------------------------------------------------------------------

    def test_DC01_whatever_the_manager_dies_of(self):
        """A crash, an assertion, a limit: what its successor finds is the same."""
        d = self.daemon(self.one("notify=READY=1", "wait", workers=3, ready="notify"))
        before = d.until_all(state="ready")
        crashes = () if sanitized(self.context.build) else ("SEGV", "BUS", "FPE", "ILL")
        for name in ("ABRT", "SYS", "TRAP", *crashes):
            d.roles_may_die = True
            old = d.role("manager")
            procs.kill(old, getattr(signal, f"SIG{name}"))
            until(lambda old=old: d.role("manager") != old, 10, name)
            self.answers(d)
            self.assertEqual({n: w["pid"] for n, w in d.workers().items()},
                             {n: w["pid"] for n, w in before.items()}, name)
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", state="ready", incarnation=2)
        d.stop()

    def memory_cgroup(self):
        """A cgroup whose processes get no more memory: its directory; what it counts."""
        own = procs.read("/proc/self/cgroup").splitlines()
        v1 = next((line.split(":", 2)[2] for line in own if line.split(":")[1] == "memory"), None)
        if v1:
            path = pathlib.Path(f"/sys/fs/cgroup/memory{v1}") / f"{self.mark}oom"
            limit, events = "memory.limit_in_bytes", "memory.oom_control"
        elif self.context.cgroup:
            path = self.context.cgroup.path / "oom"
            limit, events = "memory.max", "memory.events"
        else:
            self.skipTest("no cgroup")
        try:
            path.mkdir()
            self.addCleanup(path.rmdir)
            (path / limit).write_text("4096")
        except OSError as error:
            self.skipTest(f"no cgroup that bounds memory: {error}")
        return path, events

    @costly()
    def test_DC01_the_manager_is_killed_for_want_of_memory(self):
        self.need_root()
        folder, events = self.memory_cgroup()
        d = self.daemon(self.one("wait", workers=3))
        before = d.until_all(state="ready")
        d.roles_may_die = True
        old = d.role("manager")
        (folder / "cgroup.procs").write_text(str(old))

        def replaced():
            self.answers(d)  # it needs memory for an answer
            return d.role("manager") != old
        until(replaced, 30)
        self.assertRegex((folder / events).read_text(), r"oom_kill [1-9]")
        self.assertEqual({n: w["pid"] for n, w in d.until_all(state="ready").items()},
                         {n: w["pid"] for n, w in before.items()})
        d.stop()

    def test_DC03_the_runtime_directory_is_full(self):
        """Roles die and are replaced; what needs a name in it is tried again, and not charged."""
        d = self.daemon({"web": {"command": self.words("notify=READY=1", "wait"), "workers": 2,
                                 "ready": "notify"}}, start=False)
        fill = self.small_file_system(d.run)
        d.start()
        before = d.until_all(state="ready")
        free = fill()
        for role in ("manager", "logger", "manager"):
            d.roles_may_die = True
            old = d.role(role)
            procs.kill(old)
            until(lambda role=role, old=old: d.role(role) != old, 10)
            self.answers(d)
        self.assertEqual({n: w["pid"] for n, w in d.workers().items()},
                         {n: w["pid"] for n, w in before.items()})
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", state="ready", incarnation=2)
        d.call("Scale", group="web", workers=3, wait=False)
        until(lambda: "web:2: cannot be started now, not charged" in d.text(), 10)
        self.assertIn("No space left on device", d.text())
        free()
        self.assertEqual(d.until_worker("web:2", state="ready")["restarts"], 0)
        free = fill(names=False)
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0, d.text())
        self.assertEqual({p.name for p in d.run.iterdir()}, {"lock", "identity", "filler"})
        d.start()
        d.until_all(state="ready")
        free()
        d.stop()

    def hopeless(self, groups):
        """A daemon whose managers all die before their first turn once `never` is called."""
        binary = self.context.program("reeved")
        if not failpoints.listed(binary):
            self.skipTest("a build without failpoints")
        points = failpoints.Failpoints(binary, self.dir / "points")
        self.addCleanup(points.close)
        d = self.daemon(groups, start=False, env={"REEVE_FAILPOINTS": str(points.path)})
        d.roles_may_die = True

        def ends():
            points.skip_time(5)  # the longest pause between two of them
            d.send(signal.SIGUSR1)
            return d.poll() is not None
        return d, lambda: points.arm("init.mapped", "kill", times=1000), \
            lambda: until(ends, 30, every=0.05)

    def test_a_daemon_whose_manager_never_comes_up_ends(self):
        d, never, until_ends = self.hopeless(self.one("wait"))
        never()
        d.launch()
        until(lambda: "before it was ready" in d.text(), 10)
        until_ends()
        self.assertEqual(d.code, 1, d.text())
        self.assertIn("the manager cannot be started", d.text())
        self.assertEqual(d.text().count("before it was ready"), 10)
        d.check_gone()

    def test_a_shutdown_whose_manager_never_comes_up_is_cold(self):
        """In run they are tried for ever: the workers are well. In warm nobody asks them to end."""
        journal = self.journal()
        d, never, until_ends = self.hopeless(self.one(
            journal, "fork=1", "[", "setsid", "ignore=TERM", "wait", "]", "note=up", "wait"))
        d.start()
        worker = d.host(journal.wait("note", "up")[0].pid)
        never()
        procs.kill(d.role("manager"))
        until(lambda: "before it was ready" in d.text(), 10)
        self.assert_alive(worker)
        d.send(signal.SIGTERM)
        until_ends()
        self.assertEqual(d.code, 1, d.text())
        self.assertIn("cold shutdown: the manager cannot be started", d.text())
        d.check_gone()

    def test_DC06_the_applied_configuration_counts(self):
        d = self.daemon(self.one("wait", workers=2))
        before = d.until_all(state="ready")
        d.write(self.conf(self.one("exit=1", workers=7, env={"A": "b"})))
        self.kill_manager(d)
        self.answers(d)
        now = d.until_all(state="ready")
        self.assertEqual({n: w["pid"] for n, w in now.items()},
                         {n: w["pid"] for n, w in before.items()})
        self.assertEqual(now["web:0"]["generation"], 1)
        d.write("this is no configuration {")
        self.kill_manager(d)
        self.answers(d)
        self.assertEqual(len(d.until_all(state="ready")), 2)
        d.stop()

    def test_DC06_clocks_go_on(self):
        """Stop ladder, start timeout, back-off, retry and window over many deaths."""
        journal = self.journal()
        d = self.daemon({
            "slow": {"command": self.words(journal, "on=TERM,INT:count", "note=up", "wait"), "stop": {
                "steps": [{"signal": "TERM", "wait": "1s"}, {"signal": "INT", "wait": "1s"}]}},
            "late": {"command": self.words("wait"), "ready": "notify", "start_timeout": "3s",
                     "stop": {"timeout": "100ms"}, "restart": {"when": "never"}},
            "bad": {"command": self.words("exit=1"),
                    "restart": {"delay": "3s", "max_delay": "3s", "jitter": 0.0}},
            "worse": {"command": self.words("exit=1"), "settle": "1ms", "restart": {
                "delay": "10ms", "max_delay": "10ms", "limit": 3, "window": "1h", "retry": "3s"}}})
        begin = time.monotonic()
        journal.wait("note", "up")
        worse = d.until_worker("worse:0", state="quarantined")
        self.assertEqual(d.until_worker("bad:0", state="backoff")["incarnation"], 1)
        d.call("Stop", targets=["slow"], wait=False)
        stop = time.monotonic()
        for _ in range(5):
            self.kill_manager(d)
            self.answers(d)
        self.assertEqual(d.worker("worse:0")["restarts"], worse["restarts"])
        d.until_worker("slow:0", state="stopped")
        self.assertLess(abs(time.monotonic() - stop - 2), 1)
        self.assertEqual(len(journal.entries("signal")), 2, "each step once")
        self.assertEqual(d.exits("slow:0")[0]["cause"], "stop-timeout")
        last = d.until_worker("late:0", state=lambda s: s in ("done", "quarantined"))["last_exit"]
        self.assertEqual(last["cause"], "start-timeout")
        self.assertLess(time.monotonic() - begin, 8)
        d.until_worker("bad:0", incarnation=2)
        d.until_worker("worse:0", incarnation=lambda n: n > worse["incarnation"])
        d.stop()

    def test_DC06_the_window_of_restarts_counts_each_end_once(self):
        """As many starts as the limit allows, whenever the manager dies."""
        journal = self.journal()
        d = self.daemon(self.one(journal, "token", "exit=1", workers=4, settle="1ms", restart={
            "delay": "20ms", "max_delay": "20ms", "limit": 12, "window": "1h"}))
        while any(w["state"] != "quarantined" for w in d.workers().values()):
            self.kill_manager(d)
            self.answers(d)
        for worker in d.workers().values():
            self.assertEqual((worker["incarnation"], worker["restarts"]), (13, 12), worker)
        self.assertEqual(len(journal.entries("start")), 4 * 13)
        d.stop()

    def test_DC06_shutdown_goes_on(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "on=TERM:slow:800:0", "note=up", "wait", workers=3))
        d.until_all(state="ready")
        journal.wait("note", "up", n=3)
        d.send(signal.SIGTERM)
        for _ in range(3):
            self.kill_manager(d)
        self.assertEqual(d.wait_exit(), 0, d.text())
        self.assertEqual(len(journal.entries("signal")), 3, "each was asked once")
        self.assertEqual(len(journal.entries("saved")), 3, "and finished")
        d.check_gone()

    def test_DC06_renewal_of_groups_is_done_once(self):
        d = self.daemon(self.one("on=TERM:slow:100:0", "wait", workers=3))
        d.until_all(state="ready")
        tool = d.spawn_ctl("reload", "web")
        while tool.poll() is None:
            self.kill_manager(d)
            self.pause(0.05)
        self.assertEqual(tool.wait(), 0, tool.stdout.read())
        for worker in d.until_all(state="ready").values():
            self.assertEqual((worker["incarnation"], worker["generation"]), (2, 2), worker)
        d.stop()

    def test_DC13_operations_while_it_dies(self):
        """Every changing verb in flight over a death: each ends, and ends right."""
        d = self.daemon(self.one("on=TERM:slow:300:0", "wait", workers=6))
        d.until_all(state="ready")
        tools = [d.spawn_ctl(*words) for words in (
            ("stop", "web:0"), ("restart", "web:1"), ("stop", "--cold", "web:2"),
            ("scale", "web", "8"), ("reset", "web:3"), ("wait", "web:4", "--for", "ready"))]
        for _ in range(3):
            self.kill_manager(d)
            self.answers(d)
        for tool in tools:
            self.assertEqual(tool.wait(20), 0, tool.stdout.read())
        states = {n: (w["state"], w["incarnation"]) for n, w in d.workers().items()}
        self.assertEqual(states["web:0"], ("stopped", 1))
        self.assertEqual(states["web:1"], ("ready", 2))
        self.assertEqual(states["web:2"], ("stopped", 1))
        self.assertEqual(states["web:7"], ("ready", 1))
        d.stop()

    def test_DC06_events_are_numbered_without_a_gap(self):
        d = self.daemon(self.one("exit=1", workers=3, restart={"limit": 0}))
        for _ in range(4):
            self.kill_manager(d)
            self.answers(d)
        seen = d.call("Events", since=1)["events"]
        numbers = [e["seq"] for e in seen]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        d.stop()

    @costly("off")
    def test_DC01_a_successor_decides(self):
        """Each one goes on with restarts; how soon is measured by tests/bench (recovery)."""
        d = self.daemon(self.one("exit=1", workers=20, restart={"delay": "1ms", "max_delay": "1ms",
                                                               "limit": 0}))
        d.roles_may_die = True
        for _ in range(7):
            old = d.role("manager")
            procs.kill(old)
            self.answers(d)
            self.assertNotEqual(d.role("manager"), old)
            before = d.worker("web:0")["incarnation"]
            d.until_worker("web:0", incarnation=lambda now, then=before: now > then)
        d.stop()

    # --- nobody runs for a while -------------------------------------------------------------

    def sleepers(self, journal):
        """Deadlines of two seconds, none of which may count while nobody runs."""
        return {
            "start": {"command": self.words(self.gate(), "notify=READY=1", "wait"),
                      "ready": "notify", "start_timeout": "2s"},
            "stop": {"command": self.words(journal, "on=TERM:slow:3000:0", "note=up", "wait"),
                     "stop": {"timeout": "4s"}},
            "well": {"command": self.words("wait"), "workers": 3}}

    def check_sleepers(self, d, before):
        gate = os.open(self.dir / "gate", os.O_RDWR)
        self.addCleanup(os.close, gate)
        d.until_worker("start:0", state="ready", incarnation=1)
        d.until_worker("stop:0", state="stopped")
        last = d.exits("stop:0")[0]
        self.assertEqual((last["cause"], last["code"]), ("stop", 0), last)
        for name, worker in d.workers("well").items():
            self.assertEqual(worker["pid"], before[name]["pid"])
        self.assertNotIn("hangs", d.text())

    def test_DC10_NW09_a_stopped_daemon_goes_on_where_it_was(self):
        journal = self.journal()
        d = self.daemon(self.sleepers(journal), daemon={"manager_watchdog": "1s"})
        before = d.until_worker("well:2", state="ready") and d.workers()
        journal.wait("note", "up")
        d.call("Stop", targets=["stop"], wait=False)
        roles = [d.pid, d.role("manager"), d.role("logger")]
        for pid in roles:
            os.kill(pid, signal.SIGSTOP)
        self.pause(5)  # more than any deadline
        for pid in roles:
            os.kill(pid, signal.SIGCONT)
        self.check_sleepers(d, before)
        d.stop()

    @costly("off")
    def test_DC10_each_role_alone(self):
        """Shorter than the watch over it, longer than a deadline of a worker."""
        for number, role in enumerate(("keeper", "manager", "logger")):
            name = f"d{number}"
            d = self.daemon(self.conf({
                "start": {"command": self.words(f"gate={self.gate(f'gate{number}').path}",
                                                "notify=READY=1", "wait"),
                          "ready": "notify", "start_timeout": "2s"},
                "well": {"command": self.words("lines=0:10000:x")}}, name=name), name=name)
            d.until_worker("well:0", state="ready")
            d.until_worker("start:0", state="starting")
            pid = d.pid if role == "keeper" else d.role(role)
            os.kill(pid, signal.SIGSTOP)
            self.pause(3.2)
            if role == "manager":  # the worker is ready before it is looked at
                fd = os.open(self.dir / f"gate{number}", os.O_RDWR)
                self.pause(0.2)
            os.kill(pid, signal.SIGCONT)
            if role == "manager":
                d.until_worker("start:0", state="ready", incarnation=1)
                os.close(fd)
            self.assertEqual(d.worker("well:0")["incarnation"], 1)
            d.roles_may_die = role == "logger"  # one that is stopped in a write hangs
            d.send(signal.SIGQUIT)
            self.assertEqual(d.wait_exit(), 0)

    def test_DC10_SH27_a_frozen_tree_goes_on_where_it_was(self):
        """Daemon and workers frozen together, as when a machine is paused."""
        self.need_cgroup()
        journal = self.journal()
        d = self.daemon(self.sleepers(journal), daemon={"manager_watchdog": "1s"})
        before = d.until_worker("well:2", state="ready") and d.workers()
        journal.wait("note", "up")
        d.call("Stop", targets=["stop"], wait=False)
        freeze = d.cgroup.path / "cgroup.freeze"
        freeze.write_text("1")
        until(lambda: "frozen 1" in (d.cgroup.path / "cgroup.events").read_text(), 5)
        self.pause(5)
        freeze.write_text("0")
        self.check_sleepers(d, before)
        d.stop()

    # --- the service manager's watchdog ------------------------------------------------------

    def test_the_watchdog_is_fed_only_while_all_is_well(self):
        self.need_not("pid1", "limits of a process of another namespace")
        d = self.daemon(self.one("wait"), start=False, env={"WATCHDOG_USEC": "400000"})
        d.listen_notify()
        d.start()
        for _ in range(3):
            d.said("WATCHDOG=1", timeout=2)
        # no descriptors: no successor can be started
        soft, hard = resource.prlimit(d.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (4, hard))
        d.roles_may_die = True
        procs.kill(d.role("manager"))
        until(lambda: "starting reeve-manager" in d.text(), 10)
        self.drain(d)
        with self.assertRaises(TimeoutError):
            d.said("WATCHDOG=1", timeout=1)
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (soft, hard))
        d.said("WATCHDOG=1", timeout=10)
        self.answers(d)
        d.stop()

    def drain(self, d):
        d.notify.setblocking(False)
        try:
            while d.notify.recv(65536):
                pass
        except BlockingIOError:
            pass

    def test_DC04_what_fails_before_the_exec_returns_to_the_loop(self):
        self.need_not("pid1", "limits of a process of another namespace")
        d = self.daemon(self.one("wait", workers=2))
        before = d.until_all(state="ready")
        soft, hard = resource.prlimit(d.pid, resource.RLIMIT_NOFILE)
        highest = max(procs.fds_of(d.pid))
        failed = 0
        for room in range(1, 20):
            resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (highest + room, hard))
            result = d.ctl("upgrade")
            if result.code == 0:
                break
            failed += 1
            self.assertIn("Too many open files", result.err)
            self.assertEqual(d.call("Version")["manager_pid"], d.roles["manager_pid"])
        self.assertGreater(failed, 2)
        self.assertEqual(result.code, 0, result)
        resource.prlimit(d.pid, resource.RLIMIT_NOFILE, (soft, hard))
        d.ctl("upgrade", code=0)
        d.roles = d.call("Version")
        self.assertEqual({n: w["pid"] for n, w in d.workers().items()},
                         {n: w["pid"] for n, w in before.items()})
        self.assertEqual(len(re.findall("upgrade failed", d.text())), failed)
        d.stop()
