"""Templates: start_method "forkserver" with every runtime, and with templates that break the rules."""
import os
import pathlib
import shutil

from harness import PYTHON, Case, costly, procs, signal, until

SOURCE = pathlib.Path(__file__).resolve().parents[2]

APP = """
import os, signal, sys, time
import reeve
{top}

def main():
    print("runs", os.environ["REEVE_WORKER"], flush=True)
    while not reeve.stopping():
        time.sleep(0.02)
    return 0

def early():
    if int(os.environ["REEVE_INDEX"]) % 5 < 2:
        os._exit(40 + int(os.environ["REEVE_INDEX"]) % 7)
    return 0
"""


class TemplateCase(Case):
    """Helpers for groups that are forked."""

    def setUp(self):
        super().setUp()
        if not os.access(PYTHON, os.X_OK):
            self.skipTest(f"no {PYTHON}")
        self.package = self.dir / "python"
        shutil.copytree(self.context.root.parent / "bin" / "python", self.package,
                        ignore=shutil.ignore_patterns("__pycache__"))
        self.raw = self.dir / "raw_template.py"
        shutil.copy(SOURCE / "tests/support/raw_template.py", self.raw)
        self.app()

    def app(self, top="", name="app"):
        (self.dir / f"{name}.py").write_text(APP.replace("{top}", top))

    def env(self, **more):
        return {"REEVE_PYTHON_DIR": str(self.package),
                "REEVE_RUNNER": str(self.dir / "reeve-runner"), **more}

    def group(self, entry="app:main", **keys):
        return {"entry": entry, "python": PYTHON, "start_method": "forkserver",
                "cwd": str(self.dir), **keys}

    def raw_group(self, trick="", **keys):
        return {"command": ["/usr/bin/python3", str(self.raw), *([str(trick)] if trick else [])],
                "start_method": "forkserver", **keys}

    def native(self, run="wait", load="", **keys):
        """A group of the test module."""
        module = self.dir / "module.so"
        if not module.exists():
            shutil.copy(self.context.program("module.so"), module)
            shutil.copy(self.context.program("reeve-runner"), self.dir / "reeve-runner")
        return {"entry": str(module), "start_method": "forkserver",
                "env": {"MODULE_RUN": run, "MODULE_LOAD": load}, **keys}

    def forked(self, groups, **how):
        how.setdefault("env", self.env())
        return self.daemon(groups, **how)

    def template(self, d, group="web"):
        """The template that serves or loads, as Show has it; None if there is none."""
        try:
            return d.detail(f"{group}/template")["templates"][0]
        except Exception:  # pylint: disable=broad-except
            return None

    def until_template(self, d, group="web", timeout=15, **wanted):
        seen = {}

        def fits():
            now = self.template(d, group)
            seen.clear()
            seen.update(now or {})
            return now and all(test(now.get(key)) if callable(test) else now.get(key) == test
                               for key, test in wanted.items()) and now
        try:
            return until(fits, timeout, every=0.01)
        except procs.Late:
            raise procs.Late(f"{group}/template is not {wanted} but {seen}") from None


