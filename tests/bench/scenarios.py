"""What is measured. A scenario gets a subject that was not started yet and returns
{metric: (value, unit)}; `cases` says which scenarios are run with what."""
import os
import random
import statistics
import subprocess
import time
import json

import gauge
import varlink
from subjects import LOADS, METHODS, Job


class Case:
    def __init__(self, bench, measure, subjects, rounds, worker="glibc", n=1, **job):
        self.bench, self.measure, self.subjects = bench, measure, subjects
        self.rounds, self.worker, self.n, self.job = rounds, worker, n, job

    def make_job(self):
        return Job(self.n, self.worker, **self.job)


def bring_up(subject, seconds=120):
    """Starts and waits for all workers. Seconds from the request until the last one came up."""
    subject.start()
    times = subject.place.marks.gather(subject.job.n, gauge.UP, seconds, subject.check)
    subject.find_roles()
    return (max(times) - subject.started_ns) / 1e9


def take_down(subject):
    seconds, code = subject.stop()
    if code not in (0, -15):
        raise RuntimeError(f"{subject.name} has ended with {code}: {subject.place.said()}")
    return seconds


def measure_start(subject):
    n = subject.job.n
    result = {"start": (bring_up(subject), "s")}
    if subject.name != "limit":
        before = getattr(subject, "cpu_before_ns", 0)
        used = gauge.quiet_cpu_ns(subject.roles.values()) - before
        result["cpu per start"] = (used / n / 1e6, "ms")
        for role, pid in subject.roles.items() if len(subject.roles) > 1 else ():
            result[f"cpu of {role}"] = (gauge.cpu_ns(pid) / 1e6, "ms")
    result["stop"] = (take_down(subject), "s")
    return result


def measure_deaf(subject):
    bring_up(subject)
    time.sleep(0.2)
    return {"stop": (take_down(subject), "s")}


def measure_restart(subject):
    """Kills workers one by one; from kill() to the first statement of the next life."""
    bring_up(subject)
    marks, n = subject.place.marks, subject.job.n
    gauge.quiet_cpu_ns(subject.roles.values())
    chance = random.Random(1)
    latencies = []
    for _ in range(subject.job.kills):
        index = chance.randrange(n)
        time.sleep(0.004)
        begin = gauge.now_ns()
        os.kill(marks.pids[index], 9)
        latencies.append((marks.next(index, 30) - begin) / 1e6)
    take_down(subject)
    latencies.sort()
    return {"p50": (statistics.median(latencies), "ms"),
            "p99": (latencies[int(len(latencies) * 0.99)], "ms"),
            "max": (latencies[-1], "ms")}


def measure_recovery(subject):
    """Kills the manager and with it a worker: until its next life, its successor has started, looked
    at everything, decided and acted."""
    bring_up(subject)
    marks, n = subject.place.marks, subject.job.n
    chance = random.Random(1)
    latencies = []
    for _ in range(subject.job.kills):
        subject.find_roles()  # it answers: no successor is on its way
        gauge.quiet_cpu_ns(subject.roles.values())
        index = chance.randrange(n)
        begin = gauge.now_ns()
        os.kill(subject.roles["manager"], 9)
        os.kill(marks.pids[index], 9)
        latencies.append((marks.next(index, 30) - begin) / 1e6)
    take_down(subject)
    latencies.sort()
    return {"p50": (statistics.median(latencies), "ms"),
            "p99": (latencies[int(len(latencies) * 0.99)], "ms"),
            "max": (latencies[-1], "ms")}


