"""Lays the stored tables of a reproduced system into a page, between its marks: `<!-- NAME of TABLE -->` and `<!-- end -->`.

    python bench/reproduced_page.py reproduce_bag_of_tricks docs/why/bag-of-tricks.md

A row is its mAP with its interval, the published one, what it has more than the row that the table is held against, and the
same of rare findings. Of a table that judges studies of several images apart, a row is its mAP of every study and of these, and
what it has more there than the last row that the table is held against.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from result import FOLDER

from hilum.reproductions.page import spoken


def table_of(panel: dict[str, Any]) -> str:
    """A panel as Markdown: mAP, published, the difference to the first row of `against`, and the tail's mAP."""
    base = panel["against"][0]
    rows = [["row", "mAP", "published", f"mAP minus {base}", "tail", "published"]]
    for row in panel["rows"]:
        theirs = row["theirs"] or {}
        printed = {one: "" if theirs.get(one) is None else f"{theirs[one]:.3f}" for one in ("all", "tail")}
        ours = {one: spoken(row["ours"][one]) for one in printed}
        rows.append(
            [row["name"], ours["all"], printed["all"], beyond(panel, base, row["name"]), ours["tail"], printed["tail"]]
        )
    return as_markdown(rows)


def table_of_two(every: dict[str, Any], several: dict[str, Any]) -> str:
    """Panels of every study and of some as Markdown: mAP of both, the difference to the last of `against` in the latter, published."""
    base = several["against"][-1]
    rows = [["row", "every study", several["name"], f"minus {base}, there", "published"]]
    for one, other in zip(every["rows"], several["rows"], strict=True):
        theirs = (one["theirs"] or {}).get("all")
        ours = [spoken(row["ours"]["all"]) for row in (one, other)]
        rows.append([one["name"], *ours, beyond(several, base, one["name"]), "" if theirs is None else f"{theirs:.3f}"])
    return as_markdown(rows)


def as_markdown(rows: list[list[str]]) -> str:
    """Rows, the first of them the heads, as a table."""
    lines = ["".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def beyond(panel: dict[str, Any], base: str, name: str) -> str:
    """The difference in mAP in words; empty for the base itself."""
    for pair in panel["differences"]:
        found = pair["columns"]["all"]
        if found and {pair["from"], pair["to"]} == {base, name}:
            value, low, high = found["difference"]
            told = [value, low, high] if pair["to"] == name else [-value, -high, -low]
            return spoken(told, "+") + ("" if found["told_apart"] else ", noise")
    return ""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("name", help="of the file in results/")
    arguments.add_argument("page", type=Path)
    given = arguments.parse_args()
    stored = json.loads((FOLDER / f"{given.name}.json").read_text())
    page = given.page.read_text()
    for table in stored["tables"]:
        mark = f"<!-- {given.name} of {table['name']} -->"
        if mark not in page:
            raise SystemExit(f"{given.page} has no {mark}")
        panels = table["panels"]
        made = table_of_two(*panels) if len(panels) == 2 else table_of(panels[0])
        body = f"{mark}\n{made}\n<!-- end -->"
        page = re.sub(re.escape(mark) + r"\n.*?<!-- end -->", lambda _, body=body: body, page, count=1, flags=re.DOTALL)
    given.page.write_text(page)
    print(f"{given.page}: {len(stored['tables'])} tables")


if __name__ == "__main__":
    main()
