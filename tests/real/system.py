"""A systemd of our own, as pid 1 of a pid namespace with a small target, to run our unit under."""
import json
import os
import pathlib
import subprocess

import conftext
import harness
import procs
from procs import until

SERVICE = "reeved.service"
UNITS = pathlib.Path(__file__).resolve().parents[2] / "units"
SYSTEMD = "/lib/systemd/systemd"

# Everything that systemd would touch of this machine is replaced: its runtime directory, its view
# of the cgroups (the root is the test's own), the console.
INIT = """#!/bin/sh
set -e
mount -t tmpfs -o mode=755 tmpfs /run
umount -R -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind {dir}/console /dev/console
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=lxc SYSTEMD_UNIT_PATH={dir}/units \\
	{sanitizer} {systemd} --system --unit=boot.target --log-target=console
"""

# What its world is made of; a container may not be permitted to make one.
UNSHARE = ["unshare", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child",
           "--mount-proc"]

TARGET = "[Unit]\nDescription={}\nDefaultDependencies=no\n"


def why_not():
    """Why no system can be booted here, None if one can."""
    if not os.path.exists(SYSTEMD):
        return "systemd is not installed"
    made = subprocess.run([*UNSHARE, "true"], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=20)
    return f"no namespaces: {made.stderr.strip()}" if made.returncode else None


class System:
    """Belongs to one test; boot() first, close() at the end."""

    def __init__(self, case):
        self.case, self.dir = case, case.dir
        self.units = self.dir / "units"
        self.outer = None  # unshare(1), whose child is the pid 1
        self.pid = None
        self.units.mkdir()
        for name in ("boot", "basic", "sysinit", "shutdown", "default", "multi-user"):
            (self.units / f"{name}.target").write_text(TARGET.format(name))

    def unit(self, name, text):
        path = self.units / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def boot(self):
        (self.dir / "console").touch()
        script = self.dir / "init.sh"
        keep = [f"'{key}={os.environ[key]}'" for key in ("ASAN_OPTIONS", "UBSAN_OPTIONS")
                if key in os.environ]
        script.write_text(INIT.format(dir=self.dir, systemd=SYSTEMD, sanitizer=" ".join(keep)))
        cgroup = self.case.context.cgroup.path / "systemd"
        cgroup.mkdir()
        self.outer = subprocess.Popen(
            ["/bin/sh", "-c", 'echo 0 >"$1/cgroup.procs" && shift && exec "$@"', "sh", cgroup,
             *UNSHARE, "/bin/sh", script],
            stdin=subprocess.DEVNULL, stdout=(self.dir / "boot.out").open("wb"),
            stderr=subprocess.STDOUT, start_new_session=True)
        self.case.addCleanup(self.close)
        self.pid = until(self.find_pid1, 20, "systemd is executed")
        until(lambda: self.run("systemctl", "is-system-running").stdout.strip() == "running", 30,
              "the system is up", every=0.05)

    def find_pid1(self):
        if self.outer.poll() is not None:
            self.case.fail("systemd did not start: " + (self.dir / "boot.out").read_text())
        found = [pid for pid in procs.children_of(self.outer.pid) if procs.comm_of(pid) == "systemd"]
        return found[0] if found else None

    def close(self):
        """The end of its pid 1 ends everything in the namespace."""
        if self.pid:
            procs.kill(self.pid)
        self.outer.kill() if self.pid is None else None
        self.outer.wait(20)

    def run(self, *command, timeout=60):
        """A command inside, as one would type it in the machine's shell."""
        inside = ["nsenter", "-t", str(self.pid), *"-p -m -u -i -C -r --".split()]
        return subprocess.run([*inside, *map(str, command)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=timeout, cwd="/",
                              env={**os.environ, "NO_COLOR": "1"})

    def systemctl(self, *args, code=0, timeout=60):
        done = self.run("systemctl", *args, timeout=timeout)
        if code is not None:
            self.case.assertEqual(done.returncode, code, f"systemctl {args}: {done.stdout}"
                                                         f"{done.stderr}\n{self.console()}")
        return done.stdout

    def show(self, unit, name):
        return self.systemctl("show", "--value", "-p", name, unit).strip()

    def until_shows(self, unit, timeout=20, **wanted):
        """Until the unit's properties are as wanted (a value, or a function of it)."""
        seen = {}

        def fits():
            seen.update({name: self.show(unit, name) for name in wanted})
            return all(test(seen[name]) if callable(test) else seen[name] == test
                       for name, test in wanted.items())
        try:
            until(fits, timeout, every=0.05)
        except procs.Late:
            raise procs.Late(f"{unit} does not show {wanted} but {seen}\n{self.console()}") from None
        return seen

    def console(self):
        return procs.read(self.dir / "console")


class Service(harness.Case):
    """A test of the shipped unit in a system of its own."""

    def setUp(self):
        super().setUp()
        self.need_root()
        if why_not():
            self.skipTest(why_not())
        if not self.context.cgroup:
            self.skipTest("needs a cgroup of the v2 hierarchy")
        self.system = System(self)
        self.file = self.dir / "reeve.conf"
        reeved = self.context.program("reeved")
        self.unit_text = (UNITS / "reeved.service.in").read_text() \
            .replace("@sbindir@/reeved", str(reeved))
        self.system.unit(SERVICE, self.unit_text)
        self.drop_in("config", f"ExecStart=\nExecStart={reeved} --system -c {self.file}\n"
                               "StandardOutput=file:/dev/console\nStandardError=file:/dev/console\n")

    def drop_in(self, name, settings):
        self.system.unit(f"{SERVICE}.d/{name}.conf", f"[Service]\n{settings}")

    def configure(self, groups, **defaults):
        log = {"file": f"{self.dir}/log/%g.log"}
        conf = {"defaults": harness.merge(harness.DEFAULTS, {"log": log, **defaults}),
                "groups": groups}
        self.file.write_text(conftext.render(conf))

    def start(self, groups, **defaults):
        self.configure(groups, **defaults)
        self.system.boot()
        self.system.systemctl("start", SERVICE)

    def ctl(self, *args, code=0):
        done = self.system.run(self.context.program("reevectl"), *args)
        if code is not None:
            self.assertEqual(done.returncode, code, f"reevectl {args}: {done.stdout}{done.stderr}\n"
                                                    f"{self.system.console()}")
        return done.stdout

    def worker(self, name):
        text = self.ctl("--json", "status", name, code=None)
        return json.loads(text)[0] if text.startswith("[") else {}

    def until_worker(self, name, **wanted):
        return until(lambda: (lambda w: all(w.get(k) == v for k, v in wanted.items()) and w)(
            self.worker(name)), 20, f"{name} is {wanted}", every=0.05)

    def assert_nothing_left(self):
        """The service's cgroup is gone, and with it every process of it."""
        path = self.context.cgroup.path / "systemd/system.slice" / SERVICE
        until(lambda: not path.exists(), 10, "the cgroup of the unit is gone")
