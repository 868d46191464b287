"""Rights, files, names."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess

from harness import Case, NOBODY, procs, until


class Security(Case):
    def as_user(self, d, uid, *args, groups=()):
        """reevectl as another user."""
        argv = [str(self.context.program("reevectl")), "-s", str(d.socket), *args]
        return subprocess.run(argv, user=uid, group=uid, extra_groups=list(groups), env=d.environment(),
                              cwd="/", capture_output=True, timeout=30, text=True, errors="replace")

    def test_SE01_the_sockets_mode_from_birth(self):
        for mode in ("0600", "0660"):
            d = self.daemon(self.one("wait"), start=False, daemon={"control": {"mode": mode}},
                            before=lambda: os.umask(0))
            d.launch()
            seen = set()

            def look():
                for path in (d.socket, d.run):
                    try:
                        seen.add((path.name, oct(path.stat().st_mode & 0o777)))
                    except OSError:
                        pass
                return any(name == "control.sock" for name, _ in seen) and \
                    procs.comm_of(d.pid) == "reeved" and self.answers(d)
            until(look, 15, every=0)
            modes = {m for name, m in seen if name == "control.sock"}
            self.assertEqual(modes, {"0o" + mode.lstrip("0")})
            folder = {m for name, m in seen if name == d.run.name}
            self.assertTrue(all(int(m, 8) & 0o022 == 0 for m in folder), folder)
            d.stop()

    def answers(self, d):
        try:
            return d.call("Version")
        except OSError:
            return None

    def test_SE02_log_paths_through_links(self):
        """A worker's user owns the log directory and points the log at a file of root."""
        self.need_root()
        name, entry = self.some_user()
        os.chmod(self.dir, 0o755)
        secret = self.dir / "secret"
        secret.write_text("untouched\n")
        secret.chmod(0o600)
        for kind, plant in (("soft", os.symlink), ("hard", os.link)):
            folder = self.dir / f"log-{kind}"
            folder.mkdir()
            plant(secret, folder / "web.log")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
            d = self.daemon(self.one("lines=100:0:evil", "wait", user=name,
                                     log={"file": f"{folder}/%g.log", "mode": "0666",
                                          "owner": name}))
            d.until_all(state="ready")
            d.send(signal.SIGUSR1)
            d.call("Version")
            d.stop()
            self.assertEqual(secret.read_text(), "untouched\n", kind)
            self.assertEqual((secret.stat().st_mode & 0o777, secret.stat().st_uid), (0o600, 0), kind)

    def test_SE03_a_configuration_others_may_write(self):
        d = self.daemon(self.one("wait"), start=False)
        for mode in (0o666, 0o646):
            d.file.chmod(mode)
            self.assertEqual(d.launch().wait_exit(), 78, oct(mode))
            self.assertIn(d.file.name, d.text())
        d.file.chmod(0o644)
        extra = self.dir / "more.conf"
        extra.write_text("")
        extra.chmod(0o666)
        d.write("include = [ \"more.conf\" ];\n" + d.file.read_text())
        self.assertEqual(d.launch().wait_exit(), 78)
        self.assertIn("more.conf", d.text())
        extra.chmod(0o644)
        d.start()
        extra.chmod(0o666)
        d.ctl("reload", code=78)
        d.stop()

    def test_SE03_a_folder_others_may_write(self):
        folder = self.dir / "open"
        folder.mkdir()
        folder.chmod(0o777)
        d = self.daemon(self.one("wait"), start=False)
        moved = folder / "d0.conf"
        d.file.rename(moved)
        d.file = moved
        self.assertEqual(d.launch().wait_exit(), 78, d.text())
        self.assertIn(f"chmod go-w {folder}\n", d.text())
        folder.chmod(0o755)
        d.start()
        d.stop()

    def test_SE06_names_never_become_paths(self):
        decoy = os.fork()
        if decoy == 0:
            os.execv("/bin/sleep", ["sleep", "50"])
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        for target in ("../web", "/", "web/../..", "web\0", "web:0\0", "..", ".", "", "web:-1",
                       "web:00", "web:99999999999999999999", str(decoy), "web:0/../../daemon",
                       "x" * 5000, "web:0 ", "\n"):
            for method in ("Stop", "Kill", "Show"):
                parameters = {"targets": [target]}
                try:
                    answer = d.call(method, **parameters)
                except Exception as error:  # a refusal is what we want, whatever its name
                    self.assertIn(getattr(error, "name", ""), ("NoSuchTarget", "InvalidParameter"))
                    continue
                results = answer.get("results") or []
                self.assertFalse([r for r in results if r["ok"]], (target, answer))
                self.assertFalse(answer.get("details"), target)
        for group in ("../x", "/", "a/b"):
            self.assert_refused("NoSuchTarget", d.call, "Scale", group=group, workers=1)
        self.assertEqual(os.waitpid(decoy, os.WNOHANG), (0, 0))
        os.kill(decoy, signal.SIGKILL)
        os.waitpid(decoy, 0)
        self.assertEqual(d.worker("web:0")["state"], "ready")
        d.stop()

    def test_SE07_user_ids_at_the_edge(self):
        for user in ("4294967295", "4294967296", "-1", "65536:4294967295", "+0", "1.5", "root:-1"):
            d = self.daemon(self.one(f"dump={self.dir}/dump", user=user), start=False)
            self.assertEqual(d.launch().wait_exit(), 78, user)
        self.assertFalse((self.dir / "dump").exists())

    def test_SE08_rights_at_every_call(self):
        self.need_root()
        reader, first = self.some_user()
        operator, second = self.some_user(avoid=(first.pw_uid,))
        stranger = 54321
        d = self.daemon(self.one("wait", env={"SECRET": "hunter2"}),
                        daemon={"control": {"readers": [reader], "operators": [operator]}})
        d.until_all(state="ready")
        table = {  # verb → least right: 0 stranger, 1 reader, 2 operator, 3 admin
            ("status",): 1, ("show", "web:0"): 1, ("events",): 1, ("logs", "web"): 1,
            ("tree",): 1, ("version",): 1, ("wait", "web", "--for", "ready"): 1,
            ("kill", "-s", "WINCH", "web:0"): 2, ("restart", "web"): 2, ("reset", "web"): 2,
            ("plan",): 2, ("doctor",): 2, ("scale", "web", "1"): 2, ("reload",): 3,
        }
        for args, least in table.items():
            for right, uid in ((0, stranger), (1, first.pw_uid), (2, second.pw_uid), (3, 0)):
                done = self.as_user(d, uid, *args)
                if right < least:
                    self.assertEqual(done.returncode, 6, (args, uid, done))
                    self.assertTrue(done.stderr, (args, uid))
                else:
                    self.assertNotEqual(done.returncode, 6, (args, uid, done))
        for uid in (stranger, first.pw_uid, second.pw_uid):
            self.assertEqual(self.as_user(d, uid, "shutdown").returncode, 6)
            self.assertEqual(self.as_user(d, uid, "upgrade").returncode, 6)
        self.assertEqual(d.worker("web:0")["incarnation"], 3)
        d.stop()

    def test_SE08_a_right_that_is_taken_away(self):
        """Asked at each call: a connection that is open keeps none of the rights it came with."""
        self.need_root()
        name, entry = self.some_user()

        def control(**who):
            return self.conf(self.one("wait"), daemon={"control": {"mode": "0666", **who}})
        d = self.daemon(control(operators=[name]))
        d.until_all(state="ready")
        ends = socket.socketpair()
        child = os.fork()
        if child == 0:  # connects as that user, and hands the connection over
            code = 1
            try:
                os.setgroups([])
                os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
                os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(str(d.socket))
                    socket.send_fds(ends[1], [b"x"], [sock.fileno()])
                code = 0
            finally:
                os._exit(code)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        client = d.connect()
        client.sock.close()
        client.sock = socket.socket(fileno=socket.recv_fds(ends[0], 1, 1)[1][0])
        client.sock.settimeout(20)
        self.addCleanup(client.close)
        for end in ends:
            end.close()
        self.assertTrue(client.call("Restart", {"targets": ["web"]})["results"][0]["ok"])
        # root speaks through it, but it is still the connection of that user
        self.assertEqual(self.assert_refused("NotPermitted", client.call, "Shutdown", parameters={})
                         .parameters["needs"], "admin")
        d.write(control(readers=[name]))
        d.ctl("reload", code=0)
        self.assertEqual(len(client.call("List")["workers"]), 1)
        self.assertEqual(self.assert_refused("NotPermitted", client.call, "Restart",
                                             parameters={"targets": ["web"]}).parameters["needs"],
                         "operator")
        d.write(control())
        d.ctl("reload", code=0)
        self.assert_refused("NotPermitted", client.call, "List")
        self.assertEqual(d.worker("web:0")["incarnation"], 2)
        d.stop()

    def test_SE08_no_access_at_all(self):
        self.need_root()
        d = self.daemon(self.one("wait"))
        done = self.as_user(d, NOBODY, "status")
        self.assertEqual(done.returncode, 6, done)
        d.stop()

    def test_SE09_the_sender_of_a_signal_is_logged(self):
        d = self.daemon(self.one("wait"), daemon={"log": {"level": "info"}})
        d.until_all(state="ready")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0)
        sender = 0 if self.mode == "pid1" else os.getpid()
        self.assertRegex(d.text(), rf"signal TERM from pid {sender} ")

    def test_SE09_a_worker_that_stops_the_daemon(self):
        """Equal user is no boundary, but nothing is left when it is used."""
        self.need_not("pid1", "pid 1 cannot be stopped from inside")
        d = self.daemon(self.one("sleep=100", "kill=@ppid@:STOP", "wait"))
        until(lambda: procs.state_of(d.pid) == "T", 10, "it is stopped")
        os.kill(d.pid, signal.SIGCONT)
        d.until_all(state="ready")
        d.stop()

    def test_SE10_escape_sequences(self):
        evil = "\x1b]0;owned\x07\x1b[2J\x9b31m"
        d = self.daemon(self.one("notify-hex=" + ("READY=1\nSTATUS=" + evil).encode().hex(),
                                 "hex=" + (evil + "\n").encode().hex(),
                                 "hex=" + (evil + "last\n").encode().hex(), self.gate(), "exit=1",
                                 ready="notify", restart={"when": "never"}))
        d.until_all(state="ready")
        fd = os.open(self.dir / "gate", os.O_RDWR)
        d.until_worker("web:0", last_exit=lambda e: e is not None)
        os.close(fd)
        for args in (["status", "--all"], ["show", "web:0"], ["logs", "web", "-n", "9"], ["events"],
                     ["tree"], ["status", "--json"], ["show", "web:0", "--json"]):
            result = d.ctl(*args)
            self.assertNotRegex(result.out + result.err, "[\x00-\x08\x0b-\x1f\x7f\x80-\x9f]", args)
        d.stop()

    def test_SE10_names_of_processes(self):
        copy = self.dir / "e\x1b[31mx"
        shutil.copy(self.puppet, copy)
        d = self.daemon(self.one("fork=1", "[", "exec", str(copy), "wait", "]", "wait"))
        d.until_all(state="ready")
        until(lambda: len(d.call("Tree", targets=["web"])["processes"]) == 2, 10)
        shown = d.ctl("tree", "web", code=0).out + d.ctl("show", "web:0", code=0).out
        self.assertNotIn("\x1b", shown)
        d.stop()

    def test_SE11_secrets_are_for_the_admin(self):
        self.need_root()
        reader, entry = self.some_user()
        d = self.daemon(self.one("note=argv-hunter2", "fork=1", "[", "wait", "]", "wait",
                                 env={"PASSWORD": "env-hunter2"}),
                        daemon={"control": {"readers": [reader]}})
        d.until_all(state="ready")
        self.assertIn("env-hunter2", json.dumps(d.detail("web:0")))
        self.assertIn("argv-hunter2", json.dumps(d.call("Tree", targets=["web"])))
        for args in (("show", "web:0", "--json"), ("show", "web:0"), ("tree", "--json"),
                     ("tree",), ("status", "--json"), ("events", "--json")):
            done = self.as_user(d, entry.pw_uid, *args)
            self.assertEqual(done.returncode, 0, done)
            self.assertNotIn("hunter2", done.stdout, args)
        d.stop()

    def test_SE12_no_abstract_sockets(self):
        d = self.daemon(self.one("notify=READY=1", "wait", ready="notify"))
        d.until_all(state="ready")
        inodes = {link[8:-1] for pid in (d.pid, d.role("manager"), d.role("logger"))
                  for link in procs.fds_of(pid).values() if link.startswith("socket:")}
        names = [line.split()[7] for line in
                 pathlib.Path("/proc/net/unix").read_text().splitlines()
                 if len(line.split()) > 7 and line.split()[6] in inodes]
        self.assertTrue(names)
        self.assertEqual([name for name in names if name.startswith("@")], [])
        d.stop()
