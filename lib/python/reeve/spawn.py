"""
`python3 -m reeve.spawn ENTRY`: run "package.module:function" in this process, without a template.
Everything else is as under the other start methods: path, hooks, signals, exit codes.
"""
from __future__ import annotations

import sys
from typing import List

from . import _load, _run
from ._worker import context


def main(argv: List[str]) -> int:
    if len(argv) != 1 or ":" not in argv[0]:
        sys.stderr.write("usage: python3 -m reeve.spawn PACKAGE.MODULE:FUNCTION\n")
        return 2
    context.worker.signals.loading()
    _load.set_path()
    _run.line_buffered()
    sys.argv[:] = argv
    _run.run_entry(context, argv[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