class Template(TemplateCase):
    def test_workers_are_forked_from_one_template(self):
        d = self.forked({"web": self.group(workers=3)})
        d.until_all(state="ready")
        t = self.until_template(d, state="ready", forks=3)
        self.assertRegex(t["runtime"], r"^python 3")
        for name, worker in d.workers().items():
            self.assertEqual(worker["source"], "web/template/1", name)
            self.assertEqual(worker["start_method"], "forkserver")
            pid = d.host(worker["pid"])
            fields = procs.stat_of(pid)
            self.assertEqual(int(fields[3]), pid, "leads its session")
            self.assertEqual(int(fields[1]), d.pid, "is the keeper's child")
        self.assertIn("web/template ready", d.ctl("show", "web/template", code=0).out)
        self.assertIn("web/template/1", d.ctl("show", "web:1", code=0).out)
        d.stop()

    def test_native_modules_are_forked(self):
        d = self.forked({"web": self.native(workers=3)})
        d.until_all(state="ready")
        self.assertRegex(self.until_template(d, forks=3)["runtime"], "^native")
        self.assertEqual({w["source"] for w in d.workers().values()}, {"web/template/1"})
        d.stop()

    def test_a_worker_is_as_if_spawned(self):
        """Limits, umask, nice, cwd, env, log, leaf: the same as by exec."""
        out = self.dir / "facts"
        self.app(f"""
import json, resource
def facts():
    keep = {{k: v for k, v in os.environ.items() if k not in ("REEVE_ID", "PWD", "LC_CTYPE")}}
    umask = os.umask(0)
    os.umask(umask)
    fds = sorted(int(x) for x in os.listdir("/proc/self/fd"))
    with open("{out}-" + os.environ["REEVE_GROUP"], "w") as file:
        json.dump({{"env": keep, "umask": umask, "nice": os.nice(0), "cwd": os.getcwd(),
                   "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
                   "core": resource.getrlimit(resource.RLIMIT_CORE),
                   "cgroup": open("/proc/self/cgroup").read(),
                   "stdin": os.readlink("/proc/self/fd/0"), "lead": os.getsid(0) == os.getpid(),
                   "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))}}, file)
    time.sleep(1000)
""")
        keys = {"umask": "0027", "nice": 3, "env": {"GREETING": "hello %n"},
                "limits": {"nofile": "100:200", "core": 0}}
        d = self.forked({name: {**self.group("app:facts", **keys), "start_method": method}
                         for name, method in (("forked", "forkserver"), ("spawned", "spawn"))})
        d.until_all(state="ready")
        one, two = (self.dump(f"{out}-{name}") for name in ("forked", "spawned"))
        for facts in (one, two):
            for name in ("REEVE_GROUP", "REEVE_WORKER"):
                facts["env"].pop(name)
        one["env"]["GREETING"] = one["env"]["GREETING"].replace("forked", "spawned")
        one["cgroup"] = one["cgroup"].replace("forked", "spawned")
        self.assertEqual(one, two)
        d.stop()

    def test_workers_of_a_daemon_that_is_nice(self):
        """As by exec: `nice = 0` is meant where it is permitted."""
        d = self.forked({"web": self.group(), "nat": self.native()}, before=lambda: os.nice(7))
        d.until_all(state="ready")
        nice = {os.getpriority(os.PRIO_PROCESS, d.host(w["pid"])) for w in d.workers().values()}
        self.assertEqual(nice, {7 if self.mode == "user" else 0})
        d.stop()

    def test_workers_of_another_user(self):
        """Who may not fork into a leaf is moved there before it runs."""
        self.need_root()
        name, entry = self.some_user()
        d = self.forked({"py": self.group(workers=2, user=name),
                         "nat": self.native(workers=2, user=name)})
        d.until_all(state="ready", restarts=0)
        for worker in d.workers().values():
            pid = d.host(worker["pid"])
            self.assertEqual(procs.status_of(pid)["Uid"].split(), [str(entry.pw_uid)] * 4)
            if self.has_cgroup():
                leaf = f"/w/{worker['group']}/{worker['index']}.1"
                self.assertTrue(procs.read(f"/proc/{pid}/cgroup").strip().endswith(leaf), leaf)
        d.stop()

    def test_PY01_a_killed_template_costs_nothing(self):
        d = self.forked({"web": self.group(workers=3)})
        d.until_all(state="ready")
        before = {n: w["pid"] for n, w in d.workers().items()}
        procs.kill(d.host(self.template(d)["pid"]))
        self.until_template(d, state="ready", incarnation=2)
        self.assertEqual({n: w["pid"] for n, w in d.workers().items()}, before)
        procs.kill(d.host(before["web:1"]))
        worker = d.until_worker("web:1", state="ready", restarts=1)
        self.assertEqual(worker["source"], "web/template/2")
        self.assertEqual(d.exits("web:1")[0].get("signal"), "KILL")
        d.stop()

    def test_PY01_killed_while_it_loads(self):
        gate = self.gate()
        self.app(f"open('{gate.path}').read()\n")
        d = self.forked({"web": self.group(preload=["app"])})
        t = self.until_template(d, state="loading", pid=lambda p: p)
        self.assertEqual(d.worker("web:0")["waiting_for"], ["web/template"])
        procs.kill(d.host(t["pid"]))
        self.until_template(d, incarnation=2, state="loading")
        self.app()
        procs.kill(d.host(self.template(d)["pid"]))
        d.until_worker("web:0", state="ready", restarts=0)
        d.stop()

    @costly("off")
    def test_PY01_killed_with_forks_in_flight(self):
        """It takes requests, forks or not, and dies: every start is retried on the next one."""
        for trick in ("die", "die-after"):
            state = self.dir / f"trick-{trick}"
            state.write_text(trick)
            d = self.forked({"web": self.raw_group(state, workers=20)}, name=trick)
            d.until_all(state="waiting") if trick == "die" else None
            state.write_text("none")
            d.until_all(state="ready")
            self.assertEqual({w["restarts"] for w in d.workers().values()}, {0}, d.text()[-3000:])
            self.assertEqual({w["incarnation"] for w in d.workers().values()}, {1})
            d.stop()

    def test_PY01_killed_while_it_drains(self):
        let_go = self.dir / "let_go"
        self.app(f"def lingers():\n    while not (reeve.stopping() and os.path.exists('{let_go}')):\n"
                 "        time.sleep(0.02)\n    return 0\n", "lingers")
        d = self.forked({"web": self.group("lingers:lingers", workers=2, stop={"timeout": "50s"})})
        d.until_all(state="ready")
        first = self.template(d)["pid"]
        with d.spawn_ctl("reload", "web") as tool:
            until(lambda: "web/template: draining" in d.text(), 20, "the next one serves")
            pid = d.host(first)
            self.assert_alive(pid, "its last worker is not gone")
            procs.kill(pid)
            until(lambda: not procs.alive(pid), 10)
            self.assertEqual(d.worker("web:1")["source"], "web/template/1")
            let_go.touch()
            self.assertEqual(tool.wait(30), 0)
        workers = d.until_all(30, state="ready", generation=2)
        self.assertEqual({w["source"] for w in workers.values()}, {"web/template.1/1"})
        self.assertEqual({w["restarts"] for w in workers.values()}, {0})
        d.stop()

    def test_PY01_killed_while_it_is_unsafe(self):
        bad, lock = self.dir / "bad", self.dir / "lock"
        self.app(f"import fcntl\nif os.path.exists('{bad}'):\n    held = open('{lock}', 'w')\n"
                 "    fcntl.flock(held, fcntl.LOCK_EX)\n", "locked")
        bad.touch()
        d = self.forked({"web": self.group("locked:main", preload=["locked"],
                                           restart={"limit": 0})})
        t = self.until_template(d, state="unsafe")
        bad.unlink()
        procs.kill(d.host(t["pid"]))
        d.until_worker("web:0", state="ready")
        self.until_template(d, state="ready", incarnation=2)
        d.stop()

    def test_PY02_a_template_leads_its_own_session(self):
        d = self.forked({"web": self.group()})
        d.until_all(state="ready")
        pid = d.host(self.template(d)["pid"])
        self.assertEqual(int(procs.stat_of(pid)[3]), pid)
        d.stop(signal.SIGINT)

    def test_PY04_a_thread_is_refused_by_name(self):
        """Once by the template itself; the daemon looks, too (below)."""
        self.need_not("eperm", "clone3 is refused, and threads with it")
        self.app("import threading\n"
                 "threading.Thread(target=time.sleep, args=(1000,), daemon=True,"
                 " name='QueueListener').start()\n")
        d = self.forked({"web": self.group(preload=["app"], restart={"limit": 3})})
        d.until_worker("web:0", state="quarantined")
        text = d.exits("web:0")[0]["error"]
        self.assertRegex(text, r"template web: 2 threads \(.+\); start its thread in @after_fork")
        self.assertEqual(self.template(d)["state"], "unsafe")
        d.stop()

    def test_PY04_a_native_thread_is_refused_by_name(self):
        self.need_not("eperm", "clone3 is refused, and threads with it")
        d = self.forked({"app": self.native(load="thread:QueueListener", restart={"limit": 2})})
        d.until_worker("app:0", state="quarantined")
        self.assertIn("template app: 2 threads (QueueListener); start its thread in @after_fork",
                      d.exits("app:0")[0]["error"])
        d.stop()

    def test_fork_allow_threads(self):
        self.need_not("eperm", "clone3 is refused, and threads with it")
        d = self.forked({"web": self.native(load="thread:harmless",
                                            fork_allow_threads=["harmless"])})
        d.until_worker("web:0", state="ready", restarts=0)
        d.stop()

    def test_a_gpu_is_refused(self):
        """By each runtime, and by the daemon where a template does not look. The device is a fake,
        in a /dev of its own."""
        self.need_root()
        self.app("gpu = open('/dev/nvidia0')\n")
        end = {"restart": {"limit": 2}}
        d = self.forked({"py": self.group(preload=["app"], **end),
                         "nat": self.native(load="open:/dev/nvidia0", **end),
                         "raw": self.raw_group("gpu", **end),
                         "free": self.group(start_method="spawn")}, before=self.make_gpu)
        for group in ("py", "nat", "raw"):
            d.until_worker(f"{group}:0", state="quarantined")
            self.assertIn('use start_method = "spawn"', d.exits(f"{group}:0")[0]["error"])
            self.assertIn("/dev/nvidia0", d.exits(f"{group}:0")[0]["error"])
        d.until_worker("free:0", state="ready", restarts=0)
        d.stop()

    def make_gpu(self):
        """A mount namespace whose /dev has null, zero, urandom, and a /dev/nvidia0."""
        made, bind, private = self.dir / "dev", 0x1000, 0x44000
        made.mkdir()
        procs.libc("unshare", procs.CLONE_NEWNS)
        procs.libc("mount", b"none", b"/", None, private, None)
        for name, device in (("null", "null"), ("zero", "zero"), ("urandom", "urandom"),
                             ("nvidia0", "null")):
            (made / name).touch()
            procs.libc("mount", f"/dev/{device}".encode(), bytes(made / name), None, bind, None)
        procs.libc("mount", bytes(made), b"/dev", None, bind | 0x4000, None)  # with what is in it

    def test_a_file_lock_is_refused(self):
        lock = self.dir / "lock"
        self.app(f"import fcntl\nheld = open('{lock}', 'w')\nfcntl.flock(held, fcntl.LOCK_EX)\n")
        d = self.forked({"web": self.group(preload=["app"], restart={"limit": 2})})
        d.until_worker("web:0", state="quarantined")
        self.assertIn("lock", d.exits("web:0")[0]["error"])
        d.stop()

    def test_fallback_spawn(self):
        self.app("import threading\n"
                 "if 'REEVE_INDEX' not in os.environ:\n"
                 "    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n")
        d = self.forked({"web": self.group(preload=["app"], workers=2,
                                           template={"fallback": "spawn"})})
        d.until_all(state="ready", source="exec", restarts=0)
        self.assertIn("web:1: no template can fork it: started by spawn", d.text())
        d.stop()

    def test_fallback_spawn_where_python_cannot_fork(self):
        """Without the library, as where the package was copied alone, and with one of somebody else."""
        library = self.package / "libreeve-template.so"
        whole = library.read_bytes()
        for name, data in (("absent", None), ("odd", b"no library")):
            library.unlink(missing_ok=True)
            if data:
                library.write_bytes(data)
            d = self.forked({"back": self.group(workers=2, template={"fallback": "spawn"}),
                             "fail": self.group(restart={"limit": 1}),
                             "alone": self.group(start_method="spawn")}, name=name)
            for worker in ("back:0", "back:1", "alone:0"):
                d.until_worker(worker, state="ready", source="exec", restarts=0)
            text = d.until_worker("fail:0", state="quarantined",
                                  status=lambda s: s and "use start_method" in s)["status"]
            self.assertIn(f'libreeve-template.so: use start_method = "spawn", or mend the '
                          f"installation: {library}: ", text)
            self.assertIn("back:0: no template can fork it: started by spawn", d.text())
            self.assertIn("libreeve-template.so cannot be loaded",
                          d.ctl("logs", "back/template", code=0).out)
            if name == "odd":  # mended meanwhile: the next start is forked
                library.write_bytes(whole)
                d.ctl("reload", "back", code=0)
                for name, worker in d.workers("back").items():
                    self.assertRegex(worker["source"], r"^back/template", name)
            d.stop()

    def test_PY14_a_preload_that_fails(self):
        """Shown with its traceback; every way not to come to READY has an end."""
        bodies = {"raises": "raise RuntimeError('no model here')", "leaves": "sys.exit(5)",
                  "quits": "os._exit(0)", "hangs": "time.sleep(1000)"}
        for name, body in bodies.items():
            self.app(body, name)
        d = self.forked({name: self.group(f"{name}:main", preload=[name],
                                          restart={"limit": 1, "delay": "10ms"},
                                          template={"load_timeout": "1s" if name == "hangs" else "1m"})
                         for name in bodies})
        for name in bodies:
            until(lambda n=name: self.state_of(d, n) == "quarantined", 20, f"{name} gives up")
        words = "\n".join(line for e in d.exits("raises/template") for line in e.get("lines", []))
        self.assertIn("no model here", words + str(self.template(d, "raises")))
        self.assertEqual(d.exits("hangs/template")[0]["cause"], "start-timeout")
        d.until_worker("hangs:0", status=lambda s: s and "not loaded within template.load_timeout" in s)
        d.stop()

    def state_of(self, d, group):
        return d.detail(f"{group}/template")["worker"]["state"]

    def test_code_reload(self):
        self.app("VERSION = 'one'\n")
        d = self.forked({"web": self.group(workers=3)})
        d.until_all(state="ready")
        old = {n: w["pid"] for n, w in d.workers().items()}
        self.app("VERSION = 'two'\n")
        d.ctl("reload", "web", code=0)
        workers = d.workers()
        self.assertEqual({w["generation"] for w in workers.values()}, {2})
        self.assertFalse(set(old.values()) & {w["pid"] for w in workers.values()})
        self.assertEqual({w["source"] for w in workers.values()}, {"web/template.1/1"})
        until(lambda: len(d.detail("web:0")["templates"]) == 1, 10, "the old one ends")
        d.ctl("reload", "web", code=0)
        self.assertEqual({w["generation"] for w in d.workers().values()}, {3})
        d.stop()

    def test_code_that_cannot_be_loaded_changes_nothing(self):
        d = self.forked({"web": self.group(preload=["app"], workers=2)})
        d.until_all(state="ready")
        old = {n: w["pid"] for n, w in d.workers().items()}
        self.app("raise RuntimeError('half an edit')\n")
        self.assertEqual(d.ctl("reload", "web").code, 1)
        self.assertEqual({n: w["pid"] for n, w in d.workers().items()}, old)
        self.assertIn("goes on", d.text())
        procs.kill(d.host(old["web:0"]))
        worker = d.until_worker("web:0", state="ready", restarts=1)
        self.assertEqual((worker["generation"], worker["source"]), (1, "web/template/1"))
        self.app()
        d.ctl("reload", "web", code=0)
        self.assertEqual({w["generation"] for w in d.workers().values()}, {3})
        d.stop()

    def test_recycled_by_forks_and_by_age(self):
        d = self.forked({"forks": self.group(template={"max_forks": 2}, workers=2),
                         "age": self.group(template={"max_age": "1s"})})
        d.until_all(state="ready")
        pids = {n: w["pid"] for n, w in d.workers().items()}
        for group in ("forks", "age"):
            until(lambda g=group: f"{g}/template.1: ready" in d.text(), 10, f"{group}: a next one")
            until(lambda g=group: f"{g}/template: draining" in d.text(), 10)
        self.assertEqual({n: w["pid"] for n, w in d.workers().items()}, pids)
        procs.kill(d.host(pids["forks:0"]))
        worker = d.until_worker("forks:0", state="ready", restarts=1)
        self.assertEqual(worker["source"], "forks/template.1/1")
        d.stop()

    def test_stop_while_it_loads_and_while_forks_hang(self):
        gate = self.gate()
        self.app(f"open('{gate.path}').read()\n", "slow")
        d = self.forked({"load": self.group("slow:main", preload=["slow"]),
                         "hang": self.raw_group("worker-hang", workers=3),
                         "deaf": self.raw_group("silent", workers=3)})
        until(lambda: self.template(d, "load"), 10)
        until(lambda: all(w["state"] == "starting" for n, w in d.workers("hang", "deaf").items()),
              10, "forks are asked for")
        d.ctl("stop", "all", code=0)
        self.assertEqual({w["state"] for w in d.workers().values()}, {"stopped"})
        self.assertEqual({bool(w["last_exit"]) for w in d.workers().values()}, {False})
        d.stop()

    def test_kill_and_logs_of_a_template(self):
        self.app("print('loading the model', flush=True)\n")
        d = self.forked({"web": self.group(preload=["app"])})
        d.until_all(state="ready")
        pid = d.host(self.template(d)["pid"])
        until(lambda: "loading the model" in d.ctl("logs", "web/template", "-n", "20").out, 10)
        d.ctl("kill", "-s", "KILL", "web/template", code=0)
        self.until_template(d, incarnation=2, state="ready")
        self.assert_gone(pid)
        self.assertEqual(d.exits("web/template")[0]["signal"], "KILL")
        self.assertEqual(d.ctl("stop", "web/template").code, 1)
        self.assertEqual(d.ctl("show", "web/host").code, 7)
        d.stop()


