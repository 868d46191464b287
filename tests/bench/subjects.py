"""The things that are compared. Each starts N alike workers and stops them again."""
import os
import pathlib
import shutil
import signal
import time

import gauge
import varlink


class Job:
    """What a subject is asked to run."""

    def __init__(self, n, worker, mode="obey", **more):
        self.n = n
        self.worker = worker
        self.mode = mode
        self.stop_ms = 10000
        self.writer = None  # (line, block, lines) instead of a worker
        self.format = "raw"
        self.merged = False  # all workers write one file
        self.max_size = 50 << 20
        self.keep = 5
        self.__dict__.update(more)


class Place:
    """A private directory on tmpfs, the built programs, the marks."""

    def __init__(self, directory, build):
        self.directory = pathlib.Path(directory)
        self.build = pathlib.Path(build)
        self.logs = self.directory / "log"
        self.logs.mkdir()
        self.marks = gauge.Marks(str(self.directory / "marks"))
        self.gate = str(self.directory / "gate")
        os.mkfifo(self.gate, 0o666)

    def close(self):
        self.marks.close()

    def program(self, name):
        return str(self.build / "tests/bench" / ("bench-" + name))

    def command(self, job):
        marks = str(self.directory / "marks")
        if job.writer:
            return [self.program("writer"), marks, "%i", self.gate, *map(str, job.writer)]
        return [self.program("worker-" + job.worker), marks, "%i", job.mode]

    def spawn(self, argv, output="output"):
        actions = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 1, str(self.directory / output),
                    os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
                   (os.POSIX_SPAWN_DUP2, 1, 2)]
        return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)

    def said(self, output="output"):
        path = self.directory / output
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    def log_files(self):
        """All log files, of each worker the oldest first."""
        def age(path):
            base, _, number = path.name.rpartition(".")
            return (base, -int(number)) if number.isdigit() else (path.name, 0)
        return sorted((p for p in self.logs.iterdir() if p.is_file()), key=age)

    def log_bytes(self):
        total = 0
        for path in self.logs.iterdir():
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                pass  # renamed just now: the next look finds it
        return total


class Subject:
    """One that is running. `roles`: name -> pid of each process of the supervisor itself."""

    name = ""

    def __init__(self, place, job):
        self.place, self.job = place, job
        self.roles = {}
        self.started_ns = 0
        self.pid = 0

    def launch(self, argv):
        self.started_ns = gauge.now_ns()
        self.pid = self.place.spawn(argv)
        self.roles = {self.name: self.pid}

    def check(self):
        """Raises if it has ended by itself."""
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            _, status = os.waitpid(self.pid, 0)
            self.pid = 0
            raise RuntimeError(f"{self.name} has ended with {os.waitstatus_to_exitcode(status)}: "
                               + self.place.said() + self.place.said("daemon.log"))

    def find_roles(self):
        """Called when the workers are up, outside of what is measured."""

    def stop(self, seconds=60):
        """Ends it politely; seconds until it is gone."""
        begin = gauge.now_ns()
        os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return (gauge.now_ns() - begin) / 1e9, os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                raise gauge.Late(f"{self.name} does not stop: {self.place.said()}")
            time.sleep(0.0005)

    def close(self):
        gauge.sweep()
        self.place.close()
        shutil.rmtree(self.place.directory)


class Limit(Subject):
    name = "limit"

    def start(self):
        program = self.place.program("limit")
        command = self.place.command(self.job)
        if self.job.writer:
            self.launch([program, "log", str(self.place.logs / "bench-0.log"), self.how, *command])
        else:
            self.launch([program, "run", str(self.job.n), *command])

    how = "read"


class LimitNap(Limit):
    name = "limit-nap"
    how = "nap"


class LimitSplice(Limit):
    name = "limit-splice"
    how = "splice"


class Floor(Subject):
    name = "floor"

    def start(self):
        job = self.job
        self.launch([self.place.program("floor"), str(self.place.logs), str(job.n),
                     str(job.stop_ms), str(job.max_size), str(job.keep),
                     *self.place.command(job)])


def cgroup2_mount():
    for line in gauge.read_file("/proc/self/mounts").splitlines():
        words = line.split()
        if words[2] == "cgroup2":
            return pathlib.Path(words[1])
    return None