def measure_rest(subject):
    """What it costs while nothing happens: memory, fds, wake-ups."""
    n = subject.job.n
    bring_up(subject)
    time.sleep(subject.job.settle_s)
    before = {role: gauge.switches(pid) for role, pid in subject.roles.items()}
    begin = time.monotonic()
    time.sleep(subject.job.idle_s)
    span = time.monotonic() - begin
    result, total = {}, {"pss": 0, "private": 0, "wakes": 0}
    for role, pid in subject.roles.items():
        wakes = (gauge.switches(pid) - before[role]) / span
        pss, private = gauge.memory_kib(pid)
        total["wakes"] += wakes
        total["pss"] += pss
        total["private"] += private
        result[f"pss of {role}"] = (pss, "KiB")
        result[f"fds of {role}"] = (gauge.fd_count(pid), "")
        result[f"wake-ups of {role}"] = (wakes, "/s")
    result["pss"] = (total["pss"], "KiB")
    result["private"] = (total["private"], "KiB")
    result["memfds"] = (gauge.memfd_kib(subject.roles.values()), "KiB")
    result["wake-ups"] = (total["wakes"], "/s")
    result["most fds per worker"] = (max(gauge.fd_count(pid) for pid in subject.roles.values()) / n,
                                     "")
    take_down(subject)
    return result


# --- start methods ------------------------------------------------------------------------------

def scale(subject, n):
    subject.call("Scale", group="bench", workers=n, wait=True)


def measure_first(subject):
    """From a request to the daemon to the first statement of the worker; and of its next life,
    from kill -9. Worker 0 is there before: the seed, or the first thread."""
    subject.job.n = 1
    bring_up(subject)
    marks, first, again = subject.place.marks, [], []
    for _ in range(subject.job.times):
        begin = gauge.now_ns()
        subject.call("Scale", group="bench", workers=2, wait=False)
        first.append((marks.next(1, 30) - begin) / 1e6)
        gauge.until(lambda: worker_states(subject) == {"ready"}, 30, "both are ready")
        begin = gauge.now_ns()
        os.kill(marks.pids[1], 9)
        again.append((marks.next(1, 30) - begin) / 1e6)
        gauge.until(lambda: worker_states(subject) == {"ready"}, 30, "both are ready")
        scale(subject, 1)
    take_down(subject)
    return {"first line": (statistics.median(first), "ms"),
            "after kill -9": (statistics.median(again), "ms")}


def worker_states(subject):
    client = varlink.Client(subject.socket)
    reply = json.loads(client.exchange(varlink.request("List"))[:-1])
    client.close()
    return {worker["state"] for worker in reply["parameters"]["workers"]}


def measure_memory(subject):
    """PSS of all workers and of what makes them; what one of them has for itself."""
    bring_up(subject)
    gauge.until(lambda: worker_states(subject) == {"ready"}, 60, "all are ready")
    roles = set(subject.roles.values())
    own = set(subject.place.marks.pids.values())
    pids = {int(pid) for pid in gauge.read_file(
        f"/proc/{subject.pid}/task/{subject.pid}/children").split()} - roles
    sizes = {pid: gauge.memory_kib(pid) for pid in pids | own}
    private = statistics.median(sizes[pid][1] for pid in own)
    take_down(subject)
    return {"pss": (sum(pss for pss, _ in sizes.values()) / 1024, "MiB"),
            "own, each": (private, "KiB")}


# --- asking -------------------------------------------------------------------------------------

def time_exchanges(path, request, times):
    """Milliseconds of connect, request and whole reply; and the reply."""
    spent, reply = [], b""
    for _ in range(times):
        begin = gauge.now_ns()
        client = varlink.Client(path)
        reply = client.exchange(request)
        client.close()
        spent.append((gauge.now_ns() - begin) / 1e6)
    return statistics.median(spent), reply


def time_program(subject, argv, times):
    spent = []
    for _ in range(times):
        begin = gauge.now_ns()
        pid = subject.place.spawn(argv, "answer")
        _, status = os.waitpid(pid, 0)
        spent.append((gauge.now_ns() - begin) / 1e6)
        if os.waitstatus_to_exitcode(status) not in (0, 2, 3):
            raise RuntimeError(f"{argv}: {subject.place.said('answer')}")
    return statistics.median(spent)


