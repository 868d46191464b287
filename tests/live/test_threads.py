"""start_method = "threads": slots of one process, with both runtimes."""
import pathlib
import re
import shutil
import signal
import sys
import time

from harness import PYTHON, Case, costly, procs, until

SOURCE = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(SOURCE / "tests/chaos"))

import failpoints  # noqa: E402

# In the order of a restart; template.heard is met for each message of the host.
POINTS = ("start.bound", "thread.start", "thread.started", "template.heard", "thread.runs",
          "thread.stop", "thread.stopped", "thread.ending", "thread.ended", "exit.verdict",
          "exit.committed", "release.slot")

APP = """
import ctypes, os, sys, threading, time
import reeve

def journal(word):
    with open("journal", "a") as file:
        file.write(f"{word} {reeve.environ()['REEVE_WORKER']} {os.getpid()} "
                   f"{reeve.environ()['REEVE_INCARNATION']}\\n")

def main():
    name = reeve.environ()["REEVE_WORKER"]
    journal("start")
    reeve.status(f"{name} port {reeve.environ().get('PORT')}")
    reeve.progress(1, 4)
    reeve.ready()
    while not reeve.stopping():
        reeve.beat()
        for word in ("crash", "raise", "exit", "sulk", "hang"):
            gate = f"{word}.{name.split(':')[1]}"
            if not os.path.exists(gate):
                continue
            if word != "hang":
                os.unlink(gate)
            if word == "crash":
                ctypes.string_at(0)
            if word == "raise":
                raise ValueError("what went wrong")
            if word == "exit":
                return 7
            if word == "sulk":
                while not reeve.stopping():
                    time.sleep(0.02)
                break
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()
        time.sleep(0.02)
    journal("stop")
    return 0
"""



# A slot that beats without end, once it is asked to.
FLOOD = """
import os, socket, time
import reeve
from reeve._channel import encode
from reeve._worker import context

def main():
    slot = context.me()
    channel = socket.socket(fileno=os.dup(slot.host.channel.fileno()))
    channel.setsockopt(socket.SOL_SOCKET, 32, 1 << 26)  # SO_SNDBUFFORCE
    beat, sent = encode(slot.message("beat")), 0
    reeve.ready()
    while not reeve.stopping():
        if not os.path.exists("flood"):
            time.sleep(0.02)
            continue
        try:
            channel.send(beat, socket.MSG_DONTWAIT)
            sent += 1
        except BlockingIOError:
            pass
        if sent == 20000:
            open("flooded", "w").close()
    return 0
"""


