"""What a program says through `reeve`, inside Reeve and outside."""
import ast

from rig import Case, DIR, PYTHON, os, pathlib, socket, subprocess


class Api(Case):
    def script(self, text, **env):
        """(stdout, code) of a program that may import reeve."""
        done = subprocess.run([PYTHON, "-c", text], cwd=self.dir, stdout=subprocess.PIPE, text=True,
                              check=False, timeout=20,
                              env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(DIR),
                                   "PYTHONDONTWRITEBYTECODE": "1", **env})
        return done.stdout, done.returncode

    def test_outside(self):
        text, code = self.script(
            "import os, reeve, select, signal\n"
            "print(reeve.ready(), reeve.beat(), reeve.status('x'), reeve.progress(1, 2),\n"
            "      reeve.jobs(), reeve.busy(), reeve.stopping(), reeve.sockets(), reeve.files(),\n"
            "      reeve.fork_point(), repr(reeve.name()), reeve.environ() is os.environ,\n"
            "      select.select([reeve.stop_fd], [], [], 0)[0],\n"
            "      signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)\n"
            "@reeve.preload\n@reeve.before_fork\n@reeve.after_fork\ndef f():\n    return 5\n"
            "print(f())\n")
        self.assertEqual((text, code), ("False False False False False False False {} {} 0 '' True "
                                        "[] True\n5\n", 0))

    def test_every_name_is_there(self):
        text, _ = self.script("import reeve\nprint([n for n in reeve.__all__ if not "
                              "hasattr(reeve, n)])\nfrom reeve import *\n"
                              "try:\n    reeve.no_such\nexcept AttributeError as e:\n    print(e)\n")
        self.assertEqual(text, "[]\nmodule 'reeve' has no attribute 'no_such'\n")

    def test_notifications(self):
        for path, address in ((self.dir / "notify", None), ("@reeve-test-%d" % os.getpid(), "\0")):
            server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.addCleanup(server.close)
            server.bind(str(path) if address is None else address + path[1:])
            server.settimeout(20)
            text, _ = self.script(
                "import reeve\n"
                "print(reeve.ready(), reeve.beat(), reeve.status('one\\nREADY=0'),\n"
                "      reeve.progress(1, 2), reeve.jobs(), reeve.jobs(3), reeve.busy(),\n"
                "      reeve.busy(False))\n", NOTIFY_SOCKET=str(path))
            self.assertEqual(set(text.split()), {"True"})
            self.assertEqual([server.recv(4096).decode() for _ in range(8)],
                             ["READY=1", "WATCHDOG=1", "STATUS=one READY=0", "X_REEVE_PROGRESS=1/2",
                              "X_REEVE_JOBS=1", "X_REEVE_JOBS=3", "X_REEVE_BUSY=1",
                              "X_REEVE_BUSY=0"])

    def test_beats_in_a_tight_loop(self):
        """Four in a watchdog's period are said, else one a second; a lost one is said again."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.bind(str(self.dir / "notify"))
        server.settimeout(20)
        beats = ("import time, reeve\nend = time.monotonic() + 0.9\nn = 0\n"
                 "while time.monotonic() < end:\n    assert reeve.beat()\n    n += 1\n"
                 "reeve.status(n)\n")

        def said(**env):
            self.script(beats, NOTIFY_SOCKET=str(self.dir / "notify"), **env)
            words = []
            while not words or not words[-1].startswith("STATUS="):
                words.append(server.recv(4096).decode())
            self.assertGreater(int(words.pop().partition("=")[2]), 50, "it waits")
            self.assertEqual(set(words), {"WATCHDOG=1"})
            return len(words)
        self.assertIn(said(WATCHDOG_USEC="1000000"), (2, 3, 4))
        for odd in ("", "x", "-5", "0", "99999999999999999999", "4000000"):
            self.assertEqual(said(WATCHDOG_USEC=odd), 1, odd)

    def test_nobody_reads(self):
        """A full socket costs the worker no time, and jobs are not lost."""
        server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(server.close)
        server.bind(str(self.dir / "notify"))
        worker = subprocess.Popen(
            [PYTHON, "-c", "import reeve\nn = 0\nwhile reeve.jobs(1):\n    n += 1\n"
             "for _ in range(1000):\n    reeve.beat()\n    n += 1\n    reeve.jobs(1)\n"
             "print(n + 1, flush=True)\ninput()\nprint(reeve.jobs(0))\n"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, env={
                "NOTIFY_SOCKET": str(self.dir / "notify"), "PYTHONPATH": str(DIR)})
        total = int(worker.stdout.readline())
        server.settimeout(0)
        jobs = 0

        def drain():
            nonlocal jobs
            while True:
                try:
                    word, _, value = server.recv(4096).decode().partition("=")
                except BlockingIOError:
                    return
                jobs += int(value) if word == "X_REEVE_JOBS" else 0
        drain()
        out, _ = worker.communicate("\n", 20)
        drain()
        self.assertEqual(out, "True\n")
        self.assertEqual(jobs, total)

    def test_socket_that_went_away(self):
        text, code = self.script("import reeve\nprint(reeve.ready())\n",
                                 NOTIFY_SOCKET=str(self.dir / "gone"))
        self.assertEqual((text, code), ("False\n", 0))

    def test_names_of_passed_descriptors(self):
        self.module("import os\nos.environ.update(LISTEN_PID=str(os.getpid()))\n"
                    "from reeve import _worker\nprint(_worker.listen_fds())\n")
        for names, want in (("a:b:c", {"a": 3, "b": 4, "c": 5}), ("a:a:a", {"a": 3, "a.1": 4,
                                                                            "a.2": 5}),
                            ("", {"0": 3, "1": 4, "2": 5}), ("x", {"x": 3, "1": 4, "2": 5})):
            text, _ = self.script("import app\n", LISTEN_FDS="3", LISTEN_FDNAMES=names)
            self.assertEqual(ast.literal_eval(text), want)

    def test_standard_library_only(self):
        """Nothing but the interpreter is needed, from 3.9 on."""
        names = self.script("import sys\nprint(*getattr(sys, 'stdlib_module_names', ()))\n")[0].split()
        if not names:  # before 3.10
            self.skipTest("this interpreter does not know its standard library")
        for path in [*pathlib.Path(DIR).glob("reeve/*.py"), DIR / "__main__.py"]:
            for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 9))):
                found = []
                if isinstance(node, ast.Import):
                    found = [a.name for a in node.names]
                elif isinstance(node, ast.ImportFrom) and node.level == 0:
                    found = [node.module]
                for name in found:
                    self.assertIn(name.partition(".")[0], [*names, "reeve"], path.name)
