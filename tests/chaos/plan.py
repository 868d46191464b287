"""
A plan: what a storm does, step by step, drawn from a seed and from nothing else. It is plain data,
so that a part of it can be tried again (shrink) and what fails can be kept as a file.
"""
import random

GROUPS = {"web": 3, "plain": 4, "tree": 2, "flaky": 3, "steady": 3, "block": 1,
          "pool": 2, "seed": 2, "slots": 2, "copies": 2}
TEMPLATES = ("pool", "copies")
FORKED = (*TEMPLATES, "seed")  # and "slots" are threads
TOUCHED = ("web", "plain", "tree", "pool", "seed", "slots")  # by operators; others: the model
SIGNALS = ("KILL", "KILL", "SEGV", "TERM", "INT", "ABRT", "HUP")
QUIET = ("KILL", "TERM", "HUP")
NOISE = ("USR1", "CONT", "CHLD", "WINCH", "PIPE", "ALRM", "TTIN")

# Steps that fail, and how. Each is one that the daemon says it survives without loss.
ERRORS = (("spawn.clone", "EAGAIN"), ("spawn.clone", "ENOMEM"), ("pipe.make", "EMFILE"),
          ("pipe.store", "EMFILE"), ("pipe.reopen", "ENFILE"), ("notify.bind", "ENOBUFS"),
          ("notify.store", "EMFILE"), ("leaf.make", "ENOSPC"), ("leaf.open", "EMFILE"),
          ("sink.open", "EMFILE"), ("write.put", "ENOSPC"), ("write.put", "EIO"),
          ("write.put", "EDQUOT"), ("client.send", "EPIPE"), ("rotate.move", "EACCES"),
          ("role.fork", "EAGAIN"), ("reload.commit", "ENOMEM"))
SLOW = ("write.put", "sink.open", "ring.fill", "rotate.move", "spawn.clone", "turn.end",
        "exit.verdict", "reap.recorded", "store.put", "drain.done", "fork.sent", "born.heard",
        "claim.sent", "go.stored", "thread.started")


class Drawn:
    """Draws steps. `points` are the failpoints of the build, by role letter; `keeper`: may it be
    killed here."""

    def __init__(self, seed, points, mode):
        self.r = random.Random(seed)
        self.points = {role: sorted(n for x, n in points if x == role and not n.startswith("boot."))
                       for role in "KMLC"}
        self.weights = dict(WEIGHTS)
        if mode != "pid1":
            self.weights.pop("decoys")
        if mode not in ("default", "pid1"):
            self.weights.pop("freeze")
        if not points:
            for name in ("error", "slow", "at_point", "clock"):
                self.weights.pop(name)

    def steps(self, n):
        names, weights = zip(*sorted(self.weights.items()))
        out = []
        for name in self.r.choices(names, weights, k=n):
            step = getattr(self, name)()
            step["do"] = name
            step["after_ms"] = self.r.choice((0, 0, 1, 3, 10, 25))
            out.append(step)
        return out

    def worker(self, groups=TOUCHED):
        group = self.r.choice(groups)
        return f"{group}:{self.r.randrange(GROUPS[group])}"

    def target(self):
        return self.r.choice((self.worker(), self.worker().partition(":")[0]))

    # --- operations ---
    def start(self):
        return {"target": self.target()}

    def stop(self):
        return {"target": self.target(), "cold": self.r.random() < .3, "wait": self.r.random() < .3}

    def restart(self):
        return {"target": self.target(), "cold": self.r.random() < .2}

    def scale(self):
        return {"workers": self.r.randrange(1, GROUPS["plain"] + 3)}

    def reload(self):
        return {"greeting": self.r.randrange(4), "guest": self.r.randrange(2),
                "by": self.r.choice(("call", "signal"))}

    def renew(self):
        return {}

    def upgrade(self):
        return {}

    def look(self):
        return {}

    # --- noise ---
    def signal(self):
        return {"signal": self.r.choice(NOISE), "times": self.r.choice((1, 1, 20))}

    def garbage(self):
        return {"bytes": self.r.choice(("", "\\0", "{", "GET / HTTP/1.1\r\n\r\n", "x" * 5000,
                                        "{\"method\":\"org.reeve.Control.List\"}\0" * 40)),
                "read": self.r.random() < .5}

    def cut(self):
        return {"method": self.r.choice(("Restart", "List", "Events", "Logs")),
                "target": self.target(), "hold_ms": self.r.choice((0, 1, 5))}

    # --- faults ---
    def kill_manager(self):
        return {}

    def kill_logger(self):
        return {}

    def kill_keeper(self):
        return {}

    def hold_role(self):
        return {"role": self.r.choice(("manager", "logger")), "ms": self.r.choice((1, 10, 60))}

    def kill_worker(self):
        worker = self.worker(("web", "plain", "tree", "steady", "block", *FORKED, "slots"))
        # Python writes the stacks of all threads when it crashes, piece by piece, into the same pipe
        signals = QUIET if worker.startswith("slots") else SIGNALS
        return {"worker": worker, "signal": self.r.choice(signals)}

    def hold_worker(self):
        return {"worker": self.worker(("web", "plain", *FORKED, "slots")),
                "ms": self.r.choice((5, 60))}

    def kill_template(self):
        return {"group": self.r.choice(TEMPLATES)}

    def hold_template(self):
        """The longest is longer than fork_timeout."""
        return {"group": self.r.choice(TEMPLATES), "ms": self.r.choice((10, 100, 1500))}

    def error(self):
        point, error = self.r.choice(ERRORS)
        return {"point": point, "errno": error, "skip": self.r.choice((0, 0, 3)),
                "times": self.r.choice((1, 1, 2, 5))}

    def slow(self):
        return {"point": self.r.choice(SLOW), "ms": self.r.choice((2, 20, 100))}

    def at_point(self):
        role = self.r.choice("MMMLLC")
        return {"point": self.r.choice(self.points[role]), "action": "kill",
                "skip": self.r.choice((0, 0, 1, 5, 20))}

    def clock(self):
        return {"seconds": self.r.choice((-86400, -3600, -1, 0, 1, 3600, 10 ** 7))}

    def freeze(self):
        return {"worker": self.worker(("web", "plain")), "ms": self.r.choice((5, 60))}

    def decoys(self):
        return {"turn": self.r.randrange(5, 30)}


WEIGHTS = {"start": 8, "stop": 5, "restart": 6, "scale": 3, "reload": 2, "renew": 1, "upgrade": 1,
           "look": 3, "signal": 2, "garbage": 2, "cut": 3, "kill_manager": 6, "kill_logger": 5,
           "kill_keeper": .5, "hold_role": 3, "kill_worker": 15, "hold_worker": 2,
           "kill_template": 3, "hold_template": 1, "error": 4,
           "slow": 3, "at_point": 10, "clock": 1, "freeze": 1, "decoys": 8}
