"""The control socket and reevectl."""
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import time

import varlink
from harness import Case, costly, procs, sanitized, until


class Control(Case):
    def test_CT01_a_second_daemon_touches_nothing(self):
        d = self.daemon(self.one("wait"))
        before = d.until_all(state="ready")
        inode = d.socket.stat().st_ino
        files = sorted(p.name for p in d.run.iterdir())
        second = self.daemon(None, start=False, name="second")
        second.file, second.run, second.socket = d.file, d.run, d.socket
        self.assertEqual(second.launch().wait_exit(30), 69, second.text())
        self.assertEqual(d.socket.stat().st_ino, inode)
        self.assertEqual(sorted(p.name for p in d.run.iterdir()), files)
        self.assertEqual(d.worker("web:0")["pid"], before["web:0"]["pid"])
        self.daemons.remove(second)
        d.stop()

    def test_CT01_one_of_many_wins(self):
        self.need_not("pid1", "each racer would have its own namespace")
        journal = self.journal()
        racers = []
        for number in range(12):
            racer = self.daemon(self.one(journal, "token", f"flock={self.dir}/slot", "wait"),
                                start=False, name=f"r{number}")
            racer.run = self.dir / "run-r0"
            racer.socket = racer.run / "control.sock"
            racer.conf["daemon"]["runtime_dir"] = str(racer.run)
            racer.write(racer.conf)
            racers.append(racer)
        for racer in racers:
            racer.launch()
        until(lambda: sum(r.poll() is not None for r in racers) == 11, 40, "the others give up")
        self.assertEqual(sorted(r.code for r in racers if r.code is not None), [69] * 11)
        winner = next(r for r in racers if r.code is None)
        until(winner.socket.exists, 10)
        winner.until_all(state="ready")
        self.assertEqual(len(journal.entries("start")), 1)
        self.assertEqual(journal.entries("double"), [])
        self.daemons[:] = [winner]
        winner.stop()

    def test_CT02_stale_records_are_not_believed(self):
        run = self.dir / "run-d0"
        run.mkdir(mode=0o755)
        for name in ("keeper", "lock", "identity"):
            (run / name).write_text(f"{os.getpid()}\n1\n\x00garbage")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(run / "control.sock"))
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        self.assertTrue(procs.alive(os.getpid()))
        d.stop()

    def test_CT03_reevectl_starts_no_daemon(self):
        d = self.daemon(self.one("wait"), start=False)
        for verb in (["status"], ["start", "web"], ["reload"], ["shutdown"], ["version"]):
            result = d.ctl(*verb)
            self.assertEqual(result.code, 5, result)
            self.assertIn(str(d.socket), result.err)
            self.assertIn("reeved -c FILE", result.err, "what to do about it")
        self.assertEqual(d.survivors(), [])
        self.assertFalse(d.run.exists())

    def test_CT04_many_clients_at_once(self):
        d = self.daemon(self.one("wait", workers=3))
        d.until_all(state="ready")
        clients = [d.connect() for _ in range(200)]
        for client in clients:
            client.send("List")
        for client in clients:
            self.assertEqual(len(client.reply()["workers"]), 3)
            client.close()
        tools = [d.spawn_ctl("status", "--json") for _ in range(25)]
        for tool in tools:
            out, _ = tool.communicate(timeout=30)
            self.assertEqual(tool.returncode, 0, out)
            self.assertEqual(len(json.loads(out)), 3)
        d.stop()

    def raw(self, d, data=b"", shut=None):
        sock = socket.socket(socket.AF_UNIX)
        self.addCleanup(sock.close)
        sock.settimeout(10)
        sock.connect(str(d.socket))
        try:
            sock.sendall(data)
            if shut is not None:
                sock.shutdown(shut)
        except OSError:
            pass
        return sock

    def test_CT05_bad_clients_cost_only_themselves(self):
        d = self.daemon(self.one("wait", workers=2))
        d.until_all(state="ready")
        call = json.dumps({"method": "org.reeve.Control.List", "parameters": {}}).encode() + b"\0"
        keep = [self.raw(d) for _ in range(20)]
        keep += [self.raw(d, call[:30]), self.raw(d, call, socket.SHUT_RD)]
        answered = self.raw(d, call, socket.SHUT_WR)
        for data in (b"\0", b"GET / HTTP/1.0\r\n\r\n\0", b"\x16\x03\x01" + b"\0" * 50, b"{}\0",
                     b"[]\0", b"null\0", b'{"method": 7}\0', b'{"method": "x"}\0', b"\xff\xfe\0",
                     b'{"method": "org.reeve.Control.List", "parameters": []}\0',
                     b'{"method": "org.reeve.Control.List", "parameters": {"targets": "web"}}\0',
                     b'{"method": "org.reeve.Control.Scale", "parameters": {"group": "web", '
                     b'"workers": 1e400}}\0', b"[" * 100000 + b"\0", b"x" * (3 << 20) + b"\0",
                     b'{"a": "\xed\xa0\x80"}\0', call * 500):
            keep.append(self.raw(d, data))
        for sock in keep[:5]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        slow = self.raw(d)
        for byte in call:
            slow.send(bytes([byte]))
            if byte == ord("L"):
                d.workers()
        self.assertIn(b"web:1", slow.recv(65536))
        self.assertIn(b"web:1", answered.recv(65536))
        for _ in range(10):
            begin = time.monotonic()
            self.assertEqual(len(d.workers()), 2)
            self.assertLess(time.monotonic() - begin, 1)
        d.stop()

    def test_CT05_a_client_that_never_reads(self):
        d = self.daemon(self.one("wait", workers=100))
        d.until_all(30, state="ready")
        call = json.dumps({"method": "org.reeve.Control.List", "parameters": {}}).encode() + b"\0"
        manager = d.role("manager")
        before = int(procs.status_of(manager)["VmRSS"].split()[0])
        for _ in range(3):
            sock = self.raw(d)
            sock.setblocking(False)
            try:
                for _ in range(2000):
                    sock.send(call)
            except OSError:
                pass
        for _ in range(5):
            self.assertEqual(len(d.workers()), 100)
        after = int(procs.status_of(manager)["VmRSS"].split()[0])
        self.assertLess(after - before, 64 << 10, "KiB for clients that do not read")
        d.stop()

    def test_CT06_no_lock_over_everything(self):
        d = self.daemon({"deaf": {"command": self.words("ignore=TERM", "wait"),
                                  "stop": {"timeout": "30s"}},
                         "web": {"command": self.words("wait"), "workers": 2}})
        d.until_all(state="ready")
        d.call("Stop", targets=["deaf"], wait=False)
        begin = time.monotonic()
        d.ctl("restart", "web", code=0)
        d.ctl("stop", "web:0", code=0)
        d.ctl("status")
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(d.worker("deaf:0")["state"], "stopping")
        d.ctl("stop", "--cold", "deaf", code=0)
        d.stop()

    def test_CT07_idle_means_idle(self):
        d = self.daemon(self.one("wait", workers=3))
        d.until_all(state="ready")
        for _ in range(500):
            self.raw(d).close()
        d.workers()
        roles = [d.pid, d.role("manager"), d.role("logger")]

        def switches():
            return [int(procs.status_of(p)["voluntary_ctxt_switches"]) for p in roles]

        def still():
            one = switches()
            self.pause(1)
            return all(b - a <= 2 for a, b in zip(one, switches()))
        until(still, 10, "no role wakes up")
        fds = len(procs.fds_of(roles[1]))
        self.assertLess(fds, 40, "connections are still open")
        d.stop()

    def test_CT08_clients_that_vanish(self):
        d = self.daemon(self.one("wait", workers=60))
        d.until_all(30, state="ready")
        for number in range(120):
            client = d.connect()
            client.send(("List", "Tree", "Events", "Show")[number % 4],
                        {"targets": ["all"]} if number % 4 else {}, more=True)
            if number % 3 == 0:
                client.sock.recv(10)
            client.close()
        for tool in [d.spawn_ctl("logs", "-f") for _ in range(3)]:
            tool.kill()
        self.assertEqual(len(d.workers()), 60)
        d.stop()

    def test_CT09_a_removed_socket_comes_back(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        for hurt in (d.socket.unlink, lambda: (d.socket.unlink(), d.socket.write_text("x"))):
            hurt()
            d.send(signal.SIGHUP)

            def answers():
                try:
                    return d.call("Version")
                except OSError:
                    return None
            until(answers, 20, "the socket is there again")
        d.stop()

    def test_CT10_done_means_done(self):
        d = self.daemon(self.one("notify=READY=1", "fork=2", "[", "ignore=TERM", "wait", "]", "wait",
                                 ready="notify", workers=2, stop={"timeout": "200ms"}))
        d.until_all(state="ready")
        d.ctl("scale", "web", 5, code=0)
        self.assertEqual([w["state"] for w in d.workers().values()], ["ready"] * 5)
        d.ctl("restart", "web", code=0)
        self.assertEqual({(w["state"], w["incarnation"]) for w in d.workers().values()},
                         {("ready", 2)})
        d.ctl("scale", "web", 1, code=0)
        self.assertEqual(set(d.workers()), {"web:0"})
        puppets = [p for p in d.survivors() if procs.comm_of(p) == "puppet"]
        self.assertEqual(len(puppets), 3)
        d.ctl("stop", "web", code=0)
        self.assertEqual([p for p in d.survivors() if procs.comm_of(p) == "puppet"], [])
        d.stop()

    def test_CT10_failure_and_time_out(self):
        d = self.daemon({"never": {"command": self.words("wait"), "ready": "notify",
                                   "autostart": False},
                         "bad": {"command": self.words("exit=1"), "autostart": False,
                                 "settle": "10s", "restart": {"limit": 1}},
                         "deaf": {"command": self.words("ignore=TERM", "notify=READY=1", "wait"),
                                  "ready": "notify", "stop": {"timeout": "20s"}}})
        d.until_worker("deaf:0", state="ready")
        self.assertEqual(d.ctl("reload", "--no-wait", "deaf", code=0).out, "deaf: ok\n")
        self.assertIn("still being renewed",
                      str(d.ctl("reload", "--timeout", "200ms", "deaf", code=4)))
        d.ctl("stop", "--cold", "deaf", code=0)
        d.ctl("start", "--timeout", "300ms", "never", code=4)
        self.assertEqual(d.worker("never:0")["state"], "starting")
        d.ctl("start", "bad", code=1)
        d.ctl("wait", "bad", "--for", "ready", code=1)
        d.ctl("wait", "bad", "--for", "quarantined", code=0)
        d.ctl("wait", "never", "--for", "ready", "--timeout", "200ms", code=4)
        d.ctl("ready", code=3)
        d.ctl("stop", "all", code=0)
        d.stop()

    def test_CT11_events_have_no_gaps(self):
        d = self.daemon(self.one("wait", workers=3))
        d.until_all(state="ready")
        client = d.connect()
        self.addCleanup(client.close)
        client.send("Events", {"since": 1, "follow": True}, more=True)
        d.ctl("restart", "web", code=0)
        seen = []
        until(lambda: (seen.extend(client.reply()["events"]),
                       sum(e.get("to") == "ready" for e in seen) >= 6)[1], 15)
        numbers = [e["seq"] for e in seen]
        self.assertEqual(numbers, list(range(1, len(numbers) + 1)))
        state = {}
        for event in seen:
            if event["worker"]:
                self.assertEqual(event["from"], state.get(event["worker"], event["from"]))
                state[event["worker"]] = event["to"]
        self.assertEqual(state, {n: w["state"] for n, w in d.workers().items()})
        d.stop()

    def test_CT11_events_of_the_daemon(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        d.roles_may_die = True

        def told():
            return [e for e in d.call("Events")["events"] if not e["worker"]]

        self.assertEqual(told(), [])
        for name in ("logger", "manager"):
            pid = d.role(name)
            procs.kill(pid)
            until(lambda pid=pid, name=name: d.role(name) != pid, 10, f"another {name}")
        good = d.conf
        d.write({**good, "nonsense": {}})
        d.ctl("reload", code=78)
        d.write(good)
        d.ctl("reload", code=0)
        until(lambda: len(told()) == 4, 10, "four events of the daemon")
        first, second, failed, applied = told()
        self.assertEqual([(e["what"], e["text"]) for e in (first, second)],
                         [("role-ended", "reeve-logger, signal KILL"),
                          ("role-ended", "reeve-manager, signal KILL")])
        self.assertEqual(failed["what"], "reload-failed")
        self.assertRegex(failed["text"], r"^\d+ errors?: ")
        self.assertEqual((applied["what"], applied["text"]), ("reload", "0 changes"))
        out = d.ctl("events", code=0).out
        self.assertRegex(out, r"\d+ \S+Z daemon: role-ended: reeve-logger, signal KILL\n")
        self.assertNotIn("daemon", d.ctl("events", "web", code=0).out)
        follow = d.spawn_ctl("events", "-f", "--since", str(applied["seq"]))
        self.assertIn(b" daemon: reload: 0 changes\n", follow.stdout.readline())
        d.send(signal.SIGTERM)
        self.assertIn(b" daemon: run -> warm\n", follow.stdout.readline())
        follow.kill()
        follow.wait()
        self.assertEqual(d.wait_exit(), 0)

    def test_CT11_a_number_that_did_not_come_yet(self):
        """`next` is the number of the next event whatever was asked for, so that nothing is missed."""
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        following = d.call("Events")["next"]
        for since in (following, following + 1, 1 << 62):
            self.assertEqual(d.call("Events", since=since), {"events": [], "next": following})
        client = d.connect()
        self.addCleanup(client.close)
        client.send("Events", {"since": 1 << 62, "follow": True}, more=True)
        self.assertEqual(client.reply()["next"], following)
        procs.kill(d.pid_of("web:0"))
        self.assertEqual(client.reply()["events"][0]["seq"], following)
        d.stop()

    def test_CT11_a_gap_is_said(self):
        if sanitized(self.context.build):
            self.leave_out("thousands of starts take minutes with sanitizers")
        # Starts that fail make many events and cost little.
        d = self.daemon({"web": {"command": [str(self.dir / "missing")], "workers": 20,
                                 "restart": {"delay": "1ms", "max_delay": "1ms", "limit": 0}}},
                        daemon={"log": {"level": "error"}})
        until(lambda: d.call("Events")["next"] > 4500, 40, every=0.2)
        d.ctl("stop", "web", code=0)
        first = d.call("Events", since=1)
        gap = first.get("gap")
        self.assertTrue(gap, first["next"])
        self.assertEqual(gap["first"], 1)
        self.assertGreater(gap["last"], 1)
        self.assertEqual(first["events"][0]["seq"], gap["last"] + 1)
        d.stop()

    def test_CT12_out_of_descriptors_at_accept(self):
        self.need_root()
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        manager = d.role("manager")
        before = resource.prlimit(manager, resource.RLIMIT_NOFILE)
        count = max(procs.fds_of(manager)) + 1
        resource.prlimit(manager, resource.RLIMIT_NOFILE, (count + 2, before[1]))
        held = [self.raw(d) for _ in range(20)]
        ticks = procs.cpu_ticks(manager)
        self.pause(1)
        self.assertLess(procs.cpu_ticks(manager) - ticks, 30, "accept spins")
        for sock in held:
            sock.close()
        resource.prlimit(manager, resource.RLIMIT_NOFILE, before)
        until(lambda: d.workers(), 10)
        d.stop()

    def test_CT13_a_path_too_long(self):
        path = f"{self.dir}/{'x' * 110}.sock"
        d = self.daemon(self.one("wait"), start=False, daemon={"control": {"socket": path}})
        self.assertEqual(d.launch().wait_exit(), 78)
        self.assertIn("xxx", d.text())
        result = d.ctl("-s", path, "status")
        self.assertEqual(result.code, 2, result)
        self.assertIn("107 bytes", result.err)

    def test_CT14_introspection_and_unknown_methods(self):
        d = self.daemon(self.one("wait"))
        info = d.call("org.varlink.service.GetInfo")
        self.assertIn(varlink.INTERFACE, info["interfaces"])
        text = d.call("org.varlink.service.GetInterfaceDescription",
                      interface=varlink.INTERFACE)["description"]
        self.assertIn("method List", text)
        for method, error in (("org.reeve.Control.Upgrayedd", "MethodNotFound"),
                              ("org.nobody.Here.Do", "InterfaceNotFound")):
            with self.assertRaises(varlink.Refused) as caught:
                d.call(method)
            self.assertEqual(caught.exception.full_name, f"org.varlink.service.{error}")
        with self.assertRaises(varlink.Refused) as caught:
            d.call("Scale", group="web", workers="many")
        self.assertEqual(caught.exception.full_name, "org.varlink.service.InvalidParameter")
        with d.connect() as client, self.assertRaises(varlink.Refused) as caught:
            list(client.stream("Logs", {"streams": ["out", "stdout"]}))
        self.assertEqual(caught.exception.parameters, {"parameter": "streams"})
        version = d.ctl("version", "--json", code=0).json()
        self.assertTrue(version)
        d.stop()

    def test_CT15_a_client_leaves_during_a_stop(self):
        d = self.daemon(self.one("ignore=TERM", "wait", workers=10, stop={"timeout": "400ms"}))
        d.until_all(state="ready")
        for number in range(10):
            client = d.connect()
            client.send("Stop", {"targets": [f"web:{number}"]}, more=number % 2 == 1)
            client.close()
        d.until_all(state="stopped")
        tool = d.spawn_ctl("start", "web")
        d.until_worker("web:0", wanted="up")
        tool.send_signal(signal.SIGINT)
        tool.wait(10)
        d.until_all(state="ready")
        d.stop()

    def test_CT15_ctrl_c_leaves_the_operation_running(self):
        d = self.daemon(self.one("ignore=TERM", "wait", stop={"timeout": "700ms"}))
        d.until_all(state="ready")
        tool = d.spawn_ctl("stop", "web")
        d.until_worker("web:0", state="stopping")
        tool.send_signal(signal.SIGINT)
        self.assertEqual(tool.wait(10), 130)
        d.until_worker("web:0", state="stopped")
        d.stop()

    def test_CT16_which_socket(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        tool = str(self.context.program("reevectl"))
        for argv, env in (([tool, "status"], {"REEVE_SOCKET": str(d.socket)}),
                          ([tool, "status", "-s", str(d.socket)], {}),
                          ([tool, "-s", str(d.socket), "status"], {"REEVE_SOCKET": "/nowhere"})):
            done = subprocess.run(argv, env={**d.environment(), **env}, capture_output=True,
                                  timeout=20, text=True)
            self.assertEqual(done.returncode, 0, (argv, env, done))
            self.assertIn("web", done.stdout)
        done = subprocess.run([tool, "status"], env={**d.environment(), "REEVE_SOCKET": "/nowhere"},
                              capture_output=True, timeout=20, text=True)
        self.assertEqual(done.returncode, 5)
        self.assertIn("/nowhere", done.stderr)
        d.stop()

    def test_CT11_events_of_the_tool(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        events = d.ctl("events", code=0).out
        self.assertRegex(events, r"web:0.*ready")
        follow = d.spawn_ctl("events", "-f", "--json")
        until(lambda: len(procs.fds_of(follow.pid)) > 3, 10, "it is connected")
        self.pause(0.3)  # no event says that a follower is in place
        procs.kill(d.pid_of("web:0"))
        seen = b""
        while b'"ready"' not in seen:
            seen += follow.stdout.readline()
        self.assertIn(b'"signal"', seen)
        follow.kill()
        follow.wait()
        d.stop()

    def follow_to_the_end(self, follow, workers):
        """What a follower showed until each of the workers has said "end"."""
        data, ends = b"", 0
        while ends < workers:
            line = follow.stdout.readline()
            self.assertTrue(line, data[-300:])
            if line.startswith(b"{"):  # of --json
                said = json.loads(line)
                line = f"{said['at']} {said['worker']} {said['line']}\n".encode()
            data += line
            ends += line.endswith(b" end\n")
        follow.send_signal(signal.SIGINT)
        self.assertEqual(follow.wait(10), 130)
        return data.decode().splitlines()

    def assert_rows_once(self, lines, workers, n):
        for index in range(workers):
            rows = [line.rpartition(" row ")[2] for line in lines
                    if f" web:{index} " in line and " row " in line]
            self.assertEqual(rows, [str(i) for i in range(n)], f"web:{index}")

    def follow_over_deaths(self, *options, **log):
        d = self.daemon({"tick": {"command": self.words("lines=100000:20000:tick")},
                         **self.one("lines=4000:800:row", "out=end", "wait", workers=2,
                                    autostart=False, log=log)})
        d.roles_may_die = True
        follow = d.spawn_ctl("logs", "tick", "web", "-f", "-n", "100000", *options)
        self.read_some(follow)  # it is there: what a raw file holds already has no worker's name
        d.ctl("start", "web", "--no-wait", code=0)
        for role in ("logger", "manager", "logger", "logger", "manager", "logger"):
            pid = d.role(role)
            os.kill(pid, signal.SIGKILL)
            until(lambda role=role, pid=pid: d.role(role) != pid, 10, f"another {role}")
        self.assert_rows_once(self.follow_to_the_end(follow, 2), 2, 4000)
        d.stop()

    def test_CT15_following_logs_over_the_loggers_death(self):
        """Each line once, in order and whole, however often logger and manager die. (Slowly enough
        that what is written during the longest pause is in the ring: else its loss is said.)"""
        self.follow_over_deaths()

    @costly()
    def test_CT15_following_logs_in_json_over_the_loggers_death(self):
        """History is read from the file, whose lines are objects; it is rotated, too. So are those
        that are shown."""
        self.follow_over_deaths("--json", format="json", max_size="100K", keep=100)

    @costly()
    def test_CT15_following_logs_in_raw_over_the_loggers_death(self):
        self.follow_over_deaths(format="raw")

    def test_CT15_a_follower_comes_back_to_a_new_daemon(self):
        """Its places are of another log book: all that this daemon's workers say is new."""
        d = self.daemon(self.one("lines=200:1000:row", "out=end", "wait"))
        follow = d.spawn_ctl("logs", "web", "-f", "-n", "1000")
        until(lambda: b" end\n" in self.read_some(follow), 10, "it follows")
        os.kill(d.pid, signal.SIGKILL)
        until(lambda: d.poll() is not None and not [p for p in d.survivors()
                                                    if procs.comm_of(p) == "puppet"], 10)
        d.start()
        self.assert_rows_once(self.follow_to_the_end(follow, 1), 1, 200)
        d.stop()

    @staticmethod
    def read_some(process):
        return process.stdout.readline()

    def test_CT16_a_result_for_each_target(self):
        d = self.daemon({"web": {"command": self.words("wait"), "workers": 2},
                         "db": {"command": self.words("wait")}})
        d.until_all(state="ready")
        result = d.ctl("stop", "web:0", "nope", "web:9", "db")
        self.assertIn(result.code, (1, 7), result)
        for word in ("web:0", "nope", "web:9", "db"):
            self.assertIn(word, result.out + result.err)
        states = {n: w["state"] for n, w in d.workers().items()}
        self.assertEqual(states, {"web:0": "stopped", "web:1": "ready", "db:0": "stopped"})
        d.ctl("stop", "nope", code=7)
        d.stop()

    def test_CT16_targets(self):
        d = self.daemon({name: {"command": self.words("wait"), "workers": 2}
                         for name in ("web", "worker", "db")})
        d.until_all(state="ready")
        lives = {name: 1 for name in d.workers()}
        for targets, expected in ((["w*:1"], {"web:1", "worker:1"}), (["db:0"], {"db:0"}),
                                  (["web", "db:1"], {"web:0", "web:1", "db:1"}),
                                  (["all"], set(lives))):
            d.ctl("restart", *targets, code=0)
            for name in expected:
                lives[name] += 1
            self.assertEqual({n: w["incarnation"] for n, w in d.workers().items()}, lives, targets)
        d.stop()

    def test_CT16_usage(self):
        d = self.daemon(self.one("wait"))
        d.until_all(state="ready")
        for args in (["frobnicate"], ["scale", "web"], ["scale", "web", "many"], ["stop"],
                     ["--nonsense"], ["wait", "web", "--for", "happiness"],
                     ["kill", "-s", "FOO", "web"], ["-s", "", "status"], ["--socket=", "status"],
                     ["stop", "web", "--timeout", "soon"], ["version", "now"]):
            result = d.ctl(*args)
            self.assertEqual(result.code, 2, args)
            self.assertNotRegex(result.err, r"[ \t]\n", "blanks at the end of a line")
        for args, word in ((["scale", "web", "-1"], "not -1"), (["scale", "web:0", "2"], "web:0"),
                           (["reload", "web:0"], "takes groups"), (["reload", "we*"], "takes groups")):
            result = d.ctl(*args, code=2)
            self.assertIn(word, result.err)
        d.ctl("wait", "web", "--for", "ready", "--timeout", "5", code=0)
        for foreign, ours in (("reread", "plan"), ("update", "reload"), ("tail", "logs"),
                              ("ps", "status"), ("list", "status"), ("signal", "kill -s"),
                              ("remove", "reload"), ("enable", "start"), ("disable", "stop")):
            result = d.ctl(foreign)
            self.assertEqual(result.code, 2)
            self.assertIn(ours, result.err)
        shown = d.ctl("status", "--all", code=0).out
        self.assertNotRegex(shown, r" \n", "blanks at the end of a line")
        d.ctl(code=0)
        d.ctl("doctor")
        rows = d.ctl("status", "--json", code=0).json()
        self.assertEqual((rows[0]["worker"], rows[0]["state"], rows[0]["wanted"]),
                         ("web:0", "ready", "up"))
        for key in ("group", "index", "pid", "incarnation", "generation", "restarts", "ready",
                    "frozen", "waiting_for", "uptime_s", "cpu_s", "start_method", "source", "status",
                    "memory_bytes", "pss_bytes", "progress", "last_exit"):
            self.assertIn(key, rows[0])
        d.stop()

    def test_CT16_the_pipe_is_closed(self):
        d = self.daemon(self.one("wait", workers=50))
        d.until_all(30, state="ready")
        argv = [str(self.context.program("reevectl")), "-s", str(d.socket), "status", "--all"]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=d.environment()) as tool:
            tool.stdout.close()
            tool.stderr.read()
            self.assertIsNotNone(tool.wait(10))
        d.stop()
