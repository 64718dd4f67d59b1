"""Lays the stored tables of a reproduced system into a page, between its marks: `<!-- NAME of TABLE -->` and `<!-- end -->`.

    python bench/reproduced_page.py reproduce_bag_of_tricks docs/why/bag-of-tricks.md

A row is its mAP with its interval, the published one, and what it has more than the row that the table is held against.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

from result import FOLDER


def interval(values: list[float], sign: str = "") -> str:
    return f"{values[0]:{sign}.3f} [{values[1]:{sign}.3f}, {values[2]:{sign}.3f}]"


def table_of(panel: dict[str, Any]) -> str:
    """A panel as Markdown: mAP, published, and the difference to the first row of `against`."""
    base = panel["against"][0]
    lines = [f"| row | mAP | published | minus {base} |", "|---|---|---|---|"]
    for row in panel["rows"]:
        theirs = row["theirs"]["all"] if row["theirs"] else None
        printed = "" if theirs is None else f"{theirs:.3f}"
        lines.append(
            f"| {row['name']} | {interval(row['ours']['all'])} | {printed} | {beyond(panel, base, row['name'])} |"
        )
    return "\n".join(lines)


def beyond(panel: dict[str, Any], base: str, name: str) -> str:
    """The difference in mAP in words; empty for the base itself."""
    for pair in panel["differences"]:
        found = pair["columns"]["all"]
        if found and {pair["from"], pair["to"]} == {base, name}:
            value, low, high = found["difference"]
            told = [value, low, high] if pair["to"] == name else [-value, -high, -low]
            return interval(told, "+") + ("" if found["told_apart"] else ", noise")
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