class Threads(Case):
    def setUp(self):
        super().setUp()
        self.need_not("eperm", "the C library makes no thread where clone3 answers EPERM")

    def daemon(self, *args, env=None, **how):
        """With the runtimes where every user can reach them."""
        package = self.dir / "python"
        if not package.exists():
            shutil.copytree(SOURCE / "lib/python", package,
                            ignore=shutil.ignore_patterns("__pycache__"))
        places = {"REEVE_PYTHON_DIR": str(package), "REEVE_RUNNER": str(self.copy("reeve-runner"))}
        return super().daemon(*args, env={**places, **(env or {})}, **how)

    def copy(self, name):
        """A built file, where every user can reach it."""
        target = self.dir / name
        if not target.exists():
            folder = "lib" if name == "reeve-runner" else "tests/support"
            shutil.copy(self.context.build / folder / name, target)
        return target

    def group(self, workers=3, **more):
        folder = self.open_folder()
        (folder / "app.py").write_text(APP)
        return {"entry": "app:main", "python": PYTHON, "start_method": "threads",
                "workers": workers, "cwd": str(folder), "ready": "notify",
                "env": {"PORT": "%{8000+i}"}, "stop": {"timeout": "3s"},
                "restart": {"delay": "10ms", "max_delay": "100ms", "limit": 0}, **more}

    def native(self, workers=3, what="wait", **more):
        return {"entry": str(self.copy("module.so")), "start_method": "threads",
                "workers": workers, "ready": "notify", "env": {"MODULE_RUN": what},
                "stop": {"timeout": "2s"}, **more}

    def say(self, word, index):
        (self.open_folder() / f"{word}.{index}").touch()

    def starts(self, word="start"):
        path = self.open_folder() / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [tuple(line.split()[1:]) for line in lines if line.startswith(word + " ")]

    def incarnations(self, d):
        return {name: w["incarnation"] for name, w in d.workers().items()}

    def test_life(self):
        d = self.daemon({"web": self.group()})
        workers = d.until_all(30, state="ready")
        self.assertEqual(len({w["pid"] for w in workers.values()}), 1, "one process")
        d.until_worker("web:2", status="web:2 port 8002", progress={"done": 1, "total": 4})
        self.assertEqual(workers["web:1"]["start_method"], "threads")
        self.assertEqual(workers["web:1"]["source"], "web/host/1")
        beat = d.detail("web:1")["last_beat_at"]
        until(lambda: d.detail("web:1")["last_beat_at"] > beat, 10, "beats are heard")
        self.assertIn("web/host", d.ctl("tree", code=0).out)
        self.assertGreater(d.call("List", memory=True)["groups"][0]["pss_bytes"], 1 << 20)
        host = d.detail("web/host")["worker"]
        self.assertEqual((host["pid"], host["state"]), (workers["web:0"]["pid"], "ready"))
        d.ctl("restart", "web:1", code=0)
        after = d.workers()
        self.assertEqual({n: w["incarnation"] for n, w in after.items()},
                         {"web:0": 1, "web:1": 2, "web:2": 1})
        self.assertEqual(after["web:1"]["pid"], workers["web:1"]["pid"], "the host stays")
        self.assertEqual(d.exits("web:1")[0]["cause"], "stop")
        d.ctl("stop", "web:0", code=0)
        self.assertEqual(d.worker("web:0")["state"], "stopped")
        self.assertEqual(d.worker("web:2")["state"], "ready")
        d.ctl("stop", "web", code=0)
        until(lambda: not procs.alive(d.host(host["pid"])), 10, "the host ends after its slots")
        d.ctl("start", "web", code=0)
        self.assertNotEqual(d.worker("web:0")["pid"], host["pid"])
        d.ctl("scale", "web", "5", code=0)
        self.assertEqual(len({w["pid"] for w in d.workers().values()}), 1)
        d.ctl("scale", "web", "1", code=0)
        self.assertEqual(list(d.workers()), ["web:0"])
        pid = d.pid_of("web:0")
        d.stop()
        self.assert_gone(pid)
        self.assertEqual(len(self.starts()), len(self.starts("stop")), "each ended by itself")

    def test_spawn_instead(self):
        """REEVE_START_METHOD=spawn! runs the same entry, a process each, alike."""
        d = self.daemon({"web": self.group(), "nat": self.native(what="say")},
                        env={"REEVE_START_METHOD": "spawn!"})
        workers = d.until_all(30, state="ready")
        self.assertEqual(len({w["pid"] for w in workers.values()}), 6)
        self.assertEqual({w["start_method"] for w in workers.values()}, {"spawn"})
        self.assertEqual({w["source"] for w in workers.values()}, {"exec"})
        d.until_worker("web:2", status="web:2 port 8002", progress={"done": 1, "total": 4})
        d.until_worker("nat:1", status="everything was said", progress={"done": 1, "total": 2})
        self.say("exit", 2)
        d.until_worker("web:2", incarnation=2, state="ready")
        self.assertEqual(d.exits("web:2")[0]["code"], 7)
        self.say("raise", 1)
        d.until_worker("web:1", incarnation=2, state="ready")
        self.assertEqual(d.exits("web:1")[0]["code"], 1)
        self.assertEqual(d.exits("web:1")[0]["lines"][-1], "ValueError: what went wrong")
        d.ctl("kill", "-s", "KILL", "web:0", code=0)
        d.until_worker("web:0", incarnation=2, state="ready")
        d.stop()
        self.assertEqual(len(self.starts("stop")), 3)

    def test_exit_records(self):
        d = self.daemon({"web": self.group()})
        d.until_all(30, state="ready")
        pid = d.worker("web:0")["pid"]
        self.say("raise", 1)
        d.until_worker("web:1", incarnation=2, state="ready")
        last = d.exits("web:1")[0]
        self.assertEqual((last["code"], last["cause"]), (1, "exit"))
        self.assertEqual(last["lines"][-1], "ValueError: what went wrong")
        self.say("exit", 2)
        d.until_worker("web:2", incarnation=2, state="ready")
        self.assertEqual(d.exits("web:2")[0]["code"], 7)
        self.assertEqual(d.worker("web:0")["incarnation"], 1)
        self.assertEqual(d.worker("web:1")["pid"], pid, "nobody else was touched")
        log = d.ctl("logs", "web:1", code=0).out
        self.assertIn("ValueError: what went wrong", log, "the log is the host's")
        d.stop()

    def test_NW09_a_flood_of_beats_does_not_hold_the_manager(self):
        """However much of it waits: between two looks at a slot the loop turns, and others are served."""
        self.need_root()
        binary = self.context.program("reeved")
        if not failpoints.listed(binary):
            self.skipTest("a build without failpoints")
        points = failpoints.Failpoints(binary, self.dir / "points")
        self.addCleanup(points.close)
        folder = self.open_folder()
        (folder / "flood_app.py").write_text(FLOOD)
        d = self.daemon({"web": self.group(1, entry="flood_app:main", watchdog="1s")},
                        env={"REEVE_FAILPOINTS": str(points.path)})
        pid = d.until_worker("web:0", state="ready", timeout=30)["pid"]
        manager = d.role("manager")
        procs.kill(manager, signal.SIGSTOP)
        (folder / "flood").touch()
        until(lambda: (folder / "flooded").exists(), 20)
        self.pause(1)  # its watch timer is due
        turns = points.hits("turn.end")
        points.arm("template.heard", "pause", skip=10000)
        procs.kill(manager, signal.SIGCONT)
        until(lambda: points.happened("template.heard"), 20)
        self.assertGreater(points.hits("turn.end") - turns, 5, "it heard them all in one turn")
        points.disarm("template.heard")
        d.ctl("status", code=0)
        (folder / "flood").unlink()
        worker = d.worker("web:0")
        self.assertEqual((worker["pid"], worker["incarnation"], worker["state"]), (pid, 1, "ready"))
        d.stop()

    def test_restart_policy_is_the_slots(self):
        d = self.daemon({"web": self.group(restart={"when": "failure"})})
        d.until_all(30, state="ready")
        self.say("exit", 0)
        d.until_worker("web:0", incarnation=2, state="ready")
        d.ctl("stop", "web:1", code=0)
        d.write({**d.conf, "groups": {"web": self.group(
            restart={"limit": 2, "delay": "1ms", "max_delay": "2ms", "retry": "never"})}})
        d.ctl("reload", code=0)
        for _ in range(3):
            seen = d.worker("web:2")["incarnation"]
            self.say("exit", 2)
            d.until_worker("web:2", incarnation=lambda n, seen=seen: n > seen
                           or d.worker("web:2")["state"] == "quarantined")
            until(lambda: d.worker("web:2")["state"] in ("ready", "quarantined"), 10)
        d.until_worker("web:2", state="quarantined")
        self.assertEqual(d.worker("web:0")["state"], "ready")
        d.stop()

    def test_SP24_a_crash_is_the_end_of_all(self):
        d = self.daemon({"web": self.group()})
        before = d.until_all(30, state="ready")
        self.say("crash", 1)
        until(lambda: all(i > 1 for i in self.incarnations(d).values()), 20, "all are renewed")
        after = d.until_all(30, state="ready")
        self.assertNotEqual(after["web:0"]["pid"], before["web:0"]["pid"])
        self.assertEqual({w["restarts"] for w in after.values()}, {1})
        until(lambda: "its process crashed in web:1" in d.text(), 10, "the slot is named")
        self.assertIn("with it 3 slots", d.text())
        host = d.exits("web/host")[0]
        self.assertEqual((host["signal"], host["cause"]), ("SEGV", "signal"))
        for name, cause in (("web:0", "parent-gone"), ("web:1", "signal"),
                            ("web:2", "parent-gone")):
            last = d.exits(name)[0]
            self.assertEqual((last["signal"], last["cause"]), ("SEGV", cause), name)
        d.stop()

    def test_SP24_never_is_never(self):
        """A slot that was lost with its process is not started again where no end leads to a start."""
        d = self.daemon({"web": self.group(restart={"when": "never"})})
        d.until_all(30, state="ready")
        self.say("crash", 1)
        d.until_all(20, state="done", incarnation=1, restarts=0)
        d.ctl("start", "web:0", code=0)
        self.assertEqual(d.worker("web:0")["incarnation"], 2)
        self.assertEqual(d.worker("web:1")["state"], "done")
        d.stop()

    def test_SP24_a_slot_that_hangs_takes_the_process_with_it(self):
        d = self.daemon({"web": self.group(stop={"timeout": "500ms"})})
        before = d.until_all(30, state="ready")
        self.say("hang", 2)
        self.pause(0.2)
        self.assertEqual({w["state"] for w in d.workers().values()}, {"ready"})
        gate = self.open_folder() / "hang.2"
        began = time.monotonic()
        with d.spawn_ctl("restart", "web:2") as tool:
            until(lambda: "restarting web/host" in d.text(), 10)
            gate.unlink()
            self.assertEqual(tool.wait(20), 0)
        self.assertGreater(time.monotonic() - began, 0.45, "it was asked first")
        self.assertIn("2 healthy slots are lost", d.text())
        after = d.until_all(30, state="ready")
        self.assertNotEqual(after["web:0"]["pid"], before["web:0"]["pid"])
        self.assertEqual(d.exits("web:2")[0]["cause"], "stop-timeout")
        self.assertEqual(d.exits("web:0")[0]["cause"], "parent-gone")
        d.stop()

    @costly("user")
    def test_SP24_NW09_a_slot_that_does_not_beat_is_ended(self):
        """One that obeys goes alone; one that does not, with all that run beside it."""
        watched = {"watchdog": "1s", "stop": {"timeout": "500ms"}}
        d = self.daemon({"web": self.group(**watched),
                         "nat": self.native(workers=2, watchdog="1s")})
        before = d.until_all(30, state="ready")
        self.assertEqual(d.detail("web:1")["watchdog_ms"], 1000)
        self.say("sulk", 1)
        after = d.until_worker("web:1", 30, state="ready", incarnation=2, restarts=1)
        self.assertEqual(after["pid"], before["web:1"]["pid"], "its host goes on")
        self.assertEqual((d.exits("web:1")[0]["cause"], d.exits("web:1")[0]["code"]),
                         ("watchdog", 0))
        # these wait for their stop and never beat
        d.until_worker("nat:1", 30, incarnation=lambda n: n > 1)
        self.assertEqual(d.exits("nat:1")[0]["cause"], "watchdog")
        self.assertEqual(d.detail("nat/host")["worker"]["pid"], before["nat:1"]["pid"])
        self.assertEqual(d.worker("web:0")["incarnation"], 1)
        self.say("hang", 2)
        until(lambda: "restarting web/host, and with it 2 healthy slots are lost" in d.text(), 30)
        (self.open_folder() / "hang.2").unlink()
        d.until_worker("web:2", 30, state="ready", incarnation=2, restarts=1)
        for name, cause in (("web:2", "watchdog"), ("web:0", "parent-gone"),
                            ("web/host", "watchdog")):
            self.assertEqual(d.exits(name)[0]["cause"], cause, name)
        self.assertEqual(d.detail("web/host")["worker"]["state"], "ready")
        self.assertNotEqual(d.worker("web:0")["pid"], before["web:0"]["pid"])
        self.assertEqual(d.worker("web:0")["incarnation"], 2)
        d.stop()

    @costly("off")
    def test_25_a_stopped_host_is_no_slot_that_hangs(self):
        d = self.daemon({"web": self.group(watchdog="1s")})
        before = d.until_all(30, state="ready")
        pid = d.pid_of("web:0")
        procs.kill(pid, signal.SIGSTOP)
        until(lambda: d.text().count("but it is stopped: one more period") >= 3, 20)
        procs.kill(pid, signal.SIGCONT)
        d.roles_may_die = True
        for _ in range(3):  # a successor asks every slot again
            procs.kill(d.role("manager"))
            self.pause(0.5)
        after = until(lambda: self.at_rest(d), 20)
        self.pause(1.2)
        self.assertEqual({w["incarnation"] for w in d.workers().values()}, {1})
        self.assertEqual(after["web:0"]["pid"], before["web:0"]["pid"])
        self.assertNotIn("it hangs", d.text())
        d.stop()

    def test_kill_and_cold_stop_are_of_the_process(self):
        d = self.daemon({"web": self.group()})
        pid = d.until_all(30, state="ready")["web:0"]["pid"]
        refused = d.ctl("kill", "web:1")
        self.assertEqual(refused.code, 1)
        self.assertIn("signal web/host", refused.out + refused.err)
        refused = d.ctl("stop", "--cold", "web:1")
        self.assertEqual(refused.code, 1)
        self.assertEqual({w["state"] for w in d.workers().values()}, {"ready"})
        d.ctl("kill", "-s", "KILL", "web/host", code=0)
        d.until_all(30, state="ready", incarnation=2)
        self.assertNotEqual(d.worker("web:0")["pid"], pid)
        d.ctl("stop", "--cold", "web", code=0)
        self.assertEqual({w["state"] for w in d.workers().values()}, {"stopped"})
        d.stop()

    def test_reload_renews_the_host(self):
        d = self.daemon({"web": self.group()})
        before = d.until_all(30, state="ready")
        d.write({**d.conf, "groups": {"web": self.group(env={"PORT": "%{9000+i}"})}})
        d.ctl("reload", code=0)
        after = d.until_all(30, state="ready", generation=2)
        self.assertNotEqual(after["web:0"]["pid"], before["web:0"]["pid"])
        self.assertEqual(len({w["pid"] for w in after.values()}), 1)
        d.until_worker("web:2", status="web:2 port 9002")
        self.assertEqual(sorted(self.starts("stop")), sorted(
            (n, str(w["pid"]), "1") for n, w in before.items()), "each was asked to end")
        d.stop()

    def test_an_entry_that_cannot_be_loaded(self):
        d = self.daemon({"web": self.group(entry="app:nothing", restart={
            "limit": 2, "delay": "1ms", "max_delay": "2ms", "retry": "never"})})
        d.until_worker("web:0", 30, state="quarantined")
        self.assertIn("nothing", d.worker("web:0")["status"])
        self.assertEqual(d.detail("web/host")["worker"]["state"], "quarantined")
        d.stop()

    def test_the_manager_dies(self):
        """No slot is lost, doubled or left waiting, whatever it was about to do."""
        d = self.daemon({"web": self.group(8)})
        d.roles_may_die = True
        d.until_all(30, state="ready")
        for round_ in range(12):
            with d.spawn_ctl("--no-wait", "restart", "web") as tool:
                self.pause(0.002 * round_)
                procs.kill(d.role("manager"))
                tool.wait(20)
            if round_ % 4 == 3:
                self.say("exit", round_ % 8)
                procs.kill(d.role("manager"))
        until(lambda: not list(self.open_folder().glob("exit.*")), 20, "all words were heard")
        d.ctl("restart", "web", code=0)  # these hear none
        now = set()

        def settled():
            workers = d.workers()
            now.clear()
            now.update((n, str(w["pid"]), str(w["incarnation"])) for n, w in workers.items())
            return (all(w["state"] == "ready" for w in workers.values()) and
                    len({w["pid"] for w in workers.values()}) == 1 and
                    now <= set(self.starts()))
        until(settled, 30, "every slot runs in the one host, as it said itself")
        starts = self.starts()
        self.assertEqual(len(starts), len(set(starts)), "an incarnation ran twice")
        d.ctl("stop", "web", code=0)
        until(lambda: {s for s in now} <= set(self.starts("stop")), 10, "all ended when asked")
        d.stop()

    def armed(self, groups):
        """A daemon with failpoints, all workers ready; skipped in a build without."""
        binary = self.context.program("reeved")
        if not failpoints.listed(binary):
            self.skipTest("a build without failpoints")
        self.points = failpoints.Failpoints(binary, self.dir / "points")
        self.addCleanup(self.points.close)
        d = self.daemon(groups, env={"REEVE_FAILPOINTS": str(self.points.path)})
        d.roles_may_die = True
        d.until_all(30, state="ready")
        return d

    def at_rest(self, d):
        """name -> Worker once all are ready; None before, or while no manager answers."""
        try:
            workers = d.workers()
        except (OSError, EOFError):
            return None
        return all(w["state"] == "ready" for w in workers.values()) and workers

    def started_once(self):
        starts = self.starts()
        self.assertEqual(len(starts), len(set(starts)), "an incarnation ran twice")
        return starts

    def test_the_manager_is_killed_at_every_point(self):
        d = self.armed({"web": self.group(), "nat": self.native(workers=2)})
        before = {n: w["pid"] for n, w in d.workers().items()}
        for number, point in enumerate(POINTS, 2):
            for name in ("web:1", "nat:1"):
                self.points.arm(point, "kill")
                with d.spawn_ctl("--no-wait", "restart", name) as tool:
                    until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
                    self.points.disarm(point)
                    tool.wait(20)
                until(lambda n=name, i=number:
                      (self.at_rest(d) or {}).get(n, {}).get("incarnation") == i, 20,
                      f"{name} is renewed once after {point}\n{d.text()[-3000:]}")
        after = d.workers()
        self.assertEqual({n: w["pid"] for n, w in after.items()}, before, "no host was lost")
        self.assertEqual(after["web:0"]["incarnation"], 1)
        self.assertEqual(len([s for s in self.started_once() if s[0] == "web:1"]), len(POINTS) + 1)
        d.stop()

    @costly("pid1")
    def test_the_host_is_killed_at_every_point(self):
        """With the manager, and without."""
        d = self.armed({"web": self.group(), "nat": self.native(workers=2)})
        for point in POINTS[:8]:
            for name, both in (("web:1", False), ("nat:1", True)):
                before = d.workers()
                group = [n for n in before if n.startswith(name[:3])]
                self.points.arm(point, "pause")
                with d.spawn_ctl("--no-wait", "restart", name) as tool:
                    until(lambda p=point: self.points.happened(p), 15, f"{point} is met")
                    procs.kill(d.host(before[name]["pid"]))
                    if both:
                        procs.kill(d.role("manager"))
                    self.points.disarm(point)
                    tool.wait(20)

                def renewed():
                    now = self.at_rest(d)
                    return now and all(now[n]["incarnation"] > before[n]["incarnation"] and
                                       now[n]["pid"] != before[n]["pid"] for n in group) and now
                now = until(renewed, 20, f"{group} after {point}\n{d.text()[-3000:]}")
                self.assertEqual(len({now[n]["pid"] for n in group}), 1, point)
        self.started_once()
        d.stop()

    def test_the_manager_dies_with_a_host_that_crashes(self):
        d = self.daemon({"web": self.group()})
        d.roles_may_die = True
        pid = d.until_all(30, state="ready")["web:0"]["pid"]
        procs.kill(d.role("manager"), signal.SIGSTOP)
        procs.kill(d.host(pid))
        procs.kill(d.role("manager"))
        until(lambda: all(w["incarnation"] == 2 and w["state"] == "ready"
                          for w in d.workers().values()), 30, "all are renewed")
        self.assertEqual({d.exits(f"web:{i}")[0]["cause"] for i in range(3)}, {"parent-gone"})
        starts = self.starts()
        self.assertEqual(len(starts), len(set(starts)))
        d.stop()

    def test_shutdown_lets_slots_finish(self):
        d = self.daemon({"web": self.group()})
        d.until_all(30, state="ready")
        d.stop()
        self.assertEqual(len(self.starts("stop")), 3)

    def test_native_module(self):
        d = self.daemon({"web": self.native(what="say")})
        workers = d.until_all(30, state="ready")
        d.until_worker("web:1", status="everything was said", progress={"done": 1, "total": 2})
        d.ctl("restart", "web:1", code=0)
        after = d.workers()
        self.assertEqual(after["web:1"]["incarnation"], 2)
        self.assertEqual({w["pid"] for w in after.values()}, {workers["web:0"]["pid"]})
        until(lambda: any(re.match(r"web:1 1/3 1\.2 web", line) for line in d.lines("web")), 10)
        d.stop()

    def test_SP24_native_crash_and_hang(self):
        """Slot 2 crashes, or hangs; the others wait."""
        groups = {"crash": self.native(what="%{2*(i/2)}", autostart=False),
                  "hang": self.native(what="hang", stop={"timeout": "200ms"})}
        groups["crash"]["env"] = ["MODULE_RUN=crash"]
        d = self.daemon(groups)
        d.until_worker("hang:2", 30, state="ready")
        d.ctl("restart", "hang:0", code=0)
        self.assertIn("hang:0: does not end when asked to", d.text())
        self.assertEqual(d.exits("hang:1")[0]["cause"], "parent-gone")
        d.ctl("--no-wait", "start", "crash:2", code=0)
        until(lambda: "its process crashed in crash:2" in d.text(), 20)
        self.assertEqual(d.exits("crash:2")[0]["signal"], "SEGV")
        d.ctl("stop", "crash", code=0)
        d.stop()
