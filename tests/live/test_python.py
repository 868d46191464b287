"""Python workers: every start method, what may go wrong in user code, and what it costs."""
import os
import pathlib
import random
import signal
import time

from harness import PYTHON, Case, Journal, procs, sanitized, until

SERVE = """
import reeve, select
def main():
    reeve.ready()
    select.select([reeve.stop_fd], [], [])
"""
LISTENER = """
import logging.handlers, queue
listener = logging.handlers.QueueListener(queue.Queue())
listener.start()
"""
# A line of a journal in the format of the harness.
NOTE = """
import os, time
def note(word, text=''):
    with open('journal', 'a') as file:
        file.write(f'{time.monotonic_ns() // 1000} {os.getpid()} {word} {text}\\n')
"""


class Python(Case):
    """Helpers: modules of a test live in its directory, which is the workers' cwd."""

    def setUp(self):
        super().setUp()
        if not os.access(PYTHON, os.X_OK):
            self.skipTest(f"no {PYTHON}")

    def module(self, text, name="app"):
        (self.dir / f"{name}.py").write_text(text)

    def group(self, method="forkserver", text=None, entry="app:main", **keys):
        if text is not None:
            self.module(text)
        return {"entry": entry, "python": PYTHON, "start_method": method, "cwd": str(self.dir),
                "env": {"PYTHONDONTWRITEBYTECODE": "1"}, **keys}

    def web(self, *args, **keys):
        return {"web": self.group(*args, **keys)}

    def need_threads(self):
        self.need_not("eperm", "the C library makes no thread where clone3 answers EPERM")

    def template_pid(self):
        """The process that workers of "web" are forked from, by the name that it gives itself."""
        def find():
            for pid in procs.marked(self.mark, str(self.dir)):
                if procs.comm_of(pid) == "web/template":
                    return pid
            return None
        return until(find, 15, "the template is there")

    def until_text(self, d, text, timeout=15):
        until(lambda: text in d.text(), timeout, f"the daemon says {text}")


class Codes(Python):
    def test_PY03_exception_is_code_1_and_its_traceback_is_the_last_words(self):
        for method in ("spawn", "forkserver"):
            d = self.daemon(self.web(method, "def main():\n    raise ValueError('odd')\n",
                                     restart={"when": "never"}), name=method[:2])
            d.until_worker("web:0", last_exit=lambda e: e and e["code"] == 1)
            until(lambda d=d: "ValueError: odd" in str(d.exits("web:0")), 10, "last words")
            d.stop()


