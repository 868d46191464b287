"""
The keeper killed at each of its points, and every role at the points of the beginning and the end.

When the keeper dies every tree ends, and the next start begins clean; a shutdown goes on whatever
manager and logger die of.
"""
import os
import random
import time

import procs
import test_walk
from harness import signal, until

GONE_S = 10
BEGIN, END = ("boot.",), ("end.", "phase.", "gone.")
OTHERS = {"phase.ack", "phase.acked", "gone.set", "gone.told"}  # not of the keeper


class Ends(test_walk.Workload):
    """A new daemon in the same directory for each point."""

    def fresh(self, wait=True):
        self.epoch += 1
        self.d = self.daemon(self.whole(), start=False,
                             env={"REEVE_FAILPOINTS": str(self.fp.path)})
        self.d.roles_may_die = True
        self.d.launch()
        if wait:
            until(lambda: self.answers(), 20, "it answers")
            self.settle()

    def answers(self):
        if self.d.poll() is not None:
            self.fail(f"reeved ended with {self.d.code}: {self.d.text()[-3000:]}")
        try:
            return self.d.call("Version")
        except (OSError, EOFError):
            return None

    def assert_all_gone(self, what):
        """Nothing runs unsupervised."""
        until(lambda: self.d.poll() is not None, GONE_S, f"{what}: the keeper is dead")
        until(lambda: not self.d.survivors(), GONE_S, f"{what}: "
              f"{[procs.describe(p) for p in self.d.survivors()]}")

    def end_clean(self):
        self.fp.disarm_all()
        self.oracles.check_single()
        self.d.send(signal.SIGTERM)
        self.assertEqual(self.d.wait_exit(20), 0, self.d.text()[-3000:])
        self.d.check_gone()

    def hits_of(self, act):
        before = self.fp.all_hits()
        act()
        return {p for p, n in self.fp.all_hits().items() if n > before[p]}

    def stop(self):
        self.d.send(signal.SIGTERM)
        self.d.wait_exit(20)

    def each(self, points):
        """Those that there is time for."""
        points = sorted(points)
        if test_walk.SECONDS:
            random.Random(test_walk.draw()).shuffle(points)
        end = time.monotonic() + test_walk.SECONDS if test_walk.SECONDS else None
        for point in points:
            if end and time.monotonic() > end:
                return
            if any(word in point for word in test_walk.ONLY):
                self.point = point
                yield point

    def report(self, done, wanted):
        self.assertEqual(self.complaints, [], "\n" + "\n".join(self.complaints))
        print(f"ends {self.id().rpartition('.')[2]} ({self.mode}): {done} of {wanted} walked",
              flush=True)

    def role_points(self, roles):
        return {name for role, name in self.fp.points if role in roles}

    def test_keeper_killed_at_each_point(self):
        self.prepare()
        self.point = None
        self.fresh()
        where = {}
        for op in ("do_crash", "do_restart", "do_stop_and_start", "do_scale", "do_reload",
                   "do_manager", "do_leader_dies"):
            for point in self.hits_of(lambda: self.run_op(op)) & self.role_points("K"):
                where.setdefault(point, op)
        begin = {p for p in self.role_points("K") if p.startswith(BEGIN)}
        end = self.hits_of(self.stop) & self.role_points("K")
        wanted = begin | end | set(where)
        self.assert_missed(self.role_points("K") - wanted)
        done = 0
        for point in self.each(wanted):
            try:
                self.kill_keeper(point, where.get(point), point in begin)
            except (AssertionError, TimeoutError, OSError) as error:
                self.complaints.append(f"{point}: {str(error)[:1500]}")
            done += 1
        self.report(done, len(wanted))

    def kill_keeper(self, point, op, at_start):
        if at_start:
            self.fp.arm(point, "kill")
            self.fresh(wait=False)
        else:
            self.fresh()
            self.fp.arm(point, "kill")
            self.act_until_dead(op)
        if point.startswith("role."):  # no manager is there to mourn: the next start does it
            until(lambda: self.d.poll() is not None, GONE_S)
        else:
            self.assert_all_gone(point)
        self.assertTrue(self.fp.happened(point))
        self.fp.disarm_all()
        self.fresh()
        self.assertEqual(self.of_earlier_lives(), [], "left by the daemon before")
        self.look()
        self.end_clean()

    def of_earlier_lives(self):
        now = f"EPOCH={self.epoch}\0"
        return [procs.describe(p) for p in self.d.survivors()
                if "EPOCH=" in (text := procs.read(f"/proc/{p}/environ")) and now not in text]

    def act_until_dead(self, op):
        """The operation that passes the point, or the end of the daemon; nobody answers."""
        if op is None:
            self.d.send(signal.SIGTERM)
            return
        pid = os.fork()
        if pid == 0:
            try:
                getattr(self, op)()
            finally:
                os._exit(0)
        try:
            until(lambda: self.d.poll() is not None, 20, f"{op} passes {self.point}")
        finally:
            procs.kill(pid)
            os.waitpid(pid, 0)

    def test_manager_or_logger_killed_while_it_ends(self):
        self.prepare()
        self.point = None
        self.fresh()
        wanted = self.hits_of(self.stop) & self.role_points("ML")
        self.assertLessEqual(OTHERS, wanted)
        done = 0
        for point in self.each(wanted):
            self.fresh()
            self.fp.arm(point, "kill")
            try:
                self.d.send(signal.SIGTERM)
                self.assertEqual(self.d.wait_exit(20), 0)
                self.d.check_gone()
                self.oracles.check_single()
                self.oracles.check_lines("steady", "web", "extra")
            except AssertionError as error:
                self.complaints.append(f"{point}: {str(error)[:1500]}")
            self.fp.disarm_all()
            done += 1
        self.report(done, len(wanted))
