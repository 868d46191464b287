"""
Varlink's interface definitions: a recursive descent through their grammar, and whether a value is
what a type says.
"""
import re

TOKEN = re.compile(r"[ \t\n]+|#[^\n]*|->|\[\]|\[string\]|[A-Za-z][A-Za-z0-9_.]*|[?(),:]")
FIELD = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*$")
TYPE = re.compile(r"[A-Z][A-Za-z0-9]*$")
BUILT_IN = {"bool": bool, "int": int, "float": (int, float), "string": str, "object": dict}


class Interface:
    """
    members: kind → name → struct; of a method (struct taken, struct given). A struct is field →
    type, an enum a list of words. A type is a name, a struct, an enum, or ("?"|"[]"|"map", type).
    """

    def __init__(self, text):
        self.tokens, at = [], 0
        while at < len(text):
            found = TOKEN.match(text, at)
            assert found, f"not Varlink: {text[at:at + 40]!r}"
            at = found.end()
            if found[0].strip():
                self.tokens.append(found[0])
        self.at, self.used = 0, set()
        self.members = {"type": {}, "method": {}, "error": {}}
        self.bare = []  # members without a comment
        self.parse()

    def take(self, *expected):
        token = self.tokens[self.at]
        assert not expected or token in expected, f"{token!r} where {expected} is needed"
        self.at += 1
        return token

    def skip_comments(self):
        begin = self.at
        while self.at < len(self.tokens) and self.tokens[self.at].startswith("#"):
            self.at += 1
        return self.at > begin

    def parse(self):
        assert self.skip_comments(), "the interface has no comment"
        self.take("interface")
        self.name = self.take()
        while True:
            explained = self.skip_comments()
            if self.at == len(self.tokens):
                return
            kind, name = self.take("type", "method", "error"), self.take()
            assert TYPE.match(name), name
            assert name not in self.members[kind], f"{name} twice"
            fields = self.struct()
            if kind == "method":
                self.take("->")
                fields = (fields, self.struct())
            self.members[kind][name] = fields
            if not explained:
                self.bare.append(name)

    def struct(self):
        fields, words = {}, []
        self.take("(")
        self.skip_comments()
        while self.tokens[self.at] != ")":
            if fields or words:
                self.take(",")
            self.skip_comments()
            name = self.take()
            assert FIELD.match(name) and name not in fields and name not in words, name
            if self.tokens[self.at] == ":":
                self.at += 1
                fields[name] = self.type()
            else:
                words.append(name)
            self.skip_comments()
        self.take(")")
        assert not (fields and words), "neither a struct nor an enum"
        return words or fields

    def type(self):
        if self.tokens[self.at] == "?":
            self.at += 1
            assert self.tokens[self.at] != "?"
            return ("?", self.type())
        if self.tokens[self.at] in ("[]", "[string]"):
            return ("[]" if self.take() == "[]" else "map", self.type())
        if self.tokens[self.at] == "(":
            return self.struct()
        self.used.add(self.tokens[self.at])
        return self.take()

    # --- values ------------------------------------------------------------------------------

    def wrong(self, value, kind, where=""):
        """What is wrong with the value as that type, as "where: what" strings."""
        if isinstance(kind, tuple):
            return self.wrong_made(value, kind, where)
        if isinstance(kind, dict):
            return self.wrong_struct(value, kind, where)
        if isinstance(kind, list):
            return [] if value in kind else [f"{where}: {value!r} is none of {kind}"]
        if kind in self.members["type"]:
            return self.wrong(value, self.members["type"][kind], where)
        fits = isinstance(value, BUILT_IN[kind]) and \
            (kind == "bool" or not isinstance(value, bool))
        return [] if fits else [f"{where}: {value!r} is no {kind}"]

    def wrong_made(self, value, kind, where):
        what, inner = kind
        if what == "?":
            return [] if value is None else self.wrong(value, inner, where)
        if not isinstance(value, list if what == "[]" else dict):
            return [f"{where}: {value!r} is no {what}"]
        pairs = enumerate(value) if what == "[]" else value.items()
        return [w for key, v in pairs for w in self.wrong(v, inner, f"{where}[{key}]")]

    def wrong_struct(self, value, fields, where):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no struct"]
        found = [f"{where}.{name} is not described" for name in value if name not in fields]
        for name, kind in fields.items():
            found += self.wrong(value.get(name), kind, f"{where}.{name}")
        return found
