"""The replies of a running daemon are what org.reeve.Control.varlink says, field by field."""
import pathlib
import sys

import harness
import varlink
from procs import until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from varlink_idl import Interface  # noqa: E402


class Replies(harness.Case):
    def check(self, method, reply):
        kind = self.interface.members["method"][method][1]
        self.assertEqual(self.interface.wrong(reply, kind, method), [])

    def checked(self, d, method, **parameters):
        reply = d.call(method, **parameters)
        self.check(method, reply)
        return reply

    def refused(self, d, method, error, **parameters):
        with self.assertRaises(varlink.Refused) as caught:
            d.call(method, **parameters)
        self.assertEqual(caught.exception.name, error)
        kind = self.interface.members["error"][error]
        self.assertEqual(self.interface.wrong(caught.exception.parameters, kind, error), [])

    def begin(self):
        d = self.daemon({
            "web": {"command": self.words("out=said", "wait"), "workers": 2,
                    "log": {"stderr": "separate"}},
            "bad": {"command": self.words("out=last words", "exit=3"), "restart": {"limit": 1}},
            "gone": {"command": ["/nonexistent/program"], "restart": {"limit": 1}},
            "late": {"command": self.words("wait"), "after": ["bad"]},
            "ahead": {"entry": str(self.context.program("module.so")),
                      "env": {"MODULE_RUN": "wait"}, "start_method": "forkserver",
                      "template": {"spares": 1}},
            "told": {"command": self.words("notify=READY=1%0aSTATUS=fine", "wait")},
        })
        text = d.call("org.varlink.service.GetInterfaceDescription",
                      interface=varlink.INTERFACE)["description"]
        self.interface = Interface(text)
        for name in ("bad:0", "gone:0"):
            d.until_worker(name, state="quarantined")
        d.until_worker("web:1", state="ready")
        until(lambda: d.group("ahead")["spares"] == 1, 15, "a spare waits")
        return d

    def test_replies_that_show(self):
        d = self.begin()
        found = self.checked(d, "List", memory=True)
        self.assertEqual(len(found["workers"]), 7)
        self.assertEqual([bool((w["last_exit"] or {}).get("error")) for w in found["workers"]],
                         [w["group"] == "gone" for w in found["workers"]])
        self.assertEqual({g["group"] for g in found["groups"]},
                         {"web", "bad", "gone", "late", "told", "ahead"})
        self.checked(d, "List", targets=["web:1"], unwell=True)
        shown = self.checked(d, "Show", targets=["all"], memory=True)["details"]
        self.assertTrue(any(e["lines"] == ["last words"] for s in shown for e in s["exits"]
                            if "lines" in e))
        self.assertTrue(any(e.get("error") for s in shown for e in s["exits"]), shown)
        tree = self.checked(d, "Tree", memory=True)
        self.assertIn("late", tree["after"])
        self.assertTrue(all(p["pss_bytes"] > 0 for p in tree["processes"] if p["main"]))
        self.assertEqual([p["worker"] for p in tree["processes"] if p.get("spare")], ["ahead:0"])
        self.assertEqual({p["threads"] for p in tree["processes"]}, {1})
        events = self.checked(d, "Events", since=1)
        self.assertEqual([e["seq"] for e in events["events"]], list(range(1, events["next"])))
        for method in ("Version", "Doctor", "Plan", "Dump"):
            self.checked(d, method)
        self.checked(d, "Wait", targets=["web"], state="ready")
        d.stop()

    def test_replies_of_changes(self):
        d = self.begin()
        for method in ("Restart", "Stop", "Start", "Reset", "Kill"):
            more = {"signal": "CONT", "to": "tree"} if method == "Kill" else {}
            found = self.checked(d, method, targets=["web:0", "nobody"], **more)
            self.assertEqual([r["ok"] for r in found["results"]], [True, False], method)
        self.checked(d, "Scale", group="web", workers=3)
        self.checked(d, "Reload")
        self.checked(d, "Reload", groups=["web"])
        self.refused(d, "Scale", "NoSuchTarget", group="wbe", workers=1)
        for text in ("all", "web:0", "we*", "wbe"):
            self.refused(d, "Reload", "NoSuchTarget", groups=[text])
        self.refused(d, "Wait", "Timeout", targets=["web"], state="stopped", timeout_ms=20)
        d.write("groups: { web: { command = 7; }; };")
        self.refused(d, "Reload", "InvalidConfig")
        self.refused(d, "Plan", "InvalidConfig")
        d.call("Shutdown")
        self.assertEqual(d.wait_exit(), 0)

    def test_replies_in_pieces(self):
        d = self.begin()
        with d.connect() as client:
            for method in ("List", "Show", "Events", "Restart"):
                parts = list(client.stream(method, {} if method == "Events" else
                                           {"targets": ["web"]}))
                for part in parts:
                    self.check(method, part)
            self.assertEqual(len(list(client.stream("Show", {"targets": ["web"]}))), 2)
        with d.connect() as client:
            lines = []

            def said():
                with d.connect() as another:
                    lines[:] = [line for part in another.stream("Logs", {"targets": ["web"]})
                                for line in part["lines"]]
                return len(lines) >= 4
            until(said, 10, "both have said it twice")
            for part in client.stream("Logs", {"lines": 5}):
                self.check("Logs", part)
        d.stop()
