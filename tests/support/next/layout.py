"""
Makes the ledger.h of "the next release": every row with a stride and the header have one field more.

    next-layout.py LEDGER_H OUTPUT
"""
import re
import sys

ROWS = ("ledger_group", "ledger_slot", "ledger_life", "ledger_exits", "ledger_header")
FIELD = "\tuint64_t appended_by_the_next[2];\n"


def main():
    text = open(sys.argv[1]).read()
    for name in ROWS:
        text, n = re.subn(rf"(struct {name} \{{.*?\n)(\}};)", lambda m: m[1] + FIELD + m[2], text,
                          count=1, flags=re.S)
        if n != 1:
            sys.exit(f"there is no struct {name} in {sys.argv[1]}")
    with open(sys.argv[2], "w") as out:
        out.write(text)


main()