class Template(Python):
    def test_PY01_template_dies_and_workers_do_not(self):
        d = self.daemon(self.web(text=SERVE, workers=3, ready="notify"))
        d.until_all(state="ready")
        before = {n: w["pid"] for n, w in d.workers().items()}
        first = self.template_pid()
        os.kill(first, signal.SIGKILL)
        until(lambda: not procs.alive(first), 5)
        second = self.template_pid()
        self.assertNotEqual(first, second)
        self.assertEqual({n: w["pid"] for n, w in d.workers().items()}, before)
        os.kill(d.pid_of("web:1"), signal.SIGKILL)
        worker = d.until_worker("web:1", state="ready", restarts=1)
        self.assertEqual(worker["last_exit"]["signal"], "KILL")
        for name in ("web:0", "web:2"):
            self.assertEqual(d.worker(name)["pid"], before[name])
        d.stop()

    def test_PY01_template_dies_while_it_loads(self):
        gate = self.dir / "go"
        d = self.daemon(self.web(text=NOTE + "note('load')\nwhile not os.path.exists('go'):\n"
                                 "    time.sleep(0.005)\n" + SERVE, ready="notify"))
        journal = Journal(self.dir / "journal")
        os.kill(d.host(journal.wait("load")[0].pid), signal.SIGKILL)
        journal.wait("load", n=2)
        gate.touch()
        d.until_worker("web:0", state="ready")
        d.stop()

    def test_PY02_interrupt_is_not_for_templates(self):
        d = self.daemon(self.web(text=SERVE, ready="notify"))
        d.until_worker("web:0", state="ready")
        pid = self.template_pid()
        os.kill(pid, signal.SIGINT)
        os.kill(d.pid_of("web:0"), signal.SIGKILL)
        d.until_worker("web:0", state="ready", restarts=1)
        self.assert_alive(pid)
        d.stop()

    def test_PY04_preload_that_starts_a_thread_is_refused(self):
        self.need_threads()
        d = self.daemon(self.web(text=LISTENER + SERVE))
        self.until_text(d, "template web: 2 threads (QueueListener); "
                           "start its thread in @after_fork")
        self.never(lambda: d.worker("web:0")["state"] == "ready", 0.2)
        d.stop()

    def test_PY04_thread_in_after_fork_is_right(self):
        self.need_threads()
        self.module("import logging.handlers, queue, reeve\n@reeve.after_fork\ndef start():\n"
                    "    logging.handlers.QueueListener(queue.Queue()).start()\n" + SERVE)
        d = self.daemon(self.web(ready="notify"))
        d.until_worker("web:0", state="ready")
        d.stop()

    def test_PY04_thread_that_is_allowed(self):
        self.need_threads()
        d = self.daemon(self.web(text=LISTENER + SERVE, ready="notify",
                                 fork_allow_threads=["QueueListener"]))
        d.until_worker("web:0", state="ready")
        d.stop()

    def test_gpu_in_the_template_is_refused(self):
        (self.dir / "dev").mkdir()
        device = self.dir / "dev" / "nvidia0"
        device.touch()
        d = self.daemon(self.web(text=f"gpu = open({str(device)!r})\n" + SERVE))
        self.until_text(d, f'GPU device {device} is open; use start_method = "spawn"')
        d.stop()

    def test_gpu_under_spawn_is_fine(self):
        (self.dir / "dev").mkdir()
        (self.dir / "dev" / "nvidia0").touch()
        d = self.daemon(self.web("spawn", "gpu = open('dev/nvidia0')\n" + SERVE, ready="notify"))
        d.until_worker("web:0", state="ready")
        d.stop()

    def test_file_lock_in_the_template_is_refused(self):
        d = self.daemon(self.web(text="import fcntl\nlock = open('lock', 'w')\n"
                                 "fcntl.flock(lock, fcntl.LOCK_EX)\n" + SERVE))
        self.until_text(d, f"file lock on {self.dir}/lock")
        d.stop()

    def test_fallback_by_spawn(self):
        self.need_threads()
        d = self.daemon(self.web(text=LISTENER + SERVE, ready="notify",
                                 template={"fallback": "spawn"}))
        d.until_worker("web:0", state="ready")
        self.assertEqual(procs.comm_of(d.pid_of("web:0")), "python3")
        d.stop()

    def test_PY14_import_error_is_shown_with_its_traceback(self):
        d = self.daemon(self.web(text="import no_such_module\n" + SERVE))
        self.until_text(d, "ModuleNotFoundError: No module named 'no_such_module'")
        self.never(lambda: d.worker("web:0")["pid"], 0.1)
        d.stop()

    def test_what_cannot_be_loaded_is_said_where_it_is_waited_for(self):
        """The place, what was found there, and what to do, in the row of who waits."""
        self.module("def main():\n    pass\nLIMIT = 7\n")
        odd = self.dir / "odd-python"
        odd.write_text("#!/bin/sh\necho 'this is no interpreter' >&2\nexit 2\n")
        odd.chmod(0o755)
        wrong = {"module": ({"entry": "aap:main"}, "entry aap:main: ModuleNotFoundError: No module "
                            f"named 'aap', neither in {self.dir} (cwd) nor for {PYTHON}; install it, or "
                            "set cwd or PYTHONPATH"),
                 "function": ({"entry": "app:mian"}, 'module "app" has no function "mian"; did you '
                              f'mean "main"? ({self.dir}/app.py)'),
                 "kind": ({"entry": "app:LIMIT"}, '"app:LIMIT" is no function but int; name one'),
                 "preload": ({"preload": ["nunpy"]}, "preload nunpy: ModuleNotFoundError: No module"),
                 "python": ({"python": str(odd)}, "this is no interpreter")}
        methods = ("forkserver", "threads")
        d = self.daemon({f"{name}-{method}": self.group(
            method, restart={"delay": "1h", "max_delay": "1h"}, **keys)
            for name, (keys, _) in wrong.items() for method in methods
            if (name, method) != ("preload", "threads")})
        for name, (_, text) in wrong.items():
            for method in methods:
                if f"{name}-{method}:0" in d.workers():
                    d.until_worker(f"{name}-{method}:0", state="waiting",
                                   status=lambda s, text=text: s and text in s)
        self.assertIn('for function-threads/host; entry app:mian: ImportError: module "app"',
                      d.ctl("status", code=3).out)
        d.stop()

    def test_PY14_exit_while_loading(self):
        d = self.daemon(self.web(text="raise SystemExit(0)\n" + SERVE))
        self.until_text(d, "exit(0) was called while loading app:main")
        d.stop()

    def test_PY14_import_that_takes_for_ever(self):
        d = self.daemon(self.web(text="import time\ntime.sleep(600)\n" + SERVE,
                                 template={"load_timeout": "300ms"}))
        self.until_text(d, "web/template")
        until(lambda: d.text().count("web/template: pid") >= 1, 15, "it was ended")
        d.stop()

    def test_PY14_warn_goes_on(self):
        d = self.daemon(self.web(text=SERVE, preload=["no_such_module"], preload_errors="warn",
                                 ready="notify"))
        d.until_worker("web:0", state="ready")
        d.stop()

    def test_PY14_print_to_the_protocol(self):
        self.module("import os\nfor fd in range(3, 100):\n    try:\n        os.write(fd, b'hello')\n"
                    "    except OSError:\n        pass\n" + SERVE)
        d = self.daemon(self.web(ready="notify"))
        d.until_worker("web:0", state="ready")
        d.stop()


