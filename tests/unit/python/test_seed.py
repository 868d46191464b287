"""start_method "fork": the seed works, warms up, and is copied at its fork point."""
from rig import Case, Tag, Type, os, readable, signal

WARM = """
import os, reeve, signal
cache = {}
def main():
    for n in range(1000):
        cache[n] = n * n
    print('warm', os.environ.get('REEVE_WORKER'), flush=True)
    index = reeve.fork_point()
    print('worker', index, len(cache), reeve.name(), flush=True)
    return 10 + index
"""


class Seed(Case):
    def seed(self, text=WARM, count=3, **hello):
        self.module(text)
        made = self.program(env={"REEVE_WORKER": "web:0", "REEVE_INDEX": "0"})
        made.ready(mode="seed", count=count, **hello)
        return made

    def test_siblings(self):
        seed = self.seed()
        for index in (1, 2):
            worker = seed.fork(f"web:{index}")
            seed.spawned()
            worker.born()
            self.assertFalse(readable(worker.output, 0))
            worker.go()
            self.assertEqual((worker.text(), worker.code()),
                             (f"worker {index} 1000 web:{index}\n", 10 + index))
        self.assertEqual(seed.process.wait(20), 10)
        self.assertEqual(seed.said(), "warm web:0\nworker 0 1000 web:0\n")

    def test_none_is_wanted(self):
        for send in (lambda s: s.channel.send(Type.PING, request=1),
                     lambda s: s.channel.send(Type.QUIT), lambda s: s.channel.close()):
            seed = self.seed()
            send(seed)
            self.assertEqual(seed.process.wait(20), 10)

    def test_alone(self):
        self.assertEqual(self.seed(count=1).process.wait(20), 10)

    def test_later_fork_point(self):
        """A sibling that is replaced comes from the next fork point, and nobody waits for it."""
        seed = self.seed("import os, reeve, sys\ndef main():\n    rounds = 0\n"
                         "    while not os.path.exists('stop'):\n"
                         "        if reeve.fork_point() != 0:\n"
                         "            print('sibling', rounds > 0)\n            return 7\n"
                         "        rounds += 1\n    return 3\n", count=2)
        first = seed.fork("web:1")
        seed.spawned()
        first.born().go()
        self.assertEqual((first.text(), first.code()), ("sibling False\n", 7))
        second = seed.fork("web:1")
        seed.spawned()
        second.born().go()
        self.assertEqual((second.text(), second.code()), ("sibling True\n", 7))
        (self.dir / "stop").touch()
        self.assertEqual(seed.process.wait(20), 3)

    def test_unsafe(self):
        """A seed with threads says so and works on alone."""
        seed = self.seed("import reeve, threading\ndef main():\n    done = threading.Event()\n"
                         "    threading.Thread(target=done.wait, name='feeder').start()\n"
                         "    reeve.fork_point()\n    done.set()\n    return 4\n", count=2)
        text = "2 threads (feeder); start its thread after fork_point()"
        self.assertEqual(seed.receive(Type.UNSAFE).all(Tag.TEXT), [text])
        self.assertEqual(seed.process.wait(20), 4)

    def test_out_of_descriptors(self):
        """The call is nothing then, and the next one is as good as the first."""
        seed = self.seed("import reeve\nfrom resource import RLIMIT_NOFILE, getrlimit, setrlimit\n"
                         "def main():\n    soft, hard = getrlimit(RLIMIT_NOFILE)\n"
                         "    setrlimit(RLIMIT_NOFILE, (3, hard))\n"
                         "    print([reeve.fork_point(), reeve.fork_point()], flush=True)\n"
                         "    setrlimit(RLIMIT_NOFILE, (soft, hard))\n"
                         "    return 10 + reeve.fork_point()\n", count=2)
        worker = seed.fork("web:1")
        seed.spawned()
        worker.born().go()
        self.assertEqual(worker.code(), 11)
        self.assertEqual(seed.process.wait(20), 10)
        said = seed.said()
        self.assertEqual((said.count("fork_point: [Errno 24]"), said.count("[0, 0]")), (1, 1), said)

    def test_stopping_before_fork_point(self):
        """The descriptor that wakes a waiting seed is no stranger to its own look."""
        seed = self.seed("import reeve\ndef main():\n    reeve.stopping()\n"
                         "    return 10 + reeve.fork_point()\n", count=2)
        worker = seed.fork("web:1")
        seed.spawned()
        worker.born().go()
        self.assertEqual(worker.code(), 11)
        self.assertEqual(seed.process.wait(20), 10)

    def test_stop_while_waiting(self):
        seed = self.seed("import reeve\ndef main():\n    reeve.stopping()\n    reeve.fork_point()\n"
                         "    return 5 if reeve.stopping() else 6\n", count=2)
        os.kill(seed.pid, signal.SIGTERM)
        self.assertEqual(seed.process.wait(20), 5)

    def test_flag_and_handlers_of_a_sibling(self):
        """It goes on in the middle of a program: what that has set up still holds."""
        seed = self.seed("import reeve, select, signal\nusr = []\ndef main():\n"
                         "    fd = reeve.stop_fd\n"
                         "    signal.signal(signal.SIGUSR1, lambda *_: usr.append(1))\n"
                         "    reeve.fork_point()\n    print('up', flush=True)\n"
                         "    signal.raise_signal(signal.SIGUSR1)\n"
                         "    select.select([fd], [], [])\n"
                         "    return len(usr) + 1 if reeve.stopping() else 9\n", count=2)
        worker = seed.fork("web:1")
        seed.spawned()
        worker.born().go()
        self.assertEqual(worker.line(), "up")
        os.kill(worker.pid, signal.SIGTERM)
        self.assertEqual(worker.code(), 2)
        self.assertIsNone(seed.process.poll())
        seed.process.terminate()
        self.assertEqual(seed.process.wait(20), 2)

    def test_fork_point_in_a_sibling_is_nothing(self):
        seed = self.seed("import reeve\ndef main():\n    return reeve.fork_point() * 10 + "
                         "reeve.fork_point()\n", count=2)
        worker = seed.fork("web:1")
        seed.spawned()
        worker.born().go()
        self.assertEqual(worker.code(), 11)

    def test_import_error(self):
        self.module("import no_such_module\n")
        seed = self.program()
        ready = seed.ready(mode="seed", count=2)
        self.assertIn("no_such_module", ready.need(Tag.ERROR))
        self.assertEqual(seed.process.wait(20), 1)