# trick → what its template is found guilty of
GUILTY = {
    "garbage": "broke the protocol", "print": "broke the protocol", "version": "no version",
    "no-hello": "READY before HELLO", "hello-twice": "HELLO twice",
    "spawned-unknown": "not open", "spawned-zero": "broke the protocol",
    "spawned-twice": "not open", "spawned-failed": "not open", "no-pid": "broke the protocol",
    "trailing": "broke the protocol", "huge": "broke the protocol", "short": "broke the protocol",
    "header": "broke the protocol", "tag": "broke the protocol", "type": "broke the protocol",
    "hello-late": "HELLO twice", "ready-twice": "READY twice", "pong": "PONG",
    "loading-late": "LOADING after READY", "fds": "broke the protocol",
    "child-answers": "somebody else", "close": "closed its channel", "silent": "no answer to a fork",
}
# trick → what the start of its worker is refused with, while the template lives
REFUSED = {
    "worker-gone": "before it", "worker-fail": "after_fork: no such model",
    "worker-other-name": "another's name", "worker-garbage": "", "long-text": "",
    "worker-hang": "did not report",
    "unsafe": "2 threads",
}
# tricks that mean nothing: a hint is a hint
HARMLESS = ("pid-none", "pid-all", "pid-init", "pid-keeper", "pid-again", "worker-stranger",
            "nothing")