class Life(Python):
    stretch = 2

    def test_PY05_kill_at_random_harms_only_the_killed(self):
        """No lock is shared: whoever is not killed goes on counting."""
        self.module("import reeve\ndef main():\n    reeve.ready()\n    n = 0\n"
                    "    while not reeve.stopping():\n        n += 1\n"
                    "        reeve.progress(n, 1 << 40)\n        reeve.beat()\n"
                    "        import time\n        time.sleep(0.005)\n")
        d = self.daemon(self.web(ready="notify", workers=6, restart={"limit": 0}))
        d.until_all(state="ready")
        dice = random.Random(5)
        for _ in range(20):
            name = f"web:{dice.randrange(1, 6)}"
            d.until_worker(name, state="ready")
            seen = d.until_worker("web:0", progress=bool)["progress"]["done"]
            pid = d.pid_of(name)
            if pid and procs.alive(pid):  # else the last kill hit it, and nobody has heard yet
                procs.kill(pid)
            d.until_worker("web:0", progress=lambda p, s=seen: p and p["done"] > s, restarts=0)
        d.until_all(state="ready")
        d.stop()

    def test_PY06_pool_never_stops_replacing(self):
        """Each life is three tasks long; whatever breaks in between, the next one comes."""
        self.module(NOTE + "import os, reeve, select\ndef main():\n    reeve.ready()\n"
                    "    for n in range(3):\n        note('task', reeve.name())\n"
                    "    if os.path.exists('enough'):\n"
                    "        select.select([reeve.stop_fd], [], [])\n")
        d = self.daemon(self.web(ready="notify", workers=4, restart={"limit": 0, "delay": "1ms",
                                                                     "max_delay": "2ms"}))
        dice = random.Random(6)
        for number in range(1, 5):
            d.until_worker("web:0", 30, incarnation=lambda n, seen=2 * number: n >= seen)
            for pid in filter(None, (w["pid"] for w in d.workers().values())):
                ours = d.host(pid)  # None when it has ended meanwhile
                if dice.random() < 0.5 and ours:
                    procs.kill(ours)
            if number % 4 == 2:
                procs.kill(self.template_pid())
        (self.dir / "enough").touch()
        for name, worker in d.until_all(30, state="ready").items():
            self.assertGreaterEqual(worker["incarnation"], 5, name)
            self.assertEqual(worker["restarts"], worker["incarnation"] - 1, name)
        self.assertGreater(len(Journal(self.dir / "journal").entries("task")), 4 * 3 * 3)
        d.stop()

    def test_PY07_helpers_of_multiprocessing(self):
        """The resource tracker is no worker: no noise, nothing left."""
        self.module("from multiprocessing import shared_memory\nimport reeve, select\n"
                    "def main():\n    memory = shared_memory.SharedMemory(create=True, size=64)\n"
                    "    reeve.ready()\n    select.select([reeve.stop_fd], [], [])\n"
                    "    memory.close()\n    memory.unlink()\n")
        d = self.daemon(self.web(ready="notify"))
        d.until_worker("web:0", state="ready")
        until(lambda: procs.children_of(d.pid_of("web:0")), 10, "the tracker runs")
        d.ctl("stop", "web", code=0)
        self.assertEqual(d.worker("web:0")["last_exit"]["code"], 0)
        self.assertNotIn("leaked", str(d.lines("web")))
        d.stop()

    def test_PY07_a_helper_is_not_the_worker(self):
        """The death of one is no crash, and a warm stop asks the worker alone."""
        self.module(NOTE + "import multiprocessing, reeve, select, signal\n"
                    "from multiprocessing import shared_memory\ndef child(end):\n"
                    "    signal.signal(signal.SIGTERM, lambda *_: note('term'))\n"
                    "    note('child')\n    end.recv()\n    note('told')\ndef main():\n"
                    "    memory = shared_memory.SharedMemory(create=True, size=64)\n"
                    "    context = multiprocessing.get_context('fork')\n"
                    "    here, there = context.Pipe()\n"
                    "    helper = context.Process(target=child, args=(there,))\n"
                    "    helper.start()\n    reeve.ready()\n"
                    "    select.select([reeve.stop_fd], [], [])\n    here.send(0)\n"
                    "    helper.join()\n    memory.close()\n    memory.unlink()\n")
        d = self.daemon(self.web(ready="notify"))
        pid = d.host(d.until_worker("web:0", state="ready")["pid"])
        journal = Journal(self.dir / "journal")
        journal.wait("child")

        def tracker():
            return [p for p in procs.children_of(pid)
                    if "resource_tracker" in procs.read(f"/proc/{p}/cmdline")]
        helper = until(tracker, 10, "the tracker runs")[0]
        procs.kill(helper)
        until(lambda: not procs.alive(helper), 10)
        self.never(lambda: d.worker("web:0")["state"] != "ready", 0.2)
        d.ctl("stop", "web", code=0)
        last = d.worker("web:0")["last_exit"]
        self.assertEqual((last["code"], last["cause"], last["incarnation"]), (0, "stop", 1))
        self.assertEqual([e.word for e in journal.entries()], ["child", "told"])
        d.stop()

    def test_PY08_everything_ends_with_the_keeper(self):
        self.module(NOTE + "import multiprocessing, reeve, select\ndef child():\n    note('child')\n"
                    "    time.sleep(600)\ndef main():\n    reeve.ready()\n"
                    "    multiprocessing.get_context('fork').Process(target=child).start()\n"
                    "    select.select([reeve.stop_fd], [], [])\n")
        d = self.daemon(self.web(ready="notify", workers=2))
        journal = Journal(self.dir / "journal")
        pids = [d.host(e.pid) for e in journal.wait("child", n=2)]
        pids += [d.pid_of(name) for name in d.workers()]
        d.send(signal.SIGKILL)
        d.wait_exit()
        until(lambda: not any(procs.alive(p) for p in pids), 10, "all are gone")

    def test_PY09_stop_while_importing_is_clean(self):
        d = self.daemon(self.web("spawn", NOTE + "note('import')\nwhile True:\n"
                                 "    time.sleep(0.001)\n" + SERVE, ready="notify"))
        Journal(self.dir / "journal").wait("import")
        d.ctl("stop", "web", code=0)
        last = d.worker("web:0")["last_exit"]
        self.assertEqual((last.get("code"), last["cause"]), (0, "stop"))
        d.stop()

    def test_PY10_no_task_is_lost_in_a_warm_stop(self):
        """Taken is done: the journal has as many ends as begins."""
        self.module(NOTE + "import reeve\ndef main():\n    reeve.ready()\n    n = 0\n"
                    "    while not reeve.stopping():\n        note('take', n)\n"
                    "        note('done', n)\n        n += 1\n")
        d = self.daemon(self.web(ready="notify", workers=3))
        d.until_all(state="ready")
        journal = Journal(self.dir / "journal")
        journal.wait("done", n=60)
        d.ctl("stop", "web", code=0)
        self.assertEqual(len(journal.entries("take")), len(journal.entries("done")))
        for name in d.workers():
            self.assertEqual(d.worker(name)["last_exit"]["code"], 0)
        d.stop()

    def test_PY11_long_call_that_never_looks_is_ended(self):
        self.module("import ctypes, reeve\ndef main():\n    reeve.stopping()\n    reeve.ready()\n"
                    "    libc = ctypes.PyDLL(None)\n    while True:\n        libc.pause()\n"
                    "        libc.sigsuspend(ctypes.byref(ctypes.create_string_buffer(128)))\n")
        d = self.daemon(self.web(ready="notify", stop={"timeout": "200ms"}))
        d.until_worker("web:0", state="ready")
        d.ctl("stop", "web", code=0)
        last = d.worker("web:0")["last_exit"]
        self.assertEqual((last.get("signal"), last["cause"]), ("KILL", "stop-timeout"))
        d.stop()

    def test_PY12_children_report_their_codes(self):
        """A preload that ignores SIGCHLD does not make subprocess report 0."""
        self.module("import signal, subprocess\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
                    "def main():\n    return subprocess.call(['sh', '-c', 'exit 7'])\n")
        d = self.daemon(self.web(restart={"when": "never"}))
        d.until_worker("web:0", last_exit=lambda e: e and e["code"] == 7)
        d.stop()

    def test_PY13_nothing_is_doubled_by_the_fork(self):
        self.module("import random, sys, ctypes\nrandom.seed(1)\nlibc = ctypes.CDLL(None)\n"
                    "libc.srand(1)\nsys.stdout.write('loaded once\\n')\nimport reeve, select\n"
                    "def main():\n    print('numbers', random.random(), libc.rand())\n"
                    "    reeve.ready()\n    select.select([reeve.stop_fd], [], [])\n")
        d = self.daemon(self.web(ready="notify", workers=4))
        d.until_all(state="ready")
        until(lambda: str(d.lines("web")).count("numbers") == 4, 10, "all have written")
        text = str(d.lines("web"))
        self.assertEqual(text.count("loaded once"), 1, text)
        numbers = [line.split("numbers ")[1].split() for line in map(str, d.lines("web"))
                   if "numbers " in line]
        for column in zip(*numbers):
            self.assertEqual(len(set(column)), 4, numbers)
        d.stop()

    def test_worker_gets_sockets(self):
        self.module("import reeve, select\ndef main():\n"
                    "    print('named', reeve.sockets()['http'].getsockname(), flush=True)\n"
                    "    reeve.ready()\n    select.select([reeve.stop_fd], [], [])\n")
        for method in ("spawn", "forkserver"):
            d = self.daemon(self.web(method, ready="notify", sockets=[
                {"name": "http", "listen": f"unix://{self.dir}/http"}]), name=method[:2])
            d.until_worker("web:0", state="ready")
            d.stop()
        text = (self.dir / "log" / "web.log").read_text()
        self.assertEqual(text.count("/http\n"), 2, text)

    def test_spawn_for_all_by_one_word(self):
        """REEVE_START_METHOD=spawn!: the same configuration, the same behaviour, no template."""
        self.module("import os, reeve, select\n@reeve.after_fork\ndef after():\n    print('after')\n"
                    "def main():\n    print(reeve.name(), 'frozen' if __import__('gc')."
                    "get_freeze_count() > 1000 else 'fresh')\n    reeve.ready()\n"
                    "    select.select([reeve.stop_fd], [], [])\n    return 3\n")
        said = {}
        for name, env in (("d0", {}), ("d1", {"REEVE_START_METHOD": "spawn!"})):
            d = self.daemon(self.web(ready="notify"), name=name, env=env)
            worker = d.until_worker("web:0", state="ready")
            said[name] = worker["start_method"]
            d.ctl("stop", "web", code=0)
            self.assertEqual(d.worker("web:0")["last_exit"]["code"], 3)
            d.stop()
        self.assertEqual(said, {"d0": "forkserver", "d1": "spawn"})
        text = (self.dir / "log" / "web.log").read_text()
        self.assertEqual((text.count("after"), text.count("frozen"), text.count("fresh")), (2, 1, 1))

    def test_fork_becomes_spawn_by_one_word(self):
        """A program with fork points is the same by spawn: each worker warms up for itself."""
        self.module("import os, reeve, select\ndef main():\n    warmed = os.getpid()\n"
                    "    reeve.fork_point()\n    print(reeve.name(), 'own', warmed == os.getpid())\n"
                    "    reeve.ready()\n    select.select([reeve.stop_fd], [], [])\n    return 3\n")
        said = {}
        for name, env in (("d0", {}), ("d1", {"REEVE_START_METHOD": "spawn!"})):
            d = self.daemon(self.web("fork", workers=3, ready="notify"), name=name, env=env)
            said[name] = [(w["start_method"], w["source"]) for w in d.until_all(state="ready").values()]
            d.ctl("stop", "web", code=0)
            self.assertEqual({w["last_exit"]["code"] for w in d.workers().values()}, {3})
            d.stop()
        self.assertEqual({method for method, _ in said["d0"]}, {"fork"})
        self.assertEqual(set(said["d1"]), {("spawn", "exec")})
        own = [line.rsplit(" ", 1)[1] for line in d.lines("web") if " own " in line]
        self.assertEqual(sorted(own), ["False"] * 2 + ["True"] * 4)

    def test_what_a_seed_has_by_right_is_no_news(self):
        """Its sockets, and the one that it notifies by; what else it has open, is."""
        self.module("import reeve, select\ndef main():\n    reeve.status('warm')\n"
                    "    mine, http = open(__file__), reeve.sockets()['http']\n"
                    "    reeve.fork_point()\n    reeve.status(http.getsockname()[-4:])\n"
                    "    reeve.ready()\n    select.select([reeve.stop_fd], [], [])\n")
        d = self.daemon(self.web("fork", workers=2, ready="notify", sockets=[
            {"name": "http", "listen": f"unix://{self.dir}/http"}]))
        d.until_all(state="ready", status="http")
        d.stop()
        notes = [line for line in d.lines("web") if "is closed in the workers" in line]
        self.assertEqual(len(notes), 1, notes)
        self.assertIn("app.py", notes[0])

    def test_imports_are_found_as_by_hand(self):
        """cwd first, the package last; a module of the user named like one of ours stays theirs."""
        (self.dir / "reeve_user.py").write_text("NAME = 'mine'\n")
        self.module("import sys, os, reeve, reeve_user, select\ndef main():\n"
                    "    print('path', sys.path[0] == os.getcwd(), reeve_user.NAME,\n"
                    "          sys.path[-1] == os.path.dirname(os.path.dirname(reeve.__file__)))\n"
                    "    reeve.ready()\n    select.select([reeve.stop_fd], [], [])\n")
        for method in ("spawn", "forkserver"):
            d = self.daemon(self.web(method, ready="notify"), name=method[:2])
            d.until_worker("web:0", state="ready")
            d.stop()
        text = (self.dir / "log" / "web.log").read_text()
        self.assertEqual(text.count("path True mine True"), 2, text)


