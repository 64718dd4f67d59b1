"""Lays stored figures into their pages, between the marks `<!-- NAME -->` and `<!-- end -->`.

python bench/figures_page.py        # self_training and views, from bench/results
"""

import json
import re
from pathlib import Path
from typing import Any

from result import FOLDER

DOCS = Path(__file__).parent.parent / "docs"
Row = dict[str, Any]
LACKS = {
    "unlabelled": "three quarters of the studies",
    "unknown": "three quarters of the entries, at random",
    "absent": "every second finding in three quarters of the studies",
}


def self_training(made: Row) -> str:
    """What self-training brings, case by case and tier by tier, and where it is told apart from chance."""
    heads = ["what lacks labels", "tier", "labelled only", "self-trained", "all labels", "gain", "share of the gap"]
    heads += ["labelled only, noisy", "gain over that", "share"]
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for row in made["rows"]:
        for tier, one in row["tiers"].items():
            maps = [f"{one['map'][arm]:.3f}" for arm in ("labelled only", "self-trained", "full labels")]
            cells = [LACKS[row["case"]], tier, *maps, _told(one["gain"]), _share(one["recovered"])]
            if "gain_over_noisy" in one:
                noisy = f"{one['map']['labelled only, noisy']:.3f}"
                cells += [noisy, _told(one["gain_over_noisy"]), _share(one["recovered_over_noisy"])]
            else:
                cells += ["-"] * 3
            lines.append(_line(cells))
    return "\n".join(
        [f"`{made['command']}`, on {made['date']} at {made['commit']}:", "", *lines, "", *_sure(made["rows"])]
    )


def _sure(rows: list[Row]) -> list[str]:
    """In how many cases of each tier a gain lies above 0 with its whole interval."""
    told = []
    for key, words in (("gain", "labelled studies alone"), ("gain_over_noisy", "these under the students' noise")):
        counts = []
        for tier in ("all", "head", "medium", "tail"):
            there = [row["tiers"][tier][key] for row in rows if key in row["tiers"].get(tier, {})]
            if there:
                counts.append(f"{tier} {sum((low or 0) > 0 for _, low, _ in there)} of {len(there)}")
        if counts:
            told.append(f"Cases in which the gain over {words} is above chance: {', '.join(counts)}.")
    return told


def views(made: Row) -> str:
    """How often the view classifier is right, on the phantom and on real images."""
    heads = ["images", "steps", "judged on", "which view", "frontal or lateral", "PA or AP, of frontal ones"]
    lines = [_line(heads), "|" + "---|" * len(heads)]
    for row in made["rows"]:
        shares = [_percent(row[key]) for key in ("accuracy", "frontal_or_lateral", "pa_or_ap")]
        lines.append(
            _line([row["what"], row["steps"], f"{row['images']:,} images of {row['patients']:,} patients", *shares])
        )
    lost = [
        f"Of {row['lost']['unknown']} views that the {row['what']}'s table had lost, {row['lost']['filled']} were filled in, "
        f"{_percent(row['lost']['right'])} of them rightly."
        for row in made["rows"]
        if row.get("lost")
    ]
    return "\n".join([f"`{made['command']}`, on {made['date']} at {made['commit']}:", "", *lines, "", *lost])


PAGES = {self_training: "how-to/self-training.md", views: "how-to/views.md"}


def laid(page: str, name: str, body: str) -> str:
    """The page with the block of this name made anew."""
    mark = f"<!-- {name} -->"
    if mark not in page:
        raise SystemExit(f"the page has no {mark}")
    return re.sub(
        rf"{mark}\n.*?<!-- end -->", lambda _: f"{mark}\n{body}\n<!-- end -->", page, count=1, flags=re.DOTALL
    )


def _line(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _told(gain: list[float | None]) -> str:
    value, low, high = gain
    return f"{value:+.3f}" + ("" if low is None else f" [{low:+.3f}, {high:+.3f}]")


def _share(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.0f} %"


def _percent(share: list[float] | None) -> str:
    """Tenths of a percent, with the interval."""
    if share is None:
        return "-"
    value, low, high = (100 * part for part in share)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def main() -> None:
    for figures, page in PAGES.items():
        made = json.loads((FOLDER / f"{figures.__name__}.json").read_text(encoding="utf-8"))
        text = (DOCS / page).read_text(encoding="utf-8")
        (DOCS / page).write_text(laid(text, figures.__name__, figures(made)), encoding="utf-8")
        print(f"docs/{page} has the figures of {figures.__name__}.json")


if __name__ == "__main__":
    main()
