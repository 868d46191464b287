#!/usr/bin/env python3
"""Configuration files that are hostile as files: what they are, whose, how large, how included
(TAP). Everything is made below one directory of its own, which is removed at the end.

    conf_files.py TOOL [NAME...]
"""
import contextlib
import os
import pathlib
import random
import resource
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

GOOD = 'groups: { web: { command = "/bin/true"; }; };\n'
CASES = []


def case(function):
    CASES.append(function)
    return function


class Bed:
    """A private directory and the tool."""

    def __init__(self, tool, path):
        self.tool, self.path = tool, path
        self.main = path / "reeve.conf"

    def write(self, name, text):
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, str):
            text = text.encode()
        file.write_bytes(text)
        return file

    def run(self, *args, path=None, timeout=30, **more):
        done = subprocess.run([self.tool, *args, "load", str(path or self.main)],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout, **more)
        return done.returncode, done.stdout.decode("utf-8", "backslashreplace")

    def refused(self, *words, args=(), **more):
        code, text = self.run(*args, **more)
        assert code == 78, f"exit code {code}: {text[:600]}"
        for word in words:
            assert word in text, f"no {word!r} in: {text[:600]}"
        return text

    def loads(self, *words, args=(), **more):
        code, text = self.run(*args, **more)
        assert code == 0, f"exit code {code}: {text[:600]}"
        for word in words:
            assert word in text, f"no {word!r} in: {text[:600]}"
        return text


def root():
    return os.geteuid() == 0


class Skip(Exception):
    pass


def need_root():
    if not root():
        raise Skip("needs root")


def sanitized(tool):
    return b"__asan_init" in pathlib.Path(tool).read_bytes()


@case
def CF09_fifo(bed):
    os.mkfifo(bed.main)
    bed.refused("not a regular file")


@case
def CF09_socket(bed):
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
        s.bind(str(bed.main))
        bed.refused("not a regular file")


@case
def CF09_device(bed):
    bed.refused("not a regular file", path="/dev/zero")
    bed.refused("not a regular file", path="/dev/tty")


@case
def CF09_directory(bed):
    bed.main.mkdir()
    bed.refused("not a regular file")


@case
def CF09_kernel_file(bed):
    bed.refused("not an ordinary file", path="/proc/self/environ")


@case
def missing(bed):
    bed.refused("No such file or directory")


@case
def unreadable(bed):
    bed.write("reeve.conf", GOOD).chmod(0)
    if root():
        bed.loads()
    else:
        bed.refused("Permission denied")


@case
def path_is_no_directory(bed):
    bed.write("reeve.conf", GOOD)
    bed.refused("Not a directory", path=bed.main / "x")


@case
def CF17_relative_path_is_made_absolute(bed):
    bed.write("reeve.conf", 'groups: { web: { command = "/bin/true"; cwd = "%d"; }; };')
    bed.loads(f'cwd = "{bed.path}"', path="reeve.conf", cwd=bed.path)
    bed.loads(f'cwd = "{bed.path}"', path="./reeve.conf", cwd=bed.path)


@case
def SE03_file_writable_by_others(bed):
    bed.write("reeve.conf", GOOD).chmod(0o666)
    bed.refused("writable by others", "chmod go-w")
    bed.loads(args=["--offline"])


@case
def SE03_file_writable_by_its_group(bed):
    need_root()
    file = bed.write("reeve.conf", GOOD)
    os.chown(file, 0, 4242)
    file.chmod(0o664)
    bed.refused("writable by others")
    os.chown(file, 0, 0)
    bed.loads()


@case
def SE03_directory_writable_by_others(bed):
    bed.write("open/reeve.conf", GOOD)
    (bed.path / "open").chmod(0o777)
    bed.refused("writable by others", path=bed.path / "open/reeve.conf")
    (bed.path / "open").chmod(0o1777)  # sticky: nobody can replace our file
    bed.loads(path=bed.path / "open/reeve.conf")


@case
def SE03_grandparent_writable_by_others(bed):
    bed.write("open/inner/reeve.conf", GOOD)
    (bed.path / "open").chmod(0o777)
    bed.refused("writable by others", path=bed.path / "open/inner/reeve.conf")


