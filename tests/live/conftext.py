"""Python values as libconfig text."""


class Raw(str):
    """Text that goes into the file as it is."""


def quote(text):
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif ord(char) < 32:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def value(item):
    if isinstance(item, Raw):
        return str(item)
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, (int, float)):
        return repr(item)
    if isinstance(item, dict):
        return "{ " + "".join(f"{k} = {value(v)}; " for k, v in item.items() if v is not None) + "}"
    if isinstance(item, (list, tuple)):
        body = ", ".join(map(value, item))
        return f"( {body} )" if any(isinstance(x, (dict, list, tuple)) for x in item) \
            else f"[ {body} ]"
    return quote(str(item))


def block(items, indent):
    lines = []
    for key, item in items.items():
        if item is None:
            continue
        if isinstance(item, dict):
            lines += [f"{indent}{key}: {{", *block(item, indent + "  "), indent + "};"]
        else:
            lines.append(f"{indent}{key} = {value(item)};")
    return lines


def render(conf):
    return "\n".join(block(conf, "")) + "\n"
