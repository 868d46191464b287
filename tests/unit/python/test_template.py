"""The template, driven as the daemon drives it: forking, exit codes, what a worker is born with."""
import json
import shutil

from rig import Case, Tag, Type, os, pathlib, resource, signal, socket, subprocess, DIR, PYTHON
from reeve._protocol import Limit

DUMP = """
import json, os, resource, signal, sys, gc
def main():
    print(json.dumps({
        "fds": {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                if os.path.exists(f"/proc/self/fd/{n}")},
        "cwd": os.getcwd(), "env": dict(os.environ), "argv": sys.argv, "path": sys.path,
        "sid": os.getsid(0), "pid": os.getpid(), "ppid": os.getppid(),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "nice": os.getpriority(os.PRIO_PROCESS, 0), "umask": os.umask(0),
        "mask": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "signals": {int(n): "default" if signal.getsignal(n) is signal.SIG_DFL
                    else str(signal.getsignal(n)) for n in signal.valid_signals()},
        "gc": gc.isenabled(), "frozen": gc.get_freeze_count() > 1000,
        "comm": open("/proc/self/comm").read().strip(),
        "cmdline": open("/proc/self/cmdline").read(),
        "environ": open("/proc/self/environ").read().split("\\0"),
        "main": sys.modules["__main__"].__file__,
    }))
"""


class Codes(Case):
    """SH25, PY03: what the entry says is what the kernel reports."""

    def entry(self, body):
        self.module(f"import os, signal, sys, threading, time\ndef main():\n    {body}\n")

    def codes(self, body):
        """The same entry by template and by spawn: both must agree."""
        self.entry(body)
        template = self.template()
        forked = template.run()
        spawned = subprocess.run([PYTHON, DIR, "spawn", "app:main"], cwd=self.dir, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                                 env={"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"})
        self.assertEqual(template.end(), 0)
        self.assertEqual(forked, (spawned.stdout, spawned.returncode))
        return forked

    def test_every_code(self):
        self.module("import os\ndef main():\n    return int(os.environ['CODE'])\n")
        template = self.template()
        for code in range(256):
            self.assertEqual(template.run(env={"CODE": code}), ("", code))

    def test_every_signal(self):
        self.module("import os, signal\ndef main():\n    n = int(os.environ['N'])\n"
                    "    n == 9 or signal.signal(n, signal.SIG_DFL)\n"
                    "    os.kill(os.getpid(), n)\n")
        template = self.template()
        deadly = [n for n in range(1, 32) if n not in (
            signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH, signal.SIGSTOP,
            signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)]
        limit = [(Tag.LIMIT, Limit(resource.RLIMIT_CORE, 0, 0))]
        for number in deadly:
            with self.subTest(number):
                self.assertEqual(template.run(env={"N": number}, records=limit), ("", -number))

    def test_results(self):
        self.assertEqual(self.codes("return None"), ("", 0))
        self.assertEqual(self.codes("return 257"), ("", 1))
        self.assertEqual(self.codes("sys.exit(3)"), ("", 3))
        self.assertEqual(self.codes("sys.exit('why')"), ("why\n", 1))
        self.assertEqual(self.codes("return 'text'"), ("text\n", 1))

    def test_exception(self):
        text, code = self.codes("raise KeyError('no such')")
        self.assertEqual(code, 1)
        self.assertEqual(text.splitlines()[0], "Traceback (most recent call last):")
        self.assertIn("app.py", text.splitlines()[1])
        self.assertEqual(text.splitlines()[-1], "KeyError: 'no such'")

    def test_interrupt_is_a_signal(self):
        text, code = self.codes("raise KeyboardInterrupt")
        self.assertEqual(code, -signal.SIGINT)
        self.assertTrue(text.endswith("KeyboardInterrupt\n"), text)

    def test_coroutine_is_refused(self):
        self.module("async def main():\n    pass\n")
        text, code = self.template().run()
        self.assertEqual(code, 1)
        self.assertIn("asyncio.run()", text)

    def test_teardown(self):
        """Threads are joined, atexit runs, buffers are written, the code stands."""
        text, code = self.codes("import atexit; atexit.register(print, 'atexit'); "
                                "threading.Timer(0.1, print, ['thread']).start(); "
                                "sys.stdout.write('out '); return 5")
        self.assertEqual((text, code), ("out thread\natexit\n", 5))


