"""
Upgrades in place: `reevectl upgrade` and SIGUSR2, with good programs and bad ones. reeved-next is "the
next release" (tests/support/next): fields more in the ledger, and a fault where NEXT_FAULT says so.
"""
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import time

from harness import Case, costly, procs, until
from test_template import TemplateCase

NEXT = "9.0.0"
LINE = re.compile(r"\S+ (\w+:\d+) row-(\d+) (\d+)$")


class Upgrade(Case):
    def place(self, name="reeved"):
        """Put a program in the place from which the daemons of this test are started."""
        path = self.dir / "reeved"
        fresh = self.dir / "reeved.new"
        shutil.copy(self.context.program(name), fresh)
        fresh.rename(path)
        return path

    def start(self, groups, fault=None, **how):
        return self.daemon(groups, binary=self.place(),
                           env={"NEXT_FAULT": fault} if fault else None, **how)

    def upgrade(self, d, code=0):
        result = d.ctl("upgrade", code=code)
        d.roles = d.call("Version")
        return result

    def wait_upgrades(self, d, n):
        until(lambda: d.text().count(": upgraded from") == n, 20, f"{n} upgrades")
        d.roles = d.call("Version")

    def assert_same(self, d, before):
        """Nothing about a worker has changed but what time changes."""
        now = d.workers()
        self.assertEqual(sorted(now), sorted(before))
        for name, worker in before.items():
            for key in ("pid", "state", "incarnation", "generation", "restarts", "since",
                        "status", "wanted"):
                self.assertEqual(now[name][key], worker[key], (name, key))

    def assert_rows(self, group, least=1):
        """Numbered lines of a log, per worker and process: none lost, torn or doubled."""
        next_of = {}
        for line in self.dir.joinpath("log", f"{group}.log").read_text().splitlines():
            match = LINE.match(line)
            self.assertTrue(match, f"torn: {line!r}")
            key = match[1], match[2]
            self.assertEqual(int(match[3]), next_of.get(key, 0), f"in {line!r}")
            next_of[key] = int(match[3]) + 1
        self.assertGreaterEqual(sum(next_of.values()), least)
        return next_of

    # --- a good program ----------------------------------------------------------------------

    def test_DC06_DC07_nothing_is_restarted(self):
        d = self.start({
            "web": {"command": self.words("notify=READY=1\\nSTATUS=s@index@", "wait"),
                    "workers": 4, "ready": "notify"},
            "sock": {"command": self.words("serve=3"), "sockets": [
                {"name": "a", "listen": f"unix://{self.dir}/a.sock"}]}})
        before, roles = d.until_all(state="ready"), d.roles
        d.ctl("stop", "web:3", code=0)
        before, line = d.workers(), procs.read(f"/proc/{d.pid}/cmdline")
        result = self.upgrade(d)
        self.assertIn("upgraded from reeved", result.out)
        self.assert_same(d, before)
        self.assertEqual(d.roles["keeper_pid"], roles["keeper_pid"])
        self.assertNotEqual(d.roles["manager_pid"], roles["manager_pid"])
        self.assertNotEqual(d.roles["logger_pid"], roles["logger_pid"])
        self.assertEqual(procs.comm_of(d.pid), "reeved")
        self.assertEqual(procs.read(f"/proc/{d.pid}/cmdline"), line)
        for pid in (d.pid_of("web:0"), d.role("manager")):
            self.assertNotIn("REEVE_ADOPT", procs.read(f"/proc/{pid}/environ"))
        procs.kill(d.pid_of("web:1"))
        d.until_worker("web:1", state="ready", incarnation=2)
        d.ctl("scale", "web", 6, code=0)
        self.assertEqual(d.worker("web:3")["state"], "stopped")
        d.stop()

    def test_DC08_descriptors_before_and_after(self):
        d = self.start(self.one("notify=READY=1", "wait", workers=3, ready="notify"))
        d.until_all(state="ready")

        def held():
            return sorted(re.sub(r"(anon_inode:.*|memfd:.*) *.*", r"\1", text)
                          for text in procs.fds_of(d.pid).values())
        kinds = [re.sub(r"\[\d+\]", "", text) for text in held()]
        fixed = [text for text in held() if text.startswith("pipe:")]
        self.upgrade(d)
        self.assertEqual([re.sub(r"\[\d+\]", "", text) for text in held()], kinds)
        self.assertEqual([text for text in held() if text.startswith("pipe:")], fixed)
        self.upgrade(d)
        self.assertEqual([re.sub(r"\[\d+\]", "", text) for text in held()], kinds)
        d.stop()

    def test_USR2(self):
        d = self.start(self.one("wait", workers=2))
        before = d.until_all(state="ready")
        d.send(signal.SIGUSR2)
        self.wait_upgrades(d, 1)
        self.assert_same(d, before)
        d.stop()

    def test_USR2_storm(self):
        d = self.start(self.one("wait", workers=2))
        before = d.until_all(state="ready")
        for _ in range(400):
            d.send(signal.SIGUSR2)
            self.pause(0.005)
        until(lambda: d.text().count(": upgraded from") >= 2, 10)
        d.call("Version")
        self.assert_same(d, before)
        d.roles_may_die = True
        d.stop()

    def test_DC07_the_service_manager_sees_a_reload(self):
        d = self.daemon(self.one("wait"), start=False, binary=self.place())
        d.listen_notify()
        d.start()
        d.said("READY=1")
        self.upgrade(d)
        heard = d.said("RELOADING=1")
        heard += d.said("READY=1")
        self.assertNotIn("MAINPID", "".join(heard))
        self.assertIn("MONOTONIC_USEC=", "".join(heard))
        d.stop()

    def test_a_symbolic_link_is_followed_anew(self):
        self.place()
        for name in ("reeved", "reeved-next"):
            (self.dir / f"{name}.d").mkdir()
            shutil.copy(self.context.program(name), self.dir / f"{name}.d" / "reeved")
        (self.dir / "current").symlink_to("reeved.d")
        d = self.daemon(self.one("wait"), binary=self.dir / "current" / "reeved")
        before = d.until_all(state="ready")
        (self.dir / "next").symlink_to("reeved-next.d")
        (self.dir / "next").rename(self.dir / "current")
        self.assertIn(f"to {NEXT}", self.upgrade(d).out)
        self.assertEqual(d.roles["version"], NEXT)
        self.assert_same(d, before)
        d.stop()

    @costly("pid1")
    def test_DC09_under_load(self):
        """Workers that log, crash and start while one upgrade follows the other."""
        journal = self.journal()
        d = self.start({
            "log": {"command": self.words("lines=0:500:row-@pid@"), "workers": 4},
            "die": {"command": self.words(journal, f"flock={self.dir}/slot.@index@", "token",
                                          "lines=20:1000:row-@pid@", "exit=3"),
                    "workers": 4, "restart": {"limit": 0}}})
        until(lambda: all(w["pid"] for w in d.workers("log").values()), 10)
        before = d.workers("log")
        for number in range(1, 5):
            self.upgrade(d)
            journal.wait("start", n=len(journal.entries("start")) + 8)
            self.assertEqual({n: w["pid"] for n, w in d.workers("log").items()},
                             {n: w["pid"] for n, w in before.items()}, f"upgrade {number}")
        d.ctl("stop", "die", code=0)
        self.assertEqual(journal.entries("double"), [], "two in one slot")
        starts = len(journal.entries("start"))
        workers = d.workers("die")
        begun = sum(w["incarnation"] for w in workers.values())
        # the stop may have come before the last life of each could say anything
        self.assertTrue(starts <= begun <= starts + len(workers), (starts, begun))
        d.stop()
        self.assert_rows("log", least=1000)
        self.assertTrue(starts - len(workers) <= len(self.assert_rows("die")) <= starts)

    def test_deadlines_go_on(self):
        """Stop ladder, back-off and window are where they were."""
        journal = self.journal()
        d = self.start({
            "slow": {"command": self.words(journal, "ignore=TERM", "note=up", "wait"),
                     "stop": {"timeout": "2s"}},
            "bad": {"command": self.words("exit=1"),
                    "restart": {"delay": "1h", "max_delay": "1h", "jitter": 0.0}},
            "worse": {"command": self.words("exit=1"), "settle": "1ms", "restart": {
                "delay": "10ms", "max_delay": "10ms", "limit": 3, "window": "1h"}}})
        journal.wait("note", "up")
        d.until_worker("bad:0", state="backoff")
        worse = d.until_worker("worse:0", state="quarantined")
        begin = time.monotonic()
        d.call("Stop", targets=["slow"], wait=False)
        self.upgrade(d)
        self.assertEqual(d.worker("slow:0")["state"], "stopping")
        d.ctl("stop", "slow", code=0)
        took = time.monotonic() - begin
        self.assertTrue(1.9 < took < 4, took)
        self.assertEqual(d.worker("bad:0")["state"], "backoff")
        self.assertEqual(d.worker("worse:0")["restarts"], worse["restarts"])
        self.assertEqual(d.worker("worse:0")["state"], "quarantined")
        d.stop()

    @costly()
    def test_clients_learn_how_it_ended(self):
        journal = self.journal()
        d = self.start(self.one(journal, "on=TERM:slow:2500:0", "out=hello", "note=up", "wait",
                                workers=2))
        d.until_all(state="ready")
        journal.wait("note", "up", n=2)
        stop = d.spawn_ctl("stop", "web:0")
        restart = d.spawn_ctl("restart", "web:1")
        tail = d.spawn_ctl("logs", "-f", "web")
        d.until_worker("web:0", state="stopping")
        d.until_worker("web:1", state="stopping")
        both = [d.spawn_ctl("upgrade") for _ in range(2)]
        for tool in (*both, stop, restart):
            self.assertEqual(tool.wait(20), 0, tool.stdout.read())
        self.assertEqual(d.worker("web:0")["state"], "stopped")
        self.assertEqual(d.worker("web:1")["incarnation"], 2)
        self.assertIsNone(tail.poll(), "logs -f follows the new logger")
        tail.kill()
        tail.wait()
        d.roles_may_die = True
        d.stop()

    def test_events_have_no_gap(self):
        d = self.start(self.one("exit=1", workers=2, restart={"limit": 0}))
        until(lambda: d.worker("web:0")["restarts"] > 3, 10)
        self.upgrade(d)
        seen = d.call("Events", since=1)
        numbers = [e["seq"] for e in seen["events"]]
        self.assertEqual(numbers, list(range(numbers[0], numbers[0] + len(numbers))))
        d.stop()

    # --- while the daemon ends ---------------------------------------------------------------

    def test_not_during_a_shutdown(self):
        journal = self.journal()
        d = self.start(self.one(journal, "on=TERM:slow:1500:0", "note=up", "wait"))
        journal.wait("note", "up")
        d.send(signal.SIGTERM)
        until(lambda: d.call("Version")["phase"] == "warm", 10)
        self.assertEqual(d.ctl("upgrade").code, 1)
        d.send(signal.SIGUSR2)
        self.assertEqual(d.wait_exit(), 0)
        self.assertEqual(len(journal.entries("saved")), 1)
        d.check_gone()

    def test_a_shutdown_during_one(self):
        term = [(signal.SIGTERM, n / 1000) for n in (0, 1, 2, 3, 4, 5, 7, 10, 20, 300)]
        for number, pause in (*term, (signal.SIGQUIT, 0.003), (signal.SIGQUIT, 0.05)):
            journal = self.journal(f"journal{number}{pause}")
            d = self.start(self.one(journal, "note=up", "wait", workers=3))
            journal.wait("note", "up", n=3)
            d.send(signal.SIGUSR2)
            self.pause(pause)
            d.send(number)
            self.assertEqual(d.wait_exit(), 0, d.text())
            d.check_gone()

    # --- a program that is no good -----------------------------------------------------------

    def test_DC05_no_such_program(self):
        d = self.start(self.one("wait", workers=2))
        before = d.until_all(state="ready")
        path = self.dir / "reeved"
        good = path.read_bytes()

        def put(data, mode=0o755):
            if path.is_dir():
                path.rmdir()
            path.unlink(missing_ok=True)
            if data is None:
                return
            path.write_bytes(data)
            path.chmod(mode)
        wrong = bytearray(good)
        wrong[18:20] = struct.pack("<H", 243 if wrong[18] != 243 else 62)  # another machine
        for what, data, mode in (
                ("No such file", None, 0), ("Permission denied", good, 0o644),
                ("Exec format error", b"garbage" * 100, 0o755), ("Exec format", b"", 0o755),
                ("Exec format error", bytes(wrong), 0o755),
                ("cannot be executed", b"#!/bin/sh\nexit 0\n", 0o755),
                ("", good[:8192], 0o755)):
            put(data, mode)
            result = self.upgrade(d, code=1)
            self.assertIn(what, result.err, result)
        put(None)
        path.mkdir()
        self.upgrade(d, code=1)
        put(None)
        shutil.copy("/bin/true", path)
        self.assertIn("no reeved", self.upgrade(d, code=1).err)
        self.assert_same(d, before)
        self.assertEqual(d.roles["manager_pid"], d.call("Version")["manager_pid"])
        put(good)
        self.upgrade(d)
        self.assert_same(d, before)
        d.stop()

    def fails(self, fault, reason):
        d = self.start({"web": {"command": self.words("notify=READY=1", "wait"), "workers": 2,
                                "ready": "notify"},
                        "log": {"command": self.words("lines=0:1000:row-@pid@")}}, fault=fault)
        before = d.until_all(state="ready")
        version = d.roles["version"]
        self.place("reeved-next")
        result = self.upgrade(d, code=1)
        self.assertIn(reason, result.err, result)
        self.assertIn(reason, d.text())
        self.assertEqual(d.roles["version"], version)
        self.assert_same(d, before)
        self.place()
        self.upgrade(d)
        self.assert_same(d, before)
        procs.kill(d.pid_of("web:1"))
        d.until_worker("web:1", state="ready", incarnation=2)
        d.stop()
        self.assert_rows("log")

    def test_DC05_crash_in_the_check(self):
        self.fails("check-crash", "the check of the new program was ended by SEGV")

    def test_DC05_crash_at_once(self):
        self.fails("early-crash", "crashed in its first second (SEGV)")

    def test_DC05_crash_once_it_runs(self):
        self.fails("late-crash", "crashed in its first second (SEGV)")

    def test_a_program_that_crashes_when_all_is_gone(self):
        """The one that comes back knows that only the end is left."""
        d = self.start(self.one("wait"), fault="gone-crash")
        d.until_all(state="ready")
        self.place("reeved-next")
        d.roles_may_die = True
        d.send(signal.SIGUSR2)
        until(lambda: not os.readlink(f"/proc/{d.pid}/exe").endswith("(deleted)"), 15,
              "the new program runs", every=0.001)
        d.stop()
        self.assertIn("crashed in its first second (SEGV)", d.text())

    def test_DC05_hang_at_once(self):
        self.fails("early-hang", "hung in its first second")

    def test_DC05_hang_once_it_runs(self):
        self.fails("late-hang", "hung in its first second")

    def test_DC05_manager_that_crashes(self):
        self.fails("manager-crash", "the new reeve-manager ended before it was ready")

    def test_DC05_logger_that_crashes(self):
        self.fails("logger-crash", "the new reeve-logger ended before it was ready")

    @costly("off")
    def test_DC05_manager_that_hangs(self):
        self.fails("manager-hang", "did not come up within 10 s")

    @costly()
    def test_DC05_check_that_hangs(self):
        self.fails("check-hang", "took more than 10 s")

    @costly()
    def test_DC05_half_of_the_requests_fail(self):
        """Back and forth, many times: nothing wears off."""
        d = self.start(self.one("lines=0:1000:row-@pid@", workers=2), fault="late-crash")
        before = d.until_all(state="ready")
        fds = len(procs.fds_of(d.pid))
        for _ in range(5):
            self.place("reeved-next")
            self.upgrade(d, code=1)
            self.place()
            self.upgrade(d)
        self.assert_same(d, before)
        self.assertEqual(len(procs.fds_of(d.pid)), fds)
        d.stop()
        self.assert_rows("web")

    @costly("off")
    def test_the_keeper_is_killed_in_the_middle(self):
        """In the check and on trial, as ever: every tree ends, and the next start is clean."""
        self.need_not("pid1", "all of it ends with the namespace")
        for fault, there in (("check-hang", "reeve-preflight"), ("manager-hang", "reeve-manager")):
            d = self.start(self.one("fork=1", "[", "setsid", "wait", "]", "wait", workers=2),
                           fault=fault)
            d.until_all(state="ready")
            old = d.role("manager")
            self.place("reeved-next")
            d.send(signal.SIGUSR2)
            until(lambda d=d, old=old, there=there: [
                p for p in procs.children_of(d.pid) if procs.comm_of(p) == there and p != old], 10)
            d.send(signal.SIGKILL)
            d.wait_exit()
            d.extra_env, d.binary = {}, self.place()
            d.start(timeout=30)
            d.until_all(state="ready")
            self.assertEqual(len([p for p in d.survivors() if procs.comm_of(p) == "puppet"]), 4)
            d.stop()

    # --- layouts -----------------------------------------------------------------------------

    def test_DC12_newer_program_older_layout(self):
        d = self.start(self.one("wait", workers=2, restart={"delay": "10ms"}))
        before = d.until_all(state="ready")
        self.place("reeved-next")
        self.assertIn(f"to {NEXT}", self.upgrade(d).out)
        self.assertEqual(d.roles["version"], NEXT)
        self.assert_same(d, before)
        procs.kill(d.role("manager"))
        until(lambda: self.version(d) == NEXT, 10)
        d.roles = d.call("Version")
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", state="ready", incarnation=2)
        d.ctl("scale", "web", 4, code=0)
        before = d.workers()
        self.place()  # and back: what the newer one has written must not be misread
        result = self.upgrade(d, code=1)
        self.assertIn("newer reeved", result.err)
        self.assertIn("restart the daemon", result.err)
        self.assert_same(d, before)
        d.stop()

    def version(self, d):
        try:
            return d.call("Version")["version"]
        except (OSError, EOFError):
            return None

    def ledger(self, d):
        for fd, target in procs.fds_of(d.pid).items():
            if "memfd:reeve-ledger" in target:
                return os.open(f"/proc/{d.pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        self.fail("the keeper holds no ledger")

    def test_DC12_unknown_layout(self):
        """Magic and version of the running daemon's ledger, changed: nobody may go on with it."""
        d = self.start(self.one("wait"))
        before = d.until_all(state="ready")
        fd = self.ledger(d)
        with mmap.mmap(fd, 4096) as page:
            os.close(fd)
            for at, form, value, text in ((8, "I", 7, "layout version 7"), (0, "Q", 5, "no ledger"),
                                          (16, "I", 1, "another reeved")):
                old = page[at:at + struct.calcsize(form)]
                page[at:at + len(old)] = struct.pack(form, value)
                try:
                    result = d.ctl("upgrade", code=1)
                finally:
                    page[at:at + len(old)] = old
                self.assertIn(text, result.err)
                self.assertIn("reeved", result.err)
        self.assert_same(d, before)
        self.upgrade(d)
        d.stop()

    # --- surroundings ------------------------------------------------------------------------

    def test_DC03_full_runtime_directory(self):
        fill = self.small_file_system(self.dir / "run-d0")
        d = self.start(self.one("wait", workers=2))
        before = d.until_all(state="ready")
        free = fill()
        self.upgrade(d)
        self.assert_same(d, before)
        self.place("reeved-next")
        self.upgrade(d)
        self.assertEqual(d.roles["version"], NEXT)
        self.assert_same(d, before)
        free()
        d.stop()

    def test_two_daemons_one_program(self):
        """An upgrade is of one daemon; another with the same program does not notice."""
        a = self.start(self.one("wait", workers=2))
        b = self.daemon(self.conf(self.one("wait", workers=2), name="d1"), name="d1",
                        binary=self.dir / "reeved")
        before = a.until_all(state="ready"), b.until_all(state="ready")
        self.upgrade(a)
        self.assert_same(a, before[0])
        self.assert_same(b, before[1])
        b.send(signal.SIGTERM)
        self.assertEqual(b.wait_exit(), 0)
        self.assert_same(a, before[0])
        a.stop()

    def test_by_hand(self):
        for text, codes in (("3.4.5.0", (1, 2)), ("x", (2,)), ("", (2,)), ("3.4", (2,)),
                            ("1.2.3.0", (2,))):
            done = subprocess.run([str(self.place())], capture_output=True, timeout=10,
                                  env={"REEVE_ADOPT": text})
            self.assertIn(done.returncode, codes)
        done = subprocess.run(["reeve-preflight", "--preflight=7"], capture_output=True, text=True,
                              timeout=10, executable=str(self.place()))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("table", done.stdout)


class UpgradeTemplates(TemplateCase):
    def test_templates_and_what_they_forked_stay(self):
        d = self.forked({"web": self.group(workers=3), "raw": self.raw_group(workers=2)})
        before = d.until_all(state="ready")
        template = self.template(d)["pid"]
        for _ in range(2):
            d.ctl("upgrade", code=0)
            now = d.workers()
            for name, worker in before.items():
                self.assertEqual((now[name]["pid"], now[name]["incarnation"]),
                                 (worker["pid"], worker["incarnation"]), name)
        self.assertEqual(self.template(d)["pid"], template)
        d.roles = d.call("Version")
        procs.kill(d.pid_of("web:1"))
        d.until_worker("web:1", state="ready", incarnation=2)
        self.assertEqual(d.worker("web:1")["source"], before["web:1"]["source"])
        d.ctl("scale", "raw", 4, code=0)
        d.stop()