@case
def SE03_other_owner(bed):
    need_root()
    file = bed.write("reeve.conf", GOOD)
    os.chown(file, 4242, 4242)
    bed.refused("belongs to uid 4242", "chown 0")
    bed.loads("warning", "uid 4242", args=["--pid1"])
    bed.loads(args=["--offline"])


@case
def SE03_owner_of_the_program(bed):
    """Who owns the program can make it do anything: a build in somebody's own tree."""
    need_root()
    bed.write("theirs/reeve.conf", GOOD).chmod(0o664)
    tool = bed.path / "theirs/conf-tool"
    shutil.copy(bed.tool, tool)
    for path in (tool, tool.parent, tool.parent / "reeve.conf"):
        os.chown(path, 4242, 4242)
    bed.refused("belongs to uid 4242", path=bed.path / "theirs/reeve.conf")
    Bed(str(tool), bed.path).loads(path=bed.path / "theirs/reeve.conf")
    os.chown(tool.parent / "reeve.conf", 4242, 4343)
    Bed(str(tool), bed.path).refused("writable by others", path=bed.path / "theirs/reeve.conf")


@case
def SE03_directory_of_other_owner(bed):
    need_root()
    bed.write("theirs/reeve.conf", GOOD)
    os.chown(bed.path / "theirs", 4242, 4242)
    bed.refused("belongs to uid 4242", path=bed.path / "theirs/reeve.conf")


@case
def SE03_include_writable_by_others(bed):
    bed.write("reeve.conf", 'include = [ "a.conf" ];')
    bed.write("a.conf", GOOD).chmod(0o666)
    bed.refused("writable by others", "reeve.conf:1")


@case
def SE03_access_list(bed):
    file = bed.write("reeve.conf", GOOD)
    if not shutil.which("setfacl"):
        # user::rw- user:4242:rw- group::r-- mask::rw- other::r--
        acl = bytes.fromhex("02000000" "01000600ffffffff" "0200060092100000" "04000400ffffffff"
                            "10000600ffffffff" "20000400ffffffff")
        try:
            os.setxattr(file, "system.posix_acl_access", acl)
        except OSError as error:
            raise Skip(f"no access lists here: {error.strerror}")
    else:
        done = subprocess.run(["setfacl", "-m", "u:4242:rw", str(file)])
        if done.returncode:
            raise Skip("no access lists here")
    bed.refused("writable by others")


@case
def SE03_links(bed):
    bed.write("real/reeve.conf", GOOD)
    (bed.path / "ring").symlink_to("ring")
    bed.main.symlink_to("real/../real/reeve.conf")
    bed.loads()
    bed.refused("too many symbolic links", path=bed.path / "ring/x")
    (bed.path / "away").mkdir()
    (bed.path / "away").chmod(0o777)
    (bed.path / "away/link").symlink_to(bed.path / "real/reeve.conf")
    bed.refused("writable by others", path=bed.path / "away/link")


@case
def SE03_link_of_a_stranger_in_a_sticky_directory(bed):
    need_root()
    bed.write("real/reeve.conf", GOOD)
    (bed.path / "tmp").mkdir()
    (bed.path / "tmp").chmod(0o1777)
    (bed.path / "tmp/reeve.conf").symlink_to(bed.path / "real/reeve.conf")
    os.chown(bed.path / "tmp/reeve.conf", 4242, 4242, follow_symlinks=False)
    bed.refused("the link", path=bed.path / "tmp/reeve.conf")


@case
def SE03_hard_link(bed):
    bed.write("reeve.conf", GOOD)
    os.link(bed.main, bed.path / "other.conf")
    bed.loads()


