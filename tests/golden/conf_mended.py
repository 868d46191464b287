#!/usr/bin/env python3
"""Every `write: …` that a golden case is told, put in place of what it mends: that problem must be
gone and no other one be there instead (TAP). What only shows a form says `for example:`.

    conf_mended.py TOOL DIRECTORY [NAME...]
"""
import os
import pathlib
import re
import shutil
import sys
import tempfile

from conf_golden import Case, run

PROBLEM = re.compile(r"DIR/([^:]+):(\d+): (error|warning): (.*)$")
#: What a message is about, in front of its reason: a path of names, the last of which is written.
NAMED = re.compile(r'(?:[\w-]+: )?(?:unknown key "([^"]+)"|group "([^"]+)"|([\w.-]+))')


#: What may come to light once a line is read at all: it was there, but not looked for.
HIDDEN = re.compile(r"there is no such group|No such file|no command and no entry|command = true|"
                    r"is never used|there is no shell|is a rotated name|is written twice|"
                    r"mode and owner belong|is the socket of group")
#: Before these the value was not read: now it is, and told with a mend of its own if it is no good.
UNREAD = re.compile(r"needs (double )?quotes|does not fit 32 bits")


def problems(text):
    """[(file, line, message, the mended text or None)]"""
    found = []
    for line in text.splitlines():
        match = PROBLEM.match(line)
        if match:
            name, number, _, message = match.groups()
            reason, _, mended = message.partition("; write: ")
            found.append((name, int(number), reason.split("; for example: ")[0], mended or None))
    return found


def value_end(text, at):
    """Behind the value that begins at `at`, and the mark that ends the setting."""
    depth = 0
    while at < len(text):
        if text[at] == '"':
            quoted = re.compile(r'"(\\.|[^"\\])*"', re.S).match(text, at)
            if not quoted:
                break
            at = quoted.end()
            continue
        if text[at] in ";,}" and depth == 0:
            return at + (text[at] != "}")
        depth += (text[at] in "{[(") - (text[at] in "}])")
        at += 1
    return at


def candidates(text, number, message, mended):
    """The file with the mended text in place of its line, or of the setting that is named."""
    lines = text.split("\n")
    start = sum(len(line) + 1 for line in lines[:number - 1])
    end = start + len("\n".join(lines[number - 1:number + 1]))
    yield "\n".join([*lines[:number - 1], mended, *lines[number:]])
    named = NAMED.match(message)
    names = {group.rsplit(".", 1)[-1] for group in named.groups() if group} if named else set()
    names |= set(re.findall(r"([\w-]+)(?: =|:)", message.split("; allowed")[0]))
    key = re.match(r"([\w-]+)\s*[=:]", mended)
    names |= {key.group(1)} if key else set()
    renamed = re.match(r"(\S+): \{ \.\.\. \};$", mended)
    for name in sorted(names):
        places = list(re.finditer(rf"(?<![\w.-]){re.escape(name)}\s*[=:]\s*", text[:end]))
        here = [place for place in places if place.start() >= start]
        for at in here + [place for place in places if place.start() < start][-1:]:
            if renamed:
                yield text[:at.start()] + renamed.group(1) + ": " + text[at.end():]
            else:
                yield text[:at.start()] + mended + text[value_end(text, at.end()):]
    for at in re.finditer(rf"\b{re.escape(message.split(':')[0])}: \{{", text[:end]):
        yield text[:at.end()] + " " + mended + text[at.end():]


def mends(tool, case, folder, problem, before):
    name, number, message, mended = problem
    file = folder / name
    text = file.read_text(encoding="utf-8")
    after = []
    try:
        for candidate in candidates(text, number, message, mended):
            file.write_text(candidate, encoding="utf-8")
            left = {p[:3] for p in problems(run(tool, case)[1])}
            new = {p for p in left - before if not HIDDEN.search(p[2])
                   and not (UNREAD.search(message) and p[:2] == (name, number))
                   and not p[2].startswith(mended.split(" { ... }")[0] + " ")}
            if problem[:3] not in left and not new:
                return []
            after.append(sorted(new) or [problem[:3]])
    finally:
        file.write_text(text, encoding="utf-8")
    return after[:1] + after[-1:]


def main():
    tool, names = os.path.abspath(sys.argv[1]), sys.argv[3:]
    failed = number = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(shutil.copytree(sys.argv[2], pathlib.Path(scratch) / "conf"))
        for path in sorted(folder.glob("*.conf")):
            case = Case(path)
            if not case.title or case.verb[0] not in ("load", "loader"):
                continue
            if names and path.stem not in names:
                continue
            found = problems(run(tool, case)[1])
            before = {p[:3] for p in found}
            for problem in found:
                if problem[3] is None:
                    continue
                number += 1
                bad = mends(tool, case, folder, problem, before)
                failed += bool(bad)
                print(f"{'not ok' if bad else 'ok'} {number} - {path.stem}:{problem[1]} "
                      + problem[3].replace("#", r"\#"))
                if bad:
                    print(f"# {problem[2]}")
                for left in bad:
                    print("".join(f"#   then: {p[0]}:{p[1]}: {p[2]}\n" for p in left), end="")
    print(f"1..{number}")
    return 1 if failed or (number < 100 and not names) else 0


if __name__ == "__main__":
    sys.exit(main())
