"""`reevectl run`: one command, its signals, its code, its stdio. The yardsticks are dumb-init, tini."""
import os
import random
import signal

from command import Command
from harness import Case, procs, until

ALL = ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "ALRM", "PIPE", "WINCH", "URG", "POLL", "PWR",
       "VTALRM", "PROF", "XCPU", "XFSZ", "STKFLT"]


class Run(Case):
    def command(self, *words, **how):
        made = Command(self, words, **how)
        self.daemons.append(made)
        return made.launch()

    def puppet_run(self, *words, **how):
        return self.command(self.puppet, *words, **how)

    def code(self, *words, **how):
        command = Command(self, words, **how)
        self.daemons.append(command)
        code = command.launch().wait_exit()
        self.daemons.remove(command)
        return code, command.text()

    # --- codes and messages ------------------------------------------------------------------

    def test_code_of_the_command(self):
        for code in (0, 1, 2, 3, 42, 69, 75, 78, 125, 126, 127, 128, 200, 255):
            self.assertEqual(self.code(self.puppet, f"exit={code}"), (code, ""))

    def test_code_of_a_signal(self):
        for name in ("HUP", "INT", "QUIT", "KILL", "SEGV", "PIPE", "ALRM", "TERM", "USR1", "SYS"):
            number = getattr(signal, f"SIG{name}")
            self.assertEqual(self.code(self.puppet, f"die={name}")[0], 128 + number, name)

    def test_code_of_what_cannot_be_executed(self):
        code, said = self.code("no-such-command-here")
        self.assertEqual(code, 127)
        self.assertIn("no-such-command-here: No such file or directory", said)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertEqual(self.code(f"{self.dir}/nothing")[0], 127)
        plain = self.dir / "plain"
        plain.write_text("text\n")
        self.assertEqual(self.code(plain)[0], 126)
        self.assertEqual(self.code(self.dir)[0], 126)

    def test_script_without_interpreter_line(self):
        """As execvp(3), a shell and tini do it."""
        script = self.dir / "script"
        script.write_text('echo "$0 $1 $#"\nexit 9\n')
        script.chmod(0o755)
        self.assertEqual(self.code(script, "a b", "c"), (9, f"{script} a b 2\n"))

    def test_usage(self):
        for args, text in ((["run"], "usage"), (["run", "--no-such", "--", "true"], "unknown option"),
                           (["run", "-t", "--", "true"], "no terminal")):
            d = Command(self, [])
            d.args = args
            self.daemons.append(d)
            self.assertEqual(d.launch().wait_exit(), 1 if "terminal" in text else 2, d.text())
            self.assertIn(text, d.text())

    # --- what passes through -----------------------------------------------------------------

    def test_stdio_is_passed_through(self):
        """Every byte, in both directions, stdout and stderr apart, and no line of ours."""
        data = random.Random(7).randbytes(3 << 20)
        (self.dir / "in").write_bytes(data)
        for name in ("out", "err"):
            (self.dir / name).touch()
        code, said = self.code("sh", "-c", "tee /dev/stderr", stdin=self.dir / "in",
                               stdout=self.dir / "out", stderr=self.dir / "err")
        self.assertEqual((code, said), (0, ""))
        self.assertEqual((self.dir / "out").read_bytes(), data)
        self.assertEqual((self.dir / "err").read_bytes(), data)

    def test_reader_that_went_away(self):
        fifo = self.dir / "fifo"
        os.mkfifo(fifo)
        d = Command(self, ["sh", "-c", "exec yes >" + str(fifo)])
        self.daemons.append(d.launch())
        reader = os.open(fifo, os.O_RDONLY)
        self.assertEqual(os.read(reader, 2), b"y\n")
        os.close(reader)
        self.assertEqual(d.wait_exit(), 128 + signal.SIGPIPE)

    def test_stdio_that_is_closed(self):
        code, said = self.code(self.puppet, f"dump={self.dir}/dump",
                               before=lambda: [os.close(n) for n in (0, 2)])
        self.assertEqual((code, said), (0, ""))
        fds = self.dump(self.dir / "dump")["fds"]
        self.assertEqual({n: f["link"] for n, f in fds.items() if n in "02"},
                         {"0": "/dev/null", "2": "/dev/null"})

    def test_arguments_are_any_bytes(self):
        words = [b"\xff\xfe", b"100%", b"%d", b'"\\', b"", b"a\nb\tc", b"${x}", b"-t", b"--", b"x" * 99999]
        shown = self.dir / "shown"
        d = Command(self, [])
        d.args = ["run", "--", "sh", "-c", 'printf "%s\\0" "$@" >"$0"', str(shown), *words,
                  *[b"many"] * 6000]
        self.daemons.append(d)
        self.assertEqual(d.launch().wait_exit(), 0, d.text())
        self.assertEqual(shown.read_bytes().split(b"\0")[:-1], words + [b"many"] * 6000)

    def test_as_we_are(self):
        """Working directory, umask, limits, environment, niceness, oom score: as without `run`."""
        folder = self.dir / os.fsdecode(b"w\xff d")
        folder.mkdir()

        def before():
            os.chdir(folder)
            os.umask(0o027)
            os.nice(3)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            if os.path.exists("/proc/self/oom_score_adj"):
                with open("/proc/self/oom_score_adj", "w") as file:
                    file.write("321")
        env = {"NOTIFY_SOCKET": "/x", "LISTEN_FDS": "1", "WATCHDOG_USEC": "1", "REEVE_ID": "x",
               "FOO": "b ar", "LANG": "xx", "SHELL": "/bin/false", "USER": "u", "LOGNAME": "u"}
        dumps = []
        for name in ("plain", "run"):
            d = Command(self, [self.puppet, f"dump={self.dir}/{name}.dump"], before=before, env=env,
                        name=name)
            if name == "plain":
                d.binary, d.args = self.puppet, [f"dump={self.dir}/{name}.dump"]
            self.daemons.append(d)
            self.assertEqual(d.launch().wait_exit(), 0, d.text())
            dumps.append(self.dump(self.dir / f"{name}.dump"))
        plain, run = dumps
        for dump in dumps:
            dump["env"] = {e for e in dump["env"] if not e.startswith(
                ("REEVE_", "NOTIFY_", "LISTEN_", "WATCHDOG_", "LIVE_"))}
        for key in ("cwd", "umask", "nice", "oom_score_adj", "limits", "env", "uid", "gid", "groups"):
            self.assertEqual(run[key], plain[key], key)
        self.assertEqual(set(run["fds"]), {"0", "1", "2"})
        self.assertEqual(run["sid"], run["pid"])

    # --- signals -----------------------------------------------------------------------------

    def test_signals_are_forwarded(self):
        """PI01: every one, once, to the main process; none means anything to us."""
        journal = self.journal()
        d = self.puppet_run(journal, *(f"on={name}:count" for name in ALL), "fork=1",
                            "[", "default=TERM", "note=child",
                            "wait", "]",
                            "note=up", "wait")
        journal.wait("note", "up")
        journal.wait("note", "child")
        for name in ALL:
            d.send(getattr(signal, f"SIG{name}"))
            journal.wait("signal", name)
        d.send(signal.SIGRTMIN + 3)
        self.assertEqual(d.wait_exit(), 128 + signal.SIGRTMIN + 3)
        self.assertEqual([e.text.split()[0] for e in journal.entries("signal")], ALL)

    def test_second_term_is_cold(self):
        """Not sooner than 250 ms after the first (SH04); the whole tree, at once."""
        journal = self.journal()
        d = self.puppet_run(journal, "on=TERM:count", "on=INT:count", "fork=2",
                            "[", "ignore=TERM", "setsid", "note=child", "wait", "]", "note=up", "wait")
        journal.wait("note", n=3)
        d.send(signal.SIGINT)
        journal.wait("signal", "INT")
        d.send(signal.SIGTERM)
        d.send(signal.SIGTERM)
        journal.wait("signal", "TERM")
        self.never(lambda: d.poll() is not None, 0.3, "two at once are one")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 128 + signal.SIGKILL)
        self.assertEqual(len(journal.entries("signal")), 2)
        d.check_gone()

    def test_second_int_is_cold(self):
        journal = self.journal()
        d = self.puppet_run(journal, "on=INT:count", "note=up", "wait")
        journal.wait("note", "up")
        d.send(signal.SIGINT)
        journal.wait("signal", "INT")
        self.pause(0.26)
        d.send(signal.SIGINT)
        self.assertEqual(d.wait_exit(), 128 + signal.SIGKILL)

    def test_PI05_timeout_bounds_the_stop(self):
        journal = self.journal()
        d = self.puppet_run(journal, "ignore=TERM", "note=up", "wait", options=["--timeout", "300ms"])
        journal.wait("note", "up")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(5), 128 + signal.SIGKILL)
        d.check_gone()

    def test_SH28_signals_from_the_first_moment_on(self):
        """Sent while reevectl and reeved are being executed: they wait for the command."""
        for name in ("TERM", "HUP", "USR1", "INT"):
            number = getattr(signal, f"SIG{name}")
            journal = self.journal(f"journal-{name}")
            d = Command(self, [self.puppet, journal, f"on={name}:go", "note=up", "wait", "exit=5"],
                        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)))
            self.daemons.append(d.launch())
            until(lambda: procs.comm_of(d.pid) != "python3" or d.poll() is not None, 5)
            d.send(number)
            self.assertIn(d.wait_exit(), (5, 128 + number), name)

    def test_SH27_stopped_and_continued(self):
        """The command and its group, though it ignores the three signals of a terminal: they come as
        STOP, as from dumb-init. With a shell above us we stop as well, see test_terminal.py."""
        journal = self.journal()
        d = self.puppet_run(journal, "ignore=TSTP,TTIN,TTOU", "on=CONT:count", "fork=1", "[",
                            "note=up", "wait", "]", "on=TERM:go", "note=up", "wait", "exit=6")
        pids = [d.host(e.pid) for e in journal.wait("note", "up", n=2)]
        for n, number in enumerate((signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)):
            d.send(number)
            until(lambda: {procs.state_of(p) for p in pids} == {"T"}, 5, "both are stopped")
            d.send(signal.SIGCONT)
            until(lambda: "T" not in {procs.state_of(p) for p in pids}, 5, "they are continued")
            journal.wait("signal", "CONT", n=2 * n + 2)
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 6)

    # --- the tree ----------------------------------------------------------------------------

    def test_the_tree_ends_with_the_command(self):
        """Whatever it left: deaf, in sessions of their own, unknown by name."""
        journal, gate = self.journal(), self.gate()
        d = self.puppet_run(journal, "fork=1", "[", "setsid", "note=child", "wait", "]",
                            "daemon", "[", "scrub", "note=child", "wait", "]", gate, "exit=4")
        journal.wait("note", "child", n=2)
        gate.open()
        self.assertEqual(d.wait_exit(), 4)
        d.check_gone()

    def test_PI02_strangers_are_reaped(self):
        journal = self.journal()
        d = self.puppet_run(journal, "burst=10000", "note=done", "wait")
        journal.wait("note", "done", timeout=40)
        until(lambda: not [p for p in procs.children_of(d.pid) if procs.state_of(p) == "Z"], 10,
              "no zombie is left")
        d.send(signal.SIGHUP)
        self.assertEqual(d.wait_exit(), 128 + signal.SIGHUP)

    def test_nothing_stays_behind(self):
        journal = self.journal()
        d = self.puppet_run(journal, "note=up", "wait")
        journal.wait("note", "up")
        folder = d.private()
        if self.mode == "user":
            self.assertEqual(folder.parent, self.dir / "xdg")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 143)
        self.assertFalse(folder.exists())

    def test_keeper_killed(self):
        self.need_not("pid1", "all of it ends with the namespace")
        journal = self.journal()
        d = self.puppet_run(journal, "fork=2", "[", "setsid", "note=child", "wait", "]", "wait")
        journal.wait("note", "child", n=2)
        folder = d.private()
        d.send(signal.SIGKILL)
        d.wait_exit()
        until(lambda: not d.survivors(True), 5, "all of it is gone")
        until(lambda: not folder.exists(), 5, "its directory too")

    def test_roles_killed(self):
        """Nobody notices; the code is right, too."""
        journal = self.journal()
        d = self.puppet_run(journal, "on=USR1:go", "note=up", "wait", "exit=7")
        journal.wait("note", "up")
        for role in ("manager", "logger", "manager"):
            procs.kill(d.role(role))
        d.role("manager")
        d.send(signal.SIGUSR1)
        self.assertEqual(d.wait_exit(), 7)

    def test_signals_while_the_manager_hangs(self):
        journal = self.journal()
        d = self.puppet_run(journal, "on=USR1:count", "ignore=TERM", "note=up", "wait")
        journal.wait("note", "up")
        procs.kill(d.role("manager"), signal.SIGSTOP)
        d.send(signal.SIGUSR1)
        journal.wait("signal", "USR1")
        d.send(signal.SIGTERM)
        self.pause(0.3)
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(5), 128 + signal.SIGKILL)

    def test_control_socket(self):
        journal = self.journal()
        d = self.puppet_run(journal, "on=TERM:exit:3", "note=up", "wait")
        journal.wait("note", "up")
        d.connected()
        self.assertEqual(d.worker("run:0")["state"] in ("starting", "ready"), True)
        self.assertIn("ends with its command", d.ctl("upgrade", code=1).err)
        d.ctl("shutdown", code=0)
        self.assertEqual(d.wait_exit(), 3)

    def test_restarted_by_hand(self):
        """The first signal that the second life gets is a first one."""
        journal = self.journal()
        d = self.puppet_run(journal, "on=TERM:exit:12", "note=up", "wait")
        journal.wait("note", "up")
        d.connected()
        d.ctl("restart", "run", code=0)
        journal.wait("note", "up", n=2)
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 12)

    def test_stopped_by_hand(self):
        """With its only worker the daemon ends."""
        journal = self.journal()
        d = self.puppet_run(journal, "on=TERM:exit:11", "note=up", "wait")
        journal.wait("note", "up")
        d.connected()
        d.ctl("restart", "run", code=0)
        journal.wait("note", "up", n=2)
        d.ctl("stop", "run", "--no-wait", code=0)
        self.assertEqual(d.wait_exit(), 11)

    def test_no_upgrade(self):
        """It ends with its command; SIGUSR2 is the command's."""
        journal = self.journal()
        d = self.puppet_run(journal, "on=USR2:count", "on=TERM:go", "note=up", "wait", "exit=1")
        journal.wait("note", "up")
        d.connected()
        done = d.ctl("upgrade")
        self.assertEqual(done.code, 1, done)
        self.assertIn("reevectl run", done.err + done.out)
        d.send(signal.SIGUSR2)
        journal.wait("signal", "USR2")
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 1)
