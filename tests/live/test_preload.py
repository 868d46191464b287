"""What user code does to its template, and what befalls one: nobody else suffers, workers are clean."""
import ctypes
import os

from harness import costly, procs, until
from test_template import TemplateCase

FACTS = """
import json, resource
def facts():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    umask = os.umask(0)
    os.umask(umask)
    name = "facts-" + os.environ["REEVE_GROUP"]
    with open(name + ".new", "w") as file:
        json.dump([status["SigBlk"].strip(), status["SigIgn"].strip(), umask, os.getcwd(),
                   resource.getrlimit(resource.RLIMIT_NOFILE), os.getuid(), os.nice(0),
                   os.getsid(0) == os.getpid()], file)
    os.rename(name + ".new", name)
    print("written", flush=True)
    time.sleep(1000)
"""
CHANGES = """
import resource
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
os.chdir("/")
os.umask(0o777)
if os.getuid() == 0:  # nobody else can take it back
    os.nice(3)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
try:
    os.setsid()
except PermissionError:
    pass
os.close(1)
os.close(2)
"""
# what a preload does -> what the daemon says of it
FATAL = {
    "daemonise": ("if os.fork():\n    os._exit(0)\nos.setsid()\n", "ended with code 0"),
    "eat": ("resource = __import__('resource')\n"
            "resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29))\n"
            "table = bytearray(10 << 30)\n", "MemoryError"),
    "few": ("resource = __import__('resource')\n"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))\n", ""),
}


class Preload(TemplateCase):
    @costly("user")
    def test_nothing_of_a_preload_reaches_a_worker(self):
        for name, top in (("changed", CHANGES + FACTS), ("plain", FACTS)):
            self.app(top, name)
        how = {"cwd": str(self.dir), "umask": "0027"}
        for nice in (0, 7):  # what FORK says of niceness depends on the daemon's
            d = self.forked({"changed": self.group("changed:facts", preload=["changed"], **how),
                             "plain": self.group("plain:facts", start_method="spawn", **how)},
                            name=f"nice{nice}", before=lambda nice=nice: os.nice(nice))
            seen = [self.dump(self.dir / f"facts-{name}") for name in ("changed", "plain")]
            self.assertEqual(*seen)
            until(lambda d=d: "written" in d.lines("changed"), 10, "it has its output")
            d.stop()
            for name in ("changed", "plain"):
                (self.dir / f"facts-{name}").unlink()

    def test_a_child_of_a_preload_is_the_templates(self):
        """It is no second template, and ends with the first."""
        self.app("child = os.fork()\nif child == 0:\n    time.sleep(1000)\n", "forks")
        d = self.forked({"web": self.group("forks:main", preload=["forks"], workers=2)})
        d.until_all(state="ready", restarts=0)
        t = d.host(self.template(d)["pid"])
        children = procs.children_of(t)
        self.assertEqual(len(children), 1)
        procs.kill(t)
        until(lambda: not procs.alive(children[0]), 10, "its child ends with it")
        self.until_template(d, state="ready", incarnation=2)
        d.stop()

    def test_preloads_that_cannot_be(self):
        for name, (top, _) in FATAL.items():
            self.app(top, name)
        self.app()
        d = self.forked({**{name: self.group(f"{name}:main", preload=[name],
                                             restart={"limit": 2, "delay": "10ms"},
                                             template={"load_timeout": "10s"}) for name in FATAL},
                         "sane": self.group()})
        d.until_worker("sane:0", state="ready", restarts=0)
        for name, (_, text) in FATAL.items():
            until(lambda n=name: d.worker(f"{n}:0")["state"] == "quarantined" or
                  d.detail(f"{n}/template")["worker"]["state"] == "quarantined", 30,
                  f"{name} is given up")
            self.assertIn(text, d.text())
        self.assertEqual(d.worker("sane:0")["restarts"], 0)
        d.stop()

    def test_a_worker_that_becomes_another_program(self):
        self.app("def becomes():\n    os.execv('/bin/sleep', ['sleep', '1000'])\n", "becomes")
        d = self.forked({"web": self.group("becomes:becomes", workers=2)})
        d.until_all(state="ready", restarts=0)
        pids = [d.host(w["pid"]) for w in d.workers().values()]
        until(lambda: {procs.comm_of(p) for p in pids} == {"sleep"}, 10, "both have exec'ed")
        d.ctl("stop", "web", code=0)
        self.assertEqual({w["last_exit"]["signal"] for w in d.workers().values()}, {"TERM"})
        d.stop()

    def test_a_reload_while_forks_are_under_way(self):
        """What was asked of the old template is not lost, and nobody runs twice."""
        slow = {"workers": 4, "template": {"fork_timeout": "5s"}}
        d = self.forked({"web": self.raw_group("slow", **slow)})
        d.until_worker("web:0", state="ready")
        d.write({**d.conf, "groups": {"web": self.raw_group("slow", env={"A": "b"}, **slow)}})
        d.ctl("reload", code=0, timeout=50)
        workers = d.until_all(30, state="ready", generation=2)
        self.assertEqual(len({w["pid"] for w in workers.values()}), 4)
        until(lambda: len(d.detail("web:0")["templates"]) == 1, 10, "the old one ends")
        d.stop()

    @costly("pid1")
    def test_a_template_that_cannot_answer_is_replaced(self):
        """Held by a tracer, or frozen: stopped is template.test_a_stopped_template_is_replaced."""
        ways = {"traced": self.trace}
        if self.has_cgroup():
            ways["frozen"] = self.freeze
        d = self.forked({name: self.raw_group(template={"fork_timeout": "3s"}) for name in ways})
        d.until_all(state="ready")
        for name, hold in ways.items():
            first = self.template(d, name)["pid"]
            release = hold(d.host(first))
            procs.kill(d.host(d.worker(f"{name}:0")["pid"]))
            until(lambda n=name: f"{n}/template: no answer" in d.text(), 20)
            release()
            d.until_worker(f"{name}:0", state="ready", restarts=1)
            self.assertNotEqual(self.template(d, name)["pid"], first)
        d.stop()

    def trace(self, pid):
        ptrace = procs.LIBC.ptrace
        ptrace.argtypes = [ctypes.c_long] * 4
        for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT
            if ptrace(request, pid, 0, 0) < 0:
                self.skipTest("tracing is not permitted here")
        until(lambda: procs.state_of(pid) == "t", 10, "it is held")

        def release():
            until(lambda: procs.state_of(pid) != "t", 10, "it is killed")
            try:
                os.waitpid(pid, 0x40000000)  # __WALL: the tracer has to hear of it
            except ChildProcessError:
                pass
        return release

    def freeze(self, pid):
        path = procs.read(f"/proc/{pid}/cgroup").strip().rpartition("::")[2]
        found = [p for p in self.context.cgroup.below() if str(p).endswith(path)]
        (found[0] / "cgroup.freeze").write_text("1")
        until(lambda: "frozen 1" in procs.read(found[0] / "cgroup.events"), 10)
        return lambda: None


