"""What ./dev run starts: conf/examples/demo.conf, as root and as a plain user."""
import os
import pathlib
import shutil
import signal

import harness
import procs
import servers
from harness import until

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "conf/examples"
PORT = 8080


class Demo(harness.Case):
    def begin(self, uid=None):
        servers.own_network()
        shutil.copytree(EXAMPLES, self.dir / "examples")
        ticker = self.context.build / "conf/examples/demo/ticker"
        place = self.dir / "build/conf/examples/demo"
        place.mkdir(parents=True)
        shutil.copy(ticker, place)
        home = self.dir / "demo"
        (home / "log").mkdir(parents=True)
        if uid is not None:
            for path in (home, home / "log", self.dir / "xdg"):
                os.chown(path, uid, uid)
        home.chmod(0o700)
        made = self.daemon(None, start=False, uid=uid, env={
            "REEVE_DEMO_DIR": str(home), "REEVE_DEMO_BUILD": str(self.dir / "build"),
            "REEVE_DEMO_PORT": str(PORT)})
        made.file = self.dir / "examples/demo.conf"
        made.run, made.socket = home, home / "control.sock"
        made.start()
        for name in ("web:0", "web:1", "web:2", "ticker:0", "pipeline:0", "batch:0"):
            made.until_worker(name, 30, state="ready")
        return made

    def look_around(self, made):
        """What the text that ./dev run prints tells the reader to try."""
        seen = set()

        def all_answered():
            seen.add(servers.http(PORT).split()[0])
            return seen == {"web:0", "web:1", "web:2"}
        until(all_answered, 20, "each of the three workers answers a request")
        self.assertIn("tick", made.until_worker(
            "ticker:0", status=lambda text: text and "tick" in text)["status"])
        self.assertIn("awk", made.ctl("tree", "pipeline", code=0).out)
        os.kill(made.pid_of("web:0"), signal.SIGKILL)
        made.until_worker("web:0", state="ready", incarnation=2)
        made.ctl("scale", "web", "5", code=0)
        self.assertEqual(len(made.workers("web")), 5)
        made.ctl("restart", "ticker", code=0)
        until(lambda: any("saved" in line for line in self.log(made, "ticker")), 5,
              "the last words of the ticker are in its log")

    def log(self, made, group):
        return procs.read(made.run / f"log/{group}.log").splitlines()

    def units_done(self, made):
        return sum("is done" in line for line in self.log(made, "batch"))

    def test_as_root_until_one_ctrl_c(self):
        self.need_root()
        made = self.begin()
        self.look_around(made)
        batch = made.pid_of("batch:0")
        made.send(signal.SIGINT)
        self.assertEqual(made.wait_exit(40), 0, made.text())
        self.assert_gone(batch)
        self.assertIn("is done", self.log(made, "batch")[-1])
        self.assertFalse(servers.bound(PORT))

    def test_as_a_plain_user_until_two_ctrl_c(self):
        self.need_root()
        made = self.begin(uid=harness.NOBODY)
        self.assertEqual(procs.status_of(made.pid)["Uid"].split()[0], str(harness.NOBODY))
        self.look_around(made)
        done = self.units_done(made)
        made.send(signal.SIGINT)
        made.until_worker("batch:0", state="stopping")
        # A second signal counts when it comes 250 ms after the first.
        until(lambda: made.send(signal.SIGINT) or made.poll() is not None, 3,
              "the second Ctrl-C ends everything", every=0.3)
        self.assertEqual(made.code, 0, made.text())
        self.assertEqual(self.units_done(made), done, "it was cut off")
        self.assertFalse(servers.bound(PORT))