class Birth(Case):
    def dump(self, template=None, **order):
        text, code = (template or self.template(DUMP)).run(**order)
        self.assertEqual(code, 0, text)
        return json.loads(text)

    def test_everything_is_as_ordered(self):
        """Also with code that runs between the forks."""
        self.check_everything(DUMP)
        self.check_everything(DUMP + "import reeve\nreeve.before_fork(int)\n")

    def test_a_fork_writes_to_few_pages_of_the_template(self):
        """Each of them is copied for each worker: the loop is C's, not Python's."""
        template = self.template("def main():\n    pass\n")

        def faults():
            stat = pathlib.Path(f"/proc/{template.pid}/stat").read_text()
            return int(stat.rpartition(")")[2].split()[7])
        for _ in range(3):
            template.run()
        before = faults()
        for _ in range(10):
            template.run()
        self.assertLess((faults() - before) / 10, 120)

    def check_everything(self, text):
        null = os.open("/dev/zero", os.O_RDONLY)
        self.addCleanup(os.close, null)
        seen = self.dump(
            self.template(text), name="web:3", fds={7: null}, env={"LISTEN_FDS": "1", "WATCHDOG_USEC": "5", "X": "y"},
            records=[(Tag.CWD, b"/usr"), (Tag.UMASK, 0o27), (Tag.NICE, 3), (Tag.ARG, b"app:main"),
                     (Tag.ARG, b"--fast"),
                     (Tag.LIMIT, Limit(resource.RLIMIT_NOFILE, 100, 200))])
        self.assertEqual(seen["cwd"], "/usr")
        self.assertEqual(seen["umask"], 0o27)
        self.assertEqual(seen["nice"], 3)
        self.assertEqual(seen["nofile"], [100, 200])
        self.assertEqual(seen["argv"], ["app:main", "--fast"])
        self.assertEqual(seen["sid"], seen["pid"])
        self.assertEqual(seen["ppid"], os.getpid())
        self.assertEqual(seen["env"], {
            "REEVE_WORKER": "web:3", "REEVE_INDEX": "3", "PATH": "/usr/bin", "X": "y",
            "LISTEN_FDS": "1", "LISTEN_PID": str(seen["pid"]), "WATCHDOG_USEC": "5",
            "WATCHDOG_PID": str(seen["pid"])})
        self.assertEqual(seen["comm"], "web:3")
        self.assertTrue(seen["cmdline"].startswith("reeve: web:3 app:main --fast"), seen["cmdline"])
        self.assertEqual(seen["mask"], [])
        self.assertTrue(seen["gc"] and seen["frozen"])
        self.assertEqual(seen["fds"].pop("7"), "/dev/zero")
        self.assertEqual(seen["fds"].pop("0"), "/dev/null")
        channel = [n for n in seen["fds"] if int(n) >= 200]
        self.assertEqual(len(channel), 1)
        self.assertEqual(set(seen["fds"]), {"1", "2", *channel})

    def test_path_order(self):
        seen = self.dump()
        self.assertEqual(seen["path"][0], str(self.dir))
        self.assertEqual(seen["path"][-1], str(DIR))
        self.assertEqual(seen["path"].count(str(DIR)), 1)

    def test_marker_is_seen_from_outside(self):
        """What finds the orphans of a worker is not that of its template."""
        template = self.template(DUMP, env={"REEVE_ID": "abc/web:template/1", "PADDING": "x" * 200})
        seen = self.dump(template, env={"REEVE_ID": "abc/web:0/1"})
        self.assertIn("REEVE_ID=abc/web:0/1", seen["environ"])
        self.assertNotIn("REEVE_ID=abc/web:template/1", seen["environ"])
        self.assertNotIn("PADDING", seen["env"])

    def test_signals_are_those_of_a_fresh_interpreter(self):
        """PY12: handlers, masks and ignored signals of a preload do not reach workers."""
        template = self.template(
            "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
            "signal.signal(signal.SIGUSR1, print)\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])\n" + DUMP)
        seen = self.dump(template)
        self.assertIn("the signal mask", template.said())
        self.assertEqual(seen["mask"], [])
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
            self.assertEqual(seen["signals"][str(int(number))], "default", number)
        self.assertIn("default_int_handler", seen["signals"]["2"])

    def test_what_a_preload_changes_is_put_back(self):
        template = self.template("import os, resource\nos.chdir('/usr')\nos.umask(0o70)\n"
                                 "resource.setrlimit(resource.RLIMIT_NOFILE, (77, 500))\n" + DUMP)
        said = template.said()
        self.assertIn("the working directory", said)
        self.assertIn("the umask", said)
        self.assertEqual(self.dump(template)["cwd"], str(self.dir))

    def test_open_descriptors_do_not_reach_workers(self):
        """PY13: a connection of the template is not shared; its number stays taken."""
        template = self.template(
            "import os, socket\na, b = socket.socketpair()\nnumber = a.fileno()\n"
            "def main():\n    print(os.readlink(f'/proc/self/fd/{number}'))\n    a.close()\n"
            "    b.close()\n")
        self.assertIn("is closed in the workers; open it in @after_fork", template.said())
        self.assertEqual(template.run(), ("/dev/null\n", 0))

    def test_the_environment_is_what_was_ordered(self):
        """Whatever the template's own is, and whoever has changed that; None: as the program left it."""
        main = ("def main():\n    names = ['PATH', 'KEPT', 'GONE', 'NEW', 'REEVE_CHANNEL']\n"
                "    print(*[os.environ.get(n) for n in names],\n"
                "          *[os.environb.get(n.encode(), b'None').decode() for n in names],\n"
                "          subprocess.run('echo $PATH $KEPT', shell=True, stdout=-1,\n"
                "                         text=True).stdout.strip(), time.tzname[0],\n"
                "          sorted(e for e in open('/proc/self/environ').read().split('\\0') if e) ==\n"
                "          sorted(f'{k}={v}' for k, v in os.environ.items()))\n")
        expected = "/usr/bin {0} None x=y None /usr/bin {0} None x=y None /usr/bin {0} {1} True\n"
        for preload in ("", "os.environ['GONE'] = '2'\n", "del os.environ['PATH']\n",
                        "os.environ['KEPT'] = '3'\n", "os.environ['KEPTO'] = '1'\n",
                        "os.environ['TZ'] = 'AAA1'\n",
                        "import reeve\n@reeve.before_fork\ndef change():\n"
                        "    os.environ['KEPT'] = '1'; os.environ['GONE'] = '4'\n"):
            template = self.template("import os, subprocess, time\n" + preload + main,
                                     env={"KEPT": "1", "GONE": "1", "PATH": "/usr/bin"})
            for kept, zone in (("1", "BBB"), ("2", "UTC"), ("1", "UTC")):
                order = {"KEPT": kept, "NEW": "x=y"} | ({"TZ": "BBB1"} if zone == "BBB" else {})
                self.assertEqual(template.run(env=order), (expected.format(kept, zone), 0), preload)
            template.end()

    def test_an_environment_that_was_replaced(self):
        template = self.template("import os\nos.environ = {'PATH': '/bin', 'GONE': '1'}\ndef main():\n"
                                 "    print(os.environ['PATH'], 'GONE' in os.environ)\n")
        self.assertEqual(template.run(), ("/usr/bin False\n", 0))

    def test_random_differs(self):
        """PY13: Python's and C's generators."""
        template = self.template(
            "import ctypes, random\nlibc = ctypes.CDLL(None)\nrandom.seed(1)\nlibc.srand(1)\n"
            "def main():\n    print(random.random(), libc.rand(), libc.lrand48())\n")
        seen = [template.run()[0].split() for _ in range(3)]
        for column in zip(*seen):
            self.assertEqual(len(set(column)), 3, seen)

    def test_numpy_random_differs(self):
        if subprocess.run([PYTHON, "-c", "import numpy"], stderr=subprocess.DEVNULL,
                          check=False).returncode:
            self.skipTest("this interpreter has no numpy")
        for preload in ("seed(1); numpy.random.normal()",  # which keeps a second number for the next
                        "set_bit_generator(numpy.random.PCG64(1))"):
            template = self.template(f"import numpy\nif hasattr(numpy.random, '{preload.split('(')[0]}'):\n"
                                     f"    numpy.random.{preload}\n"
                                     "def main():\n    print(*numpy.random.normal(size=3))\n")
            seen = [template.run() for _ in range(3)]
            self.assertEqual([code for _, code in seen], [0, 0, 0], seen)
            self.assertEqual(len({text.split()[0] for text, _ in seen}), 3, seen)
            template.end()

    def test_output_is_printed_once(self):
        """PY13: buffers of the template, of Python and of C, are empty at a fork."""
        template = self.template(
            "import ctypes, sys\nsys.stdout.write('from python ')\n"
            "ctypes.CDLL(None).printf(b'from c ')\ndef main():\n    print('worker')\n")
        for _ in range(2):
            self.assertEqual(template.run(), ("worker\n", 0))
        template.end()
        said = template.said()
        self.assertEqual((said.count("from python"), said.count("from c")), (1, 1), said)

    def test_hooks(self):
        template = self.template(
            "import reeve, os\nevents = []\n"
            "@reeve.preload\ndef table():\n    events.append('preload')\n"
            "@reeve.before_fork\ndef before():\n    events.append('before')\n"
            "@reeve.after_fork\ndef after():\n    events.append(reeve.name())\n"
            "def main():\n    print(*events)\n")
        self.assertEqual(template.run("web:0"), ("preload before web:0\n", 0))
        self.assertEqual(template.run("web:1"), ("preload before before web:1\n", 0))

    def test_entry_that_only_the_worker_imports(self):
        """preload_errors = "warn": the worker tries again, and its hooks run."""
        self.module("import os, reeve\nif 'REEVE_WORKER' not in os.environ:\n"
                    "    raise ImportError('only in a worker')\n"
                    "@reeve.after_fork\ndef after():\n    print('after')\n"
                    "def main():\n    print('main')\n")
        template = self.template(errors="warn")
        self.assertEqual(template.run(), ("after\nmain\n", 0))

    def test_sockets_and_files(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        (self.dir / "table").write_bytes(b"table")
        file = os.open(self.dir / "table", os.O_RDONLY)
        self.addCleanup(os.close, file)
        template = self.template(
            "import reeve\ndef main():\n"
            "    print(reeve.sockets()['http'].getsockname()[1], reeve.files()['table'].read(),\n"
            "          sorted(reeve.sockets()), sorted(reeve.files()))\n")
        text, code = template.run(fds={3: server.fileno(), 4: file}, env={
            "LISTEN_FDS": "2", "LISTEN_FDNAMES": "http:table"})
        self.assertEqual((text, code),
                         (f"{server.getsockname()[1]} b'table' ['http'] ['table']\n", 0))

    def test_maps_that_cross(self):
        """Numbers that came are numbers that others are to become, in every order."""
        paths = ["/dev/zero", "/dev/full", "/dev/random", "/dev/null"]
        fds = [os.open(p, os.O_RDONLY) for p in paths]
        for fd in fds:
            self.addCleanup(os.close, fd)
        template = self.template(DUMP)
        for first in (3, 4, 5, 6, 10, 199, 201):
            seen = self.dump(template, fds={first + i: fd for i, fd in enumerate(fds)})
            got = [seen["fds"][str(first + i)] for i in range(4)]
            self.assertEqual(got, paths, first)

    def test_main_module_is_not_run_again(self):
        """multiprocessing's spawn in a worker imports nothing of the runtime as the main module."""
        template = self.template(
            "import multiprocessing, sys\ndef work(n):\n    return n * n\n"
            "def main():\n    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
            "        print(pool.map(work, [2, 3]))\n")
        self.assertEqual(template.run(), ("[4, 9]\n", 0))

    def test_pool_by_fork_is_ended(self):
        """Pool.terminate() sends TERM to children that were forked after the flag was used. (One
        that is idle may be ended while it holds a lock of the pool: nothing of ours.)"""
        template = self.template(
            "import multiprocessing, os, reeve, time\n"
            "def work(fd):\n    os.write(fd, b'.')\n    time.sleep(600)\n"
            "def main():\n    reeve.stopping()\n    begun, fd = os.pipe()\n"
            "    pool = multiprocessing.get_context('fork').Pool(1)\n"
            "    pool.apply_async(work, [fd])\n    os.read(begun, 1)\n"
            "    pool.terminate()\n    pool.join()\n"
            "    print('joined')\n")
        self.assertEqual(template.run(), ("joined\n", 0))


class Conversation(Case):
    def test_hello_and_ready(self):
        self.module("")
        self.module("X = 1", "part")
        template = self.program()
        hello = template.hello(preload=["part"], entry="app:main", errors="warn")
        self.assertEqual(hello.need(Tag.VERSIONS), (1, 1))
        self.assertRegex(hello.need(Tag.RUNTIME), r"^python 3\.\d+\.\d+")
        self.assertEqual(template.receive(Type.LOADING).need(Tag.TEXT), "part")
        self.assertEqual(template.receive(Type.LOADING).need(Tag.TEXT), "app:main")
        ready = template.receive(Type.READY)
        self.assertEqual(ready.need(Tag.TASKS), 1)
        self.assertGreater(ready.need(Tag.RSS), 1 << 20)
        self.assertGreaterEqual(ready.need(Tag.FDS), 4)
        self.assertGreater(ready.need(Tag.LOAD_US), 0)
        self.assertEqual(ready.all(Tag.PRELOAD), ["part", "app:main"])  # the entry, for its error
        self.assertIn('has no function "main"', ready.need(Tag.ERROR))

    def test_ping_and_quit(self):
        template = self.template("def main():\n    pass\n")
        template.channel.send(Type.PING, request=5)
        pong = template.receive(Type.PONG)
        self.assertEqual((pong.request, pong.need(Tag.TASKS)), (5, 1))
        template.channel.send(Type.QUIT)
        self.assertEqual(template.process.wait(20), 0)

    def test_end_of_the_channel_is_the_end(self):
        self.assertEqual(self.template("def main():\n    pass\n").end(), 0)

    def test_worker_without_go(self):
        """Nobody knows of it: it ends before user code."""
        template = self.template("def main():\n    print('ran')\n")
        worker = template.fork()
        template.spawned()
        worker.born()
        worker.channel.close()
        self.assertEqual((worker.text(), worker.code()), ("", 0))

    def test_worker_survives_its_template(self):
        template = self.template("import sys\ndef main():\n    print('ran')\n    return 9\n")
        worker = template.fork()
        template.spawned()
        worker.born()
        template.process.kill()
        template.process.wait()
        worker.go()
        self.assertEqual((worker.text(), worker.code()), ("ran\n", 9))

    def test_worker_dies_with_the_keeper(self):
        """The parent-death signal is that of the subreaper, not of the template."""
        self.module("import ctypes, signal\ndef main():\n    n = ctypes.c_int()\n"
                    "    ctypes.CDLL(None).prctl(2, ctypes.byref(n))\n    print(n.value)\n")
        self.assertEqual(self.template().run(), (f"{int(signal.SIGKILL)}\n", 0))

    def test_pipelined(self):
        """SH25: many requests at once; each worker has its own code."""
        template = self.template("import os\ndef main():\n    return int(os.environ['N'])\n")
        workers = [template.fork(f"web:{n}", env={"N": n % 256}) for n in range(100)]
        pids = [template.spawned() for _ in workers]
        for n, worker in enumerate(workers):
            worker.born().go()
            self.assertEqual(worker.pid, pids[n])
        self.assertEqual([w.code() for w in workers], list(range(100)))

    def test_failed_steps_are_named(self):
        template = self.template("import reeve, os\n@reeve.after_fork\ndef after():\n"
                                 "    os.environ.get('BAD') and 1 / 0\ndef main():\n    pass\n")
        for stage, error, how in (
                ("cwd", 2, {"records": [(Tag.CWD, b"/no/such")]}),
                ("limits", 22, {"records": [(Tag.LIMIT, Limit(7, 10, 5))]}),
                ("after_fork", 0, {"env": {"BAD": "1"}})):
            worker = template.fork(**how)
            pid = template.spawned()
            message = worker.receive()
            self.assertEqual(message.type, Type.FAIL)
            self.assertEqual(message.need(Tag.STAGE), stage)
            self.assertIn(message.need(Tag.ERRNO), (error, 0))
            self.assertTrue(message.need(Tag.TEXT))
            worker.pid = pid
            self.assertEqual(worker.code(), 1)

    def test_errno_of_another_kind(self):
        """What failed is told, and not forked, whatever its `errno` is."""
        app = ("import reeve, os\nclass Odd(Exception):\n    errno = {odd}\n"
               "@reeve.{hook}\ndef hook():\n    raise Odd('odd')\ndef main():\n    pass\n")
        for odd in ("'EIO'", "1 << 40", "-1 << 40", "None", "2.5"):
            template = self.template(app.format(odd=odd, hook="before_fork"))
            template.fork()
            message = template.receive(Type.FAILED)
            self.assertEqual(message.need(Tag.ERRNO), 0)
            self.assertIn("Odd: odd", message.need(Tag.TEXT))
            template = self.template(app.format(odd=odd, hook="after_fork"))
            worker = template.fork()
            worker.pid = template.spawned()
            message = worker.receive()
            self.assertEqual((message.type, message.need(Tag.ERRNO)), (Type.FAIL, 0))
            self.assertEqual(worker.code(), 1)

    def test_failure_that_cannot_be_told_is_no_fork(self):
        template = self.template("import reeve\nclass Odd(Exception):\n"
                                 "    errno = property(lambda _: 1 / 0)\n"
                                 "@reeve.before_fork\ndef before():\n    raise Odd\n"
                                 "def main():\n    pass\n")
        template.fork()
        template.channel.send(Type.PING, request=9)
        template.receive(Type.PONG)

    def test_bad_messages_end_it(self):
        for send in (lambda t: t.channel.socket.send(b"garbage"),
                     lambda t: t.channel.send(Type.GO),
                     lambda t: t.channel.send(Type.HELLO, (Tag.VERSIONS, (1, 1)))):
            template = self.template("def main():\n    pass\n")
            send(template)
            self.assertEqual(template.process.wait(20), 1)
            self.assertIn("reeve: the daemon broke the protocol", template.said())

    def test_another_version(self):
        self.module("")
        template = self.program()
        template.channel.send(Type.HELLO, (Tag.VERSIONS, (2, 3)), (Tag.MODE, "template"))
        template.receive(Type.HELLO)
        self.assertEqual(template.process.wait(20), 1)
        self.assertIn("versions 2 to 3", template.said())

    def test_without_the_library(self):
        """A package that was copied alone: READY says why nothing can be forked, as of a preload."""
        package = self.dir / "python"
        shutil.copytree(DIR, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        self.module("def main():\n    pass\n")
        for mode in ("template", "seed"):
            template = self.program(argv=[PYTHON, str(package), "template"])
            ready = template.ready(mode=mode, errors="warn", count=2)
            self.assertEqual(ready.all(Tag.PRELOAD), ["libreeve-template.so"])
            self.assertIn('use start_method = "spawn"', ready.need(Tag.ERROR))
            self.assertEqual(template.process.wait(20), 1)

    def test_without_a_channel(self):
        done = subprocess.run([PYTHON, DIR, "template"], cwd=self.dir, stderr=subprocess.PIPE,
                              text=True, check=False, env={"PATH": "/usr/bin"})
        self.assertEqual(done.returncode, 2)
        self.assertIn("reeve-template(7)", done.stderr)

    def test_as_a_module(self):
        """`python3 -m reeve.spawn` where the package is on the path."""
        self.module("def main():\n    return 4\n")
        done = subprocess.run([PYTHON, "-m", "reeve.spawn", "app:main"], cwd=self.dir, check=False,
                              env={"PYTHONPATH": str(DIR), "PYTHONDONTWRITEBYTECODE": "1"})
        self.assertEqual(done.returncode, 4)
