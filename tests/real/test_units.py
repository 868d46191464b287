"""The files for systemd are accepted by systemd's own tools."""
import os
import pathlib
import shutil
import subprocess

import harness

UNITS = pathlib.Path(__file__).resolve().parents[2] / "units"


class Units(harness.Case):
    def tool(self, *command):
        if not shutil.which(command[0]):
            self.skipTest(f"{command[0]} is not installed")
        env = {**os.environ, "XDG_RUNTIME_DIR": str(self.dir / "xdg")}
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=60, cwd=self.dir, env=env)

    def unit(self, source, **others):
        """A unit of ours whose programs are those of this build."""
        text = (UNITS / source).read_text()
        self.assertIn("@sbindir@/reeved", text)
        text = text.replace("@sbindir@/reeved", str(self.context.program("reeved")))
        path = self.dir / "reeved.service"
        path.write_text(text)
        return path

    def verify(self, source, *mode):
        done = self.tool("systemd-analyze", *mode, "verify", "--man=no", str(self.unit(source)))
        ours = [line for line in done.stderr.splitlines() if "reeve" in line]
        self.assertEqual((done.returncode, ours), (0, []), done.stderr)

    def test_verify_system_unit(self):
        self.verify("reeved.service.in")

    def test_verify_user_unit(self):
        (self.dir / "xdg").chmod(0o700)
        self.verify("reeved-user.service.in", "--user")

    def test_verify_finds_an_error(self):
        """So that the two above cannot pass by looking away."""
        path = self.unit("reeved.service.in")
        path.write_text(path.read_text().replace("KillMode=mixed", "KillMode=mixd"))
        done = self.tool("systemd-analyze", "verify", "--man=no", str(path))
        self.assertIn("kill mode", done.stderr)

    def test_sysusers_and_tmpfiles(self):
        self.need_root()
        root = self.dir / "root"
        (root / "etc").mkdir(parents=True)
        for kind in ("sysusers.d", "tmpfiles.d"):
            (root / "usr/lib" / kind).mkdir(parents=True)
            shutil.copy(UNITS / kind / "reeve.conf", root / "usr/lib" / kind)
        made = self.tool("systemd-sysusers", f"--root={root}", "reeve.conf")
        self.assertEqual((made.returncode, made.stderr.count("rror")), (0, 0), made.stderr)
        entry = next(line for line in (root / "etc/passwd").read_text().splitlines()
                     if line.startswith("reeve:")).split(":")
        self.assertEqual(entry[5], "/var/log/reeve")
        self.assertIn("nologin", entry[6])
        made = self.tool("systemd-tmpfiles", f"--root={root}", "--create", "reeve.conf")
        self.assertEqual(made.returncode, 0, made.stderr)
        logs, run = (root / "var/log/reeve").stat(), (root / "run/reeve").stat()
        self.assertEqual((logs.st_uid, logs.st_mode & 0o7777), (int(entry[2]), 0o755))
        self.assertEqual((run.st_uid, run.st_mode & 0o7777), (0, 0o755))
