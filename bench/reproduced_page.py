"""Lays the stored tables of a reproduced system into a page, between its marks: `<!-- NAME of TABLE -->` and `<!-- end -->`.

    python bench/reproduced_page.py reproduce_bag_of_tricks docs/why/bag-of-tricks.md

A row is its mAP with its interval, the published one, what it has more than the row that the table is held against, and the
same of rare findings.
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
        body = f"{mark}\n{table_of(table['panels'][0])}\n<!-- end -->"
        page = re.sub(re.escape(mark) + r"\n.*?<!-- end -->", lambda _, body=body: body, page, count=1, flags=re.DOTALL)
    given.page.write_text(page)
    print(f"{given.page}: {len(stored['tables'])} tables")


if __name__ == "__main__":
    main()