def measure_list(subject):
    """Reeve's answers; of `limit` the same bytes through a socket and the exec of a program."""
    place, times = subject.place, subject.job.times
    if subject.name == "limit":
        path = str(place.directory / "socket")
        size = {1000: 400000, 5000: 2000000}.get(subject.job.n, subject.job.n * 400)
        subject.launch([place.program("limit"), "reply", path, str(size)])
        gauge.until(lambda: os.path.exists(path), 10, "limit does not listen")
        time.sleep(0.05)
        api, reply = time_exchanges(path, b"x" * 40 + b"\0", times)
        cli = time_program(subject, [place.program("checklines")], times)
        take_down(subject)
        return {"list": (api, "ms"), "status": (cli, "ms"), "bytes": (len(reply), "")}
    bring_up(subject)
    gauge.quiet_cpu_ns(subject.roles.values())
    first, _ = time_exchanges(subject.socket, varlink.request("List"), 1)
    gauge.quiet_cpu_ns(subject.roles.values())  # it samples all trees, a few at a time
    api, reply = time_exchanges(subject.socket, varlink.request("List"), times)
    workers = json.loads(reply[:-1])["parameters"]["workers"]
    if len(workers) != subject.job.n:
        raise RuntimeError(f"List knows {len(workers)} workers of {subject.job.n}")
    result = {"list": (api, "ms"), "first list": (first, "ms"), "bytes": (len(reply), "")}
    result["version"] = (time_exchanges(subject.socket, varlink.request("Version"), times)[0], "ms")
    result["status"] = (time_program(subject, subject.reevectl("status"), times), "ms")
    result["status --all"] = (time_program(subject, subject.reevectl("status", "--all"), times),
                              "ms")
    take_down(subject)
    return result


# --- logs ---------------------------------------------------------------------------------------

def watch_growth(place, seconds=60):
    """When the log files had their last byte."""
    size, changed, end = -1, gauge.now_ns(), time.monotonic() + seconds
    while gauge.now_ns() - changed < 200e6 and time.monotonic() < end:
        total = place.log_bytes()
        if total != size:
            size, changed = total, gauge.now_ns()
        time.sleep(0.001)
    return changed


def check_lines(subject):
    """What became of the lines; each worker's files are checked for themselves."""
    job, place = subject.job, subject.place
    line, _, lines = job.writer
    files = {}
    for path in place.log_files():
        files.setdefault(path.name.split(".log")[0], []).append(str(path))
    total = {"good": 0, "cut": 0, "doubled": 0}
    for names in files.values():
        # The numbers of a worker's file begin at its index, so every file knows all writers.
        form = job.format if subject.name.startswith("reeve") else "raw"
        out = subprocess.run([place.program("checklines"), str(line), form, str(job.n), str(lines),
                              *names], check=True, capture_output=True, text=True).stdout
        found = json.loads(out)
        for key in total:
            total[key] += found[key]
    return job.n * lines - total["good"], total["cut"], total["doubled"]


def measure_log(subject):
    job, place = subject.job, subject.place
    line, _, lines = job.writer
    if subject.name.startswith("limit"):
        subject.start()
        place.marks.gather(1, gauge.UP, 30, subject.check)
    else:
        bring_up(subject)
    before = gauge.quiet_cpu_ns(subject.roles.values())
    gate = os.open(place.gate, os.O_RDWR | os.O_CLOEXEC)
    begun, ended = [], []
    limit = time.monotonic() + 120
    while len(ended) < job.n:
        for at, _, _, kind in place.marks.read():
            if kind in (gauge.BEGIN, gauge.END):
                (begun if kind == gauge.BEGIN else ended).append(at)
        if time.monotonic() > limit:
            raise gauge.Late(f"{len(ended)} of {job.n} writers are done")
        time.sleep(0.005)
    finished = max(max(ended), watch_growth(place))
    os.close(gate)
    used = gauge.quiet_cpu_ns(subject.roles.values()) - before
    payload = job.n * line * lines
    lost, cut, doubled = check_lines(subject)
    take_down(subject)
    return {"throughput": (payload / (1 << 20) / ((finished - min(begun)) / 1e9), "MiB/s"),
            "writers done": (payload / (1 << 20) / ((max(ended) - min(begun)) / 1e9), "MiB/s"),
            "cpu": (used / 1e9 / (payload / (1 << 30)), "s/GiB"),
            "lost": (lost, "lines"), "cut": (cut, "lines"), "doubled": (doubled, "lines")}


