"""Every Python that the daemon may be told to start: other versions, as far as there are any, and venvs."""
import os
import re
import shutil
import subprocess
import sys

from harness import PYTHON, Case, until

METHODS = ("spawn", "forkserver", "fork", "threads")
APP = """
import asyncio, logging, sys, time
import reeve

@reeve.before_fork
def before():
    pass

@reeve.after_fork
def after():
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, force=True)

async def serve():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(reeve.stop_fd, stop.set)
    await asyncio.get_running_loop().run_in_executor(None, time.sleep, 0)
    reeve.status("serves")
    reeve.progress(1, 2)
    reeve.ready()
    await stop.wait()
    return 7

def main():
    reeve.fork_point()
    logging.info("runs %d.%d below %s", *sys.version_info[:2], sys.prefix)
    return asyncio.run(serve())

def raises():
    raise ValueError("odd")

def leaves():
    sys.exit(9)
"""


def version_of(python):
    """(3, 11), or None if it cannot be executed: some directories hold names without programs."""
    try:
        done = subprocess.run([python, "-c", "import sys; print(sys.executable, *sys.version_info)"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        path, major, minor = done.stdout.decode().split()[:3]
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    return path, (int(major), int(minor))


class Interpreters(Case):
    stretch = 3

    def setUp(self):
        super().setUp()
        self.need_only(("default",), "they are the same in every mode")
        if not os.access(PYTHON, os.X_OK):
            self.skipTest(f"no {PYTHON}")

    @staticmethod
    def others(minors):
        """(path, version) of python3.X on PATH beside the default one."""
        found = {}
        for minor in minors:
            path = shutil.which(f"python3.{minor}")
            real = path and version_of(path)
            if real and os.path.realpath(real[0]) != os.path.realpath(PYTHON):
                found[os.path.realpath(real[0])] = real
        return sorted(found.values())

    def group(self, python, method, entry="main", **keys):
        (self.dir / "app.py").write_text(APP)
        return {"entry": f"app:{entry}", "python": python, "start_method": method,
                "cwd": str(self.dir), "env": {"PYTHONDONTWRITEBYTECODE": "1",
                                              "PYTHONWARNINGS": "always::DeprecationWarning"}, **keys}

    def try_all(self, python, name):
        """All start methods at once: life, restart, renewal, stop, and ways to end."""
        groups, once = {}, {"restart": {"when": "never"}}
        for method in METHODS:
            groups[method] = self.group(python, method, workers=2, ready="notify")
            groups[f"{method}-raises"] = self.group(python, method, "raises", **once)
            groups[f"{method}-leaves"] = self.group(python, method, "leaves", **once)
        d = self.daemon(groups, name=name)
        for method in METHODS:
            for i in range(2):
                d.until_worker(f"{method}:{i}", 60, state="ready", status="serves",
                               progress={"done": 1, "total": 2})
            d.until_worker(f"{method}-leaves:0", last_exit=lambda e: e and e["code"] == 9)
            d.until_worker(f"{method}-raises:0", last_exit=lambda e: e and e["code"] == 1)
            where = "threads-raises/host" if method == "threads" else f"{method}-raises:0"
            until(lambda where=where: "ValueError: odd" in d.ctl("logs", where, code=0).out, 15)
        for verb in ("restart", "reload"):
            d.ctl(verb, *METHODS, code=0, timeout=60)
        d.ctl("stop", *METHODS, code=0)
        for method in METHODS:
            self.assertEqual([d.worker(f"{method}:{i}")["last_exit"]["code"] for i in range(2)],
                             [7, 7], method)
        d.stop()
        said = {method: "\n".join(d.lines(method)) for method in METHODS}
        for method, text in said.items():
            self.assertNotIn("Warning", text, method)
            self.assertNotIn("Traceback", text, method)
        return said

    def test_other_versions(self):
        tried = self.others(range(9, 20))
        if not tried:
            self.skipTest("no other python3.X on PATH")
        for path, version in tried:
            said = self.try_all(path, "d{}.{}".format(*version))
            for method in METHODS:
                self.assertIn("runs {}.{} below".format(*version), said[method], method)

    def test_a_venv(self):
        """Its packages are found, whatever the start method."""
        venv = self.dir / "venv"
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(venv)], check=True)
        said = self.try_all(str(venv / "bin" / "python"), "venv")
        for method in METHODS:
            self.assertTrue(re.search(rf"below {re.escape(str(venv))}$", said[method], re.M), method)

    def test_too_old(self):
        old = [path for path, _ in self.others(range(5, 9))]
        if not old:
            self.skipTest("no python3.X before 3.9 on PATH")
        groups = {method: self.group(old[-1], method, restart={"limit": 1}) for method in METHODS}
        d = self.daemon(groups)
        where = {"spawn": "spawn:0", "forkserver": "forkserver/template", "fork": "fork:0",
                 "threads": "threads/host"}
        for name in where.values():
            until(lambda name=name: "is too old, 3.9 or later is needed" in
                  str(d.exits(name)[:1]), 20, f"{name} says why")
        d.stop()

