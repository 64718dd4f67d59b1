"""The figures of bench/zero_shot.py on their page, docs/why/zero-shot.md: a table, and what may be read off it, by rule.

python bench/zero_shot_page.py        # from bench/results/zero_shot.json
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE, RESULT = ROOT / "docs/why/zero-shot.md", ROOT / "bench/results/zero_shot.json"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"
SURE = 0.05


def figures(made: dict[str, Any]) -> str:
    """The block between the marks, Markdown."""
    when = dict.fromkeys(f"on {row['date']} at {row['commit']}" for row in made["rows"])
    lines = [
        f"`{made['command']}`, {' and '.join(when)}. AP with its 95 % interval over studies; *wrong*: mean of the permutations; p: share of",
        "permutations that do as well.",
        "",
        "| held out | seen, mAP | by its name | chance | wrong | 95 % of wrong | p | within a study | 95 % of wrong | p | 1 example | 5 | 20 |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in made["rows"]:
        one, among = row["unseen_only"], row["generalised"]
        value, low, high = one["ap"]
        shots = " | ".join(_number(row["few_shot"][count]["ap"]) for count in ("1", "5", "20"))
        lines.append(
            f"| {row['part']} ({len(row['unseen'])}) | {_number(row['seen_map'])} | {_number(value)} [{_number(low)}, {_number(high)}] | {_number(one['chance'])}"
            f" | {_number(one['wrong_names'])} | {_number(one['wrong_names_95'])} | {one['p']:.3f} | {_number(among['ap'])}"
            f" | {_number(among['wrong_names_95'])} | {among['p']:.3f} | {shots} |"
        )
    left = [f"Not measured yet: {'; '.join(made['not_run'])}."] if made.get("not_run") else []
    return "\n".join([*lines, "", *said(made["rows"]), *left]) + "\n"


def said(rows: list[dict[str, Any]]) -> list[str]:
    """What the figures say, in sentences that follow from them."""
    sides = (("over studies", "unseen_only"), ("within a study", "generalised"))
    sentences = []
    for words, key in sides:
        beaten = [row["part"] for row in rows if row[key]["p"] <= SURE]
        named = f": {'; '.join(beaten)}" if beaten else ""
        sentences.append(
            f"Ranking {words}, the right names beat 95 % of permuted ones in {len(beaten)} of {len(rows)}{named}."
        )
    above = [row for row in rows if row["unseen_only"]["wrong_names"] > row["unseen_only"]["chance"]]
    sentences.append(
        f"Wrong names do better than chance in {len(above)} of {len(rows)}: that is what chance alone would have passed for skill."
    )
    for count in ("1", "5", "20"):
        both = [row for row in rows if row["few_shot"][count]["ap"] is not None]
        better = [row for row in both if row["few_shot"][count]["ap"] > row["unseen_only"]["ap"][0]]
        word = "example does" if count == "1" else "examples do"
        sentences.append(f"{count} {word} better than the name in {len(better)} of {len(both)}.")
    return sentences


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".replace("0.", ".", 1)


def with_figures(page: str, made: dict[str, Any]) -> str:
    """The page with its block made anew."""
    head, rest = page.split(BEGIN)
    return head + BEGIN + figures(made) + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(
        with_figures(PAGE.read_text(encoding="utf-8"), json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8"
    )
    print(f"{PAGE.relative_to(ROOT)} has the figures of {RESULT.relative_to(ROOT)}")