def warm_up(directory):
    """Touches the memory that the logs will lie in: the first touch of a page costs a virtual
    machine more than all copying."""
    path = os.path.join(directory, "warm-up")
    with open(path, "wb", buffering=0) as file:
        for _ in range(1536):
            file.write(bytes(1 << 20))
    os.unlink(path)


# --- what is run --------------------------------------------------------------------------------

THREE = ("limit", "floor", "reeve")


def start_cases(quick):
    for worker in ("glibc", "nolibc"):
        for n in (1, 100) if quick else (1, 100, 1000, 5000, 9000):
            subjects = THREE + ("reeve-scale",)
            if n in (100, 1000):
                subjects += ("reeve-cgroup",)
            yield Case("start", measure_start, subjects, 5 if n <= 1000 else 3, worker, n)


def other_cases(quick):
    many = 100 if quick else 1000
    for worker in ("glibc", "nolibc"):
        for n in (1, many):
            yield Case("restart", measure_restart, THREE + ("reeve-cgroup",), 3, worker, n,
                       kills=20 if quick else 200)
    for n in (1, many) if quick else (1, 1000, 5000):
        yield Case("recovery", measure_recovery, ("reeve", "reeve-cgroup"), 3, "nolibc", n,
                   kills=10 if quick else 100)
    yield Case("stop deaf", measure_deaf, ("floor", "reeve", "reeve-cgroup"), 3, "nolibc", many,
               mode="deaf10", stop_ms=1000)
    for n in (1, many):
        yield Case("idle", measure_rest, ("floor", "reeve"), 1 if quick else 3, "nolibc", n,
                   settle_s=4 if quick else 8, idle_s=2 if quick else 5)
    for n in (many,) if quick else (1000, 5000):
        yield Case("list", measure_list, ("limit", "reeve"), 3, "nolibc", n, times=20)


def log_cases(quick):
    """(name, writers, (line, block), MiB in all, format)"""
    rows = (("log 4k", 1, (128, 4096), 1024, "raw"), ("log 4k text", 1, (128, 4096), 1024, "text"),
            ("log 4k text, long lines", 1, (4096, 4096), 1024, "text"),
            ("log 4k json", 1, (128, 4096), 1024, "json"),
            ("log lines", 1, (100, 100), 256, "raw"), ("log lines text", 1, (100, 100), 256, "text"),
            ("log lines json", 1, (100, 100), 256, "json"),
            ("log 100 writers", 100, (100, 100), 256, "raw"),
            ("log 100 writers text", 100, (100, 100), 256, "text"))
    for name, writers, (line, block), mib, form in rows:
        subjects = ("floor", "reeve") if writers > 1 else THREE
        if writers > 1:
            subjects += ("reeve-merged",)
        elif form == "raw":
            subjects = ("limit", "limit-nap", "limit-splice", "floor", "reeve")
        size = (mib << 20) // (16 if quick else 1)
        lines = size // writers // block * (block // line)
        yield Case(name, measure_log, subjects, 1 if quick else 5, "writer", writers,
                   writer=(line, block, lines), format=form, keep=80)


def method_cases(quick):
    methods = tuple(kind.name for kind in METHODS)
    for load in LOADS:
        if load == "numpy" and subprocess.run(["/usr/bin/python3", "-c", "import numpy"],
                                              stderr=subprocess.DEVNULL, check=False).returncode:
            continue
        yield Case("method start", measure_first, methods, 1 if quick else 3, load, 1,
                   times=3 if quick else 20)
        yield Case("method memory", measure_memory, methods, 1, load, 10 if quick else 100)


def cases(quick):
    yield from start_cases(quick)
    yield from other_cases(quick)
    yield from log_cases(quick)
    yield from method_cases(quick)