class Threads(Python):
    """start_method "threads": slots of one process."""

    def setUp(self):
        super().setUp()
        self.need_threads()

    def test_slots_are_started_named_and_stopped_one_by_one(self):
        self.module("import reeve, select\ndef main():\n    reeve.ready()\n"
                    "    reeve.status('I am ' + reeve.name())\n"
                    "    select.select([reeve.stop_fd], [], [])\n    return 4\n")
        d = self.daemon(self.web("threads", workers=3, ready="notify"))
        d.until_all(state="ready")
        self.assertEqual(len({w["pid"] for w in d.workers().values()}), 1)
        for name in d.workers():
            d.until_worker(name, status=f"I am {name}")
        d.ctl("stop", "web:1", code=0)
        self.assertEqual(d.worker("web:1")["last_exit"]["code"], 4)
        for name in ("web:0", "web:2"):
            self.assertEqual(d.worker(name)["restarts"], 0)
        d.stop()

    def test_slot_that_fails_is_restarted_alone(self):
        self.module("import os, reeve, select\ndef main():\n    reeve.ready()\n"
                    "    if reeve.name() == 'web:1' and not os.path.exists('failed'):\n"
                    "        open('failed', 'w').close()\n        raise ValueError('odd')\n"
                    "    select.select([reeve.stop_fd], [], [])\n")
        d = self.daemon(self.web("threads", workers=3, ready="notify"))
        d.until_worker("web:1", state="ready", restarts=1)
        self.assertEqual(d.worker("web:1")["last_exit"]["code"], 1)
        d.until_all(state="ready")
        self.assertEqual((d.worker("web:0")["restarts"], d.worker("web:2")["restarts"]), (0, 0))
        d.stop()

    def test_SP24_crash_of_a_slot_names_it(self):
        self.module("import ctypes, os, reeve, select\ndef main():\n    reeve.ready()\n"
                    "    while not os.path.exists('crash') or reeve.name() != 'web:2':\n"
                    "        if select.select([reeve.stop_fd], [], [], 0.01)[0]:\n"
                    "            return\n    os.unlink('crash')\n    ctypes.string_at(0)\n")
        d = self.daemon(self.web("threads", workers=3, ready="notify", limits={"core": 0}))
        d.until_all(state="ready")
        (self.dir / "crash").touch()
        until(lambda: "in slot web:2" in procs.read(self.dir / "log" / "web.log"), 15,
              "the crash names the slot")
        d.until_all(state="ready")
        d.stop()


