#!/usr/bin/env python3
"""Every key of the table stands in the manual with the same type, bounds, default, change and example,
and the manual names no other key (TAP).

    conf_manual.py TOOL MANUAL
"""
import os
import re
import subprocess
import sys


def plain(text):
    """scdoc text without its escapes."""
    return re.sub(r"\\(.)", r"\1", text)


def entries(text):
    """{path: (type, default, change, example)} of the sections DAEMON and GROUP."""
    found, section, path = {}, None, None
    for line in text.splitlines():
        head = re.match(r"# (.*)", line)
        if head:
            section = {"DAEMON": "daemon", "GROUP": "group"}.get(head.group(1))
        key = re.match(r"\*([^*\s]+)\* = (.*)$", line)
        if section and key:
            path = f"{section}.{plain(key.group(1))}"
            found[path] = [plain(key.group(2))]
        facts = re.match(r"\tDefault: (.*)\. Change: (\w+)\. Example: (.*);$", line)
        if section and facts and path:
            found[path] += [plain(word) for word in facts.groups()]
    return found


def main():
    tool, manual = os.path.abspath(sys.argv[1]), sys.argv[2]
    rows = subprocess.run([tool, "keys"], stdout=subprocess.PIPE, check=True,
                          encoding="utf-8").stdout.splitlines()
    keys = [row.split("\t") for row in rows]
    with open(manual, encoding="utf-8") as file:
        said = entries(file.read())
    failed, number = 0, 0

    def check(good, title, detail=""):
        nonlocal failed, number
        number += 1
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {title}")
        if not good and detail:
            print(f"#   {detail}")

    for path, kind, preset, change, example, help_line in keys:
        preset = preset[1:-1] if preset.startswith("(") else preset or "none"
        want = [kind, preset, change, f"{path.rsplit('.', 1)[1]} = {example}"]
        check(said.get(path) == want, path, f"manual {said.get(path)}, table {want}")
        check(bool(help_line) and help_line.endswith("."), f"{path} has a line of help")
    check(sorted(said) == sorted(key[0] for key in keys), "the manual names no other key",
          str(sorted(set(said) - {key[0] for key in keys})))
    paths = [key[0] for key in keys]
    check(paths == sorted(paths) and len(set(paths)) == len(paths), "the table is sorted")
    check(len(keys) > 60, "the table was read")
    print(f"1..{number}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
