"""PY04, PY14: what may not be forked is refused by name; what cannot be loaded is reported."""
from rig import Case, Tag, Type, os, signal, subprocess

PASS = "\ndef main():\n    pass\n"
LISTENER = ("import logging.handlers, queue\n"
            "listener = logging.handlers.QueueListener(queue.Queue())\nlistener.start()\n")


class Unsafe(Case):
    def refused(self, text, **hello):
        """The texts of the UNSAFE at READY; the same must answer a FORK."""
        template = self.template(text + PASS, **hello)
        first = template.receive(Type.UNSAFE)
        self.assertEqual(first.request, 0)
        worker = template.fork()
        second = template.receive(Type.UNSAFE)
        self.assertEqual(second.request, 1)
        self.assertEqual(first.all(Tag.TEXT), second.all(Tag.TEXT))
        template.channel.send(Type.PING, request=9)
        template.receive(Type.PONG)
        self.assertIsNone(worker.receive())
        self.assertIn(first.need(Tag.TEXT), template.said())
        return first.all(Tag.TEXT)

    def test_thread(self):
        self.assertEqual(self.refused(LISTENER),
                         ["2 threads (QueueListener); start its thread in @after_fork"])

    def test_thread_as_the_daemon_sees_it(self):
        template = self.template(LISTENER + PASS)
        template.receive(Type.UNSAFE)
        tasks = f"/proc/{template.pid}/task"
        self.assertEqual({open(f"{tasks}/{t}/comm").read() for t in os.listdir(tasks)},
                         {"web/template\n", "QueueListener\n"})

    def test_threads(self):
        self.assertEqual(
            self.refused("import threading\nstop = threading.Event()\n"
                         "class Flusher(threading.Thread):\n    def run(self):\n"
                         "        stop.wait()\n"
                         "Flusher(daemon=True).start()\n"
                         "threading.Thread(target=stop.wait, name='beat', daemon=True).start()\n"),
            ["3 threads (Flusher, beat); start their threads in @after_fork"])

    def test_thread_of_a_function(self):
        self.assertEqual(
            self.refused("import threading\nstop = threading.Event()\ndef poller():\n"
                         "    stop.wait()\n"
                         "threading.Thread(target=poller, daemon=True).start()\n"),
            ["2 threads (poller); start its thread in @after_fork"])

    def test_thread_that_is_allowed(self):
        template = self.template(LISTENER + PASS, allow=["QueueListener"])
        self.assertEqual(template.run(), ("", 0))

    def test_thread_that_was_joined(self):
        template = self.template("import concurrent.futures\n"
                                 "with concurrent.futures.ThreadPoolExecutor(8) as pool:\n"
                                 "    list(pool.map(abs, range(100)))\n" + PASS)
        self.assertEqual(template.run(), ("", 0))

    def test_gpu(self):
        (self.dir / "dev").mkdir()
        device = self.dir / "dev" / "nvidia0"
        device.touch()
        self.assertEqual(self.refused(f"gpu = open({str(device)!r})\n"),
                         [f'GPU device {device} is open; use start_method = "spawn"'])

    def test_mapped_gpu(self):
        (self.dir / "dev").mkdir()
        device = self.dir / "dev" / "nvidiactl"
        device.write_bytes(bytes(4096))
        self.assertEqual(
            self.refused(f"import mmap\nwith open({str(device)!r}, 'rb') as file:\n"
                         "    gpu = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)\n"
                         "import os\nfor n in os.listdir('/proc/self/fd'):\n"
                         "    try:\n        'nvidia' in os.readlink(f'/proc/self/fd/{n}') and "
                         "os.close(int(n))\n    except OSError:\n        pass\n"),
            [f'GPU device {device} is open; use start_method = "spawn"'])

    def test_file_lock(self):
        path = self.dir / "lock"
        path.touch()
        for lock in ("fcntl.flock(file, fcntl.LOCK_EX)", "fcntl.lockf(file, fcntl.LOCK_EX)"):
            found = self.refused(f"import fcntl\nfile = open({str(path)!r}, 'w')\n{lock}\n")
            self.assertRegex(found[0], rf"^file lock on {path} \(fd \d+\); take it in @after_fork$")

    def test_io_uring(self):
        text = ("import ctypes\nring = ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer"
                "(120))\n")
        probe = subprocess.run(["/usr/bin/env", "python3", "-c", text + "raise SystemExit(ring < 0)"],
                               check=False)
        if probe.returncode:
            self.skipTest("io_uring is not permitted here")
        self.assertRegex(self.refused(text)[0], r"^io_uring \(fd \d+\) is open; ")

    def test_new_descriptor(self):
        template = self.template("import reeve\n@reeve.before_fork\ndef leak():\n    global a\n"
                                 "    a = open('/dev/zero')\n" + PASS)
        template.fork()
        text = template.receive(Type.UNSAFE).need(Tag.TEXT)
        self.assertRegex(text, r"^fd \d+ \(/dev/zero\) was not open at READY; "
                               r"open it in @after_fork$")

    def test_safe_again(self):
        """It looks anew at each request."""
        template = self.template(
            "import reeve, threading\ndone = threading.Event()\n"
            "thread = threading.Thread(target=done.wait, name='x')\nthread.start()\ncount = 0\n"
            "@reeve.before_fork\ndef before():\n    global count\n    count += 1\n"
            "    if count == 2:\n        done.set()\n        thread.join()\n" + PASS)
        template.receive(Type.UNSAFE)
        template.fork()
        template.receive(Type.UNSAFE)
        self.assertEqual(template.run(), ("", 0))

    def test_shared_map_is_said(self):
        path = self.dir / "table"
        path.write_bytes(bytes(4096))
        template = self.template(f"import mmap\nfile = open({str(path)!r}, 'r+b')\n"
                                 "table = mmap.mmap(file.fileno(), 0)\n" + PASS)
        template.run()
        self.assertIn(f"{path} is mapped shared and writable", template.said())


