"""From rounds to rows: medians, ratios, targets, and the table for people."""
import statistics

# (bench, metric, subject prefix, n or None, worker or None): how, bound. `x` compares with the
# floor of the same run; the machine's noise cancels out.
TARGETS = (
    ("start", "start", "reeve", 1000, "glibc", "<= x floor", 1.1),
    ("start", "start", "reeve", 1000, "nolibc", "<= x floor", 1.3),
    ("start", "start", "reeve", 5000, None, "<= x floor", 1.1),
    ("start", "start", "reeve", 9000, None, "<= x floor", 1.1),
    ("start", "cpu per start", "reeve", 1000, None, "<=", 0.12),
    ("start", "stop", "reeve", 1000, None, "<= x floor", 1.3),
    ("restart", "p50", "reeve", None, None, "<= x floor", 1.15),
    ("restart", "p99", "reeve", None, None, "<=", 5),
    ("recovery", "p50", "reeve", 1000, None, "<=", 20),
    ("stop deaf", "stop", "reeve", None, None, "<=", 1.05),
    ("idle", "pss", "reeve", 1, None, "<=", 4096),
    ("idle", "wake-ups", "reeve", None, None, "<=", 0),
    ("idle", "most fds per worker", "reeve", 1000, None, "<=", 1.9),
    ("list", "list", "reeve", 1000, None, "<=", 1),
    ("list", "status", "reeve", 1000, None, "<=", 4),
    ("log 4k", "throughput", "reeve", None, None, ">= x floor", 0.9),
    ("log 4k text", "throughput", "reeve", None, None, ">= x floor", 0.5),
    ("log lines", "throughput", "reeve", None, None, ">=", 400),
    ("log lines", "cpu", "reeve", None, None, "<=", 1.0),
    ("log", "lost", "reeve", None, None, "<=", 0),
    ("log", "cut", "reeve", None, None, "<=", 0),
    ("log", "doubled", "reeve", None, None, "<=", 0),
)


def find_target(bench, metric, subject, n, worker):
    for of_bench, of_metric, of_subject, of_n, of_worker, how, bound in TARGETS:
        if metric != of_metric or not subject.startswith(of_subject):
            continue
        if bench != of_bench and not (of_bench == "log" and bench.startswith("log")):
            continue
        if of_n in (None, n) and of_worker in (None, worker):
            return how, bound
    return None


def judge(row, target):
    how, bound = target
    value = row.get("ratio_to_floor") if "x floor" in how else row["value"]
    if value is None:
        return
    row["target"] = f"{how} {bound}".replace("x floor " + str(bound), f"{bound} x floor")
    row["reached"] = value <= bound if how.startswith("<=") else value >= bound


def paired_ratio(rounds, floor, metric):
    """The median of the ratios of each round: what disturbs a round disturbs both."""
    ratios = [one[metric][0] / other[metric][0] for one, other in zip(rounds, floor)
              if metric in one and metric in other and other[metric][0]]
    return statistics.median(ratios) if ratios else None


def rows_of(case, results):
    """`results`: {subject: [{metric: (value, unit)}, …]}. One row per subject and metric."""
    rows = []
    for subject, rounds in results.items():
        for metric in rounds[0] if rounds else ():
            values = [one[metric][0] for one in rounds if metric in one]
            rows.append({"bench": case.bench, "subject": subject, "n": case.n,
                         "worker": case.worker, "metric": metric,
                         "value": round(statistics.median(values), 4), "unit": rounds[0][metric][1],
                         "low": round(min(values), 4), "high": round(max(values), 4),
                         "rounds": len(values)})
    for row in rows:
        ratio = paired_ratio(results[row["subject"]], results.get("floor", ()), row["metric"])
        if ratio is not None:
            row["ratio_to_floor"] = round(ratio, 3)
        target = find_target(case.bench, row["metric"], row["subject"], case.n, case.worker)
        if target:
            judge(row, target)
    return rows


# Rows that explain others; only in the JSON.
DETAILS = ("writers done", "private", "cpu of", "wake-ups of", "pss of", "max", "bytes")


def number(value):
    if value == 0:
        return "0"
    if abs(value) >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


# Metrics that are shown in one row.
TOGETHER = {"lost": "lost / cut / doubled", "cut": None, "doubled": None}


def cell(row, floor):
    ratio = row.get("ratio_to_floor")
    text = number(row["value"])
    if ratio is not None and not floor:
        text += f" ({number(ratio)})"
    if "target" in row:
        text = f"**{text}**" if row["reached"] else f"**{text} ✗**"
    return text


def together(found, subject):
    """Three counts in one cell."""
    if subject not in found["lost"]:
        return ""
    return " / ".join(number(found[metric][subject]["value"]) for metric in TOGETHER)


def lines_of(bench, n, worker, metrics, subjects):
    for (metric, unit), found in metrics.items():
        if metric in TOGETHER and TOGETHER[metric] is None:
            continue
        what = TOGETHER.get(metric, metric) + (f", {unit}" if unit else "")
        cells, target = [], ""
        for subject in subjects:
            row = found.get(subject)
            if metric in TOGETHER:
                every = {name: value for (name, _), value in metrics.items()}
                cells.append(together(every, subject))
            else:
                cells.append(cell(row, subject == "floor") if row else "")
            if row and "target" in row:
                target = row["target"].replace("<=", "≤").replace(">=", "≥").replace("x", "×")
        yield f"| {bench} | {n} | {worker} | {what} | " + " | ".join(cells) + f" | {target} |"


def one_table(rows):
    order = list(dict.fromkeys(row["subject"] for row in rows))
    cases = {}
    for row in rows:
        case = cases.setdefault((row["bench"], row["n"], row["worker"]), {})
        case.setdefault((row["metric"], row["unit"]), {})[row["subject"]] = row
    lines = ["| bench | N | worker | what | " + " | ".join(order) + " | target |",
             "|---|---|---|---|" + "---|" * (len(order) + 1)]
    for (bench, n, worker), metrics in cases.items():
        lines += lines_of(bench, n, worker, metrics, order)
    return "\n".join(lines)


def table(rows):
    """Markdown, a table for each kind of bench: a row per case and metric, a column per subject,
    ratios to the floor in brackets."""
    kinds = {}
    for row in rows:
        if not row["metric"].startswith(DETAILS):
            kinds.setdefault(row["bench"].split()[0], []).append(row)
    return "\n\n".join(one_table(kind) for kind in kinds.values())
