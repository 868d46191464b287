"""
The oracles: what puppets wrote down themselves against what the daemon says of them.

Every life writes a start token (epoch, worker, incarnation, pid), holds the lock of its slot as
long as it lives, and numbers its lines. So a doubled, lost or mixed-up life is seen without asking
the daemon, and then the daemon's word is compared.
"""
import collections
import json
import os
import re
import shutil
import time

import procs

LINE = re.compile(r"\S+ (\w+(?::\d+|/host))!? row-(\d+\.\d+\.\d+) (\d+)$")
# What a runtime says of a start that the daemon has given up, as the worker or still as its template.
RUNTIME = re.compile(r"\S+ \w+(:\d+|/template(\.1)?)!? reeve(-runner)?: ")
RAW = re.compile(r"(row)-(\d+\.\d+\.\d+) (\d+)$")
LOST = re.compile(r"\S+ (\w+:\d+)!? -- (\d+) bytes lost --$")
TOKEN = re.compile(r"(\d+) (\w+:\d+) (\d+)$")


def life(case, journal, *words):
    """Words of a puppet that leaves all that the oracles need; `words` follow."""
    return (case.words(journal, "token", "note=@env:EPOCH@ @env:REEVE_WORKER@ @inc@") +
            [f"flock={case.dir}/lock-%n"] + case.words(*words)[1:])


def bring_runtimes(case):
    """What workers that are forked or are threads run by, into the case's directory; returns what
    the daemon's environment has to name."""
    here = os.path.dirname(os.path.abspath(__file__))
    shutil.copy(os.path.join(here, "life.py"), case.dir / "life.py")
    for name in ("module.so", "reeve-runner"):
        shutil.copy(case.context.program(name), case.dir / name)
    if not (case.dir / "python").exists():
        shutil.copytree(os.path.join(here, "../../lib/python"), case.dir / "python",
                        ignore=shutil.ignore_patterns("__pycache__", "tests"))
        shutil.copy(case.context.program("libreeve-template.so"), case.dir / "python")
    return {"REEVE_PYTHON_DIR": str(case.dir / "python"),
            "REEVE_RUNNER": str(case.dir / "reeve-runner")}


def rows(micros, count=0):
    """Numbered lines for ever (or so many)."""
    return f"lines={count}:{micros}:row-@env:EPOCH@.@inc@.@pid@"


def wrote(pid, entry):
    """Is this process (by our number) the one that wrote the entry, or did the number go on?"""
    fields = procs.stat_of(pid)
    tick = os.sysconf("SC_CLK_TCK")
    return bool(fields) and fields[0] not in "ZX" and int(fields[19]) * 1000000 <= entry.us * tick


def as_text(line):
    """A line of a log; an object, which must be whole, as it would stand in a text log."""
    if not line.startswith("{"):
        return line
    try:
        said = json.loads(line)
        mark = {"out": "", "err": "!"}[said["stream"]] + "+" * said.get("partial", False)
        if "lost_bytes" in said and said["line"] != f"-- {said['lost_bytes']} bytes lost --":
            return line
        return f"{said['time']} {said['worker']}{mark} {said['line']}"
    except (ValueError, KeyError):
        return line  # torn


