"""What a model gains by the study before, the indication, age and sex: each alone, none and all, on one frozen backbone.

    python bench/context.py context [--quick]        # draws and trains in that folder; what is there is not done again

A world like phantom-26-small's, of another seed, but with all studies of every test patient: those of phantom-26-small have
one each, before which nothing came. The first stage of the recipe cxr_context_small is trained once, then each row of
`hilum reproduce cxr_context` with several seeds on its cached features. Judged on the truth of every study of the test
patients, and again on those that have a study before; intervals are paired, over patients and trainings.
"""

import argparse
from pathlib import Path
from typing import Any

from loader import one_core
from result import save

from hilum.progress import shown
from hilum.reproduce import as_text, reproduce
from hilum.reproductions import COLUMNS
from hilum.sources.phantom.benchmarks import BENCHMARKS, Benchmark
from hilum.sources.phantom.source import draw_benchmark
from hilum.tables import write_studies

SYSTEM, WORLD, SEED = "cxr_context", BENCHMARKS["phantom-26-small"].world, 26
COHORT = Benchmark(WORLD, size=128, train=2_500, valid=800, test=3_000, labelled=2_500, seed=SEED, most=None)
QUICK = Benchmark(WORLD, size=32, train=300, valid=120, test=200, labelled=300, seed=SEED, most=None)
# Fewer epochs and augmented versions than the recipe's ten and four: about ten minutes of one free core for all of it.
SHORTER = [
    "stages.single_view.train.epochs=8", "stages.fusion.train.epochs=4", "stages.fusion.train.feature_versions=2",
]  # fmt: skip


def drawn(folder: Path, cohort: Benchmark) -> tuple[Path, Path]:
    """The study table and the truth, drawn unless they are there."""
    files = folder / "studies.parquet", folder / "truth.parquet"
    if not all(file.exists() for file in files):
        made = draw_benchmark(folder, "context", cohort, workers=1, progress=shown)
        for file in files:
            write_studies(getattr(made, file.stem), file, label_level="study", note=made.note)
    return files


def told(panel: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per row of the table: its figures, and what it has more than the row that reads nothing besides."""
    more = {pair["to"]: pair["columns"] for pair in panel["differences"] if pair["from"] == "nothing"}
    return [
        {
            "name": row["name"],
            "trainings": row["runs"],
            **{column: row["ours"][column] for column in COLUMNS},
            "more_than_nothing": more.get(row["name"]),
        }
        for row in panel["rows"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every row but the first stage")
    parser.add_argument(
        "--quick", action="store_true", help="a few hundred studies of 32 px, one epoch; writes no JSON"
    )
    given = parser.parse_args()
    one_core()
    studies, truth = drawn(given.folder, QUICK if given.quick else COHORT)
    size = ["cache.size=32", "train.epochs=1"] if given.quick else []
    made = reproduce(
        SYSTEM, studies, [*SHORTER, *size], truth=truth, cache=given.folder / "cache", runs=given.folder / "runs",
        seeds=given.seeds, first_seeds=1, small=True, level="study", progress=shown, say=print,
    )  # fmt: skip
    panels = made["tables"][0]["panels"]
    print(as_text(made))
    if given.quick:
        return
    gain = {row["name"]: row["more_than_nothing"] for row in told(panels[1])}
    save({
        "name": "context",
        "ours": gain["all"]["all"]["difference"],
        "peer": None,
        "unit": "mAP of `all` minus that of `nothing`, test studies with a study before [value, low, high]",
        "ratio": None,
        "goal": None,
        "command": f"python bench/context.py context --seeds {given.seeds}",
        "trained_on": {"studies": COHORT.train, "first_stage_seeds": 1, "seeds": given.seeds, "overrides": SHORTER},
        "rows": [
            {"judged": panel["name"], "studies": panel["studies"], "patients": panel["patients"], "rows": told(panel)}
            for panel in panels
        ],
    })  # fmt: skip


if __name__ == "__main__":
    main()