class Preload(Case):
    def failed(self, text, **hello):
        """(ERROR of READY, what it wrote, exit code) of a template that cannot load."""
        self.module(text)
        template = self.program()
        ready = template.ready(**hello)
        code = template.process.wait(20)
        return ready.need(Tag.ERROR), template.said(), code

    def test_import_error(self):
        error, said, code = self.failed("import no_such_module\n")
        self.assertEqual(code, 1)
        self.assertIn("ModuleNotFoundError: No module named 'no_such_module'", error)
        self.assertIn("app.py\", line 1", error)
        self.assertNotIn("importlib", error)
        self.assertIn(error.strip(), said)
        self.assertIn("reeve: loading app:main failed", said)

    def test_exits(self):
        error, _, code = self.failed("import sys\nsys.exit(0)\n")
        self.assertEqual(code, 1)
        self.assertIn("exit(0) was called while loading app:main", error)

    def test_raises(self):
        for what in ("1 / 0", "raise BaseException('odd')", "raise KeyboardInterrupt", "def ("):
            error, _, code = self.failed(what + "\n")
            self.assertEqual(code, 1)
            self.assertTrue(error.startswith("Traceback") or "SyntaxError" in error, error)

    def test_preload_function(self):
        error, _, _ = self.failed("import reeve\n@reeve.preload\ndef table():\n    open('/no/such')\n"
                                  + PASS)
        self.assertIn("FileNotFoundError", error)

    def test_no_such_function(self):
        error, _, _ = self.failed("", entry="app:mian")
        self.assertIn('module "app" has no function "mian"', error)

    def test_warn(self):
        self.module("import no_such_module\n", "part")
        self.module(PASS)
        template = self.program()
        ready = template.ready(preload=["part"], errors="warn")
        self.assertIn("no_such_module", ready.need(Tag.ERROR))
        self.assertEqual(template.run(), ("", 0))

    def test_long_tracebacks_fit(self):
        self.module(PASS)
        names = [f"bad{i}" for i in range(20)]
        for name in names:
            self.module(f"raise ValueError('x' * 20000 + '{name}')\n", name)
        ready = self.template(preload=names, errors="warn")
        self.assertIsNotNone(ready)

    def test_forks(self):
        """A child of a preload does not become a second template."""
        template = self.template("import os\nchild = os.fork()\n"
                                 "if child:\n    os.waitpid(child, 0)\n" + PASS)
        self.assertIn("a preload forked", template.said())
        self.assertEqual(template.run(), ("", 0))

    def test_closes_everything(self):
        """Also the channel: the template ends, and says why."""
        self.module("import os\nos.closerange(3, 1024)\n" + PASS)
        template = self.program()
        template.hello()
        template.receive(Type.LOADING)
        self.assertIsNone(template.receive())
        self.assertEqual(template.process.wait(20), 1)
        self.assertIn("reeve: channel:", template.said())

    def test_closes_its_output(self):
        template = self.template("import sys\nsys.stdout.close()\nsys.stderr.close()\n"
                                 "def main():\n    print('alive')\n")
        self.assertEqual(template.run(), ("alive\n", 0))

    def test_prints_to_every_low_descriptor(self):
        """PY14: the protocol is out of the way of user code."""
        template = self.template("import os\nfor fd in range(3, 100):\n    try:\n"
                                 "        os.write(fd, b'hello')\n    except OSError:\n        pass\n"
                                 + PASS)
        self.assertEqual(template.run(), ("", 0))

    def test_changes_the_user(self):
        if os.getuid() != 0:
            self.skipTest("needs root")
        error, _, _ = self.failed("import os\nos.setgroups([])\nos.setresgid(1, 1, 1)\n"
                                  "os.setresuid(0, 1, 0)\n" + PASS)
        self.assertIn("changed the user", error)

    def test_libraries_are_told_to_start_no_threads(self):
        template = self.template("import os\nseen = os.environ['OPENBLAS_NUM_THREADS']\n"
                                 "def main():\n    print(seen, os.environ['OMP_NUM_THREADS'])\n",
                                 env={"OMP_NUM_THREADS": "4"})
        self.assertEqual(template.run(env={"OMP_NUM_THREADS": "4"}), ("1 4\n", 0))

    def test_interrupt_is_not_for_templates(self):
        """PY02."""
        template = self.template(PASS)
        os.kill(template.pid, signal.SIGINT)
        self.assertEqual(template.run(), ("", 0))
