#!/usr/bin/env python3
"""
org.reeve.Control.varlink: is it valid Varlink, is everything in it explained, and do the table of
methods in the manager and the manual page say the same? TAP on stdout. Argument: the source root.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
TOKEN = re.compile(r"[ \t\n]+|#[^\n]*|->|\[\]|\[string\]|[A-Za-z][A-Za-z0-9_.]*|[?(),:]")
FIELD = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*$")
TYPE = re.compile(r"[A-Z][A-Za-z0-9]*$")
BUILT_IN = {"bool", "int", "float", "string", "object"}
MACROS = {"TARGETS": ["targets"], "WAITING": ["wait", "timeout_ms"], "OP": ["op"], "END": []}


class Interface:
    """A recursive descent through the grammar of Varlink's interface definitions."""

    def __init__(self, text):
        self.tokens, at = [], 0
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found, f"not Varlink: {text[at:at + 40]!r}"
            at = found.end()
            if found[0].strip():
                self.tokens.append(found[0])
        self.at, self.used = 0, set()
        self.members = {"type": {}, "method": {}, "error": {}}
        self.bare = []
        self.parse()

    def take(self, *expected):
        token = self.tokens[self.at]
        assert not expected or token in expected, f"{token!r} where {expected} is needed"
        self.at += 1
        return token

    def skip_comments(self):
        begin = self.at
        while self.at < len(self.tokens) and self.tokens[self.at].startswith("#"):
            self.at += 1
        return self.at > begin

    def parse(self):
        assert self.skip_comments(), "the interface has no comment"
        self.take("interface")
        assert self.take() == "org.reeve.Control"
        while True:
            explained = self.skip_comments()
            if self.at == len(self.tokens):
                return
            kind, name = self.take("type", "method", "error"), self.take()
            assert TYPE.match(name), name
            assert name not in self.members[kind], f"{name} twice"
            fields = self.struct()
            if kind == "method":
                self.take("->")
                fields = (fields, self.struct())
            self.members[kind][name] = fields
            if not explained:
                self.bare.append(name)

    def struct(self):
        """Names of the fields of a struct, or of the values of an enum."""
        names = []
        self.take("(")
        self.skip_comments()
        while self.tokens[self.at] != ")":
            if names:
                self.take(",")
            self.skip_comments()
            names.append(self.take())
            assert FIELD.match(names[-1]) and names.count(names[-1]) == 1, names[-1]
            if self.tokens[self.at] == ":":
                self.at += 1
                self.type()
            self.skip_comments()
        self.take(")")
        return names

    def type(self):
        optional = self.tokens[self.at] == "?"
        self.at += optional
        if self.tokens[self.at] in ("[]", "[string]"):
            self.at += 1
            self.type()
        elif self.tokens[self.at] == "(":
            self.struct()
        else:
            self.used.add(self.take())


def table_of(source):
    """method → (right, parameter names) as the manager's tables say."""
    params = {}
    for name, body in re.findall(r"struct vl_param (\w+)\[\] = \{(.*?)\};", source, re.S):
        found = []
        for field, macro in re.findall(r"ARG\(\w+,\s*(\w+)|\b([A-Z]+)\b(?=\s*[,}]|$)", body):
            found += [field] if field else MACROS.get(macro, [])
        params[name] = found
    return {name: (right.lower(), params[row]) for name, right, row in re.findall(
        r'\{\s*"(\w+)",\s*RIGHT_(\w+),\s*[^,]+,\s*(\w+),', source)}


def main():
    interface = Interface((ROOT / "lib/org.reeve.Control.varlink").read_text())
    rows = table_of((ROOT / "daemon/manager/control.c").read_text())
    manual = (ROOT / "lib/reeve-control.7.scd").read_text()
    methods = interface.members["method"]
    checks = {
        "every member is explained": interface.bare == [],
        "every type is there": interface.used - BUILT_IN <= set(interface.members["type"]),
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
