"""Starting workers: what they get, what they must not get, what happens when it fails."""
import grp
import os
import pathlib
import pty
import resource
import signal
import socket
import time

from harness import PYTHON, Case, procs, until


class Spawn(Case):
    def test_SP01_missing_binary_hurts_only_its_group(self):
        groups = {f"good{n}": {"command": self.words("wait")} for n in range(3)}
        groups["bad"] = {"command": [str(self.dir / "missing")], "restart": {"limit": 0}}
        d = self.daemon(groups, daemon={"log": {"level": "info"}})
        for n in range(3):
            d.until_worker(f"good{n}:0", state="ready")
        bad = d.until_worker("bad:0", status=lambda s: s and "No such file" in s)
        self.assertIn(bad["state"], ("backoff", "quarantined", "starting", "waiting"))
        slowest = 0
        for _ in range(20):
            begin = time.monotonic()
            d.workers()
            slowest = max(slowest, time.monotonic() - begin)
        self.assertLess(slowest, 1)
        self.assertIn("missing", d.exits("bad:0")[0]["error"])
        lines = [line for line in d.text().splitlines() if "bad:0" in line]
        self.assertLess(len(lines), 40, "log storm")
        d.stop()

    def test_SP01_each_step_is_named(self):
        plain = self.dir / "not-executable"
        plain.write_text("#!/bin/sh\n")
        groups = {
            "cwd": {"command": self.words("wait"), "cwd": str(self.dir / "nowhere")},
            "exec": {"command": [str(plain)]},
            "stdin": {"command": self.words("wait"), "stdin": str(self.dir / "no-input")},
        }
        d = self.daemon(groups, defaults={"restart": {"limit": 2}})
        for group, word in (("cwd", "nowhere"), ("exec", "ermission denied"),
                            ("stdin", "no-input")):
            d.until_worker(f"{group}:0", state="quarantined",
                           status=lambda s, word=word: s and word in s)
            self.assertIn(word, d.worker(f"{group}:0")["last_exit"]["error"])
            for words in (("status",), ("status", group), ("show", f"{group}:0")):
                shown = d.ctl(*words).out
                self.assertIn(word, shown)
                self.assertNotIn("exit 127", shown, "it never ran")
        d.stop()

    def test_SP02_bad_users_are_configuration_errors(self):
        for user in ("no-such-user", "0day", "0x1", "4294967295", "-1", ""):
            d = self.daemon(self.one(f"dump={self.dir}/dump", "wait", user=user), start=False)
            self.assertEqual(d.launch().wait_exit(), 78, f"user {user!r}: {d.text()}")
        self.assertFalse((self.dir / "dump").exists(), "it ran")

    def test_SP02_a_failed_privilege_step_means_no_exec(self):
        """A daemon without the right to become another user never runs the program as itself."""
        if os.getuid() == 0:
            how = {"uid": self.give(self.some_user()[1])}
        else:
            how = {}
        groups = self.one(f"dump={self.dir}/dump", "wait", user="root", restart={"limit": 2})
        d = self.daemon(groups, start=False, daemon={"cgroup": "off"}, cgroup=False, **how)
        try:
            d.start()
        except AssertionError:
            self.assertEqual(d.poll(), 78, d.text())
        else:
            d.until_worker("web:0", state="quarantined")
            d.stop()
        self.assertFalse((self.dir / "dump").exists(), "it ran")

    def test_SP03_supplementary_groups(self):
        self.need_root()
        name, entry = self.some_user()
        expected = sorted(os.getgrouplist(name, entry.pw_gid))
        other = [g.gr_name for g in grp.getgrall() if g.gr_gid not in expected][:2]
        open_to_all = self.open_folder()
        groups = {
            "named": {"command": self.words(f"dump={open_to_all}/named", "wait"), "user": name},
            "extra": {"command": self.words(f"dump={open_to_all}/extra", "wait"), "user": name,
                      "extra_groups": other},
            "bare": {"command": self.words(f"dump={open_to_all}/bare", "wait"), "user": "54321:54322"},
        }
        d = self.daemon(groups, before=lambda: os.setgroups([4, 5, 27]))
        named = self.dump(open_to_all / "named")
        self.assertEqual(sorted(set(named["groups"]) | {entry.pw_gid}), expected)
        self.assertEqual(named["uid"], [entry.pw_uid] * 3)
        self.assertEqual(named["gid"], [entry.pw_gid] * 3)
        self.assertEqual(int(named["CapEff"], 16), 0)
        extra = self.dump(open_to_all / "extra")
        wanted = {grp.getgrnam(g).gr_gid for g in other}
        self.assertEqual(set(extra["groups"]) - {entry.pw_gid}, wanted)
        bare = self.dump(open_to_all / "bare")
        self.assertEqual((bare["uid"][1], bare["gid"][1]), (54321, 54322))
        self.assertLessEqual(set(bare["groups"]), {54322})
        d.stop()

    def test_SP04_environment_of_the_user(self):
        self.need_root()
        name, entry = self.some_user()
        folder = self.open_folder()
        d = self.daemon(self.one(f"dump={folder}/dump", "wait", user=name, inherit_env=[]),
                        env={"HOME": "/root", "USER": "root", "LOGNAME": "root"})
        env = dict(e.split("=", 1) for e in self.dump(folder / "dump")["env"])
        self.assertEqual((env["USER"], env["LOGNAME"]), (name, name))
        self.assertEqual(env["HOME"], entry.pw_dir)
        self.assertEqual(env["SHELL"], entry.pw_shell)
        d.stop()

    def test_SP05_signals_are_reset(self):
        def odd():
            signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 32))
            for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT,
                           signal.SIGUSR2):
                signal.signal(number, signal.SIG_IGN)
        d = self.daemon(self.one(f"dump={self.dir}/dump", "wait"), before=odd)
        seen = self.dump(self.dir / "dump")
        for name in ("SigBlk", "SigIgn", "SigCgt"):
            self.assertEqual(int(seen[name], 16), 0, name)
        d.stop()

    def test_SP06_only_declared_descriptors(self):
        leaked = os.open("/dev/null", os.O_RDONLY)

        def leak():
            for fd in range(50, 60):
                os.dup2(0, fd)
        path = self.dir / "web.sock"
        groups = {
            "plain": {"command": self.words(f"dump={self.dir}/plain", "wait")},
            "sock": {"command": self.words(f"dump={self.dir}/sock", "wait"),
                     "sockets": [{"name": "http", "listen": f"unix://{path}"}]},
        }
        d = self.daemon(groups, before=leak)
        os.close(leaked)
        self.assertEqual(sorted(self.dump(self.dir / "plain")["fds"]), ["0", "1", "2"])
        sock = self.dump(self.dir / "sock")
        self.assertEqual(sorted(sock["fds"]), ["0", "1", "2", "3"])
        self.assertTrue(sock["fds"]["3"]["link"].startswith("socket:"))
        d.stop()

    def test_SP06_a_left_grandchild_holds_no_port(self):
        self.need_not("pid1", "nothing outlives pid 1")
        probe = socket.create_server(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        # The grandchild closes what was declared to its parent; nothing else may keep the port.
        groups = self.one("daemon", "[", f"journal={self.dir}/j", "closefds", "note=left", "wait",
                          "]", "wait", orphans="leave",
                          sockets=[{"name": "http", "listen": f"tcp://127.0.0.1:{port}"}])
        d = self.daemon(groups)
        left = self.journal("j").wait("note", "left")[0].pid
        left = d.host(left)
        self.allowed.add(left)
        d.until_worker("web:0", state="ready")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0, d.text())
        self.assert_alive(left, "it was to be left")
        again = self.daemon(groups, name="d1")
        again.until_worker("web:0", state="ready")
        self.allowed.update(again.host(e.pid) for e in self.journal("j").wait("note", "left", n=2))
        again.send(signal.SIGTERM)
        self.assertEqual(again.wait_exit(), 0, again.text())

    def test_SP08_out_of_processes_is_not_a_crash(self):
        self.need_root()
        self.need_not("eperm", "prlimit on a process that gained no privileges")
        uid = self.give(self.some_user()[1])
        d = self.daemon(self.one("wait", workers=1, restart={"limit": 2}), uid=uid,
                        daemon={"cgroup": "off"}, cgroup=False)
        d.until_worker("web:0", state="ready")
        manager = d.role("manager")
        self.limit_as(uid, manager, resource.RLIMIT_NPROC, 1)
        d.call("Scale", group="web", workers=6, wait=False)
        d.until_worker("web:5", status=lambda s: s and "unavailable" in s)
        self.never(lambda: any(w["state"] == "quarantined" for w in d.workers().values()), 0.5)
        self.limit_as(uid, manager, resource.RLIMIT_NPROC, None)
        workers = d.until_all(state="ready", timeout=30)
        self.assertEqual(len(workers), 6)
        self.assertEqual({w["restarts"] for w in workers.values()}, {0}, "charged as crashes")
        d.stop()

    def limit_as(self, uid, pid, which, soft):
        """Set a soft limit of that user's process (None: back to the hard one)."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                hard = resource.prlimit(pid, which)[1]
                resource.prlimit(pid, which, (hard if soft is None else soft, hard))
                code = 0
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0, "prlimit")

    def test_SP08_too_many_processes_of_the_user(self):
        """The limit is met in the child: at the exec, after it became the user."""
        self.need_root()
        user = self.some_user()[0]
        groups = self.one(f"dump={self.dir}/dump", "wait", user=user, after=["first"],
                          limits={"nproc": 0}, restart={"limit": 1})
        groups["first"] = {"command": self.words("wait"), "user": user}
        d = self.daemon(groups)
        worker = d.until_worker("web:0", incarnation=lambda n: n >= 5)
        self.assertIn(worker["state"], ("backoff", "waiting", "starting"))
        self.assertEqual(worker["restarts"], 0)
        self.assertIn("Resource temporarily unavailable", d.exits("web:0")[0]["error"])
        self.assertFalse((self.dir / "dump").exists(), "it ran")
        d.stop()

    def test_SP09_out_of_descriptors_harms_nobody(self):
        self.need_root()
        d = self.daemon(self.one("notify=READY=1", "wait", workers=3, ready="notify"))
        old = d.until_all(state="ready")
        manager = d.role("manager")
        count = len(procs.fds_of(manager))
        before = resource.prlimit(manager, resource.RLIMIT_NOFILE)
        resource.prlimit(manager, resource.RLIMIT_NOFILE, (count + 3, before[1]))
        d.call("Scale", group="web", workers=20, wait=False)
        for _ in range(5):
            d.workers()
        now = d.workers()
        for name, worker in old.items():
            self.assertEqual(now[name]["pid"], worker["pid"])
        resource.prlimit(manager, resource.RLIMIT_NOFILE, before)
        d.until_all(state="ready", timeout=30)
        d.ctl("scale", "web", 3, code=0)
        until(lambda: len(procs.fds_of(manager)) <= count, 10, "descriptors are closed again")
        d.stop()

    def test_SP10_SP11_stop_in_the_middle_of_start(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "token", "wait", autostart=False, workers=4))
        for number in range(25):
            d.call("Start", targets=["web"], wait=False)
            results = d.call("Stop", targets=["web"], cold=number % 2 == 1)["results"]
            self.assertTrue(all(r["ok"] for r in results), results)
            self.assertEqual(self.live_puppets(), [])
        self.assertEqual({w["state"] for w in d.workers().values()}, {"stopped"})
        d.stop()

    def live_puppets(self):
        return [p for p in procs.marked(self.mark, str(self.dir)) if procs.comm_of(p) == "puppet"]

    def test_SP12_signal_storm_while_starting(self):
        d = self.daemon(self.one(f"dump={self.dir}/dump.@index@", "wait", workers=1))
        d.call("Scale", group="web", workers=150, wait=False)
        for _ in range(3000):
            d.send(signal.SIGUSR1)
        workers = d.until_all(state="ready", timeout=40)
        self.assertEqual(len(workers), 150)
        self.assertEqual({w["restarts"] for w in workers.values()}, {0})
        for index in range(150):
            seen = self.dump(self.dir / f"dump.{index}")
            self.assertEqual(int(seen["SigCgt"], 16) | int(seen["SigBlk"], 16), 0)
        d.stop()

    def test_SP16_started_with_closed_stdio(self):
        for closed in range(1, 8):
            def close(closed=closed):
                for fd in range(3):
                    if closed & 1 << fd:
                        os.close(fd)
            name = f"d{closed}"
            journal = self.journal(f"journal{closed}")
            d = self.daemon({"web": {"command": self.words(journal, "stdin", "out=said",
                                                           f"dump={self.dir}/dump{closed}", "wait"),
                                     "log": {"file": f"{self.dir}/log/{name}.log"}}},
                            name=name, before=close)
            self.assertEqual(journal.wait("stdin")[0].text, "0 end")
            self.assertEqual(sorted(self.dump(self.dir / f"dump{closed}")["fds"]), ["0", "1", "2"])
            until(lambda name=name: "said" in procs.read(self.dir / f"log/{name}.log"), 10)
            d.stop()

    def test_SP17_no_terminal(self):
        self.need_not("pid1", "a controlling terminal needs a session leader below us")
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)

        tty = os.ttyname(slave)
        os.chmod(tty, 0o666)
        os.close(slave)

        def terminal():
            os.open(tty, os.O_RDWR)  # a session leader without a terminal gets this one
        journal = self.journal()
        d = self.daemon(self.one(journal, "on=HUP,INT,TERM:count", "on=TERM:exit:0",
                                 f"dump={self.dir}/dump", f"tty={tty}", f"dump={self.dir}/after",
                                 "note=up", "wait"), before=terminal)
        journal.wait("note", "up")
        for name in ("dump", "after"):
            seen = self.dump(self.dir / name)
            self.assertEqual(seen["tty"], 0)
            self.assertEqual(seen["sid"], seen["pid"])
        d.until_worker("web:0", state="ready")
        os.write(master, b"\x03")
        self.assertEqual(d.wait_exit(), 0, d.text())
        self.assertEqual([e.text.split()[0] for e in journal.entries("signal")], ["TERM"])
        d.check_gone()

    def test_SP18_oom_score(self):
        self.need_root()
        try:
            pathlib.Path("/proc/self/oom_score_adj").write_text("-500")
            pathlib.Path("/proc/self/oom_score_adj").write_text("0")
        except OSError:
            self.skipTest("oom_score_adj may not be lowered here")
        d = self.daemon(self.one(f"dump={self.dir}/dump", "wait"),
                        before=lambda: pathlib.Path("/proc/self/oom_score_adj").write_text("-500"))
        self.assertEqual(self.dump(self.dir / "dump")["oom_score_adj"], "0")
        self.assertEqual(procs.read(f"/proc/{d.pid}/oom_score_adj").strip(), "-900")
        d.stop()

    def test_SP18_oom_score_as_configured(self):
        d = self.daemon(self.one(f"dump={self.dir}/dump", "wait", oom_score_adj=300))
        self.assertEqual(self.dump(self.dir / "dump")["oom_score_adj"], "300")
        d.stop()

    def test_SP19_killed_keeper_takes_all_along(self):
        d = self.daemon(self.one(f"dump={self.dir}/dump.@index@", "ignore=TERM,HUP,INT", "wait",
                                 workers=5, stop={"timeout": "300ms"}))
        d.until_all(state="ready")
        self.assertEqual(self.dump(self.dir / "dump.0")["pdeathsig"], 9)
        d.send(signal.SIGKILL)
        self.assertEqual(d.wait_exit(), 137)
        until(lambda: not d.survivors(), 10, "everything ends with the keeper")
        d.start()
        workers = d.until_all(state="ready")
        self.assertEqual(len(workers), 5)
        d.stop()

    def test_SP20_nothing_of_the_daemons_protocols(self):
        odd = {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1", "LISTEN_FDS": "2",
               "LISTEN_PID": "1", "LISTEN_FDNAMES": "a:b", "REEVE_GROUP": "evil",
               "REEVE_INDEX": "77", "NOTIFY_SOCKET": str(self.dir / "nobody-listens")}
        groups = {
            "plain": {"command": self.words(f"dump={self.dir}/plain", "wait"),
                      "inherit_env": ["*"]},
            "full": {"command": self.words(f"dump={self.dir}/full", "wait"), "notify": True,
                     "sockets": [{"name": "one", "listen": f"unix://{self.dir}/one.sock"},
                                 {"name": "two", "listen": f"unix://{self.dir}/two.sock"}]},
        }
        d = self.daemon(groups, env=odd)
        plain = dict(e.split("=", 1) for e in self.dump(self.dir / "plain")["env"])
        for name in ("WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
                     "LISTEN_FDNAMES", "NOTIFY_SOCKET"):
            self.assertNotIn(name, plain)
        self.assertEqual((plain["REEVE_GROUP"], plain["REEVE_INDEX"]), ("plain", "0"))
        seen = self.dump(self.dir / "full")
        full = dict(e.split("=", 1) for e in seen["env"])
        self.assertEqual((full["LISTEN_FDS"], full["LISTEN_FDNAMES"]), ("2", "one:two"))
        self.assertEqual(full["LISTEN_PID"], str(seen["pid"]))
        self.assertTrue(full["NOTIFY_SOCKET"].startswith(str(self.dir)), full["NOTIFY_SOCKET"])
        self.assertNotEqual(full["NOTIFY_SOCKET"], odd["NOTIFY_SOCKET"])
        for name, value in (("REEVE_WORKER", "full:0"), ("REEVE_INCARNATION", "1"),
                            ("REEVE_GENERATION", "1"), ("REEVE_COUNT", "1")):
            self.assertEqual(full[name], value)
        self.assertRegex(full["REEVE_ID"], r"^[0-9a-f]{32}/full:0/1$")
        d.stop()

    def test_SP21_the_same_however_started(self):
        def odd():
            os.chdir("/tmp")
            os.umask(0o077)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if os.getuid() == 0:
                os.nice(7)
        groups = self.one(f"dump={self.dir}/dump", "wait", inherit_env=[])
        seen = []
        for how in ({}, {"before": odd, "env": {"LANG": "xx_YY", "LC_ALL": "C", "JUNK": "1",
                                                "PATH": "/usr/bin:/bin", "HOME": "/tmp"}}):
            d = self.daemon(groups, **how)
            seen.append(self.dump(self.dir / "dump"))
            (self.dir / "dump").unlink()
            d.stop()
        for one in seen:
            for key in ("pid", "ppid", "pgid", "sid", "limits", "cgroup"):
                self.assertIsNotNone(one.pop(key))
            one["fds"] = sorted(one["fds"])
            one["env"] = sorted(e for e in one["env"] if not e.startswith(("REEVE_ID=", "PATH=",
                                                                          "HOME=")))
        self.assertEqual(seen[0], seen[1])
        self.assertEqual((seen[0]["cwd"], seen[0]["umask"], seen[0]["nice"]), ("/", 0o022, 0))

    def test_SP20_what_is_inherited_and_read(self):
        (self.dir / "one.env").write_text("# comment\nFROM_FILE=1\nBOTH=file\n\nQUOTED=\"a b\"\n")
        d = self.daemon(self.one(f"dump={self.dir}/dump.@inc@", "wait",
                                 inherit_env=["GIVEN_*", "EXACT"],
                                 env_file=[str(self.dir / "one.env"), f"-{self.dir}/missing.env"],
                                 env={"BOTH": "env"}),
                        env={"GIVEN_A": "a", "GIVEN_B": "b", "EXACT": "e", "OTHER": "o"})
        env = dict(e.split("=", 1) for e in self.dump(self.dir / "dump.1")["env"])
        self.assertEqual([env.get(k) for k in ("GIVEN_A", "GIVEN_B", "EXACT", "OTHER", "FROM_FILE",
                                               "BOTH")], ["a", "b", "e", None, "1", "env"])
        (self.dir / "one.env").write_text("FROM_FILE=2\n")
        d.until_all(state="ready")
        d.ctl("restart", "web", code=0)
        self.assertIn("FROM_FILE=2", self.dump(self.dir / "dump.2")["env"])
        (self.dir / "one.env").unlink()
        procs.kill(d.pid_of("web:0"))
        d.until_worker("web:0", status=lambda s: s and "one.env" in s)
        d.stop()

    def test_SP21_as_configured(self):
        d = self.daemon(self.one(f"dump={self.dir}/dump", "wait", cwd=str(self.dir), umask="0137",
                                 nice=5, no_new_privs=True, stdin=str(self.dir / "d0.conf"),
                                 env={"ONE": "1", "PORT": "%{8000+i}"},
                                 limits={"nofile": "100:200", "core": 0, "fsize": "1000000:unlimited"}))
        seen = self.dump(self.dir / "dump")
        self.assertEqual((seen["cwd"], seen["umask"], seen["nice"]), (str(self.dir), 0o137, 5))
        self.assertEqual(seen["NoNewPrivs"], "1")
        self.assertEqual(seen["fds"]["0"]["link"], str(self.dir / "d0.conf"))
        self.assertEqual(seen["limits"]["nofile"], [100, 200])
        self.assertEqual(seen["limits"]["core"], [0, 0])
        self.assertEqual(seen["limits"]["fsize"], [1000000, -1])
        self.assertIn("PORT=8000", seen["env"])
        self.assertIn("ONE=1", seen["env"])
        d.stop()


class Methods(Case):
    """What a worker must not get, by each way to make one that is a process."""

    FACTS = """