class Hostile(TemplateCase):
    """failures.md, "Template (forkserver) protocol": whoever breaks it is ended, nobody else suffers."""

    def hostile(self, tricks, **keys):
        groups = {t: self.raw_group(t, restart={"limit": 0, "delay": "100ms"},
                                    template={"fork_timeout": "2s"}, **keys) for t in tricks}
        groups["sane"] = self.raw_group(workers=2)
        d = self.forked(groups)
        for n in (0, 1):
            d.until_worker(f"sane:{n}", state="ready")
        return d, {n: w["pid"] for n, w in d.workers("sane").items()}

    def unharmed(self, d, pids):
        self.assertEqual({n: w["pid"] for n, w in d.workers("sane").items()}, pids)
        d.stop(timeout=30)

    @costly("pid1")
    def test_templates_that_break_the_protocol(self):
        d, pids = self.hostile(GUILTY)
        for trick, text in GUILTY.items():
            line = f"{trick}/template: "
            until(lambda l=line, t=text: any(l in x and t in x for x in d.text().splitlines()), 20,
                  f"{trick}: {text}\n" + "\n".join(
                      x for x in d.text().splitlines() if line in x)[:2000])
        self.unharmed(d, pids)

    @costly("eperm")
    def test_workers_that_break_the_protocol(self):
        d, pids = self.hostile(REFUSED)
        for trick, text in REFUSED.items():
            def refused(t=trick, x=text):
                exits = d.exits(f"{t}:0")
                return exits and x in exits[0].get("error", "")
            until(refused, 20, f"{trick}: {text}")
            self.assertFalse(any(f"{trick}/template: " in x and "ending it" in x
                                 for x in d.text().splitlines()), trick)
        self.assertNotIn("\x1b", d.text())
        self.unharmed(d, pids)

    def test_forks_refused_for_lack_of_means_keep_no_place(self):
        """A refused start is over for start_concurrency: others need not wait until it is given up."""
        d = self.forked({"poor": self.raw_group("no-means"),
                         "plain": {"command": ["/bin/sleep", "1000"], "autostart": False,
                                   "settle": "0s"}}, daemon={"start_concurrency": 1})
        until(lambda: "cannot be started now, not charged" in d.text(), 10)
        d.ctl("start", "--timeout", "3s", "plain", code=0)
        d.stop()

    def test_hints_are_not_trusted(self):
        d, pids = self.hostile(HARMLESS)
        for trick in HARMLESS:
            worker = d.until_worker(f"{trick}:0", state="ready", restarts=0)
            self.assertGreater(worker["pid"], 1)
        self.unharmed(d, pids)

    @costly("off")
    def test_a_queue_is_no_hang(self):
        """Ten forks of 300 ms each, 2 s for one: as long as answers come, nobody is late."""
        d = self.forked({"slow": self.raw_group("slow", workers=10,
                                                template={"fork_timeout": "2s"})})
        d.until_all(state="ready", restarts=0, incarnation=1)
        self.assertEqual(self.template(d, "slow")["incarnation"], 1)
        d.stop()

    def test_a_template_that_exits_early(self):
        d, pids = self.hostile(["exit-early"])
        until(lambda: d.exits("exit-early/template"), 10)
        self.assertEqual(d.exits("exit-early/template")[0]["code"], 7)
        self.assertEqual(d.worker("exit-early:0")["waiting_for"], ["exit-early/template"])
        self.unharmed(d, pids)

    def test_a_template_that_says_nothing(self):
        d = self.forked({"web": self.raw_group("hello-never", template={"load_timeout": "500ms"})})
        until(lambda: d.exits("web/template"), 20)
        self.assertEqual(d.exits("web/template")[0]["cause"], "start-timeout")
        self.assertEqual(d.worker("web:0")["waiting_for"], ["web/template"])
        d.stop()

    @costly("eperm")
    def test_a_stopped_template_is_replaced(self):
        d, pids = self.hostile(["nothing"])
        worker = d.until_worker("nothing:0", state="ready")
        t = self.template(d, "nothing")
        os.kill(d.host(t["pid"]), signal.SIGSTOP)
        procs.kill(d.host(worker["pid"]))
        d.until_worker("nothing:0", state="ready", restarts=1)
        self.assertEqual(d.exits("nothing/template")[0]["cause"], "watchdog")
        self.unharmed(d, pids)

    # --- a next one that does not come ------------------------------------------------------

    @costly("pid1")
    def test_the_one_that_serves_is_unsafe_and_the_next_one_fails(self):
        """Nobody waits for ever for a template that is quarantined."""
        trick = self.dir / "trick"
        trick.write_text("leak")
        d = self.forked({"web": self.raw_group(
            trick, settle="0s", restart={"limit": 2, "delay": "1ms", "retry": "1h"})})
        d.until_worker("web:0", state="ready")
        trick.write_text("exit-early")
        procs.kill(d.host(d.worker("web:0")["pid"]))
        until(lambda: "web/template.1: quarantined" in d.text(), 15)
        d.until_worker("web:0", state="quarantined")
        self.assertIn("was not open at READY", d.exits("web:0")[0]["error"])
        d.stop()

    @costly("user")
    def test_one_that_is_to_go_and_new_code_that_cannot_be_loaded(self):
        """The next one is loaded in its time, not again and again at once."""
        trick = self.dir / "trick"
        trick.write_text("")
        keys = {"settle": "0s", "restart": {"limit": 3, "delay": "1ms", "retry": "1h"},
                "template": {"max_forks": 2}}
        d = self.forked({"web": self.raw_group(trick, **keys)})
        d.until_worker("web:0", state="ready")
        trick.write_text("exit-early")
        d.write(self.conf({"web": self.raw_group(trick, env={"CODE": "new"}, **keys)}))
        d.ctl("reload")
        until(lambda: "generation 2 cannot be loaded" in d.text(), 15)
        self.assertEqual(self.template(d)["generation"], 1)
        procs.kill(d.host(d.worker("web:0")["pid"]))
        d.until_worker("web:0", state="ready", restarts=1)
        until(lambda: "web/template.1: quarantined" in d.text(), 15)
        self.assertLess(d.text().count("cannot be loaded"), 7)
        d.stop()