class Memory(Python):
    TABLE = ("import gc, reeve, select\ntable = [[n] for n in range(200000)]\ndef main():\n"
             "    gc.collect()\n    reeve.ready()\n    select.select([reeve.stop_fd], [], [])\n")

    def pss(self, d, template):
        pids = [d.pid_of(name) for name in d.workers()]
        if template:
            pids.append(self.template_pid())
        total = 0
        for pid in pids:
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total

    def test_20_workers_share_what_the_template_loaded(self):
        """Also after each of them has collected garbage: the objects are frozen."""
        self.need_only(("default",), "one is enough for a ratio")
        if sanitized(self.context.build):
            self.leave_out("a sanitizer's memory is another")
        figures = {}
        for method in ("spawn", "forkserver"):
            self.module(self.TABLE)
            d = self.daemon(self.web(method, workers=20, ready="notify"), name=method[:2])
            d.until_all(state="ready", timeout=50)
            figures[method] = self.pss(d, method == "forkserver")
            d.stop()
        self.assertLess(figures["forkserver"] * 3, figures["spawn"], figures)


class Speed(Python):
    def test_start_of_many_is_faster_than_by_spawn(self):
        """A ratio with a wide margin; tests/bench/methods.py has the figures."""
        self.need_only(("default",), "one is enough for a ratio")
        text = "import asyncio, email.message, http.client, sqlite3, ssl, unittest\n" + SERVE
        took = {}
        for method in ("spawn", "forkserver"):
            d = self.daemon(self.web(method, text, workers=0, ready="notify"), name=method[:2])
            if method == "forkserver":
                d.ctl("scale", "web", "1", code=0)
                d.until_worker("web:0", state="ready")
            begin = time.monotonic()
            d.ctl("scale", "web", "20", code=0)
            d.until_all(state="ready", timeout=40)
            took[method] = time.monotonic() - begin
            d.stop()
        self.assertLess(took["forkserver"] * 2, took["spawn"], took)