def own_cgroup():
    for line in gauge.read_file("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:].lstrip("/")
    return None


def has_cgroups():
    mount, own = cgroup2_mount(), own_cgroup()
    return mount is not None and own is not None and os.access(mount / own, os.W_OK)


class Cgroup:
    """A cgroup of our own in which a daemon is started: it may do there what it likes."""

    def __init__(self):
        mount, own = cgroup2_mount(), own_cgroup()
        if mount is None or own is None:
            raise OSError("no cgroup v2 here")
        self.home = mount / own
        self.path = self.home / f"reeve-bench-{os.getpid()}-{time.monotonic_ns()}"
        self.path.mkdir()

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def leave(self):
        (self.home / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self):
        for directory, _, _ in os.walk(self.path, topdown=False):
            os.rmdir(directory)


CONFIGURATION = """
daemon: {{
	runtime_dir = "{run}";
	log: {{ to = "{directory}/daemon.log"; level = "warn"; }};
	cgroup = "{cgroup}";
}};
groups: {{
	bench: {{
		command = [ {command} ];
		workers = {n};
		settle = 0;
		restart: {{ delay = "1ms"; reset_after = "1ms"; limit = 0; }};
		stop: {{ timeout = "{stop_ms}ms"; }};
		log: {{ file = "{logs}/{file}.log"; format = "{format}"; max_size = {max_size};
			keep = {keep}; }};
	}};
}};
"""


class Reeve(Subject):
    name = "reeve"
    cgroup = "off"

    def configure(self, n):
        job, place = self.job, self.place
        path = place.directory / "reeve.conf"
        path.write_text(CONFIGURATION.format(
            run=place.directory / "run", directory=place.directory, cgroup=self.cgroup,
            command=", ".join(f'"{word}"' for word in place.command(job)), n=n,
            stop_ms=job.stop_ms, logs=place.logs, file="%g" if job.merged else "%g-%i",
            format=job.format, max_size=job.max_size, keep=job.keep))
        return str(path)

    def start(self):
        self.run_daemon(self.job.n)

    def run_daemon(self, n):
        program = str(self.place.build / "daemon/reeved")
        self.launch([program, "-c", self.configure(n)])

    @property
    def socket(self):
        return str(self.place.directory / "run/control.sock")

    def call(self, method, **parameters):
        return varlink.call(self.socket, method, parameters)

    def wait_answer(self, seconds=10):
        def answer():
            self.check()
            try:
                return self.call("Version")
            except (FileNotFoundError, ConnectionError):
                return None
        return gauge.until(answer, seconds, "reeved does not answer")

    def find_roles(self):
        version = self.wait_answer()
        self.roles = {"keeper": version["keeper_pid"], "manager": version["manager_pid"],
                      "logger": version["logger_pid"]}

    def reevectl(self, *words):
        return [str(self.place.build / "ctl/reevectl"), "-s", self.socket, *words]


class ReeveCgroup(Reeve):
    """The default on a machine with cgroup v2: a leaf of its own for each life."""

    name = "reeve-cgroup"
    cgroup = "require"

    def start(self):
        self.group = Cgroup()
        self.group.enter()
        try:
            super().start()
        finally:
            self.group.leave()

    def close(self):
        gauge.sweep()
        self.group.remove()
        super().close()


class ReeveScale(Reeve):
    """A daemon that runs already and is asked for N workers."""

    name = "reeve-scale"

    def start(self):
        self.run_daemon(0)
        self.find_roles()
        self.cpu_before_ns = gauge.quiet_cpu_ns(self.roles.values())
        self.started_ns = gauge.now_ns()
        self.call("Scale", group="bench", workers=self.job.n, wait=False)


class ReeveMerged(Reeve):
    """All workers of the group write one file, which is the default."""

    name = "reeve-merged"

    def start(self):
        self.job.merged = True
        super().start()


STDLIB = ("json,logging.handlers,asyncio,http.client,http.server,sqlite3,decimal,email.message,"
          "xml.etree.ElementTree,urllib.request,concurrent.futures,subprocess,argparse,csv,ssl,"
          "ctypes,hashlib,unittest")
LOADS = {"C": None, "bare": "", "stdlib": STDLIB, "numpy": "numpy"}
ENTRY = """
daemon: {{ runtime_dir = "{run}"; log: {{ to = "{directory}/daemon.log"; level = "warn"; }}; }};
groups: {{
	bench: {{
		entry = "{entry}"; cwd = "{cwd}"; start_method = "{method}"; workers = {n}; settle = 0;
		env: {{ BENCH_MARKS = "{marks}"; BENCH_METHOD = "{method}"; BENCH_MODULES = "{modules}"; }};
		restart: {{ delay = "1ms"; reset_after = "1ms"; limit = 0; }};
		log: {{ file = "{logs}/bench.log"; }};
	}};
}};
"""


class Method(Reeve):
    """Workers of an entry: C, or Python that imports what the job's worker is called after."""

    def configure(self, n):
        place, modules = self.place, LOADS[self.job.worker]
        here = pathlib.Path(__file__).resolve().parent
        os.environ["REEVE_RUNNER"] = str(place.build.resolve() / "lib/reeve-runner")
        os.environ["REEVE_PYTHON_DIR"] = str(place.build.resolve() / "share/reeve/python")
        native = str(place.build.resolve() / "tests/bench/methods-module.so")
        path = place.directory / "reeve.conf"
        path.write_text(ENTRY.format(
            run=place.directory / "run", directory=place.directory, logs=place.logs, n=n,
            entry=native if modules is None else "methods_worker:main", cwd=here,
            method=self.name, marks=place.marks.path, modules=modules or ""))
        return str(path)


class Spawn(Method):
    name = "spawn"


class Forkserver(Method):
    name = "forkserver"


class Fork(Method):
    name = "fork"


class Threads(Method):
    name = "threads"


METHODS = (Spawn, Forkserver, Fork, Threads)
ALL = {kind.name: kind for kind in (Limit, LimitNap, LimitSplice, Floor, Reeve, ReeveCgroup,
                                    ReeveScale, ReeveMerged, *METHODS)}
