#!/usr/bin/env python3
"""Configurations in, dumps and diagnostics out (TAP).

    conf_golden.py TOOL DIRECTORY [--update] [NAME...]

NAME.conf is given to conf-tool; what it prints must equal NAME.dump (it loads) or NAME.diag (it
does not). Comments at the top of the file steer a case:
    # case: what it shows          (required)
    # run: load                    verb and arguments; FILE stands for the file
    # args: --pid1                 options of conf-tool; --offline unless there is a line "args:"
    # env: NAME=value              one more variable of the environment
    # failure: CF07                ids of the failure catalogue that it covers
A dump shows only what differs from what a group with nothing but a command has.
"""
import os
import pathlib
import re
import resource
import subprocess
import sys


class Case:
    def __init__(self, path):
        self.path = path
        self.verb, self.args, self.env = ["load", "FILE"], ["--offline"], {}
        self.title = None
        for line in path.read_bytes().decode("utf-8", "replace").splitlines():
            found = re.match(r"# (case|run|args|env|failure): ?(.*)$", line.lstrip("\ufeff"))
            if not found:
                continue
            word, text = found.groups()
            if word == "case":
                self.title = text
            elif word == "run":
                self.verb = text.split()
            elif word == "args":
                self.args = text.split()
            elif word == "env":
                name, _, value = text.partition("=")
                self.env[name] = value


def limit():
    """Dumps show the hard limit of open files: make it the same everywhere."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    want = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, want), want))


def run(tool, case):
    env = {"PATH": "/usr/bin:/bin", "HOME": "/home/someone", **case.env}
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"):
        if name in os.environ:
            env[name] = os.environ[name]
    folder = case.path.parent.resolve()
    verb = [str(folder / word) if word.endswith(".conf") else
            str(folder / case.path.name) if word == "FILE" else word for word in case.verb]
    done = subprocess.run([tool, *case.args, *verb], env=env, cwd="/", timeout=60,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, preexec_fn=limit)
    text = done.stdout.decode("utf-8", "backslashreplace").replace(str(folder), "DIR")
    return done.returncode, text


def settings(text):
    """The settings of a dump as {path: text}, and the lines before it."""
    head, found, stack, lines = [], {}, [], iter(text.splitlines())
    for line in lines:
        bare = line.strip()
        opened = re.match(r"(\S+): \{$", bare)
        if opened:
            stack.append(opened.group(1))
        elif bare == "};":
            stack.pop()
        elif stack:
            name, _, value = bare.partition(" = ")
            while value.endswith("(") or (value.startswith("(") and not value.endswith(");")):
                more = next(lines).strip()
                value += " " + more if more != ");" else " );"
                if more == ");":
                    break
            found[".".join([*stack, name])] = value
        else:
            head.append(line)
    return head, found


def shorten(text, plain):
    head, found = settings(text)
    out = list(head)
    for path, value in found.items():
        words = path.split(".")
        key = ".".join(["groups", "plain", *words[2:]]) if words[0] == "groups" else path
        if plain.get(key, "").replace("plain", words[1]) != value:
            out.append(f"{path} = {value}")
    return "\n".join(out) + "\n" if out else ""


def main():
    tool, folder = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    update = "--update" in sys.argv
    names = [word for word in sys.argv[3:] if not word.startswith("--")]
    cases = [Case(path) for path in sorted(folder.glob("*.conf"))]
    cases = [case for case in cases if case.title and (not names or case.path.stem in names)]
    plain = settings(run(tool, Case(folder / "plain.conf"))[1])[1]
    failed = 0
    print(f"1..{len(cases)}")
    for number, case in enumerate(cases, 1):
        code, text = run(tool, case)
        if case.verb[0] == "load" and code == 0 and case.path.stem != "plain":
            text = shorten(text, plain)
        want = case.path.with_suffix(".diag" if code == 78 else ".dump")
        if update:
            for suffix in (".diag", ".dump"):
                case.path.with_suffix(suffix).unlink(missing_ok=True)
            want.write_text(text)
        good = code in (0, 78) and want.exists() and want.read_text() == text
        failed += not good
        print(f"{'ok' if good else 'not ok'} {number} - {case.path.stem}: {case.title}")
        if not good:
            print(f"# exit code {code}; got:")
            print("".join(f"#   {line}\n" for line in text.splitlines()), end="")
            print(f"# wanted ({want.name}):")
            if want.exists():
                print("".join(f"#   {line}\n" for line in want.read_text().splitlines()), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
