"""start_method "threads": slots are started, heard, asked to end, and named when all is lost."""
from rig import Case, Tag, Type, os, signal

ENTRY = """
import reeve, os, select
def main():
    what = reeve.environ().get('WHAT', '')
    if what == 'wait':
        reeve.ready()
        select.select([reeve.stop_fd], [], [])
        return 5 if reeve.stopping() else 6
    if what == 'term':
        import signal, threading, time
        main = threading.main_thread().native_id
        while open(f'/proc/self/task/{main}/stat').read().split()[2] != 'S':
            time.sleep(0.001)
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        select.select([reeve.stop_fd], [], [])
    if what == 'fail':
        raise ValueError('bad slot')
    if what == 'exit':
        raise SystemExit(9)
    if what == 'crash':
        import ctypes
        ctypes.string_at(0)
    if what == 'say':
        reeve.status('line one\\nline two')
        reeve.progress(3, 4)
        reeve.jobs(2)
        reeve.busy(True)
        reeve.beat()
    return reeve.environ()['REEVE_INDEX'] == '1'
"""


class Threads(Case):
    def host(self, text=ENTRY, **hello):
        self.module(text)
        made = self.program(word="threads", env={"REEVE_WORKER": "web/host"})
        made.ready(mode="threads", count=4, **hello)
        return made

    def start(self, host, index, what="", incarnation=1):
        host.requests += 1
        host.channel.send(Type.START, (Tag.NAME, f"web:{index}"), (Tag.INDEX, index),
                          (Tag.INCARNATION, incarnation), (Tag.ENV, f"WHAT={what}".encode()),
                          request=host.requests)
        return host.requests

    def slot(self, host, state):
        message = host.receive(Type.SLOT)
        self.assertEqual(message.need(Tag.STATE), state, message)
        return message

    def test_life(self):
        host = self.host()
        request = self.start(host, 1)
        started = self.slot(host, "started")
        self.assertEqual((started.request, started.need(Tag.INDEX), started.need(Tag.INCARNATION)),
                         (request, 1, 1))
        self.assertEqual(self.slot(host, "ended").need(Tag.CODE), 1)
        self.start(host, 1, incarnation=2)
        self.assertEqual(self.slot(host, "started").need(Tag.INCARNATION), 2)
        self.slot(host, "ended")
        host.channel.send(Type.QUIT)
        self.assertEqual(host.process.wait(20), 0)

    def test_stop_reaches_one_slot(self):
        host = self.host()
        for index in (0, 1):
            self.start(host, index, "wait")
            self.slot(host, "started")
            self.slot(host, "ready")
        host.channel.send(Type.STOP, (Tag.INDEX, 1), (Tag.INCARNATION, 9))
        host.channel.send(Type.STOP, (Tag.INDEX, 1), (Tag.INCARNATION, 1))
        ended = self.slot(host, "ended")
        self.assertEqual((ended.need(Tag.INDEX), ended.need(Tag.CODE)), (1, 5))
        os.kill(host.pid, signal.SIGTERM)
        ended = self.slot(host, "ended")
        self.assertEqual((ended.need(Tag.INDEX), ended.need(Tag.CODE)), (0, 5))
        self.assertEqual(host.process.wait(20), 0)

    def test_term_that_another_thread_gets(self):
        """The main thread sleeps in poll(), which no signal ends."""
        host = self.host()
        self.start(host, 0, "term")
        self.assertEqual(host.process.wait(20), 0)

    def test_failure_is_the_slots_alone(self):
        host = self.host()
        self.start(host, 2, "fail")
        self.slot(host, "started")
        ended = self.slot(host, "ended")
        self.assertEqual(ended.need(Tag.CODE), 1)
        self.assertTrue(ended.need(Tag.TEXT).endswith("ValueError: bad slot\n"))
        self.assertIn("reeve: web:2 failed", host.said())
        self.start(host, 2, "exit", incarnation=2)
        self.slot(host, "started")
        self.assertEqual(self.slot(host, "ended").need(Tag.CODE), 9)

    def test_what_it_says(self):
        host = self.host()
        self.start(host, 0, "say")
        self.slot(host, "started")
        self.assertEqual(self.slot(host, "started").need(Tag.TEXT), "line one line two")
        self.assertEqual(self.slot(host, "started").need(Tag.PROGRESS), (3, 4))
        self.assertEqual(self.slot(host, "started").need(Tag.JOBS), 2)
        self.assertEqual(self.slot(host, "started").need(Tag.BUSY), 1)
        self.slot(host, "beat")
        self.assertEqual(self.slot(host, "ended").need(Tag.CODE), 0)

    def test_crash_names_the_slot(self):
        """SP24: the process goes as a whole; its last words say whose fault it was."""
        host = self.host()
        self.start(host, 3, "crash")
        self.slot(host, "started")
        self.assertEqual(host.process.wait(20), -signal.SIGSEGV)
        self.assertIn("in slot web:3", host.said())

    def test_names_of_threads(self):
        host = self.host()
        self.start(host, 3, "wait")
        self.slot(host, "started")
        self.slot(host, "ready")
        names = {open(f"/proc/{host.pid}/task/{t}/comm").read().strip()
                 for t in os.listdir(f"/proc/{host.pid}/task")}
        self.assertIn("web:3", names)

    def test_slot_that_still_runs(self):
        host = self.host()
        self.start(host, 0, "wait")
        self.slot(host, "started")
        self.slot(host, "ready")
        request = self.start(host, 0, incarnation=2)
        failed = host.receive(Type.FAILED)
        self.assertEqual((failed.request, failed.need(Tag.TEXT)), (request, "web:0 still runs"))

    def test_a_start_that_is_sent_again_is_a_question(self):
        """The daemon's manager may have died before it noted what it heard."""
        host = self.host()
        self.start(host, 0, "wait")
        self.slot(host, "started")
        self.slot(host, "ready")
        request = self.start(host, 0, "fail")
        told = self.slot(host, "ready")
        self.assertEqual((told.request, told.need(Tag.INCARNATION)), (request, 1))
        self.start(host, 2, "fail")
        self.slot(host, "started")
        ended = self.slot(host, "ended")
        for _ in range(2):
            self.start(host, 2, "wait")
            again = self.slot(host, "ended")
            self.assertEqual((again.need(Tag.CODE), again.need(Tag.TEXT)),
                             (1, ended.need(Tag.TEXT)))
        self.start(host, 2, "wait", incarnation=2)
        self.slot(host, "started")

    def test_nobody_listens(self):
        """News of a worker never wait; what must arrive does."""
        host = self.host("import reeve\ndef main():\n    for n in range(5000):\n"
                         "        reeve.status(n)\n        reeve.beat()\n"
                         "    open('through', 'w').close()\n    return 7\n")
        self.start(host, 0)
        self.slot(host, "started")
        host.channel.send(Type.PING, request=77)
        states = []
        while "ended" not in states:
            message = host.receive()
            if message.type == Type.SLOT:
                states.append(message.need(Tag.STATE))
        self.assertTrue((self.dir / "through").exists())
        self.assertEqual(message.need(Tag.CODE), 7)

    def test_end_of_the_channel(self):
        host = self.host()
        self.start(host, 0, "wait")
        self.slot(host, "started")
        self.slot(host, "ready")
        self.assertEqual(host.end(), 0)
