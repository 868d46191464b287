"""Configuration and reload, as the daemon and its users meet them."""
import os
import select
import signal
import socket
import subprocess
import time

from conftext import Raw
from harness import Case, procs, until


class Config(Case):
    def refuse(self, text, *words, name="bad"):
        """reeved does not start with this file: 78, and says these words."""
        d = self.daemon(text if isinstance(text, str) else self.conf(text), start=False, name=name)
        begin = time.monotonic()
        self.assertEqual(d.launch().wait_exit(), 78, f"{text}\n{d.text()}")
        self.assertLess(time.monotonic() - begin, 22)
        for word in words:
            self.assertIn(word, d.text())
        d.output.unlink()
        return d

    def refuse_raw(self, body, *words):
        return self.refuse(f'daemon: {{ runtime_dir = "{self.dir}/run-bad"; }};\n{body}\n', *words)

    def test_CF01_a_removed_group_is_stopped(self):
        d = self.daemon({"web": {"command": self.words("fork=1", "[", "wait", "]", "wait")},
                         "old": {"command": self.words("fork=1", "[", "setsid", "wait", "]",
                                                       "wait")}})
        d.until_all(state="ready")
        old = d.pid_of("old:0")
        tree = [old, *procs.children_of(old)]
        d.write(self.conf({"web": d.conf["groups"]["web"]}))
        d.ctl("reload", code=0)
        for pid in tree:
            self.assert_gone(pid)
        self.assertEqual(set(d.workers()), {"web:0"})
        d.stop()

    def test_CF02_only_what_changed_is_renewed(self):
        groups = {name: {"command": self.words("wait"), "workers": 2} for name in ("one", "two")}
        d = self.daemon(groups)
        before = d.until_all(state="ready")
        d.ctl("plan", code=0)
        groups["two"]["env"] = {"PORT": "1"}
        groups["three"] = {"command": self.words("wait")}
        d.write(self.conf(groups))
        plan = d.ctl("plan", code=3).out
        self.assertRegex(plan, r"two\b.*renew.*env\.PORT")
        self.assertIn("three", plan)
        self.assertNotRegex(plan, r"\bone\b")
        d.ctl("reload", code=0)
        after = d.until_all(state="ready")
        for name, worker in before.items():
            same = after[name]["pid"] == worker["pid"]
            self.assertEqual(same, name.startswith("one"), name)
        self.assertEqual(len(after), 5)
        self.assertEqual(after["two:0"]["restarts"], 0)
        groups["one"]["stop"] = {"timeout": "9s"}
        groups["one"]["workers"] = 3
        d.write(self.conf(groups))
        self.assertIn("live", d.ctl("plan", code=3).out)
        d.ctl("reload", code=0)
        last = d.until_all(state="ready")
        self.assertEqual(last["one:0"]["pid"], before["one:0"]["pid"])
        self.assertIn("one:2", last)
        d.stop()

    def test_CF02_renewal_is_worker_by_worker(self):
        journal = self.journal()
        words = self.words(journal, "token", "on=TERM:slow:150:0", "notify=READY=1", "wait")
        groups = {"web": {"command": words, "workers": 3, "ready": "notify"}}
        d = self.daemon(groups)
        d.until_all(state="ready")
        groups["web"]["env"] = {"NEW": "1"}
        d.write(self.conf(groups))
        d.ctl("reload", code=0)
        ends = [e.us for e in journal.entries("saved")]
        starts = [e.us for e in journal.entries("start")][3:]
        self.assertEqual((len(ends), len(starts)), (3, 3))
        for number in range(3):
            self.assertLess(ends[number], starts[number])
            if number:
                self.assertLess(starts[number - 1], ends[number], "two were down at once")
        d.stop()

    def test_CF02_a_reload_waits_until_the_last_one_is_well(self):
        gate = self.gate()
        groups = {"web": {"command": self.words("notify=READY=1", "wait"), "ready": "notify"}}
        d = self.daemon(groups)
        d.until_all(state="ready")
        groups["web"]["command"] = self.words(gate, "notify=READY=1", "wait")
        d.write(self.conf(groups))
        with d.connect() as client:
            client.send("Reload", {"wait": True})
            d.until_worker("web:0", state="starting", generation=2)
            self.assertFalse(select.select([client.sock], [], [], 0.3)[0], "it is not ready yet")
            gate.open()
            self.assertEqual([r["ok"] for r in client.reply()["results"]], [])
        self.assertEqual(d.worker("web:0")["state"], "ready")
        groups["web"].update(command=self.words("exit=3"), restart={"limit": 1, "retry": "never"})
        d.write(self.conf(groups))
        said = d.ctl("reload", code=1)
        self.assertIn("quarantined", said.out + said.err)
        d.stop()

    def test_CF03_a_broken_file_changes_nothing(self):
        groups = {"web": {"command": self.words("wait"), "workers": 2}}
        d = self.daemon(groups)
        before, dump = d.until_all(state="ready"), d.call("Dump")["text"]
        whole = d.file.read_text()
        for broken in (whole.replace("workers = 2", "workers = -2"), whole[:len(whole) // 2],
                       whole + "unknown = 1;\n", whole.replace("groups", "gruops"), "a = ",
                       whole.replace("wait", "wait\" \"more")):
            d.write(broken)
            result = d.ctl("reload", code=78)
            self.assertIn(str(d.file), result.out + result.err)
            d.ctl("plan", code=78)
            self.assertEqual(d.call("Dump")["text"], dump)
        d.send(signal.SIGHUP)
        until(lambda: str(d.file) in d.text(), 10, "the refusal is logged")
        after = d.workers()
        self.assertEqual({n: w["pid"] for n, w in after.items()},
                         {n: w["pid"] for n, w in before.items()})
        d.write(whole)
        d.ctl("reload", code=0)
        self.assertEqual(d.call("Dump")["text"], dump)
        d.stop()

    def test_CF04_the_last_request_counts(self):
        groups = self.one("wait", env={"N": "0"})
        d = self.daemon(groups)
        d.until_all(state="ready")
        for number in range(1, 12):
            groups["web"]["env"] = {"N": str(number)}
            d.write(self.conf(groups))
            d.send(signal.SIGHUP)
        until(lambda: "N=11" in str(d.call("Dump")["canonical"]), 15, "the last one is in force")
        d.until_all(state="ready")
        d.stop()

    def test_CF05_a_flood_of_reloads(self):
        d = self.daemon(self.one("wait", workers=3))
        before = d.until_all(state="ready")
        slowest = 0
        for number in range(300):
            d.send(signal.SIGHUP)
            if number % 30 == 0:
                begin = time.monotonic()
                d.workers()
                slowest = max(slowest, time.monotonic() - begin)
        self.assertLess(slowest, 2)
        self.assertEqual({n: w["pid"] for n, w in d.workers().items()},
                         {n: w["pid"] for n, w in before.items()})
        d.stop()

    def test_CF06_includes_that_are_no_files(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        whole = d.file.read_text()
        (self.dir / "folder").mkdir()
        os.mkfifo(self.dir / "fifo")
        for include in (".", "..", "folder", "missing.conf", "fifo", "/dev/zero", "/proc/kmsg",
                        d.file.name):
            d.write(f'include = [ "{include}" ];\n{whole}')
            d.ctl("reload", code=78, timeout=30)
            d.workers()
        d.write(f'include = [ "nothing.d/*.conf" ];\n{whole}')
        d.ctl("reload", code=0)
        d.write(f'@include "x.conf"\n{whole}')
        self.assertIn("include", d.ctl("reload", code=78).err)
        d.stop()

    def test_CF06_included_groups_and_defaults(self):
        extra = self.dir / "conf.d"
        extra.mkdir()
        for number in (1, 2):
            (extra / f"{number}.conf").write_text(
                f'defaults: {{ env: {{ FROM = "{number}"; }}; }};\ngroups: {{ g{number}: {{ '
                f'command = [ "{self.puppet}", "dump={self.dir}/dump{number}", "wait" ]; }}; }};\n')
        conf = self.conf(self.one(f"dump={self.dir}/dump", "wait"), include=["conf.d/*.conf"])
        d = self.daemon(conf)
        for number in (1, 2):
            self.assertIn(f"FROM={number}", self.dump(self.dir / f"dump{number}")["env"])
        self.assertFalse([e for e in self.dump(self.dir / "dump")["env"] if e.startswith("FROM=")])
        (extra / "1.conf").write_text(f'groups: {{ web: {{ command = [ "{self.puppet}" ]; }}; }};\n')
        problem = d.ctl("reload", code=78).err
        self.assertIn("1.conf", problem)
        self.assertIn(d.file.name, problem)
        d.stop()

    def test_CF07_numbers_out_of_range(self):
        for key, value in (("workers", "99999999999"), ("workers", "4294967297"),
                           ("workers", "2147483648"), ("workers", "-1"), ("workers", "022"),
                           ("workers", "1.5"), ("nice", "100"), ("nice", "-21"),
                           ("start_timeout", "-1"), ("start_timeout", "1e999"),
                           ("start_timeout", '"5 minutes"'), ("umask", '"07777"'),
                           ("oom_score_adj", "1001"), ("settle", '"-0s"')):
            self.refuse(self.one("wait", **{key: Raw(value)}), key if value != "1e999" else value)
        self.refuse(self.one("wait", restart={"limit": Raw("4294967297")}), "limit")
        self.refuse(self.one("wait", log={"max_size": Raw("99999999999999999999")}), "9999999")
        self.refuse(self.one("wait", limits={"nofile": "20:10"}), "nofile")

    def test_CF08_huge_files(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        whole = d.file.read_text()
        many = "".join(f'K{n} = "v"; ' for n in range(40000))
        for body in ('# ' + "x" * (6 << 20), f'defaults: {{ env: {{ {many} }}; }};',
                     "a = " + "( " * 100000 + ") " * 100000 + ";"):
            d.write(whole + body)
            process = d.spawn_ctl("reload")
            slowest = 0
            while process.poll() is None:
                begin = time.monotonic()
                d.workers()
                slowest = max(slowest, time.monotonic() - begin)
                self.pause(0.02)
            self.assertLess(slowest, 1, "the loop was blocked")
            self.assertIn(process.returncode, (0, 78))
        d.stop()

    def test_CF09_a_configuration_that_is_no_file(self):
        os.mkfifo(self.dir / "fifo")
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.bind(str(self.dir / "sock"))
        for path in (self.dir / "fifo", "/dev/zero", "/dev/null", self.dir / "sock", self.dir,
                     "/proc/self/environ", self.dir / "missing"):
            d = self.daemon(None, start=False, name="odd")
            d.file = path
            self.assertEqual(d.launch().wait_exit(), 78, f"{path}: {d.text()}")
            self.assertIn(str(path), d.text())

    def test_CF10_nul_in_a_string(self):
        self.refuse_raw(f'groups: {{ web: {{ command = [ "{self.puppet}", "a\\x00b" ]; }}; }};', "x00")

    def test_CF11_dependencies_in_circles(self):
        self.refuse({"a": {"command": self.words("wait"), "after": ["c"]},
                     "b": {"command": self.words("wait"), "after": ["a"]},
                     "c": {"command": self.words("wait"), "after": ["b"]}}, "a", "b", "c", "after")
        self.refuse(self.one("wait", after=["web"]), "web")
        self.refuse(self.one("wait", after=["nobody"]), "nobody")

    def test_CF11_a_long_chain(self):
        groups = {f"g{n:03}": {"command": self.words("wait"), "settle": "0s",
                               "after": [f"g{n - 1:03}"] if n else []} for n in range(60)}
        d = self.daemon(groups)
        d.until_all(30, state="ready")
        d.stop()

    def test_CF12_typos_and_types(self):
        for key, value, near in (("worker", 3, "workers"), ("comand", "x", "command"),
                                 ("Workers", 1, "workers")):
            self.refuse(self.one("wait", **{key: value}), key, near, name="typo")
        for key, value in (("workers", '"3"'), ("autostart", '"yes"'), ("autostart", "yes"),
                           ("env", '"A=1"'), ("command", "1"), ("stop", '"TERM"'),
                           ("settle", "1s"), ("limits", "[ 1, 2 ]"), ("log", '"file"')):
            self.refuse(self.one("wait", **{key: Raw(value)}), ".conf:", name="types")
        self.refuse(self.one("wait", stop={"signal": "SIGFOO"}), "SIGFOO")
        self.refuse(self.one("wait", stop={"signal": Raw("15")}), "signal")

    def test_CF12_all_problems_in_one_pass(self):
        self.refuse({"one": {"command": self.words("wait"), "workrs": 1},
                     "two": {"command": self.words("wait"), "nice": 99},
                     "three": {"workers": 1}}, "workrs", "nice", "three")

    def test_CF13_expansion(self):
        d = self.daemon(self.one(f"dump={self.dir}/dump", "wait", cwd="%d",
                                 env={"A": "%g/%i/%n", "B": "%{8000+i}", "C": "100%%",
                                      "D": "%{02d:1+i}", "E": "%t", "F": "%{env:GIVEN}", "G": "%d"}),
                        start=False, env={"GIVEN": "as is %i"})
        # words() doubles every percent sign for the puppet; these are meant.
        d.start()
        seen = self.dump(self.dir / "dump")
        env = dict(e.split("=", 1) for e in seen["env"])
        self.assertEqual([env[k] for k in "ABCDEFG"],
                         ["web/0/web:0", "8000", "100%", "01", str(d.run), "as is %i", str(self.dir)])
        self.assertEqual(seen["cwd"], str(self.dir))
        d.stop()
        for bad in ("100%", "%z", "%{env:NOT_THERE_AT_ALL}", "%{oops}", "%{8000+i", "%("):
            self.refuse(self.one("wait", env={"X": bad}), "%")
        self.refuse(self.one("wait", cwd="relative/path"), "%d/")

    def test_CF14_names(self):
        for name in ("all", "true", "UPPER", "a.b", "x" * 64):
            self.refuse_raw(f'groups: {{ {name}: {{ command = [ "{self.puppet}" ]; }}; }};', ".conf:")
        for name in ("a/b", "a:b", "..", "-x", "0day", ""):
            self.refuse_raw(f'groups: {{ {name}: {{ command = [ "{self.puppet}" ]; }}; }};')

    def test_CF15_the_file_is_away_for_a_moment(self):
        d = self.daemon(self.one("wait"))
        before = d.until_all(state="ready")
        away = d.file.with_suffix(".away")
        d.file.rename(away)
        d.ctl("reload", code=78)
        d.send(signal.SIGHUP)
        until(lambda: "No such file" in d.text(), 10)
        away.rename(d.file)
        d.ctl("reload", code=0)
        self.assertEqual(d.worker("web:0")["pid"], before["web:0"]["pid"])
        d.stop()

    def test_CF16_a_stale_configuration_is_visible(self):
        groups = self.one("on=TERM:slow:800:0", "wait")
        d = self.daemon(groups)
        d.until_all(state="ready")
        groups["web"]["umask"] = "0077"
        d.write(self.conf(groups))
        d.call("Reload", wait=False)
        until(lambda: d.group("web")["generation"] == 2, 5)
        worker = d.worker("web:0")
        self.assertEqual(worker["generation"], 1)
        self.assertTrue(d.group("web")["renewing"])
        d.until_worker("web:0", generation=2, state="ready")
        until(lambda: not d.group("web")["renewing"], 5)
        d.stop()

    def test_CF16_what_needs_a_restart_of_the_daemon_says_so(self):
        groups = self.one("wait")
        d = self.daemon(groups)
        d.until_all(state="ready")
        d.write(self.conf(groups, daemon={"cgroup": "off" if self.mode != "off" else "auto"}))
        changes = d.call("Plan")["changes"]
        self.assertEqual([c["kind"] for c in changes], ["daemon"])
        d.stop()

    def test_CF17_never_from_the_working_directory(self):
        (self.dir / "reeve.conf").write_text("never read\n")
        d = self.daemon(self.one("wait"), start=False, before=lambda: os.chdir(self.dir))
        d.start()
        self.assertEqual(d.call("Version")["config"], str(d.file))
        d.stop()
        relative = self.daemon(self.one("wait"), start=False, name="d1",
                               before=lambda: os.chdir(self.dir))
        relative.write(relative.conf)
        path, relative.file = relative.file, relative.file.name
        relative.start()
        self.assertEqual(relative.call("Version")["config"], str(path))
        relative.stop()

    def test_CF17_the_files_of_a_plain_user(self):
        self.need_only(("user",), "needs a plain user")
        home = self.dir / "config/reeve"
        home.mkdir()
        home.chmod(0o755)
        d = self.daemon(None, start=False)
        conf = self.conf(self.one("out=hello", "wait"))
        del conf["daemon"]["runtime_dir"]
        del conf["defaults"]["log"]
        d.file = home / "reeve.conf"
        d.write(conf)
        d.file = None
        d.run = self.dir / "xdg/reeve"
        d.socket = d.run / "control.sock"
        os.chmod(self.dir / "xdg", 0o700)
        d.start()
        d.until_all(state="ready")
        self.assertEqual(d.call("Version")["config"], str(home / "reeve.conf"))
        until(lambda: "hello" in procs.read(self.dir / "state/reeve/log/web.log"), 10)
        tool = [str(self.context.program("reevectl"))]
        for more in ([], ["--user"]):
            done = subprocess.run([*tool, *more, "status"], env=d.environment(), timeout=20,
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done)
        d.stop()

    def test_CF17_options_of_the_daemon(self):
        d = self.daemon(self.one("wait"), start=False)

        def said(*args):
            done = subprocess.run([d.binary, *args], env=d.environment(), capture_output=True,
                                  timeout=20, text=True, cwd=self.dir)
            return done.returncode, done.stdout, done.stderr
        for args in (["--version"], ["-V"]):
            code, out, _ = said(*args)
            self.assertEqual(code, 0)
            self.assertRegex(out, r"^reeved \d+\.\d+\.\d+\n$")
        for args in (["--help"], ["-h"]):
            code, out, _ = said(*args)
            self.assertEqual(code, 0)
            self.assertIn("--config FILE", out)
        for args, word in ((["--nonsense"], "--nonsense"), (["-c"], "-c"), (["-c", ""], "empty"),
                           (["web"], "web"), (["--offline", "-c", str(d.file)], "--check"),
                           (["--log-level", "loud"], "error, warn, info or debug")):
            code, out, err = said(*args)
            self.assertEqual((code, out), (2, ""), args)
            self.assertIn(word, err)
        for level in ("error", "warn", "warning", "info", "debug"):
            self.assertEqual(said("--log-level", level, "--check", "-c", d.file.name)[0], 0, level)
        self.assertEqual(said("--check", "-c", "missing.conf")[0], 78)

    def test_CF17_check_and_dump_without_a_daemon(self):
        d = self.daemon(self.one("wait"), start=False)
        d.ctl("check", d.file, code=0)
        text = d.ctl("dump", d.file, code=0).out
        again = self.dir / "again.conf"
        again.write_text(text)
        self.assertEqual(d.ctl("dump", again, code=0).out, text, "dump is not a fixed point")
        again.write_text(text.replace("groups", "gruops"))
        d.ctl("check", again, code=78)
        d.args = ["--check"]
        self.assertEqual(d.launch().wait_exit(), 0)
        self.assertFalse(d.run.exists(), "a check made the runtime directory")
