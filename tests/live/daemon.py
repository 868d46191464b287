"""The real reeved with a configuration of its own in a private directory, as a test drives it."""
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import conftext
import procs
import varlink
from procs import until

REPORTS = re.compile(r"ERROR: \w+Sanitizer|runtime error:|Assertion .* failed")
# What a clean stop may leave in the runtime directory: what the next daemon needs.
STAYS = {"identity", "lock"}


class Result:
    """What a command said."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    def json(self):
        return json.loads(self.out)

    def __repr__(self):
        return f"exit code {self.code}\n--- out\n{self.out}--- err\n{self.err}---"


class Worker(dict):
    """A Worker of the interface; what is absent is None."""

    def __missing__(self, key):
        return None


class Daemon:
    """
    Made by Case.daemon(). `before` runs in the child before exec; `uid` is another user to run as;
    `roles_may_die`: the test kills manager or logger itself; `pid1`, `prefix`
    (a command that executes it): whatever the mode.
    """

    def __init__(self, case, conf, name="d0", env=None, before=None, uid=None, args=(),
                 binary=None, cgroup=True, pid1=None, prefix=None):
        self.case, self.conf, self.name = case, conf, name
        self.extra_env, self.before, self.uid = env or {}, before, uid
        self.args, self.binary = list(args), binary or case.context.program("reeved")
        self.dir = case.dir
        self.run = self.dir / f"run-{name}"
        self.socket = self.run / "control.sock"
        self.file = self.dir / f"{name}.conf"
        eperm = [case.context.program("eperm")] if case.mode == "eperm" else []
        self.prefix = eperm if prefix is None else prefix
        self.pid1 = case.mode == "pid1" if pid1 is None else pid1
        self.output = self.dir / f"{name}.out"
        self.cgroup = case.context.cgroup_for(self) if cgroup else None
        self.pid = None
        self.code = None
        self.roles_may_die = False
        self.roles = None
        self.notify = None
        if conf is not None:
            self.write(conf)

    # --- life --------------------------------------------------------------------------------

    def write(self, conf):
        """Replace the configuration file, by rename as editors do."""
        self.conf = conf
        text = conf if isinstance(conf, str) else conftext.render(conf)
        temporary = self.file.with_suffix(".new")
        temporary.write_text(text, errors="surrogateescape")
        temporary.chmod(0o644)
        if self.uid is not None:
            os.chown(temporary, self.uid, self.uid)
        temporary.rename(self.file)

    def environment(self):
        env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.dir),
               "XDG_RUNTIME_DIR": str(self.dir / "xdg"), "XDG_STATE_HOME": str(self.dir / "state"),
               "XDG_CONFIG_HOME": str(self.dir / "config"), "LIVE_MARK": self.case.mark,
               "REEVE_PYTHON_DIR": str(self.case.context.root.parent / "bin" / "python")}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                env[name] = os.environ[name]
        if self.notify:
            env["NOTIFY_SOCKET"] = str(self.dir / f"{self.name}.notify")
        env.update(self.extra_env)
        return {k: v for k, v in env.items() if v is not None}

    def listen_notify(self):
        """Be the service manager: a socket for what the daemon says by sd_notify."""
        path = self.dir / f"{self.name}.notify"
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(path))
        path.chmod(0o777)
        self.case.addCleanup(self.notify.close)

    def said(self, word, timeout=15):
        """Read the daemon's notifications until one holds `word`; all of them are returned."""
        heard = []
        self.notify.settimeout(timeout)
        while True:
            heard.append(self.notify.recv(65536).decode())
            if word in heard[-1]:
                return heard

    def child(self, argv, stdin, output):
        """In the forked child: become what the daemon is started as; never returns."""
        try:
            os.setsid()
            if self.cgroup:
                (self.cgroup.path / "cgroup.procs").write_text("0")
            if self.pid1:
                procs.libc("unshare", procs.CLONE_NEWNS)
                procs.libc("mount", b"none", b"/", None, 0x44000, None)  # private, recursive
                procs.libc("mount", b"proc", b"/proc", b"proc", 0, None)
            out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            os.dup2(os.open(stdin, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.closerange(3, 1024)
            if self.uid is not None:
                os.setgroups([])
                os.setresgid(self.uid, self.uid, self.uid)
                os.setresuid(self.uid, self.uid, self.uid)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            if self.before:
                self.before()
            os.execve(argv[0], argv, self.environment())
        except BaseException as error:  # pylint: disable=broad-except
            os.write(2, f"starting {argv[0]}: {error!r}\n".encode())
        os._exit(125)

    def launch(self):
        """Start the process; wait for nothing."""
        named = ["-c", str(self.file)] if self.file else []
        argv = [*map(str, self.prefix), str(self.binary), *named, *self.args]
        self.code = None
        if self.pid1:
            home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            procs.libc("unshare", procs.CLONE_NEWPID)
        self.pid = os.fork()
        if self.pid == 0:
            self.child(argv, "/dev/null", self.output)
        if self.pid1:
            procs.libc("setns", home, procs.CLONE_NEWPID)
            os.close(home)
        return self

    def start(self, timeout=20):
        """Start it and wait until its control socket answers."""
        self.launch()

        def answers():
            if self.poll() is not None:
                self.case.fail(f"reeved ended with {self.code}\n{self.text()}")
            try:
                return self.call("Version")
            except (OSError, EOFError, varlink.Refused):
                return None
        self.roles = until(answers, timeout, "the control socket answers")
        return self

    def poll(self):
        """The exit code (128+N by signal), None while it runs."""
        if self.code is None and self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                self.code = code if code >= 0 else 128 - code
        return self.code

    def wait_exit(self, timeout=20):
        until(lambda: self.poll() is not None, timeout, f"{self.name} ends")
        return self.code

    def send(self, number):
        if self.code is None:
            os.kill(self.pid, number)

    def stop(self, number=signal.SIGTERM, code=0, timeout=20):
        """Ask it to end; it must end with `code`, leave nothing, and no role may have crashed."""
        if not self.roles_may_die:
            self.check_roles()
        self.send(number)
        self.case.assertEqual(self.wait_exit(timeout), code, self.text())
        self.check_gone()

    def end(self):
        """For the clean-up of a test: whatever its state, it is over afterwards. Complaints."""
        complaints = []
        if self.pid is None:
            return complaints
        if self.poll() is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGQUIT)
            try:
                self.wait_exit(10)
            except AssertionError:
                complaints.append(f"{self.name} did not end on SIGQUIT")
                for pid in [self.pid, *procs.children_of(self.pid)]:
                    complaints.append(f"  {procs.describe(pid)}")
                self.send(signal.SIGKILL)
                self.wait_exit(10)
        found = REPORTS.search(self.text())
        if found:
            complaints.append(f"{self.name} reported: {found[0]}")
        return complaints

    # --- what must be true -------------------------------------------------------------------

    def check_roles(self):
        """Recovery hides a crash of manager or logger: look whether they are still the same."""
        if self.poll() is None and self.roles:
            now = self.call("Version")
            for role in ("manager_pid", "logger_pid"):
                self.case.assertEqual(now[role], self.roles[role],
                                      f"{role} changed: it died\n{self.text()}")

    def survivors(self, files=False):
        return procs.marked(self.case.mark, str(self.dir), files)

    def check_gone(self):
        """Nothing of this daemon is left: no process, no cgroup, nothing but what may stay."""
        left = [p for p in self.survivors(True) if not self.case.is_of_another(self, p)]
        self.case.assertEqual([procs.describe(p) for p in left], [], "processes are left")
        if self.cgroup:
            folders = {p.name for p in self.cgroup.below()}
            self.case.assertLessEqual(folders, {"daemon"}, "cgroups are left")
        if self.run.exists():
            files = {p.name for p in self.run.iterdir()}
            self.case.assertLessEqual(files, STAYS, "files are left in the runtime directory")

    def text(self):
        """Everything the daemon has written itself."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    # --- control -----------------------------------------------------------------------------

    def connect(self, timeout=20):
        return varlink.Client(self.socket, timeout)

    def call(self, method, **parameters):
        with self.connect() as client:
            return client.call(method, parameters)

    def ctl(self, *args, timeout=30, code=None, env=None, stdin=None):
        """Run reevectl on this daemon; with `code` its exit code is checked."""
        argv = [str(self.case.context.program("reevectl")), "-s", str(self.socket), *map(str, args)]
        done = subprocess.run(argv, env={**self.environment(), "NO_COLOR": "1", **(env or {})},
                              stdin=subprocess.DEVNULL if stdin is None else None, input=stdin,
                              capture_output=True, timeout=timeout, cwd=self.dir)
        result = Result(done.returncode, done.stdout.decode("utf-8", "backslashreplace"),
                        done.stderr.decode("utf-8", "backslashreplace"))
        if code is not None:
            self.case.assertEqual(result.code, code, f"reevectl {' '.join(map(str, args))}: {result}")
        return result

    def spawn_ctl(self, *args, **popen):
        """reevectl in the background; it is ended with the test."""
        argv = [str(self.case.context.program("reevectl")), "-s", str(self.socket), *map(str, args)]
        process = subprocess.Popen(argv, env=self.environment(), stdin=subprocess.DEVNULL,
                                   stdout=popen.pop("stdout", subprocess.PIPE),
                                   stderr=subprocess.STDOUT, cwd=self.dir, **popen)

        def finish():
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        self.case.addCleanup(finish)
        return process

    def workers(self, *targets):
        """name → Worker, as List says it."""
        found = {}
        with self.connect() as client:
            for part in client.stream("List", {"targets": list(targets)} if targets else {}):
                found.update({w["worker"]: Worker(w) for w in part.get("workers", [])})
        return found

    def group(self, name):
        with self.connect() as client:
            for part in client.stream("List", {"targets": [name]}):
                for group in part.get("groups", []):
                    if group["group"] == name:
                        return group
        return None

    def worker(self, name):
        return self.workers(name)[name]

    def detail(self, name):
        return self.call("Show", targets=[name])["details"][0]

    def exits(self, name):
        return self.detail(name)["exits"]

    def until_worker(self, name, timeout=15, **wanted):
        """Until the worker's fields are as wanted (a value, or a function of it)."""
        seen = {}

        def fits():
            seen.clear()
            seen.update(self.workers(name).get(name, {}))
            return bool(seen) and all(
                test(seen.get(key)) if callable(test) else seen.get(key) == test
                for key, test in wanted.items()) and Worker(seen)
        try:
            return until(fits, timeout, every=0.01)
        except procs.Late:
            raise procs.Late(f"{name} is not {wanted} within {timeout} s but {seen}") from None

    def until_all(self, timeout=20, **wanted):
        """The same for every worker there is."""
        seen = {}

        def fits():
            seen.clear()
            seen.update(self.workers())
            return all(w.get(key) == value for w in seen.values() for key, value in wanted.items())
        try:
            until(fits, timeout, every=0.01)
        except procs.Late:
            bad = {n: {k: w.get(k) for k in wanted} for n, w in seen.items()
                   if any(w.get(k) != v for k, v in wanted.items())}
            raise procs.Late(f"not {wanted} within {timeout} s: {bad}\n{self.text()}") from None
        return seen

    def host(self, pid):
        """A pid the daemon spoke of, as this process sees it."""
        return procs.host_pid(pid, self.pid) if pid else None

    def pid_of(self, name):
        return self.host(self.worker(name)["pid"])

    def role(self, name):
        """Pid here of "manager" or "logger"."""
        return until(lambda: procs.roles_of(self.pid).get(name), 10, f"the {name}")

    def log(self, group):
        return pathlib.Path(self.dir / "log" / f"{group}.log")

    def lines(self, group):
        """Lines of a text log without time and worker's name."""
        path = self.log(group)
        if not path.exists():
            return []
        return [line.split(" ", 2)[2] for line in path.read_text(errors="replace").splitlines()
                if line.count(" ") >= 2]


def wait_quiet(look, quiet=0.3, timeout=10):
    """The value of look() once it has not changed for `quiet` seconds."""
    end = time.monotonic() + timeout
    last, since = look(), time.monotonic()
    while time.monotonic() - since < quiet:
        if time.monotonic() > end:
            raise procs.Late("it never came to rest")
        time.sleep(0.01)
        now = look()
        if now != last:
            last, since = now, time.monotonic()
    return last
