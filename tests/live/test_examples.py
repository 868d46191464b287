"""conf/examples with entries and templates: they run as they stand there."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

from harness import PYTHON, Case, procs, until

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "conf" / "examples"


class Examples(Case):
    def begin(self, name, **env):
        self.need_only(("default",), "one is enough for an example")
        shutil.copytree(EXAMPLES / name, self.dir / "examples" / name, dirs_exist_ok=True)
        shutil.copy(EXAMPLES / f"{name}.conf", self.dir / "examples")
        made = self.daemon(None, start=False, env={
            "REEVE_EXAMPLE_DIR": str(self.dir / "run-d0"), **env})
        made.file = self.dir / "examples" / f"{name}.conf"
        return made.start()

    def end(self, d):
        """As Daemon.stop(), but that an example keeps its logs in the runtime directory."""
        d.check_roles()
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0, d.text())
        for log in d.run.glob("*.log"):
            log.unlink()
        d.check_gone()

    def ask(self, port, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as reply:
            return reply.read().decode()

    def test_model_server(self):
        """The answers are the same; what differs is what the workers share."""
        if subprocess.run([PYTHON, "-c", "import numpy"], stderr=subprocess.DEVNULL,
                          check=False).returncode:
            self.skipTest(f"{PYTHON} has no numpy")
        d = self.begin("model-server")
        d.until_all(state="ready", timeout=50)
        rows = {self.ask(port, "/17").split(": ")[1] for port in (8091, 8092)}
        self.assertEqual(len(rows), 1, rows)
        self.assertEqual(rows.pop().split()[0], "17")

        def private(group):
            total = 0
            for name in d.workers(group):
                text = pathlib.Path(f"/proc/{d.pid_of(name)}/smaps_rollup").read_text()
                total += sum(int(line.split()[1]) for line in text.splitlines()
                             if line.startswith("Private_"))
            return total
        self.assertLess(private("shared") * 3, private("each"))
        os.kill(d.pid_of("shared:1"), signal.SIGKILL)
        self.assertIn("shared:", self.ask(8091, "/5"))
        d.until_worker("shared:1", state="ready", restarts=1)
        self.end(d)

    def test_native(self):
        """One module, every method: the line that chooses is in the environment."""
        for method in ("spawn", "forkserver", "fork", "threads"):
            d = self.begin("native", REEVE_EXAMPLE_BUILD=str(self.context.build),
                           REEVE_RUNNER=str(self.context.program("reeve-runner")),
                           REEVE_START_METHOD=method)
            d.until_all(state="ready", timeout=40, start_method=method)
            with socket.create_connection(("127.0.0.1", 8090), 10) as client:
                client.sendall(b"97\n91\n")
                client.shutdown(socket.SHUT_WR)
                said = client.makefile().read()
            self.assertRegex(said, r"^97 is prime, says primes:\d\n91 is not, says primes:\d\n$")
            self.assertNotIn("warning", d.text(), method)
            self.end(d)

    def test_nested_pool(self):
        d = self.begin("nested-pool")
        d.until_all(state="ready", timeout=30)
        worker = d.until_worker("primes:0", progress=lambda p: p and p["done"] > 0 and
                                p["total"] == 50)
        self.assertGreaterEqual(len(procs.children_of(worker["pid"])), 2)
        before = procs.children_of(worker["pid"])
        os.kill(worker["pid"], signal.SIGKILL)
        until(lambda: not any(procs.alive(p) for p in before), 10, "its pool ends with it")
        d.until_worker("primes:0", state="ready", restarts=1)
        d.ctl("stop", "primes", code=0)
        self.assertEqual(d.worker("primes:1")["last_exit"]["code"], 0)
        self.end(d)

    def test_perl_template(self):
        if not os.access("/usr/bin/perl", os.X_OK):
            self.skipTest("no /usr/bin/perl")
        d = self.begin("perl-template")
        d.until_all(state="ready", timeout=30)
        worker = d.until_worker("squares:2", status=lambda s: s and "the square of" in s)
        os.kill(worker["pid"], signal.SIGKILL)
        begin = time.monotonic()
        d.until_worker("squares:2", state="ready", restarts=1)
        self.assertLess(time.monotonic() - begin, 10)
        d.ctl("stop", "squares", code=0)
        self.assertEqual(d.worker("squares:0")["last_exit"]["code"], 0)
        self.end(d)