@case
def SE03_swapped_while_it_is_read(bed):
    """A directory that others may write is refused however its entries are swapped."""
    bed.write("safe/reeve.conf", GOOD)
    evil = bed.path / "evil"
    bed.write("evil/reeve.conf", GOOD.replace("true", "evil")).chmod(0o666)
    link = bed.path / "conf"
    spare = bed.path / "spare"
    stop = time.monotonic() + 2
    seen = set()
    while time.monotonic() < stop:
        for target in ("safe", "evil"):
            spare.symlink_to(target)
            child = subprocess.Popen([bed.tool, "load", str(link / "reeve.conf")],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            os.replace(spare, link)
            text = child.communicate()[0].decode()
            seen.add(child.returncode)
            assert "/bin/evil" not in text, "the writable file was loaded"
    assert evil.exists() and 78 in seen and 0 in seen, f"the race was never run: {seen}"


@case
def SE03_user_namespace(bed):
    """Owners that the namespace does not know are nobody inside it."""
    bed.write("reeve.conf", GOOD)
    done = subprocess.run(["unshare", "-Ur", bed.tool, "load", str(bed.main)],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if b"unshare" in done.stdout:
        raise Skip("no user namespaces here")
    assert done.returncode == 0, done.stdout.decode()


@case
def CF08_large_file(bed):
    bed.write("reeve.conf", GOOD + "#" * (4 << 20))
    bed.refused("larger than 4 MiB")


@case
def CF08_large_files(bed):
    for i in range(5):
        bed.write(f"{i}.inc", "#" * (4 << 20))
    bed.write("reeve.conf", 'include = [ "*.inc" ];')
    bed.refused("3.inc", "larger than 16 MiB")


@case
def CF08_string_of_50_MB(bed):
    bed.write("reeve.conf", 'groups: { web: { command = "' + "a" * 50_000_000 + '"; }; };')
    bed.refused("larger than 4 MiB")


@case
def CF08_long_string(bed):
    bed.write("reeve.conf", 'groups: { web: { command = [ "/bin/true", "' + "a" * 131071 + '" ]; }; };')
    bed.loads()
    bed.write("reeve.conf", 'groups: { web: { command = [ "/bin/true", "' + "a" * 131072 + '" ]; }; };')
    bed.refused("131072 bytes; at most 131071")


@case
def CF08_thirty_thousand_keys(bed):
    keys = "".join(f'k{i} = "{i}"; ' for i in range(30000))
    bed.write("reeve.conf", 'groups: { web: { command = "/bin/true"; env: { ' + keys + "}; }; };")
    bed.refused("more than 5000 keys in one block", timeout=10)


@case
def CF08_many_large_blocks(bed):
    block = "".join(f"k{i}=1;" for i in range(4999))
    bed.write("reeve.conf", "".join(f"b{i}:{{{block}}};" for i in range(50)))
    bed.refused("too many keys in large blocks", timeout=20)


@case
def CF08_what_is_slow_is_bounded(bed):
    """Each of these took minutes, or would, without a cap."""
    if sanitized(bed.tool):
        raise Skip("a sanitizer is too slow for time limits")
    worst = {
        "keys": "".join("b%d:{%s};" % (b, "".join(f"key{i:08}=1;" for i in range(4999)))
                        for b in range(1)),
        "words": 'groups: { web: { command = "' + "a " * 60000 + '"; }; };',
        "arguments": 'groups: { web: { command = [ ' + '"a", ' * 600000 + '"b" ]; }; };',
        "environment": 'groups: { web: { command = "/x"; env = [ '
                       + ", ".join(f'"A{i}=1"' for i in range(200000)) + " ]; }; };",
        "elements": "a = [ " + "1," * 2000000 + "1 ];",
        "quotes": "'" * 4000000,
        "brackets": "a=[1 " * 800000,
        "openings": "a=[" + "'x " * 1300000,
        "names": "groups: {" + "".join(f'g{i}: {{ command = "/x"; after = [ "n{i}" ]; }};'
                                       for i in range(4000)) + "};",
        "lists": "a = ( " + "()," * 1300000 + "() );",
        "strings": "a = [ " + ",".join('"' + "x" * 131000 + '"' for _ in range(31)) + " ];",
    }
    for name, text in worst.items():
        bed.write("reeve.conf", text)
        before = os.times().children_user
        bed.refused("error", timeout=60)
        spent = os.times().children_user - before
        assert spent < 9, f"{name} took {spent} s of CPU time"


@case
def CF08_three_thousand_groups(bed):
    groups = "".join(f'g{i}: {{ command = "/bin/true"; env: {{ A = "%g"; }}; }};\n'
                     for i in range(3000))
    bed.write("reeve.conf", "groups: {\n" + groups + "};\n")
    began = time.monotonic()
    bed.loads("g2999: {", timeout=30)
    assert time.monotonic() - began < 20
    more = "".join(f'h{i}: {{ command = "/bin/true"; }};\n' for i in range(1500))
    bed.write("reeve.conf", "groups: {\n" + groups + more + "};\n")
    bed.refused("4500 groups; at most 4096", timeout=30)


@case
def CF08_hostile_nesting(bed):
    for mark in ("{", "(", "[", "x:{", "x=("):
        bed.write("reeve.conf", "a = " + mark * 100000)
        bed.refused("reeve.conf:1: error", timeout=10)
    bed.write("reeve.conf", "groups: { " * 100000)
    bed.refused("nested more than 16 deep", timeout=10)


@case
def CF08_many_mistakes(bed):
    bed.write("reeve.conf", "".join(f"x{i} = yes;\n" for i in range(5000)))
    text = bed.refused("errors; the rest is not shown", timeout=10)
    assert len(text.splitlines()) <= 1000


@case
def errors_do_not_drown_in_warnings(bed):
    groups = "".join(f'g{i}: {{ command = "/no/such/program"; }};\n' for i in range(1500))
    bed.write("reeve.conf", "groups: {\n" + groups + 'z: { command = "/x"; after = [ "y" ]; }; };')
    text = bed.refused('after = [ "y" ]', "more than 199 warnings; the rest is not shown")
    assert len(text.splitlines()) == 201


@case
def too_many_workers(bed):
    bed.write("reeve.conf", 'groups: { a: { command = "/bin/true"; workers = 40000; };\n'
                            'b: { command = "/bin/true"; workers = 40000; }; };')
    bed.refused("80000 workers in all groups; at most 60000")


@case
def too_long_for_exec(bed):
    args = ", ".join(f'"{"x" * 100000}"' for _ in range(30))
    bed.write("reeve.conf", f'groups: {{ web: {{ command = [ "/bin/true", {args} ]; }}; }};')
    bed.refused("a program can be given about")


@case
def CF06_include_of_a_directory(bed):
    (bed.path / "conf.d").mkdir()
    for name in (".", "..", "conf.d", "conf.d/", "/"):
        bed.write("reeve.conf", f'include = [ "{name}" ];\n' + GOOD)
        bed.refused("not a regular file", "reeve.conf:1")


@case
def CF06_include_of_itself(bed):
    bed.write("reeve.conf", 'include = [ "reeve.conf" ];\n' + GOOD)
    bed.refused("the main file itself", "reeve.conf:1")
    (bed.path / "other.conf").symlink_to("reeve.conf")
    bed.write("reeve.conf", 'include = [ "other.conf" ];\n' + GOOD)
    bed.refused("the main file itself", "reeve.conf:1")


@case
def CF06_include_twice(bed):
    bed.write("a.conf", GOOD)
    bed.write("reeve.conf", 'include = [ "a.conf", "*.conf", "./a.conf" ];\n')
    bed.refused("included twice", "the main file itself")


@case
def CF06_include_of_special_files(bed):
    os.mkfifo(bed.path / "fifo")
    for name in ("fifo", "/dev/zero", "/proc/self/status", "missing.conf"):
        bed.write("reeve.conf", f'\ninclude = [\n "{name}" ];\n' + GOOD)
        bed.refused("reeve.conf:3: error")


@case
def include_that_is_none(bed):
    for text, word in (('include = "a.conf";', 'write: include = [ "a.conf" ];'),
                       ("include = [ 1 ];", "names are strings"),
                       ('include = [ "" ];', "an empty name"),
                       ('include = [ "d*/a.conf" ];', "last part of the path only"),
                       ("include: { };", "where a list is meant")):
        bed.write("reeve.conf", text + "\n" + GOOD)
        bed.refused(word, "reeve.conf:1")


@case
def include_patterns(bed):
    bed.write("conf.d/20.conf", 'groups: { b: { command = "/bin/b"; }; };')
    bed.write("conf.d/10.conf", 'groups: { a: { command = "/bin/a"; cwd = "%d"; }; };')
    bed.write("conf.d/.hidden.conf", "nonsense")
    bed.write("conf.d/note.txt", "nonsense")
    bed.write("reeve.conf", 'include = [ "conf.d/*.conf", "none.d/*.conf", "conf.d/*.not" ];')
    text = bed.loads(f'cwd = "{bed.path}/conf.d"', cwd="/")
    assert text.index("a: {") < text.index("b: {")
    (bed.path / "conf.d/30.conf").mkdir()
    bed.refused("not a regular file")


@case
def include_of_ten_thousand(bed):
    (bed.path / "conf.d").mkdir()
    for i in range(1001):
        (bed.path / f"conf.d/{i}.conf").touch()
    bed.write("reeve.conf", 'include = [ "conf.d/*" ];')
    bed.refused("matches more than 1000 files")


@case
def SE04_env_file_of_a_stranger(bed):
    bed.write("reeve.conf", 'groups: { web: { command = "/bin/true"; env_file = [ "%d/env" ]; };\n'
                            'own: { command = "/bin/true"; env_file = [ "-%d/env" ];'
                            f' user = "{4242 if root() else os.geteuid()}:4242"; }}; }};')
    bed.loads("warning", "No such file")
    bed.write("env", "A=1\n").chmod(0o644)
    bed.loads()
    (bed.path / "env").chmod(0o646)
    bed.refused("somebody else", "reeve.conf:1", "reeve.conf:2")
    (bed.path / "env").chmod(0o644)
    need_root()
    os.chown(bed.path / "env", 4242, 4242)
    text = bed.refused("web: env_file", "uid 4242")
    assert "own: " not in text, text


@case
def included_files_hold_groups_only(bed):
    bed.write("a.conf", 'include = [ "b.conf" ];\ndaemon: { cgroup = "off"; };\n' + GOOD)
    bed.write("b.conf", "nonsense")
    bed.write("reeve.conf", 'include = [ "a.conf" ];')
    text = bed.refused("a.conf:1: error: an included file holds no include",
                       "a.conf:2: error: an included file holds no daemon")
    assert "b.conf:" not in text


@case
def path_that_is_no_UTF_8(bed):
    here = os.fsencode(bed.path)
    with open(here + b"/\xff.conf", "w") as file:
        file.write(GOOD)
    bed.refused("has to be UTF-8", path=os.fsdecode(here + b"/\xff.conf"))
    bed.write("reeve.conf", 'include = [ "*.conf" ];')
    bed.refused("has to be UTF-8", "reeve.conf:1")


@case
def group_in_two_files(bed):
    bed.write("a.conf", "\n" + GOOD)
    bed.write("reeve.conf", 'include = [ "a.conf" ];\n' + GOOD)
    bed.refused(f'{bed.path}/a.conf:2: error: group "web" is also in {bed.path}/reeve.conf:2')


@case
def defaults_of_two_files(bed):
    bed.write("a.conf", 'defaults: { nice = 2; env: { B = "a"; }; };\n'
                        'groups: { a: { command = "/bin/a"; env: { C = "a"; }; }; };')
    bed.write("reeve.conf", 'include = [ "a.conf" ];\n'
                            'defaults: { nice = 1; settle = "2s"; env: { A = "m"; B = "m"; }; };\n'
                            'groups: { m: { command = "/bin/m"; }; };')
    text = bed.loads()
    first, second = text.split("m: {\n")
    assert 'env = [ "A=m", "B=a", "C=a" ]' in first and "nice = 2" in first, first
    assert 'settle = "2s"' in first and 'settle = "2s"' in second
    assert 'env = [ "A=m", "B=m" ]' in second and "nice = 1" in second, second


@case
def mistakes_of_all_files_in_one_pass(bed):
    bed.write("a.conf", 'groups: { a: { comand = "/bin/a"; }; };')
    bed.write("b.conf", "groups: { b: { command = yes; }; };")
    bed.write("reeve.conf", 'include = [ "a.conf", "b.conf", "c.conf" ];\ngroups: { Web: { }; };')
    bed.refused("a.conf:1: error", "b.conf:1: error", "reeve.conf:1: error", "reeve.conf:2: error")


@case
def CF06_include_vanishes(bed):
    """A file that comes and goes is either read or named; nothing else may happen."""
    bed.write("reeve.conf", 'include = [ "*.inc" ];\n' + GOOD)
    file = bed.path / "a.inc"
    codes = set()
    for turn in range(60):
        file.write_text('groups: { a: { command = "/bin/a"; }; };')
        child = subprocess.Popen([bed.tool, "load", str(bed.main)], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        for _ in range(turn * 40):
            pass
        file.unlink()
        child.communicate()
        codes.add(child.returncode)
    assert codes <= {0, 78}, codes


@case
def grows_and_shrinks_while_it_is_read(bed):
    text = GOOD + "# padding\n" * 20000
    codes = set()
    for turn in range(60):
        bed.main.write_text(text)
        child = subprocess.Popen([bed.tool, "load", str(bed.main)], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT)
        with open(bed.main, "r+b") as file:
            file.truncate(turn * 5)
            file.seek(turn * 5)
            file.write(b"x" * turn)
        child.communicate()
        codes.add(child.returncode)
    assert codes <= {0, 78}, codes


@case
def bytes_cut_and_changed_at_random(bed):
    """No input may do more than fail (invariant 29)."""
    chance = random.Random(7)
    here = pathlib.Path(__file__).parent / "conf"
    whole = (here / "all-keys.conf").read_bytes()
    for _ in range(150):
        text = bytearray(whole)
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(text))
            what = chance.randrange(4)
            if what == 0:
                del text[at:]
                break
            if what == 1:
                text[at] = chance.randrange(256)
            elif what == 2:
                del text[at:at + chance.randrange(40)]
            else:
                text[at:at] = bytes(chance.choice(b'{}[]();,="\\#/*') for _ in range(3))
            if not text:
                break
        bed.main.write_bytes(text)
        code, said = bed.run("--offline")
        assert code in (0, 78), f"{code}: {said[:300]}\n{bytes(text)!r}"
        assert "BUG" not in said, said


@case
def CF08_loader_is_bounded(bed):
    """A load that is too large for the helper is told as such."""
    groups = "".join(f'g{i}: {{ command = "/bin/true"; }};\n' for i in range(3000))
    bed.write("reeve.conf", "groups: {\n" + groups + "};\n")
    if sanitized(bed.tool):
        raise Skip("a sanitizer needs all the memory")
    limit = 4 << 20
    done = subprocess.run([bed.tool, "loader", str(bed.main)], stdout=subprocess.PIPE,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA,
                                                                (limit, limit)))
    text = done.stdout.decode()
    assert done.returncode == 78 and "more memory than the loader may have" in text, (done.returncode, text)


def main():
    tool = os.path.abspath(sys.argv[1])
    names = sys.argv[2:]
    chosen = [one for one in CASES if not names or one.__name__ in names]
    failed = 0
    top = pathlib.Path(tempfile.mkdtemp(prefix="conf-files-"))
    print(f"1..{len(chosen)}")
    try:
        for number, one in enumerate(chosen, 1):
            path = top / one.__name__
            path.mkdir(mode=0o755)
            title = one.__name__.replace("_", " ")
            try:
                one(Bed(tool, path))
                print(f"ok {number} - {title}")
            except Skip as why:
                print(f"ok {number} - {title} # SKIP {why}")
            except (AssertionError, subprocess.TimeoutExpired, OSError) as error:
                failed += 1
                print(f"not ok {number} - {title}")
                print("".join(f"#   {line}\n" for line in str(error).splitlines()), end="")
            sys.stdout.flush()
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main())
