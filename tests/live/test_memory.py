"""Memory page by page: measured by a helper, never in the loop."""
import select
import signal
import time

from harness import Case, procs, until

NUMBERS = ("pss_bytes", "private_bytes", "shared_bytes")


class Memory(Case):
    def gauge(self, d):
        """The helper's pid, once there is one."""
        for pid in procs.children_of(d.pid):
            if procs.read(f"/proc/{pid}/cmdline").startswith("reeve-gauge"):
                return pid
        return None

    def test_workers_trees_and_details_have_it(self):
        d = self.daemon({"web": {"command": self.words("fork=2", "[", "wait", "]", "wait"), "workers": 3}})
        d.until_all(state="ready")
        found = d.call("List", memory=True)
        for w in found["workers"]:
            for key in NUMBERS:
                self.assertGreater(w[key], 0, (w["worker"], key))
            self.assertGreaterEqual(w["private_bytes"] + w["shared_bytes"], w["pss_bytes"])
            self.assertLessEqual(w["private_bytes"], w["pss_bytes"])
        group = found["groups"][0]
        self.assertEqual(group["pss_bytes"], sum(w["pss_bytes"] for w in found["workers"]))
        self.assertEqual(group["private_bytes"], sum(w["private_bytes"] for w in found["workers"]))
        self.assertTrue(all(key not in w for w in d.call("List")["workers"] for key in NUMBERS))

        tree = d.call("Tree", memory=True)["processes"]
        self.assertGreaterEqual(len(tree), 9)
        self.assertTrue(all(p[key] > 0 for p in tree for key in NUMBERS if key != "private_bytes"))
        detail = d.call("Show", targets=["web:1"], memory=True)["details"][0]
        self.assertEqual(detail["worker"]["pss_bytes"],
                         sum(p["pss_bytes"] for p in detail["tree"]))

        text = d.ctl("status", "--all", "--memory", code=0).out
        self.assertEqual(text.count("PSS"), 2, text)
        self.assertEqual(text.count("PRIVATE"), 2, text)
        self.assertIn("SHARED", text)
        self.assertIn("private", d.ctl("tree", code=0).out)
        self.assertIn("shared", d.ctl("show", "web:0", code=0).out)
        rows = d.ctl("status", "--json", "--memory", code=0).json()
        self.assertTrue(all(row[key] > 0 for row in rows for key in NUMBERS))
        rows = d.ctl("status", "--json", code=0).json()
        self.assertTrue(all(row[key] is None for row in rows for key in NUMBERS))
        d.stop()

    def test_workers_without_a_process_have_none(self):
        d = self.daemon({"web": {"command": self.words("wait"), "autostart": False}})
        w = d.call("List", memory=True)["workers"][0]
        self.assertTrue(all(key not in w for key in NUMBERS), w)
        self.assertEqual(d.call("Tree", memory=True)["processes"], [])
        d.stop()

    def crowd(self):
        """A daemon with a worker whose memory takes long to walk through: the same pages, mapped
        many times."""
        code = ("import mmap, os, signal; f = os.memfd_create('pages'); os.ftruncate(f, 1 << 25);"
                "maps = [mmap.mmap(f, 1 << 25, mmap.MAP_SHARED | 0x8000) for _ in range(96)];"
                "open('ready', 'w'); signal.pause()")
        folder = self.open_folder()
        d = self.daemon({"big": {"command": ["/usr/bin/python3", "-c", code], "cwd": str(folder)},
                         "web": {"command": self.words("wait"), "workers": 8}})
        until((folder / "ready").exists, 30, "the pages are mapped")
        d.until_all(30, state="ready")
        return d

    def held(self, d, client):
        """A request whose helper is stopped in the middle of it; one that was missed is no loss."""
        def stopped():
            pid = self.gauge(d)
            if pid:
                procs.kill(pid, signal.SIGSTOP)
                until(lambda: procs.state_of(pid) in ("T", "Z", None), 10, every=0.001)
                if procs.state_of(pid) == "T":
                    return pid
            if select.select([client.sock], [], [], 0)[0]:
                client.reply()
                client.send("Tree", {"memory": True})
            return None

        client.send("Tree", {"memory": True})
        return until(stopped, 20, "the helper is stopped", every=0.001)

    def measured(self, d):
        return {p["worker"] for p in d.call("Tree", memory=True)["processes"]
                if p["main"] and "pss_bytes" in p}

    def test_SH12_a_helper_that_hangs_holds_nobody_up(self):
        d = self.crowd()
        everybody = {f"web:{i}" for i in range(8)} | {"big:0"}
        with d.connect() as client:
            pid = self.held(d, client)
            began = time.monotonic()
            self.assertEqual(len(d.call("List")["workers"]), 9)
            self.assertFalse(select.select([client.sock], [], [], 0)[0], "nobody waited")
            processes = client.reply()["processes"]
            self.assertLess(time.monotonic() - began, 5)
        known = {p["worker"] for p in processes if p["main"] and "pss_bytes" in p}
        # nothing is known from one that was stopped before it had begun
        self.assertTrue(not known or len(known) >= 8, "more is missing than the one it hung in")
        until(lambda: not procs.alive(pid), 10, "the helper was killed")
        self.assertEqual(self.measured(d), everybody)
        d.stop()

    def test_the_manager_dies_while_it_is_measured(self):
        d = self.crowd()
        before = {name: w["pid"] for name, w in d.workers().items()}
        with d.connect() as client:
            pid = self.held(d, client)
            d.roles_may_die = True
            procs.kill(d.role("manager"))
            until(lambda: not procs.alive(pid), 10, "the helper ended")
        d.until_all(30, state="ready")
        self.assertEqual(before, {name: w["pid"] for name, w in d.workers().items()})
        self.assertEqual(len(self.measured(d)), 9)
        d.stop()

    def test_a_client_that_leaves_costs_nothing(self):
        d = self.crowd()
        with d.connect() as client:
            pid = self.held(d, client)
        until(lambda: not procs.alive(pid), 10, "a helper that nobody waits for ends")
        self.assertEqual(len(self.measured(d)), 9)
        d.stop()
