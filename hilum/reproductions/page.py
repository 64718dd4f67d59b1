"""The judged tables as text and as Markdown: ours beside theirs, row by row, and what of it is more than noise."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

Cells = list[str]
HEADINGS = {
    "all": "mAP, all findings",
    "head": "mAP, head",
    "medium": "mAP, medium",
    "tail": "mAP, tail",
    "auroc": "AUROC, all findings",
}


def as_text(reproduction: Mapping[str, Any]) -> str:
    """For a terminal."""
    return _page(reproduction, lambda words: f"\n{words}\n{'-' * len(words)}", _columns, "")


def as_markdown(reproduction: Mapping[str, Any]) -> str:
    """For a file."""
    return "# " + _page(reproduction, lambda words: f"\n## {words}\n", _pipes, "- ")


def _page(
    reproduction: Mapping[str, Any], heading: Callable[[str], str], table: Callable[[Sequence[Cells]], str], item: str
) -> str:
    """The page: how a heading and a table are written, and what a line of a list begins with."""

    def listed(sentences: Iterable[str]) -> list[str]:
        return ["", *(item + sentence for sentence in sentences)]

    lines = [f"{reproduction['title']}: ours beside theirs"]
    theirs = f"Theirs: {reproduction['source']}; judged on {reproduction['judged']}."
    lines += listed([theirs, f"Ours: {reproduction['ours']}.", *reproduction["remarks"]])
    for judged in reproduction["tables"]:
        for panel in judged["panels"]:
            lines.append(heading(f"{judged['title']}: {panel['name']}"))
            lines.append(
                f"{panel['studies']:,} studies of {panel['patients']:,} patients, {panel['rows_judged']:,} {judged['level']} rows;"
                " 95 % intervals over patients, and over trainings where a row has several"
            )
            for column, words in HEADINGS.items():
                count = panel["findings"].get(column, panel["findings"]["all"])
                if count:
                    lines += ["", table(_block(panel, column, f"{words} ({count})"))]
            lines += listed(_said(panel))
        left = judged["left_out"]["rows"]
        missing = [f"{left:,} rows that not every prediction holds are left out."] if left else []
        lines += listed([judged["about_runs"], *(f"Doubt: {doubt}" for doubt in judged["doubts"]), *missing])
    notes = dict.fromkeys(note for judged in reproduction["tables"] for note in judged["note"])
    lines += listed([*reproduction["skipped"], *notes])
    return "\n".join(line.rstrip() for line in lines).rstrip() + "\n"


def _block(panel: Mapping[str, Any], column: str, heading: str) -> list[Cells]:
    """One measure: a row of cells for each row of the table, the heading first."""
    several = any(row["runs"] > 1 for row in panel["rows"])
    cells: list[Cells] = [[heading, *(["trainings"] if several else []), "ours", "theirs"]]
    for one in panel["against"]:
        cells[0] += [f"ours minus {one}", *(["over trainings"] if several else []), "theirs"]
    for row in panel["rows"]:
        theirs = row["theirs"][column] if row["theirs"] else None
        line = [row["name"], *([str(row["runs"])] if several else []), spoken(row["ours"][column]), _number(theirs)]
        for one in panel["against"]:
            found = _difference(panel, one, row["name"], column)
            if found is None:
                line += [""] * (3 if several else 2)
                continue
            word = "" if found["told_apart"] is None else "" if found["told_apart"] else ", noise"
            line.append(spoken(found["difference"], "+") + word)
            line += [spoken(found["over_trainings"], "+")] if several else []
            line.append(_number(found["theirs"], "+"))
        cells.append(line)
    return cells


def _difference(panel: Mapping[str, Any], one: str, other: str, column: str) -> dict[str, Any] | None:
    """What the row `other` has more than the row `one`; None for a row and itself."""
    for pair in panel["differences"]:
        found: dict[str, Any] | None = pair["columns"][column]
        if found is None:
            continue
        if (pair["from"], pair["to"]) == (one, other):
            return found
        if (pair["to"], pair["from"]) == (one, other):
            over, theirs = found["over_trainings"], found["theirs"]
            return found | {
                "difference": _turned(found["difference"]),
                "over_trainings": over and _turned(over),
                "theirs": None if theirs is None else -theirs,
            }
    return None


def _turned(interval: Sequence[float | None]) -> list[float | None]:
    value, low, high = (None if end is None else -end for end in interval)
    return [value, high, low]


def _said(panel: Mapping[str, Any]) -> Iterator[str]:
    """Who wins, and how much of the published order is more than noise here."""
    order = panel["order"]
    if not order["ours"]:
        yield "No finding has enough positive patients to be averaged."
        return
    yield f"By our mAP: {' > '.join(order['ours'])}."
    if order["theirs"]:
        yield f"By theirs:  {' > '.join(order['theirs'])}."
        pairs = order["pairs"]
        yield (
            f"Of {sum(pairs.values())} pairs of rows with a published difference, {pairs['as_published']} are told apart as"
            f" published, {pairs['the_other_way']} the other way, and {pairs['noise']} cannot be told apart (mAP, not corrected"
            " for their number)."
        )
    for row in panel["rows"]:
        if row["remark"]:
            yield f"{row['name']}: {row['remark']}."


def spoken(values: Sequence[float | None] | None, sign: str = "") -> str:
    """[value, low, high] in words; the value alone where it has no interval, - where there is none."""
    if not values or values[0] is None:
        return "-"
    if values[1] is None or values[2] is None:
        return f"{values[0]:{sign}.3f}"
    return f"{values[0]:{sign}.3f} [{values[1]:{sign}.3f}, {values[2]:{sign}.3f}]"


def _number(value: float | None, sign: str = "") -> str:
    return "-" if value is None or math.isnan(value) else f"{value:{sign}.3f}"


def _columns(cells: Sequence[Cells]) -> str:
    widths = [max(len(line[place]) for line in cells) for place in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells)


def _pipes(cells: Sequence[Cells]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in cells]
    return "\n".join([lines[0], "|" + "---|" * len(cells[0]), *lines[1:]])