import json, os, reeve
def links():
    for fd in os.listdir("/proc/self/fd"):
        try:
            yield int(fd), os.readlink("/proc/self/fd/" + fd)
        except FileNotFoundError:
            pass  # the listing's own
def main():
    reeve.fork_point()
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
    facts = {"fds": dict(links()), "env": dict(os.environ), "pid": os.getpid(),
             **{k: int(status[k], 16) for k in ("SigBlk", "SigIgn")}}
    name = os.environ["REEVE_WORKER"].replace(":", ".")
    with open(name + ".new", "w") as file:
        json.dump(facts, file)
    os.rename(name + ".new", name)
    reeve.stop_fd and __import__("select").select([reeve.stop_fd], [], [])
"""

    def test_SP05_SP06_SP20_in_every_start_method(self):
        if not os.access(PYTHON, os.X_OK):
            self.skipTest(f"no {PYTHON}")
        (self.dir / "app.py").write_text(self.FACTS)

        def odd():
            for fd in range(50, 60):
                os.dup2(0, fd)
            signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 32))
            for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGUSR2):
                signal.signal(number, signal.SIG_IGN)
        methods = ("spawn", "forkserver", "fork")
        d = self.daemon({m: {"entry": "app:main", "start_method": m, "cwd": str(self.dir), "workers": 2,
                             "env": {"PYTHONDONTWRITEBYTECODE": "1"}, "inherit_env": ["*"]}
                         for m in methods}, before=odd,
                        env={"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1", "LISTEN_FDS": "2",
                             "LISTEN_PID": "1", "NOTIFY_SOCKET": f"{self.dir}/nobody-listens"})
        # of Python's own: it ignores these two
        ignored = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
        d.until_all(30, state="ready")
        for method in methods:
            for index in range(2):
                seen = self.dump(self.dir / f"{method}.{index}")
                more = [what for fd, what in seen["fds"].items() if int(fd) > 2]
                self.assertLessEqual(len(more), method != "spawn", "more than the channel")
                self.assertTrue(all(what.startswith("socket:") for what in more), seen["fds"])
                self.assertLessEqual({"0", "1", "2"}, set(seen["fds"]))
                self.assertEqual(seen["SigBlk"], 0, method)
                self.assertEqual(seen["SigIgn"], ignored, method)
                self.assertEqual([n for n in seen["env"] if n.startswith(("WATCHDOG_", "LISTEN_")) or
                                  n == "NOTIFY_SOCKET"], [], method)
                self.assertEqual(seen["env"]["REEVE_WORKER"], f"{method}:{index}")
        d.stop()
