"""The words behind `PYTHON DIR`."""
from __future__ import annotations

import sys
from typing import List


def main(argv: List[str]) -> int:
    word, rest = (argv[0], argv[1:]) if argv else ("", [])
    if word == "spawn":
        from . import spawn
        return spawn.main(rest)
    if word == "template":
        from . import template
        return template.main(rest)
    if word == "threads":
        from . import threads
        return threads.main(rest)
    sys.stderr.write("usage: PYTHON DIR template|threads|spawn [ENTRY]\n")
    return 2
