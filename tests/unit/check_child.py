#!/usr/bin/env python3
"""What daemon/manager/child.c may call between clone and exec: check_child.py FILE [LIBRARY].

The child shares memory, errno and thread-local storage with the running manager, so it may call
only what stands in this file: its own static functions, the raw system calls listed, atomics on its
row. Macros count as calls. The part that runs in the parent is named, too.
"""
import re
import subprocess
import sys

SYSCALLS = set("""
    chdir clone3 close close_range dup3 execve exit_group faccessat fcntl getdents64 getpid getppid
    getresgid getresuid ioctl openat prctl prlimit64 rt_sigaction rt_sigprocmask setgroups setpgid
    setpriority setresgid setresuid setsid umask write
""".split())
# syscall(): the fall-back of raw() where memory is always copied. clone(): called by the parent.
# failpoint_meet(): async-signal-safe by its contract, and in test builds only.
CALLS = {"atomic_load_explicit", "atomic_store_explicit", "defined", "syscall", "clone",
         "FAIL_ERR_AT", "_Static_assert"}
WORDS = {"if", "for", "while", "switch", "return", "sizeof", "__asm__", "volatile", "do",
         "__attribute__", "_Alignas", "else"}


def strip(text):
    """Without comments, strings and character constants."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\''
    return re.sub(pattern, lambda m: " " if m[0][0] == "/" else '""', text, flags=re.S)


def complaints(text):
    code = strip(text)
    own = set(re.findall(r"^(?:static |inline )*[\w ]+?[ *](\w+)\([^;{}]*\)\n\{", code, re.M))
    own |= set(re.findall(r"^#define (\w+)\(", code, re.M))
    pointers = set(re.findall(r"\(\*(\w+)\)\(", code))  # members and parameters that are functions
    found = []
    for name in sorted(set(re.findall(r"\b([A-Za-z_]\w*)\s*\(", code))):
        types = ("long", "int", "void", "char")
        if name not in own | CALLS | WORDS | pointers and name not in types:
            found.append(f"calls {name}()")
    for name in sorted(set(re.findall(r"\bSYS_(\w+)", code)) - SYSCALLS):
        found.append(f"uses the system call {name}")
    allowed = r"\b(errno)\b"
    lines = [line for line in code.splitlines() if re.search(allowed, line)]
    # errno is read only where memory is copied, and by the parent
    for line in lines:
        if not re.search(r"-errno\b", line) and "include" not in line:
            found.append(f"touches errno: {line.strip()}")
    return found


def imports(library):
    """What the compiler made calls of by itself (it knows a strlen() when it sees one)."""
    allowed = {"clone", "__errno_location", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_",
               "failpoint_meet"}
    listed = subprocess.run(["nm", "-u", library], capture_output=True, text=True, check=True)
    names = {line.split()[1] for line in listed.stdout.splitlines() if line.strip().startswith("U ")}
    if any(name.startswith(("__asan", "__ubsan", "__tsan", "__msan")) for name in names):
        return []  # instrumented: memory is always copied
    return [f"imports {name}" for name in sorted(names - allowed)]


def self_test():
    """The check must be able to fail."""
    bad = ("static int f(void)\n{\n\tmalloc(3);\n\traw(SYS_kill, 1, 2, 0, 0, 0);\n"
           "\terrno = 0;\n\treturn 0;\n}\n")
    seen = complaints(bad)
    assert any("malloc" in c for c in seen), seen
    assert any("kill" in c for c in seen), seen
    assert any("errno" in c for c in seen), seen
    assert not complaints("static int f(void)\n{\n\treturn 0; /* malloc(1) */\n}\n")


def main():
    self_test()
    with open(sys.argv[1], encoding="utf-8") as file:
        found = complaints(file.read())
    for library in sys.argv[2:]:
        found += imports(library)
    for complaint in found:
        print(f"{sys.argv[1]}: {complaint}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
