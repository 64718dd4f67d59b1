"""What a second stage on cached features loses or gains in mAP against one that recomputes its frozen backbone, on a benchmark.

    hilum import phantom --benchmark phantom-26-small -o small
    python bench/feature_cache_map.py small small/cached --cache small/cache     # trained there already: not trained again

One first stage of chexfusion_small, then its second stage both ways, several seeds each, with the recipe's augmentation:
recomputed, it draws anew at every step; cached, it draws among a few versions of each study. Judged on the truth of the
test patients, paired by training.
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from result import save

from hilum.progress import shown
from hilum.recipe import Recipe
from hilum.reproductions import Row, System, Table
from hilum.reproductions.judged import judge_table
from hilum.reproductions.page import spoken
from hilum.reproductions.runs import Runs, Seeds

RECIPE, FIRST, RECOMPUTED, CACHED = "chexfusion_small", "single view", "recomputed", "cached"
WISHES = {RECOMPUTED: "off", CACHED: "all"}  # all: with the test studies' features, as several runs share them
ROWS = [
    Row(name, stage="fusion", start=FIRST, overrides=[f"stages.fusion.train.feature_cache={wish}"])
    for name, wish in WISHES.items()
]
TABLE = Table(name="cache", title="Cached and recomputed features", rows=ROWS, against=[RECOMPUTED])


def seconds_an_epoch(run: Path) -> float:
    """Seconds of the fastest epoch of a run's log: what else the machine does slows the others."""
    with (run / "log.csv").open() as file:
        return min(float(row["seconds"]) for row in csv.DictReader(file))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, help="a phantom benchmark: studies.parquet and truth.parquet")
    arguments.add_argument("runs", type=Path, help="where the trainings go")
    arguments.add_argument("--cache", type=Path, help="decoded images and features, by default RUNS/cache")
    arguments.add_argument("--seeds", type=int, default=3, help="second stages of each way")
    given = arguments.parse_args()

    def settle(recipe: Recipe) -> Recipe:
        cache = replace(recipe.cache, folder=str(given.cache or given.runs / "cache"))
        return replace(recipe, studies=str(given.folder / "studies.parquet"), cache=cache)

    first = Row(FIRST, stage="single_view")
    system = System("", "", "", RECIPE, RECIPE, "rule", [replace(TABLE, rows=[first, *ROWS])])
    seeds = Seeds(1, given.seeds)
    runs = Runs(given.runs, system, RECIPE, [], settle, seeds=seeds, progress=shown, say=print)
    files = {row.name: runs.predictions(row) for row in ROWS}
    panel = judge_table(TABLE, files, given.folder / "truth.parquet", level="study", progress=shown)["panels"][0]
    pair: dict[str, Any] = panel["differences"][0]
    change = {column: one for column, one in pair["columns"].items() if one is not None}
    figures = {row["name"]: row["ours"] for row in panel["rows"]}
    fastest = {row.name: min(seconds_an_epoch(runs.trained(row, seed)) for seed in range(given.seeds)) for row in ROWS}
    for name, found in figures.items():
        print(f"{name:<12} mAP {spoken(found['all'])}, seconds an epoch, of the fastest: {fastest[name]:.1f}")
    print(f"{pair['to']} minus {pair['from']}: {spoken(change['all']['difference'], '+')}")
    save(
        {
            "name": "feature_cache_map",
            "ours": round(figures[CACHED]["all"][0], 4),
            "peer": round(figures[RECOMPUTED]["all"][0], 4),
            "unit": "mAP on the truth of test studies; peer: the same second stage without the cache",
            "ratio": None,
            "goal": "equal within noise",
            "command": f"python bench/feature_cache_map.py {given.folder} {given.runs} --seeds {given.seeds}",
            "seeds": given.seeds,
            "studies": panel["studies"],
            "minus": [pair["to"], pair["from"]],
            "difference": change,
            "figures": figures,
            "seconds_an_epoch": fastest,
        }
    )


if __name__ == "__main__":
    main()
