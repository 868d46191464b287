"""Failpoints of a test build (daemon/base/failpoint.h): the file that the roles map, as we write it."""
import errno
import mmap
import struct
import subprocess

HEADER, ROW, NAME = 64, 64, 40
MAGIC = 0x31746E696F706C66
NOTHING, KILL, ERRNO, PAUSE, KILL_MANAGER, KILL_LOGGER = range(6)
ACTIONS = {"kill": KILL, "errno": ERRNO, "pause": PAUSE, "kill-manager": KILL_MANAGER,
           "kill-logger": KILL_LOGGER}
ROLES = {"K": "keeper", "M": "manager", "L": "logger", "C": "child"}


def listed(binary):
    """[(role letter, name)] of all points of this build; empty where it has none."""
    done = subprocess.run([str(binary), "--failpoints"], capture_output=True, text=True)
    if done.returncode != 0:
        return []
    return [tuple(line.split(" ")) for line in done.stdout.splitlines()]


class Failpoints:
    """The file, made anew at `path`. Everything armed is shared with all roles at once."""

    def __init__(self, binary, path):
        self.points = listed(binary)
        self.row = {name: i for i, (_, name) in enumerate(self.points)}
        self.path = path
        head = struct.pack("<QII", MAGIC, len(self.points), ROW)
        rows = b"".join(name.encode().ljust(ROW, b"\0") for _, name in self.points)
        path.write_bytes(head.ljust(HEADER, b"\0") + rows)
        path.chmod(0o666)
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 0)

    def close(self):
        self.map.close()

    def _at(self, name, field):
        # hits, action, value, skip, times, happened
        return HEADER + self.row[name] * ROW + NAME + 4 * field

    def _get(self, name, field):
        return struct.unpack_from("<i", self.map, self._at(name, field))[0]

    def _set(self, name, field, value):
        struct.pack_into("<i", self.map, self._at(name, field), value)

    def hits(self, name):
        return self._get(name, 0)

    def all_hits(self):
        return {name: self.hits(name) for name in self.row}

    def happened(self, name):
        return self._get(name, 5)

    def arm(self, name, action, value=0, skip=0, times=1):
        """The next `times` visits after `skip` others are acted on."""
        if isinstance(value, str):
            value = getattr(errno, value)
        self._set(name, 1, NOTHING)
        for field, what in ((2, value), (3, skip), (4, times), (5, 0)):
            self._set(name, field, what)
        self._set(name, 1, ACTIONS[action])

    def disarm(self, name):
        self._set(name, 1, NOTHING)

    def disarm_all(self):
        for name in self.row:
            self.disarm(name)

    def step_clock(self, seconds):
        """The daemon's wall clock is so far off from now on."""
        struct.pack_into("<q", self.map, 16, int(seconds * 1000000))

    def skip_time(self, seconds):
        """So much time passes at once for the daemon, as on a machine that was paused."""
        before, = struct.unpack_from("<q", self.map, 32)
        struct.pack_into("<q", self.map, 32, before + int(seconds * 1000000))
