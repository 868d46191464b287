#!/usr/bin/env python3
"""
org.reeve.Control.varlink: is it valid Varlink, is everything in it explained, and do the table of
methods in the manager and the manual page say the same? TAP on stdout. Argument: the source root.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(ROOT / "tests/support"))
sys.dont_write_bytecode = True

from varlink_idl import BUILT_IN, Interface  # noqa: E402

MACROS = {"TARGETS": ["targets"], "WAITING": ["wait", "timeout_ms"], "OP": ["op"], "END": []}


def table_of(source):
    """method → (right, parameter names) as the manager's tables say."""
    params = {}
    for name, body in re.findall(r"struct vl_param (\w+)\[\] = \{(.*?)\};", source, re.S):
        found = []
        for field, macro in re.findall(r"ARG\(\w+,\s*(\w+)|\b([A-Z]+)\b(?=\s*[,}]|$)", body):
            found += [field] if field else MACROS.get(macro, [])
        params[name] = found
    return {name: (right.lower(), params[row]) for name, right, row in re.findall(
        r'METHOD\("(\w+)",\s*RIGHT_(\w+),\s*[^,]+,\s*(\w+),', source)}


def main():
    interface = Interface((ROOT / "lib/org.reeve.Control.varlink").read_text())
    rows = table_of((ROOT / "daemon/manager/control.c").read_text())
    manual = (ROOT / "lib/reeve-control.7.scd").read_text()
    methods = interface.members["method"]
    checks = {
        "every member is explained": interface.bare == [],
        "it is org.reeve.Control": interface.name == "org.reeve.Control",
        "every type is there": interface.used - set(BUILT_IN) <= set(interface.members["type"]),
        "no type is idle": set(interface.members["type"]) <= interface.used,
        "the manager has the same methods": set(methods) == set(rows),
    }
    for name, (taken, _) in sorted(methods.items()):
        right, params = rows.get(name, ("", []))
        checks[f"{name}: the same parameters"] = sorted(taken) == sorted(params)
        line = re.search(rf"^\|  [^\n]*\b{name}\b[^\n]*\n:  (\w+)", manual, re.M)
        # Reload without groups needs more than its row says
        checks[f"{name}: its right in the manual"] = line is not None and (
            line[1] == right or (name == "Reload" and line[1] == "admin"))
    for name in interface.members["error"]:
        checks[f"{name}: in the manual"] = f"*{name}*" in manual
    for number, (what, true) in enumerate(checks.items(), 1):
        print(f"{'ok' if true else 'not ok'} {number} - {what}")
    print(f"1..{len(checks)}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
