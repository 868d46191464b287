#!/usr/bin/env python3
"""
The tests that documents and the catalogue of failures name exist. TAP; argument: the source root.

In a table of complaints, `area.test_x` is a test of tests/live or tests/chaos, OR01 is every live test
that is named after it, OR01–OR08 each of the eight, `golden NAME` a file of tests/golden/conf.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
FOLDERS = ("live", "chaos")
# Start methods and Python, all of the catalogue.
COVERED = [f"PY{n:02}" for n in range(1, 15)] + ["SP24", "SH25"]


def defined(area):
    return {name for folder in FOLDERS for path in (ROOT / "tests" / folder).glob(f"test_{area}.py")
            for name in re.findall(r"^    def (test_\w+)\(self", path.read_text(), re.M)}


def has_id(name):
    return any(re.match(rf"test_(\w+_)?{name}_", test) for test in defined("*"))


def spread(text):
    """The text with OR01–OR03 as OR01 OR02 OR03."""
    return re.sub(r"\b([A-Z]{2})(\d\d)–\1(\d\d)\b", lambda m: " ".join(
        f"{m[1]}{n:02}" for n in range(int(m[2]), int(m[3]) + 1)), text)


def missing(text):
    """Names in a text that nothing answers to."""
    lost = [f"{area}.{test}" for area, test in re.findall(r"`(\w+)\.(test_\w+)`", text)
            if test not in defined(area)]
    lost += [name for name in re.findall(r"\b[A-Z]{2}\d\d\b", spread(text)) if not has_id(name)]
    return lost + [f"golden {name}" for name in re.findall(r"`golden ([\w-]+)`", text)
                   if not (ROOT / f"tests/golden/conf/{name}.conf").exists()]


def is_shown(text):
    return re.search(r"`\w+\.test_\w+`|\b[A-Z]{2}\d\d\b|`golden [\w-]+`|`\./dev bench`", text)


def complaints():
    section = (ROOT / "README.md").read_text().split("\n## Complaints from the field\n")[1]
    for line in section.split("\n## ")[0].splitlines():
        if line.startswith("| ") and not line.startswith("| complaint"):
            cells = line.strip("|").split("|")
            yield cells[0].strip(), cells[-1]


def check_complaints():
    """each complaint of README.md names a test, and those tests exist"""
    rows = list(complaints())
    return ([] if len(rows) > 15 else [f"{len(rows)} rows"]) + [
        f"{name}: {lost}" for name, see in rows for lost in missing(see)] + [
        f"{name}: no test" for name, see in rows if not is_shown(see)]


def check_readmes():
    """the tests that the readmes of the suites name exist"""
    texts = [(ROOT / f"tests/{folder}/README.md").read_text() for folder in FOLDERS]
    found = sum(len(re.findall(r"`\w+\.test_\w+`", text)) for text in texts)
    return ([] if found > 40 else [f"{found} names"]) + [x for text in texts for x in missing(text)]


def check_catalogue():
    """each failure of start methods and of Python has a live test that is named after it"""
    return [name for name in COVERED if not has_id(name)]


CHECKS = (check_complaints, check_readmes, check_catalogue)
wrong = 0
print(f"1..{len(CHECKS)}")
for number, check in enumerate(CHECKS, 1):
    found = check()
    wrong += bool(found)
    print(f"{'not ok' if found else 'ok'} {number} - {check.__doc__}")
    for text in found:
        print(f"# {text}")
sys.exit(1 if wrong else 0)
