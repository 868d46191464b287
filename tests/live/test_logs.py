"""What workers write: kept, in order, whatever happens to files, roles and disks."""
import base64
import json
import os
import pathlib
import re
import signal
import sys
import time

from harness import Case, procs, sanitized, until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "chaos"))

import failpoints  # noqa: E402

LOST = re.compile(r"-- (\d+) bytes lost --")


def noise(count, seed):
    """The bytes of the puppet's `noise`."""
    out, state = bytearray(), seed
    mask = (1 << 64) - 1
    for _ in range(count):
        state ^= state << 13 & mask
        state ^= state >> 7
        state ^= state << 17 & mask
        out.append(state >> 24 & 255)
    return bytes(out)


class Logs(Case):
    def files(self, group):
        """The group's log files, the oldest first."""
        found = list((self.dir / "log").glob(f"{group}.log*"))

        def age(path):
            number = re.search(r"\d+$", path.name)
            return -int(number[0]) if number else 1
        return sorted(found, key=age)

    def all_text(self, group):
        return "".join(procs.read(p) for p in self.files(group))

    def records(self, group):
        """The objects of a json log; a line that is none, or no UTF-8, fails the test."""
        return [json.loads(line) for path in self.files(group)
                for line in path.read_bytes().decode().splitlines()]

    @staticmethod
    def said(record):
        """The bytes that a worker wrote."""
        assert ("line" in record) != ("bytes" in record), record
        if "bytes" in record:
            return base64.b64decode(record["bytes"], validate=True)
        return record["line"].encode()

    def until_text(self, group, text, timeout=15):
        until(lambda: text in self.all_text(group), timeout, f"{text!r} in the log of {group}")

    def assert_numbered(self, lines, prefix, count):
        numbers = [int(line.rsplit(" ", 1)[1]) for line in lines if prefix in line]
        self.assertEqual(numbers, list(range(count)), "lines are lost, doubled or out of order")

    def test_LG01_a_broken_file_stops_nobody(self):
        """Deleted, renamed, replaced by a directory, in a directory that is gone."""
        hurts = {
            "deleted": lambda log: log.unlink(),
            "renamed": lambda log: log.rename(f"{log}.moved"),
            "directory": lambda log: (log.unlink(), log.mkdir()),
            "gone": lambda log: (log.parent.rename(f"{log.parent}.moved")),
        }
        groups = {}
        for name in hurts:
            (self.dir / name).mkdir()
            groups[name] = {"command": self.words(f"journal={self.dir}/j", "out=first",
                                                  f"gate={self.gate(f'gate-{name}').path}",
                                                  "lines=20000:0:more", f"note={name}", "wait"),
                            "log": {"file": f"{self.dir}/{name}/%g.log"}}
        d = self.daemon(groups)
        for name, hurt in hurts.items():
            log = self.dir / name / f"{name}.log"
            until(lambda log=log: "first" in procs.read(log), 10)
            hurt(log)
        d.send(10)  # USR1: look at the files again
        for name in hurts:
            fd = os.open(self.dir / f"gate-{name}", os.O_RDWR)
            self.addCleanup(os.close, fd)
        for name in hurts:
            self.journal("j").wait("note", name, timeout=20)
        for worker in d.until_all(state="ready").values():
            self.assertEqual(worker["restarts"], 0)
        d.stop()

    def test_LG01_reopen_after_rotation_by_others(self):
        d = self.daemon(self.one("out=one", self.gate(), "out=two", "wait"))
        self.until_text("web", "one")
        d.log("web").rename(self.dir / "log/old")
        d.send(10)
        self.pause(0.2)  # no event says that the signal has been carried out
        self.gate_open()
        until(lambda: d.lines("web") == ["two"], 10)
        self.assertIn("one", procs.read(self.dir / "log/old"))
        d.stop()

    def test_LG02_a_full_disk(self):
        self.need_root()
        small = self.small_disk()
        journal = self.journal()
        d = self.daemon(self.one(journal, "lines=60000:0:" + "x" * 40, "note=written", self.gate(),
                                 "out=afterwards", "wait",
                                 log={"file": f"{small}/%g.log", "max_size": "100M"}),
                        daemon={"log": {"level": "info"}})
        journal.wait("note", "written", timeout=30)
        worker = d.until_worker("web:0", state="ready")
        self.assertEqual(worker["restarts"], 0)
        until(lambda: d.detail("web:0")["log_dropped_bytes"] > 0, 10)
        self.make_bigger(small)
        self.gate_open()
        until(lambda: "afterwards" in procs.read(small / "web.log"), 30, "it is resumed")
        text = (small / "web.log").read_text()
        self.assertRegex(text, LOST)
        lost = sum(map(int, LOST.findall(text)))
        self.assertEqual(lost, d.detail("web:0")["log_dropped_bytes"])
        self.assertLess(len(d.text().splitlines()), 60, "the daemon's own log floods")
        d.stop()

    def test_LG02_overflow_block_loses_nothing(self):
        self.need_root()
        small = self.small_disk()
        journal = self.journal()
        d = self.daemon(self.one(journal, "lines=500000:0:row", "note=written", "wait",
                                 log={"file": f"{small}/%g.log", "max_size": "100M",
                                      "format": "raw", "overflow": "block"}))
        log = small / "web.log"
        until(lambda: log.exists() and log.stat().st_size > 400_000, 20, "the disk fills up")
        self.never(lambda: journal.entries("note"), 1.5, "it was not held back")
        self.make_bigger(small)
        journal.wait("note", "written", timeout=40)
        until(lambda: log.read_bytes().endswith(b"row 499999\n"), 20)
        self.assert_numbered(log.read_text().splitlines(), "row", 500000)
        self.assertEqual(d.detail("web:0")["log_dropped_bytes"], 0)
        d.stop()

    def test_LG02_what_is_lost_is_a_record_of_json(self):
        self.need_root()
        small = self.small_disk()
        journal = self.journal()
        d = self.daemon(self.one(journal, "lines=60000:0:" + '"' * 40, "note=written", self.gate(),
                                 "out=afterwards", "wait",
                                 log={"file": f"{small}/%g.log", "max_size": "100M", "format": "json"}))
        journal.wait("note", "written", timeout=30)
        until(lambda: d.detail("web:0")["log_dropped_bytes"] > 0, 10)
        self.make_bigger(small)
        self.gate_open()
        log = small / "web.log"
        until(lambda: b'"afterwards"}\n' in log.read_bytes(), 30, "it is resumed")
        records = [json.loads(line) for line in log.read_text().splitlines()]
        lost = [r for r in records if "lost_bytes" in r]
        self.assertEqual(sum(r["lost_bytes"] for r in lost), d.detail("web:0")["log_dropped_bytes"])
        for record in lost:
            self.assertEqual(record["line"], f"-- {record['lost_bytes']} bytes lost --")
        self.assertIn(lost[0]["line"], d.ctl("logs", "web", "-n", "100000", code=0).out)
        kept = sum(len(self.said(r)) + 1 for r in records if "lost_bytes" not in r)
        self.assertEqual(kept, d.detail("web:0")["log_written_bytes"])
        d.stop()

    def make_bigger(self, small):
        """In every mount namespace that shares the file system."""
        procs.libc("mount", b"none", str(small).encode(), b"tmpfs", 0x20, b"size=64m")  # remount

    def small_disk(self):
        """A file system of half a MiB that only this test and its daemon see."""
        small = self.dir / "small"
        small.mkdir()
        procs.libc("unshare", procs.CLONE_NEWNS)
        procs.libc("mount", b"none", b"/", None, 0x44000, None)
        procs.libc("mount", b"none", str(small).encode(), b"tmpfs", 0, b"size=512k")
        return small

    def gate_open(self, name="gate"):
        fd = os.open(self.dir / name, os.O_RDWR | os.O_CLOEXEC)
        self.addCleanup(os.close, fd)

    def test_LG03_an_exit_is_seen_though_the_pipe_is_held(self):
        self.need_not("pid1", "nothing outlives pid 1")
        journal = self.journal()
        d = self.daemon(self.one("daemon", "[", journal, "note=holder", "wait", "]", "out=last",
                                 self.gate(), "exit=3", orphans="leave", restart={"when": "never"}))
        self.allowed.add(d.host(journal.wait("note", "holder")[0].pid))
        d.until_worker("web:0", state="ready")
        self.gate_open()
        begin = time.monotonic()
        worker = d.until_worker("web:0", last_exit=lambda e: e is not None)
        self.assertLess(time.monotonic() - begin, 1)
        self.assertEqual(worker["last_exit"]["code"], 3)
        d.send(15)
        self.assertEqual(d.wait_exit(), 0)

    def test_LG04_killed_roles_lose_no_line(self):
        journal = self.journal()
        d = self.daemon(self.one(journal, "lines=40000:10:row", "note=written", "wait", workers=2))
        d.roles_may_die = True
        count = 0
        while not journal.entries("note", "written") and count < 30:
            procs.kill(d.role("logger" if count % 2 else "manager"))
            count += 1
            self.pause(0.05)
        journal.wait("note", "written", n=2, timeout=40)
        self.assertGreater(count, 3)
        self.assertEqual(journal.entries("write-error"), [])

        def complete():
            return self.all_text("web").count("row 39999") == 2
        until(complete, 15, "the last line is there")
        for index in range(2):
            self.assert_numbered([line for line in self.all_text("web").splitlines()
                                  if f" web:{index} " in line], "row", 40000)
        d.stop()

    def test_LG04_killed_loggers_lose_no_record(self):
        """In json, over rotation, of two workers and their standard errors, in one file."""
        journal = self.journal()
        words = self.words(journal, "lines=6000:50:row", "note=written", "wait")
        d = self.daemon({"web": {"command": ["/bin/sh", "-c", '"$@" >&2 & exec "$@"', "sh", *words],
                                 "workers": 2, "log": {"format": "json", "stderr": "separate",
                                                       "max_size": "150K", "keep": 1000}}})
        d.roles_may_die = True
        count = 0
        while len(journal.entries("note", "written")) < 4 and count < 15:
            procs.kill(d.role("logger"))
            count += 1
            self.pause(0.04)
        journal.wait("note", "written", n=4, timeout=40)
        self.assertGreater(count, 3)
        until(lambda: self.all_text("web").count('"row 5999"}') == 4, 15, "the last line is there")
        records = self.records("web")
        for worker in ("web:0", "web:1"):
            for stream in ("out", "err"):
                self.assert_numbered([r["line"] for r in records if
                                      (r["worker"], r["stream"]) == (worker, stream)], "row", 6000)
        self.assertGreater(len(self.files("web")), 10)
        d.stop()

    def test_LG04_killed_loggers_lose_no_byte(self):
        """In raw: the file is what the worker wrote."""
        journal = self.journal()
        d = self.daemon(self.one(journal, "lines=15000:30:row", "note=written", "wait",
                                 log={"format": "raw"}))
        d.roles_may_die = True
        count = 0
        while not journal.entries("note", "written") and count < 15:
            procs.kill(d.role("logger"))
            count += 1
            self.pause(0.04)
        journal.wait("note", "written", timeout=40)
        self.assertGreater(count, 3)
        self.until_text("web", "row 14999\n")
        self.assertEqual(self.all_text("web"), "".join(f"row {n}\n" for n in range(15000)))
        d.stop()

    def test_LG05_no_newline(self):
        d = self.daemon(self.one("fill=16M:x", "out=", "out=end", "wait",
                                 log={"max_size": "1G"}))
        self.until_text("web", "web:0 end", 30)
        self.assertEqual(self.all_text("web").count("x"), 16 << 20)
        for role in ("logger", "manager"):
            memory = int(procs.status_of(d.role(role))["VmHWM"].split()[0])
            self.assertLess(memory, 1 << 20 if sanitized(self.context.build) else 65536, role)
        d.stop()

    def test_LG06_any_byte(self):
        d = self.daemon(self.one("noise=300000:77", "out=end", "wait",
                                 log={"format": "raw", "max_size": "10M"}))
        wanted = noise(300000, 77) + b"end\n"
        log = d.log("web")
        until(lambda: log.exists() and log.stat().st_size == len(wanted), 15, "all is written")
        self.assertEqual(log.read_bytes(), wanted)
        result = d.ctl("logs", "web", "-n", "50", code=0)
        self.assertNotRegex(result.out, "[\x00-\x08\x0b-\x1f\x7f]")
        d.ctl("status", "web", code=0)
        d.stop()

    def test_LG05_LG06_any_byte_as_json(self):
        """Each byte can be had again, from the files and by `logs`; pieces of text are text."""
        euro = "\N{EURO SIGN}" * 40000
        d = self.daemon(self.one("noise=300000:77", "out=", "out=a\tb\x1b[1m\"\\", 'out={"line": 1}',
                                 "bare=x", *40 * ["bare=" + euro[:1000]], "out=", "out=end", "wait",
                                 log={"format": "json", "max_size": "10M"}))
        wanted = (noise(300000, 77) + b'\na\tb\x1b[1m"\\\n{"line": 1}\nx' + euro.encode() +
                  b"\nend\n")
        self.until_text("web", '"line":"end"}\n')
        records = self.records("web")

        def joined(lines):
            return b"".join(self.said(r) + (b"" if r.get("partial") else b"\n") for r in lines)
        self.assertEqual(joined(records), wanted)
        for record in records:
            self.assertEqual(list(record)[:3], ["time", "worker", "stream"])
            self.assertRegex(record["time"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
            self.assertEqual((record["worker"], record["stream"]), ("web:0", "out"))
        self.assertEqual([r["line"] for r in records[-5:-3]], ['a\tb\x1b[1m"\\', '{"line": 1}'])
        pieces = [r for r in records if "\N{EURO SIGN}" in r.get("line", "")]
        self.assertEqual("".join(r["line"] for r in pieces), "x" + euro)
        self.assertEqual([r.get("partial", False) for r in pieces], [True, False])
        shown = d.ctl("--json", "logs", "web", "-n", "100000", code=0).out
        self.assertEqual(joined(map(json.loads, shown.splitlines())), wanted)
        human = d.ctl("logs", "web", "-n", "100000", code=0).out
        self.assertIn('web:0 a\\tb\\e[1m"\\\n', human)
        self.assertIn('web:0 {"line": 1}\n', human)
        self.assertNotRegex(human, "[\x00-\x08\x0b-\x1f\x7f]")
        d.stop()

    def test_LG13_json_marks_a_separate_stderr(self):
        d = self.daemon({"sep": {"command": self.words("err=oops", "out=fine", "wait"),
                                 "log": {"stderr": "separate", "format": "json"}},
                         "end": {"command": self.words("out=last", "bare=words", "exit=1"),
                                 "log": {"format": "json"}, "restart": {"when": "never"}}})
        until(lambda: len(self.records("sep")) == 2, 10)
        self.assertEqual({(r["worker"], r["stream"], r["line"]) for r in self.records("sep")},
                         {("sep:0", "err", "oops"), ("sep:0", "out", "fine")})
        only = d.ctl("logs", "sep", "--stream", "err", code=0).out
        self.assertRegex(only, r"^\S+Z sep:0! oops\n$")
        record = until(lambda: [e for e in d.exits("end:0") if e.get("lines")], 10)[0]
        self.assertEqual(record["lines"], ["last", "words"])
        self.assertEqual([r["line"] for r in self.records("end")], ["last", "words"])
        d.stop()

    def test_LG13_the_format_changes_while_it_runs(self):
        """From the reload on, in the same file; `logs` reads both."""
        groups = self.one(self.gate("gate1"), "out=one", self.gate("gate2"), "out=two", "wait")
        d = self.daemon(groups)
        d.until_worker("web:0", state="ready")
        self.gate_open("gate1")
        self.until_text("web", " web:0 one\n")
        groups["web"]["log"] = {"format": "json"}
        d.write({**d.conf, "groups": groups})
        d.ctl("reload", code=0)
        self.gate_open("gate2")
        self.until_text("web", '"line":"two"}\n')
        self.assertEqual(d.worker("web:0")["restarts"], 0)
        self.assertRegex(d.ctl("logs", "web", code=0).out, r"^\S+Z web:0 one\n\S+Z web:0 two\n$")
        d.stop()

    def test_LG07_rotation_loses_nothing(self):
        d = self.daemon(self.one(self.gate(), "lines=30000:0:row", "out=end", "wait", workers=2,
                                 log={"max_size": "200K", "keep": 100}))
        d.until_all(state="ready")
        follow = d.spawn_ctl("logs", "web", "-f", "-n", "0")
        until(lambda: procs.children_of(d.pid), 5)
        self.pause(0.3)  # no event says that a follower is in place
        self.gate_open()
        until(lambda: self.all_text("web").count("web:0 end") == 1 and
              self.all_text("web").count("web:1 end") == 1, 30)
        files = self.files("web")
        self.assertGreater(len(files), 10)
        for path in files[:-1]:
            self.assertLess(path.stat().st_size, 260_000)
            self.assertTrue(path.read_bytes().endswith(b"\n"), f"{path} was cut inside a line")
        for index in range(2):
            self.assert_numbered([line for line in self.all_text("web").splitlines()
                                  if f" web:{index} " in line], "row", 30000)
        followed = self.read_until(follow, [b"web:0", b"web:1"], b"end")
        rows = [line for line in followed.decode().splitlines() if "row" in line]
        if "lost" not in followed.decode():
            self.assertEqual(len(rows), 60000)
        follow.kill()
        follow.wait()
        d.stop()

    def read_until(self, process, whose, word, timeout=20):
        """Output of a process until each of `whose` has said `word`."""
        end = time.monotonic() + timeout
        data = b""
        os.set_blocking(process.stdout.fileno(), False)
        while not all(re.search(who + rb"[^\n]*" + word, data) for who in whose):
            if time.monotonic() > end:
                raise procs.Late(f"{word} was not followed: {data[-500:]}")
            piece = process.stdout.read()
            data += piece or b""
            if not piece:
                time.sleep(0.005)
        return data

    def test_LG07_what_is_no_file_is_not_rotated(self):
        fifo = self.dir / "log/web.log"
        os.mkfifo(fifo)
        d = self.daemon(self.one("lines=2000:0:row", "wait", log={"max_size": "4K"}), start=False)
        self.assertEqual(d.launch().wait_exit(), 78)
        self.assertIn("FIFO", d.text())
        fifo.unlink()
        d.start()
        d.until_worker("web:0", state="ready")
        self.until_text("web", "row 1999")
        self.assertGreater(len(self.files("web")), 2, "it is rotated")
        d.log("web").unlink()
        os.mkfifo(d.log("web"))  # behind the daemon's back
        d.send(10)
        self.pause(0.2)
        self.assertTrue(d.log("web").is_fifo(), "the FIFO was renamed")
        self.assertEqual(d.worker("web:0")["restarts"], 0)
        d.stop()

    def test_LG07_to_standard_output(self):
        d = self.daemon(self.one("out=hello there", "wait", log={"to": "stdout"}))
        until(lambda: re.search(r"^\d{4}-\S+Z web:0 hello there$", d.text(), re.M), 10)
        d.stop()

    def test_LG07_json_to_standard_output(self):
        """A line of text and an object on one stream: each whole."""
        d = self.daemon({"web": {"command": self.words("out=hello there", "wait"),
                                 "log": {"to": "stdout", "format": "json"}},
                         "db": {"command": self.words("out=as text", "wait"), "log": {"to": "stdout"}}})
        found = until(lambda: re.search(r'^{"time":.*"hello there"}$', d.text(), re.M), 10)
        self.assertEqual(json.loads(found[0])["worker"], "web:0")
        until(lambda: re.search(r"^\d{4}-\S+Z db:0 as text$", d.text(), re.M), 10)
        d.stop()

    def test_LG08_chatter_does_not_starve_control(self):
        d = self.daemon(self.one("lines=0:0:" + "y" * 90, workers=12, stop={"timeout": "1s"},
                                 log={"max_size": "1M", "keep": 1}))
        d.until_all(state="ready")
        times = []
        for _ in range(30):
            begin = time.monotonic()
            d.workers()
            times.append(time.monotonic() - begin)
        self.assertLess(sorted(times)[len(times) // 2], 0.25, times)
        d.ctl("stop", "web", code=0)
        d.stop()

    def test_LG09_the_daemons_own_log_stays_small(self):
        d = self.daemon(self.one("lines=30000:0:z", "note=x", "wait", workers=3),
                        daemon={"log": {"level": "info"}})
        until(lambda: self.all_text("web").count("z 29999") == 3, 30)
        self.assertLess(len(d.text().splitlines()), 40, d.text())
        d.stop()

    def test_LG10_flags_of_the_workers_streams(self):
        d = self.daemon(self.one(f"dump={self.dir}/dump", "wait", workers=1,
                                 log={"stderr": "separate"}))
        fds = self.dump(self.dir / "dump")["fds"]
        for number in ("1", "2"):
            self.assertEqual(fds[number]["flags"] & (os.O_NONBLOCK | os.O_ACCMODE), os.O_WRONLY)
            self.assertTrue(fds[number]["link"].startswith("pipe:"))
            self.assertEqual(fds[number]["uid"], os.getuid())
        self.assertNotEqual(fds["1"]["link"], fds["2"]["link"])
        d.stop()

    def test_LG10_a_user_may_open_its_streams(self):
        self.need_root()
        name, _ = self.some_user()
        d = self.daemon(self.one("append=/dev/stdout:by-path", "append=/proc/self/fd/2:err-by-path",
                                 "wait", user=name))
        until(lambda: d.lines("web") == ["by-path", "err-by-path"], 10, "both lines")
        d.stop()

    def test_LG12_last_words(self):
        d = self.daemon(self.one("fill=1M:w", "out=", "out=the very last", "abort",
                                 restart={"when": "never"}, log={"max_size": "10M", "format": "raw"}))
        d.until_worker("web:0", last_exit=lambda e: e is not None)
        until(lambda: "the very last" in self.all_text("web"), 10)
        self.assertEqual(self.all_text("web").count("w"), 1 << 20)
        record = until(lambda: [e for e in d.exits("web:0") if e.get("lines")], 10)[0]
        self.assertEqual(record["lines"][-1], "the very last")
        self.assertEqual((record["signal"], record.get("code")), ("ABRT", None))
        d.stop()

    def test_LG12_last_words_though_the_logger_dies_at_the_end(self):
        """When all workers are gone their pipes may still hold something: another logger writes it."""
        binary = self.context.program("reeved")
        if not failpoints.listed(binary):
            self.skipTest("a build without failpoints")
        for number, cold in ((signal.SIGTERM, False), (signal.SIGQUIT, True)):
            points = failpoints.Failpoints(binary, self.dir / "points")
            self.addCleanup(points.close)
            journal = self.journal(f"journal{number}")
            d = self.daemon(self.one("out=first", self.gate(f"gate{number}"), "out=last", journal,
                                     "note=said", "on=TERM:exit:0", "wait"), start=False,
                            env={"REEVE_FAILPOINTS": str(points.path)})
            d.start()
            until(lambda: d.lines("web")[-1:] == ["first"], 10)
            os.kill(d.role("logger"), signal.SIGSTOP)
            fd = os.open(self.dir / f"gate{number}", os.O_RDWR)
            journal.wait("note", "said")
            points.arm("end.manager" if cold else "end.finish", "kill-logger")
            d.send(number)
            self.assertEqual(d.wait_exit(), 0, d.text())
            os.close(fd)
            self.assertTrue(points.happened("end.manager" if cold else "end.finish"))
            self.assertEqual(d.lines("web")[-1], "last", d.text())
            d.check_gone()

    def test_LG12_a_line_without_an_end_is_kept(self):
        d = self.daemon(self.one("out=whole", "bare=cut off", "exit=1", restart={"when": "never"}))
        d.until_worker("web:0", last_exit=lambda e: e is not None)
        until(lambda: d.lines("web") == ["whole", "cut off"], 10, "both are there")
        d.stop()

    def test_LG13_two_groups_cannot_write_one_file(self):
        same = {"file": f"{self.dir}/log/same.log"}
        d = self.daemon({"one": {"command": self.words("wait"), "log": same},
                         "two": {"command": self.words("wait"), "log": same}}, start=False)
        self.assertEqual(d.launch().wait_exit(), 78)
        self.assertIn("same.log", d.text())
        self.assertFalse((self.dir / "log/same.log").exists())

    def test_LG13_counters_and_streams(self):
        d = self.daemon(self.one("out=to out", "err=to err", "lines=500:0:row", "wait",
                                 log={"stderr": "separate", "format": "raw"}))
        size = sum(len(f"row {n}\n") for n in range(500)) + len("to out\nto err\n")
        detail = until(lambda: (lambda x: x if x["log_written_bytes"] == size else None)
                       (d.detail("web:0")), 10, "all is written")
        self.assertEqual((detail["log_in_bytes"], detail["log_dropped_bytes"]), (size, 0))
        d.stop()

    def test_LG13_whose_counters(self):
        """They count over incarnations, begin anew at a reset, and are never another worker's."""
        groups = self.one("out=12345", "if=inc:1", "[", "exit=1", "]", "wait", log={"format": "raw"})
        d = self.daemon(groups)

        def until_counted(name, size):
            until(lambda: [d.detail(name)[f"log_{what}_bytes"] for what in ("in", "written", "dropped")]
                  == [size, size, 0], 10, f"{name} wrote {size} bytes")

        until_counted("web:0", 12)
        d.ctl("reset", "web:0", code=0)
        until_counted("web:0", 0)
        d.ctl("restart", "web", code=0)
        until_counted("web:0", 6)
        d.write({**d.conf, "groups": {"other": groups["web"]}})
        d.ctl("reload", code=0)
        d.write({**d.conf, "groups": {"other": groups["web"],
                                      "third": {"command": self.words("out=abc", "wait")}}})
        d.ctl("reload", code=0)
        d.until_worker("third:0", state="ready")
        until_counted("third:0", 4)
        d.stop()

    def test_LG13_text_marks_a_separate_stderr(self):
        d = self.daemon({"sep": {"command": self.words("err=oops", "out=fine", "wait"),
                                 "log": {"stderr": "separate"}},
                         "null": {"command": self.words("err=oops", "out=fine", "wait"),
                                  "log": {"stderr": "null"}}})
        stamp = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z "
        for line in ("sep:0! oops", "sep:0 fine"):
            until(lambda line=line: re.search(stamp + line + "$", self.all_text("sep"), re.M), 10, line)
        until(lambda: "fine" in self.all_text("null"), 10)
        self.assertNotIn("oops", self.all_text("null"))
        only = d.ctl("logs", "sep", "--stream", "err", code=0).out
        self.assertIn("oops", only)
        self.assertNotIn("fine", only)
        d.stop()

    def test_LG13_mode_of_the_file(self):
        d = self.daemon(self.one("out=x", "wait", log={"mode": "0604"}))
        until(lambda: "x" in self.all_text("web"), 10)
        self.assertEqual(d.log("web").stat().st_mode & 0o777, 0o604)
        d.stop()

    def test_LG14_rotated_by_somebody_else(self):
        """Renamed and SIGUSR1: a new file, nothing lost. Cut to nothing without a word: no hole."""
        d = self.daemon(self.one("lines=0:3000:line"))
        path = d.log("web")
        until(lambda: len(d.lines("web")) > 5, 15)
        old = path.with_suffix(".1")
        path.rename(old)
        d.send(signal.SIGUSR1)
        until(lambda: len(d.lines("web")) > 5, 15, "a new file is written")
        old_lines = [line.split(" ", 2)[2] for line in old.read_text().splitlines()]
        both = [int(line.split()[-1]) for line in old_lines + d.lines("web")]
        self.assertEqual(both, list(range(both[0], both[0] + len(both))))
        os.truncate(path, 0)
        until(lambda: path.stat().st_size > 200, 15, "it is written again")
        self.assertNotIn(b"\0", path.read_bytes())
        d.stop()
