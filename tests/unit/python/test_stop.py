"""PY09, PY10: the wish to end is a flag; what TERM does in each part of a worker's life."""
from rig import Case, DIR, PYTHON, Type, os, pathlib, readable, signal, subprocess

import shutil


class Spawned:
    """A worker under spawn, with its output."""

    def __init__(self, case, text, where=DIR, **env):
        case.module(text)
        self.process = subprocess.Popen(
            [PYTHON, where, "spawn", "app:main"], cwd=case.dir, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            env={"PATH": "/usr/bin:/bin", "REEVE_WORKER": "web:0", "PYTHONDONTWRITEBYTECODE": "1",
                 **env})
        case.addCleanup(self.close)

    def line(self):
        return self.process.stdout.readline().rstrip("\n")

    def term(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self

    def end(self):
        text, _ = self.process.communicate(timeout=20)
        return text, self.process.returncode

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


# A signal between the last bytecode and select(): the list of fds is made in C, and sends it.
SLEEP = """
import ctypes, itertools, os, reeve, select, signal
send = getattr(ctypes.PyDLL(None), "raise")
def sleep(fd, number):
    select.select(itertools.chain([fd], filter(None, map(send, [int(number)]))), [], [])
"""
WAIT = "import time\nwhile True:\n    time.sleep(0.001)\n"


class Stop(Case):
    def test_while_importing(self):
        worker = Spawned(self, "print('importing', flush=True)\n" + WAIT)
        self.assertEqual(worker.line(), "importing")
        self.assertEqual(worker.term().end(), ("", 0))

    def test_in_the_entry_it_is_the_default(self):
        """A program that never looks at the flag ends at once."""
        worker = Spawned(self, "import signal\ndef main():\n    print('up')\n    signal.pause()\n")
        worker.line()
        self.assertEqual(worker.term().end(), ("", -signal.SIGTERM))

    def test_in_a_long_call_of_c(self):
        """PY11: without the flag nothing has to be looked at."""
        worker = Spawned(self, "import ctypes\ndef main():\n    print('up')\n"
                               "    ctypes.PyDLL(None).pause()\n")
        worker.line()
        self.assertEqual(worker.term().end(), ("", -signal.SIGTERM))

    def test_flag(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            worker = Spawned(self, "import reeve, time\ndef main():\n    reeve.stopping()\n"
                                   "    print('up')\n    while not reeve.stopping():\n"
                                   "        time.sleep(0.001)\n    print('done')\n"
                                   "    return 3\n")
            worker.line()
            self.assertEqual(worker.term(number).end(), ("done\n", 3))

    def test_nothing_is_raised(self):
        """PY10: every task taken is a task done, however often the worker is told to end."""
        worker = Spawned(self,
                         "import collections, os, reeve, signal\n"
                         "def main():\n    todo, done = collections.deque(range(20000)), []\n"
                         "    reeve.stopping()\n    pid = os.getpid()\n"
                         "    for n in range(20000):\n"
                         "        if n % 20 == 0:\n            os.kill(pid, signal.SIGTERM)\n"
                         "        done.append(todo.popleft())\n"
                         "    print(len(done), len(todo), reeve.stopping())\n")
        self.assertEqual(worker.end(), ("20000 0 True\n", 0))

    def test_fd(self):
        worker = Spawned(self, "import reeve, select\ndef main():\n    fd = reeve.stop_fd\n"
                               "    print('up')\n    print(select.select([fd], [], [])[0] == [fd],"
                               " reeve.stopping(), reeve.stop_fd == fd)\n")
        worker.line()
        self.assertEqual(worker.term().end(), ("True True True\n", 0))

    def test_fd_right_before_it_is_waited_for(self):
        """The signal comes in C code that goes on to sleep: no bytecode runs Python's handler."""
        for number in (signal.SIGTERM, signal.SIGINT):
            worker = Spawned(self, SLEEP + "def main():\n"
                                   f"    sleep(reeve.stop_fd, {int(number)})\n"
                                   "    return 3 if reeve.stopping() else 4\n")
            self.assertEqual(worker.end(), ("", 3))

    def test_fd_right_before_it_is_waited_for_in_a_forked_worker(self):
        for early in (False, True):  # the template had a flag of its own
            template = self.template(
                SLEEP + f"if {early}:\n    reeve.stop_fd\n"
                "def main():\n    sleep(reeve.stop_fd, signal.SIGTERM)\n"
                "    return 3 if reeve.stopping() else 4\n", env={"REEVE_WORKER": "web/template"})
            for _ in range(2):
                self.assertEqual(template.run(), ("", 3))

    def test_flag_is_set_when_the_fd_wakes_another_thread(self):
        """The main thread sleeps, so that Python's handler has not run."""
        worker = Spawned(self, SLEEP +
                         "import threading\ndef work():\n    select.select([fd], [], [])\n"
                         "    print(reeve.stopping())\n    os.write(into, b'x')\n"
                         "def main():\n    global fd, into\n    fd = reeve.stop_fd\n"
                         "    out, into = os.pipe()\n"
                         "    threading.Thread(target=work).start()\n"
                         "    sleep(out, signal.SIGTERM)\n")
        self.assertEqual(worker.end(), ("True\n", 0))

    def test_other_signals_do_not_wake_the_fd(self):
        worker = Spawned(self, SLEEP + "def main():\n    fd, got = reeve.stop_fd, []\n"
                               "    signal.signal(signal.SIGHUP, lambda *_: got.append(1))\n"
                               "    os.kill(os.getpid(), signal.SIGHUP)\n"
                               "    print(got, select.select([fd], [], [], 0)[0],"
                               " reeve.stopping())\n")
        self.assertEqual(worker.end(), ("[1] [] False\n", 0))

    def test_loops_with_a_wakeup_fd(self):
        """asyncio takes it, and leaves none behind: the flag, its fd and handlers in the loop work."""
        main = ("import asyncio\nasync def wait():\n    loop = asyncio.get_running_loop()\n"
                "    woken = asyncio.Event()\n    {0}\n"
                "    os.kill(os.getpid(), signal.SIGTERM)\n    await woken.wait()\n"
                "def main():\n    fd = reeve.stop_fd\n    asyncio.run(wait())\n"
                "    print(reeve.stopping(), select.select([fd], [], [], 0)[0] == [fd])\n")
        for how, said in (("loop.add_reader(fd_of(), woken.set)", "True True"),
                          ("loop.add_signal_handler(signal.SIGTERM, woken.set)", "False False")):
            worker = Spawned(self, SLEEP + "def fd_of():\n    return reeve.stop_fd\n"
                             + main.format(how))
            self.assertEqual(worker.end(), (said + "\n", 0))

    def test_fd_after_a_loop_took_and_left_the_wakeup_fd(self):
        worker = Spawned(self, SLEEP + "import asyncio\ndef main():\n    fd = reeve.stop_fd\n"
                               "    asyncio.run(asyncio.sleep(0))\n"
                               "    sleep(fd, signal.SIGTERM)\n    print(reeve.stopping())\n")
        self.assertEqual(worker.end(), ("True\n", 0))

    def test_fd_without_the_library(self):
        """The package alone: the flag and the fd are Python's."""
        shutil.copytree(pathlib.Path(DIR) / "reeve", self.dir / "alone" / "reeve")
        shutil.copy(pathlib.Path(DIR) / "__main__.py", self.dir / "alone")
        worker = Spawned(self, "import reeve, select\ndef main():\n    fd = reeve.stop_fd\n"
                               "    print('up')\n    select.select([fd], [], [])\n"
                               "    print(reeve.stopping())\n", where=self.dir / "alone")
        worker.line()
        self.assertEqual(worker.term().end(), ("True\n", 0))

    def test_first_use_in_another_thread(self):
        worker = Spawned(self,
                         "import reeve, select, threading\ndef work():\n"
                         "    fd = reeve.stop_fd\n    installed.wait()\n    print('up')\n"
                         "    select.select([fd], [], [])\n    print('done')\n"
                         "installed = threading.Event()\n"
                         "def main():\n    import signal, time\n"
                         "    thread = threading.Thread(target=work)\n    thread.start()\n"
                         "    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:\n"
                         "        time.sleep(0.001)\n    installed.set()\n    thread.join()\n")
        self.assertEqual(worker.line(), "up")
        self.assertEqual(worker.term().end(), ("done\n", 0))

    def test_program_with_a_handler_of_its_own(self):
        worker = Spawned(self, "import reeve, signal, sys, time\ndef main():\n"
                               "    signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
                               "    print(reeve.stopping())\n    while True:\n"
                               "        time.sleep(0.001)\n")
        self.assertEqual(worker.line(), "False")
        self.assertEqual(worker.term().end(), ("", 9))

    def test_handler_set_while_importing(self):
        worker = Spawned(self, "import signal, sys, time\n"
                               "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
                               "def main():\n    print('up')\n    while True:\n"
                               "        time.sleep(0.001)\n")
        worker.line()
        self.assertEqual(worker.term().end(), ("", 9))

    def test_in_teardown(self):
        """PY09: the code of the entry stands."""
        for use in ("", "reeve.stopping()"):
            worker = Spawned(self, "import atexit, os, reeve, signal\ndef late():\n"
                                   "    os.kill(os.getpid(), signal.SIGTERM)\n"
                                   "    print('atexit')\n"
                                   f"def main():\n    {use}\n    atexit.register(late)\n"
                                   "    return 6\n")
            self.assertEqual(worker.end(), ("atexit\n", 6))

    def test_children_get_the_default(self):
        worker = Spawned(self, "import os, reeve, signal\ndef main():\n    reeve.stopping()\n"
                               "    child = os.fork()\n    if child == 0:\n"
                               "        os.kill(os.getpid(), signal.SIGTERM)\n"
                               "        os._exit(5)\n"
                               "    print(os.waitpid(child, 0)[1], reeve.stopping())\n")
        self.assertEqual(worker.end(), ("15 False\n", 0))

    def test_programs_of_the_worker_get_the_default(self):
        worker = Spawned(self, "import reeve, subprocess\ndef main():\n    reeve.stopping()\n"
                               "    print(subprocess.run(['sh', '-c', 'kill -TERM $$'])."
                               "returncode)\n")
        self.assertEqual(worker.end(), ("-15\n", 0))

    def test_waiting_for_go(self):
        template = self.template("def main():\n    print('ran')\n")
        worker = template.fork()
        template.spawned()
        worker.born()
        os.kill(worker.pid, signal.SIGTERM)
        self.assertEqual((worker.text(), worker.code()), ("", 0))

    def test_flag_in_a_forked_worker(self):
        template = self.template("import reeve, select\ndef main():\n    fd = reeve.stop_fd\n"
                                 "    print('up')\n    select.select([fd], [], [])\n"
                                 "    return 3 if reeve.stopping() else 4\n")
        worker = template.fork()
        template.spawned()
        worker.born().go()
        self.assertEqual(worker.line(), "up")
        os.kill(worker.pid, signal.SIGTERM)
        self.assertEqual(worker.code(), 3)

    def test_stop_while_waiting_for_go(self):
        template = self.template("def main():\n    print('ran')\n")
        worker = template.fork()
        template.spawned()
        worker.born().channel.send(Type.STOP)
        self.assertEqual((worker.text(), worker.code()), ("", 0))
        self.assertTrue(readable(worker.channel.socket))