class Oracles:
    """Of one daemon's directory; `case` is told of what is wrong."""

    def __init__(self, case, journal, lasting=lambda worker: True):
        self.case, self.journal, self.lasting = case, journal, lasting
        self.seen = {}  # (epoch, worker, incarnation) → exit record as first seen complete
        self.killed = {}  # pid (ours) → signals sent by the test

    def claims(self):
        """(epoch, worker, incarnation) → journal entries that claim to be it."""
        found = collections.defaultdict(list)
        for entry in self.journal.entries("note"):
            match = TOKEN.match(entry.text)
            if match:
                found[int(match[1]), match[2], int(match[3])].append(entry)
        return found

    def tokens(self):
        """The same, but pids."""
        return {who: [e.pid for e in entries] for who, entries in self.claims().items()}

    def check_single(self):
        """2, 26: no slot twice at a time, no incarnation twice ever (a slot that goes and comes
        again counts anew: it is not of the `lasting` ones)."""
        doubled = {who: pids for who, pids in self.tokens().items()
                   if len(pids) > 1 and self.lasting(who[1])}
        self.case.assertEqual(doubled, {}, "an incarnation was started twice")
        self.case.assertEqual(self.journal.entries("double"), [], "two lives in one slot")
        self.case.assertEqual(self.journal.entries("write-error"), [], "its pipe broke")
        self.case.assertEqual(self.journal.entries("failed"), [], "a puppet failed")

    def check_lines(self, *groups, lossy=(), spoken=(), raw=()):
        """19: of each life 0, 1, 2 … without a hole, in order, whole. Returns how many lines. In a
        `spoken` group a runtime may speak too; `raw` ones are written without time and name."""
        lines = 0
        for group in groups:
            expected = collections.Counter()
            paths = [p for p in (self.case.dir / "log").glob(f"{group}.log*")]
            paths.sort(key=lambda p: -int(p.suffix[1:]) if p.suffix[1:].isdigit() else 0)
            for path in paths:
                text = path.read_bytes()
                self.case.assertTrue(not text or text.endswith(b"\n"), f"{path} has no last end")
                for line in map(as_text, text.decode().splitlines()):
                    if group in lossy and LOST.match(line):
                        continue
                    if group in spoken and RUNTIME.match(line):
                        continue
                    found = (RAW if group in raw else LINE).match(line)
                    self.case.assertTrue(found, f"torn: {line!r} in {path}")
                    key, number = (found[1], found[2]), int(found[3])
                    if group in lossy:
                        self.case.assertGreaterEqual(number, expected[key], f"doubled: {line!r}")
                    else:
                        self.case.assertEqual(number, expected[key],
                                              f"lost or doubled: {line!r} in {path}")
                    expected[key] = number + 1
                    lines += 1
        return lines

    def check_records(self, details, epoch):
        """8: one record for each end, with the true code or signal; a record never changes."""
        for detail in details:
            worker = detail["worker"]["worker"]
            numbers = [r["incarnation"] for r in detail.get("exits", [])]
            self.case.assertEqual(len(numbers), len(set(numbers)), f"{worker}: {numbers}")
            for record in detail.get("exits", []):
                key = (epoch, worker, record["incarnation"])
                said = (record.get("code"), record.get("signal"), record.get("cause"))
                if key in self.seen:
                    self.case.assertEqual(self.seen[key], said, f"{key}: its record changed")
                self.seen[key] = said

    def check_events(self, path, client, since=0):
        """23: numbered without a hole; each event goes on where the last of its worker ended."""
        state, last = {}, since
        for part in client.stream("Events", {"since": since + 1}):
            if part.get("gap"):
                state.clear()
                last = part["gap"]["last"]
            for event in part["events"]:
                self.case.assertEqual(event["seq"], last + 1, "a hole in the events")
                last = event["seq"]
                name = event.get("worker")
                if "to" not in event:  # of the daemon
                    continue
                if name in state:
                    self.case.assertEqual(event["from"], state[name],
                                          f"{event}: not where the last event of it ended")
                state[name] = event["to"]
        return last, state

    def check_counter(self, worker):
        """12: one restart for each life after the first; counted when it is decided, so one more
        while the next life is on its way."""
        ahead = worker["restarts"] - (worker["incarnation"] - 1)
        on_its_way = worker["state"] in ("backoff", "waiting", "starting")
        self.case.assertIn(ahead, (0, 1) if on_its_way else (0,), worker)

    def check_zombies(self, keeper):
        """9: who is a zombie now is none a second later (five, on a machine that is busy)."""
        def dead():
            return {(pid, fields[19]) for pid in procs.read(
                f"/proc/{keeper}/task/{keeper}/children").split()
                if (fields := procs.stat_of(pid)) and fields[0] in "ZX"}
        first, begin = dead(), time.monotonic()
        procs.until(lambda: time.monotonic() - begin > 1 and not first & dead(), 5,
                    f"all of {sorted(first)} are reaped")

    def check_stopped(self, group):
        """3: after "stopped" nothing of the group is there."""
        mark = f"/{group}:".encode()
        left = []
        for pid in procs.pids():
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    text = file.read()
            except OSError:
                continue
            if self.case.mark.encode() in text and mark in text and b"REEVE_ID=" in text \
                    and procs.alive(pid):
                left.append(procs.describe(pid))
        self.case.assertEqual(left, [], f"{group} is stopped")
