"""Run by the daemon as `PYTHON DIR template|threads|spawn [ENTRY]`, DIR being this directory."""
import sys


def main():
    # type: () -> int
    if sys.version_info < (3, 9):
        sys.stderr.write("reeve: Python %d.%d is too old, 3.9 or later is needed\n"
                         % sys.version_info[:2])
        return 2
    from reeve import _main
    return _main.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
