"""
A disk that stops: the file system of a log file is frozen, so that the logger hangs in a write that
not even SIGKILL ends. The others go on, the end of the daemon is not held up, and the next one
starts (LG15, SH12).
"""
import os
import pathlib
import shutil
import signal
import subprocess
import time

import harness
import procs
from procs import until

TOOLS = ("mkfs.ext4", "mount", "umount", "fsfreeze")


class Frozen:
    """A small file system in a file, mounted; freeze() and thaw()."""

    def __init__(self, folder):
        self.image, self.at, self.is_frozen = folder / "image", folder / "disk", False
        self.at.mkdir()
        with open(self.image, "wb") as image:
            image.truncate(16 << 20)
        self.run("mkfs.ext4", "-q", self.image)
        self.run("mount", "-o", "loop", self.image, self.at)

    @staticmethod
    def run(*words):
        subprocess.run([str(w) for w in words], check=True, capture_output=True)

    def freeze(self):
        self.run("fsfreeze", "-f", self.at)
        self.is_frozen = True

    def thaw(self):
        if self.is_frozen:
            self.run("fsfreeze", "-u", self.at)
        self.is_frozen = False

    def close(self):
        self.thaw()
        self.run("umount", "-l", self.at)  # a failed test's daemon may still write there


class Stall(harness.Case):
    def disk(self):
        self.need_root()
        self.need_not("pid1", "the mount is another namespace's")
        if any(not shutil.which(tool, path=os.environ["PATH"] + ":/usr/sbin") for tool in TOOLS):
            self.skipTest("needs " + " ".join(TOOLS))
        try:
            disk = Frozen(self.dir)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            self.skipTest(f"no loop mount here: {error}")
        self.addCleanup(disk.close)
        return disk

    def two(self, disk):
        words = self.words("lines=0:20000:line")
        return {"slow": {"command": words, "log": {"file": str(disk.at / "slow.log")}},
                "well": {"command": words}}

    def hanging(self, disk):
        """A daemon whose logger hangs for good in the frozen file system; the logger's pid."""
        d = self.daemon(self.two(disk))
        d.until_all(state="ready")
        until(lambda: (disk.at / "slow.log").exists() and d.lines("well"), 15, "both are written")
        d.roles_may_die = True
        logger = d.role("logger")
        disk.freeze()
        until(lambda: procs.state_of(logger) == "D", 15, "the logger hangs")
        return d, logger

    @harness.costly()
    def test_LG15_a_frozen_disk_stalls_its_own_group_alone(self):
        disk = self.disk()
        d, logger = self.hanging(disk)
        before = {name: w["pid"] for name, w in d.workers().items()}
        until(lambda: [p for p in procs.children_of(d.pid) if procs.comm_of(p) == "reeve-logger"
                       and p != logger], 15, "a successor works beside it")
        count = len(d.lines("well"))
        until(lambda: len(d.lines("well")) > count + 5, 15, "the other group goes on")
        self.assertTrue(procs.alive(logger), "nobody can end it")
        self.assertEqual({name: w["pid"] for name, w in d.workers().items()}, before)
        disk.thaw()
        until(lambda: not procs.alive(logger), 15, "it ends with the call")
        text = pathlib.Path(disk.at / "slow.log")
        size = text.stat().st_size
        until(lambda: text.stat().st_size > size, 30, "its file is written again")
        d.stop()

    @harness.costly("off")
    def test_LG15_an_upgrade_beside_a_logger_that_hangs(self):
        disk = self.disk()
        d, logger = self.hanging(disk)
        before = {name: w["pid"] for name, w in d.workers().items()}
        d.ctl("upgrade", code=0)
        self.assertTrue(procs.alive(logger), "nobody can end it")
        count = len(d.lines("well"))
        until(lambda: len(d.lines("well")) > count + 5, 15, "the other group goes on")
        self.assertEqual({name: w["pid"] for name, w in d.workers().items()}, before)
        disk.thaw()
        until(lambda: not procs.alive(logger), 15, "it ends with the call, and is reaped")
        d.stop()

    @harness.costly("pid1")
    def test_LG15_the_end_is_not_held_up_nor_the_next_start(self):
        disk = self.disk()
        d, logger = self.hanging(disk)
        begin = time.monotonic()
        d.send(signal.SIGTERM)
        self.assertEqual(d.wait_exit(), 0, d.text())
        self.assertLess(time.monotonic() - begin, 10)
        self.assertTrue(procs.alive(logger), "nobody can end it")
        d.conf["groups"] = self.one("wait")
        d.write(d.conf)
        d.start()
        d.until_all(state="ready")
        disk.thaw()
        until(lambda: not procs.alive(logger), 15, "it ends with the call")
        d.stop()
