#!/usr/bin/env python3
"""reeve-template(7) is true: its tables are the codec's, its packets parse, its skeleton runs. TAP.

    template_manual.py SOURCE-ROOT                  checks tables and packets
    template_manual.py SOURCE-ROOT --run-skeleton   is the skeleton
"""
import pathlib
import re
import sys

sys.dont_write_bytecode = True
ROOT = pathlib.Path(sys.argv[1])
PAGE = (ROOT / "lib/reeve-template.7.scd").read_text()


def block(heading):
    """The literal block of a section."""
    section = PAGE.split(f"\n# {heading}\n", 1)[1].split("\n# ", 1)[0]
    return section.split("\n```\n", 2)[1]


if sys.argv[2:] == ["--run-skeleton"]:
    exec(compile(block("SKELETON"), "skeleton", "exec"))

sys.path.insert(0, str(ROOT / "tests/support"))
import template_conformance as tc  # noqa: E402


def enumerators(prefix):
    """Names of an enum in channel.h with their numbers; those without follow the one before."""
    number, found = 0, {}
    for name, value in re.findall(rf"^\t{prefix}_(\w+)(?: = (\d+))?,",
                                  (ROOT / "lib/channel.h").read_text(), re.M):
        number = int(value) if value else number + 1
        found[name] = number
    return found


def rows(heading):
    section = PAGE.split(f"\n# {heading}\n", 1)[1].split("\n# ", 1)[0]
    return {name: int(number) for number, name in re.findall(r"^\|  (\d+) (\w+)$", section, re.M)}


def packets():
    """(sender, receiver, name, bytes) of the example."""
    parts = re.split(r"^(\w) > (\w)  (\w+).*$", block("EXAMPLE"), flags=re.M)[1:]
    for sender, receiver, name, dump in zip(*[iter(parts)] * 4):
        yield sender, receiver, name, bytes.fromhex(
            "".join(line[10:57] for line in dump.splitlines()))


def check_types():
    tc.need(rows("MESSAGES") == enumerators("CH"), f"{rows('MESSAGES')}")


def check_tags():
    tc.need(rows("RECORDS") == enumerators("CT") == tc.TAG, f"{rows('RECORDS')}")


def check_packets():
    names = enumerators("CH")
    seen = [(sender, receiver, name) for sender, receiver, name, data in packets()
            if tc.Message(data).kind == names[name] or tc.need(False, name)]
    tc.need(seen == [("D", "T", "HELLO"), ("T", "D", "HELLO"), ("T", "D", "READY"),
                     ("D", "T", "FORK"), ("W", "D", "BORN"), ("T", "D", "SPAWNED"),
                     ("D", "W", "GO")], f"{seen}")


def main():
    checks = [check_types, check_tags, check_packets]
    failed = 0
    print(f"1..{len(checks)}")
    for number, check in enumerate(checks, 1):
        try:
            check()
            print(f"ok {number} - {check.__name__}")
        except tc.Broken as error:
            failed = 1
            print(f"not ok {number} - {check.__name__}\n# {error}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
