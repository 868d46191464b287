"""Unmodified Debian servers as workers: conf/examples/real.conf as it is, from start to stop."""
import os
import re
import shutil
import signal
import socket

import harness
import procs
import servers
from harness import until
from servers import SERVERS

EXAMPLES = harness.pathlib.Path(__file__).resolve().parents[2] / "conf/examples"


class Programs(harness.Case):
    def setUp(self):
        super().setUp()
        self.need_root()
        if servers.missing():
            self.skipTest("not installed: " + ", ".join(servers.missing()))
        servers.own_network()
        shutil.copytree(EXAMPLES, self.dir / "examples")
        self.made = self.daemon(None, start=False)
        self.made.file = self.dir / "examples/real.conf"
        self.made.run = self.dir / "examples/run"
        self.made.socket = self.made.run / "control.sock"

    def edit(self, old, new):
        """Change the configuration; the words must be there once."""
        text = self.made.file.read_text()
        self.assertEqual(text.count(old), 1, old)
        self.made.write(text.replace(old, new))

    def only(self, *groups):
        """Leave the other servers out."""
        text = self.made.file.read_text()
        for group in SERVERS.keys() - set(groups):
            text, n = re.subn(rf"^(\t{group}: {{)$", r"\1 enabled = false;", text, flags=re.M)
            self.assertEqual(n, 1, group)
        self.made.write(text)

    def begin(self, *groups):
        """Start the daemon; all these servers become ready and answer."""
        self.made.start()
        for group in groups or SERVERS:
            self.made.until_worker(f"{group}:0", 60, state="ready")
            self.assert_answers(group)
        return self.made

    def assert_answers(self, group):
        """One that does not notify is ready when it has lived a while: it may yet be about to listen."""
        _, _, notifies, ask, answer = SERVERS[group]

        def answers():
            try:
                return ask()
            except OSError:
                if notifies:
                    raise
                return None
        said = until(answers, 10, f"{group} answers")
        self.assertIn(answer, said, group)

    def pids(self):
        return {name: worker["pid"] for name, worker in self.made.workers().items()
                if worker.get("pid")}

    def check_nothing_left(self):
        self.made.check_gone()
        held = [port for _, port, *_ in SERVERS.values() if servers.bound(port)]
        self.assertEqual(held, [], "ports are held")
        state = self.dir / "examples/state"
        self.assertFalse((state / "nginx/nginx.pid").exists())
        self.assertFalse((state / "postgres/postmaster.pid").exists())

    # --- tests -------------------------------------------------------------------------------

    def test_all_become_ready_serve_and_stop(self):
        self.begin()
        workers = self.made.workers()
        self.assertEqual(workers["prepare:0"]["state"], "done")
        self.assertIn("Ready to accept connections", workers["redis:0"]["status"])
        self.made.ctl("status", code=0)
        self.assertIn("GET /", "".join(self.made.ctl("logs", "gunicorn", code=0).out))
        self.made.stop(timeout=60)
        self.check_nothing_left()

    def kill_main(self, group):
        """kill -9 of a server's main process: its whole tree is replaced, and it serves again."""
        self.only(group)
        daemon = self.begin(group)
        before = daemon.worker(f"{group}:0")
        tree = [before["pid"], *procs.children_of(before["pid"])]
        os.kill(before["pid"], signal.SIGKILL)
        after = daemon.until_worker(f"{group}:0", 60, state="ready",
                                    incarnation=before["incarnation"] + 1)
        self.assertEqual(after["last_exit"]["signal"], "KILL")
        self.assertEqual(after["restarts"], 1)
        for pid in tree:
            self.assert_gone(pid, f"of {group}'s first life")
        self.assert_answers(group)
        daemon.stop(timeout=60)
        self.check_nothing_left()

    def test_manager_killed_nobody_notices(self):
        daemon = self.begin()
        daemon.roles_may_die = True
        before = self.pids()
        os.kill(daemon.role("manager"), signal.SIGKILL)
        until(lambda: self.try_pids() == before, 15, "the next manager knows the same workers")
        for group in SERVERS:
            self.assert_answers(group)
        daemon.stop(timeout=60)
        self.check_nothing_left()

    def try_pids(self):
        try:
            return self.pids()
        except OSError:
            return None

    def test_keeper_killed_nothing_survives_and_the_next_start_is_clean(self):
        daemon = self.begin()
        servers.sql("create table kept (n int); insert into kept values (7)")
        daemon.roles_may_die = True
        tree = set(self.pids().values())
        os.kill(daemon.pid, signal.SIGKILL)
        self.assertEqual(daemon.wait_exit(), 137)
        for pid in tree:
            until(lambda pid=pid: not procs.alive(pid), 10, f"{pid} ends with its keeper")
        # PostgreSQL takes a zombie for a running postmaster, and here they are our children.
        until(lambda: reap() == 0, 10, "everything that came to us is reaped")
        self.begin()
        self.assertEqual(servers.sql("select n from kept"), "7")
        daemon.stop(timeout=60)
        self.check_nothing_left()

    def test_reload_renews_the_changed_group_only(self):
        daemon = self.begin()
        before = self.pids()
        self.edit('GREETING = "good morning"', 'GREETING = "good evening"')
        plan = daemon.ctl("plan", code=3).out
        self.assertRegex(plan, r"gunicorn: renew, env\.GREETING")
        self.assertNotRegex(plan, r"(?m)^(nginx|redis|postgres|memcached|haproxy)\b.*(renew|live)")
        daemon.ctl("reload", code=0, timeout=60)
        after = self.pids()
        changed = [name for name in before if before[name] != after.get(name)]
        self.assertEqual(changed, ["gunicorn:0"])
        self.assertIn("good evening from gunicorn", servers.http(18000))
        daemon.stop(timeout=60)

    def test_reload_with_an_error_changes_nothing(self):
        self.only("nginx", "redis")
        daemon = self.begin("nginx", "redis")
        before, dump = self.pids(), daemon.ctl("dump", code=0).out
        self.edit('"--port", "16379"', '"--port" "16379"')
        refused = daemon.ctl("reload", code=78)
        self.assertRegex(refused.out + refused.err, r"real\.conf:\d+")
        self.edit('"--port" "16379"', '"--port", "16379"')
        self.assertEqual(self.pids(), before)
        self.assertEqual(daemon.ctl("dump", code=0).out, dump)
        for group in ("nginx", "redis"):
            self.assert_answers(group)
        daemon.stop(timeout=60)

    def test_gunicorn_stopped_refuses_no_connection(self):
        """The daemon holds the socket: whoever connects meanwhile waits, and is answered."""
        self.only("gunicorn")
        daemon = self.begin("gunicorn")
        # which gives its workers half a minute, sometimes all of it
        daemon.ctl("stop", "gunicorn", code=0, timeout=60)
        with socket.create_connection((servers.HOST, 18000), 10) as early:
            early.sendall(b"GET / HTTP/1.0\r\n\r\n")
            daemon.ctl("start", "gunicorn", code=0)
            self.assertIn(b"200 OK", early.recv(4096))
        daemon.stop(timeout=60)


def reap():
    """Reaps the dead children of this process; how many there were."""
    n = 0
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            n += 1
    except ChildProcessError:
        pass
    return n


def add_kill_tests():
    for group in SERVERS:
        def test(self, group=group):
            self.kill_main(group)
        test.__doc__ = Programs.kill_main.__doc__
        setattr(Programs, f"test_{group}_killed_is_replaced", test)


add_kill_tests()
