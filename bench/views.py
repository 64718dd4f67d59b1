"""How well the view classifier tells PA, AP and LATERAL apart: on the phantom, and PA from AP on real images.

    python bench/views.py [--quick]
    python bench/views.py --nih FOLDER_OF_CHESTXRAY14 [--quick]

Phantom: 800 studies at 96 px, seed 5, patients dealt 70 : 10 : 20 as `hilum views` does; judged on the 20 %. Images whose
view the phantom's table has lost are known to the phantom all the same: they show what filling in gets right.
Real: every image of the folder once, by three folds of patients; temperature set on a tenth of the patients in training.
PA and AP images differ in who is imaged as well as how: the sicker are imaged in bed, so what is learnt is not geometry
alone. Shares have Wilson's interval at the effective sample size over patients. The classifier is trained as long as `hilum views`
trains it. `python bench/figures_page.py` lays the figures into docs/how-to/views.md.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from loader import cpu_seconds, one_core
from result import FOLDER, save

from hilum.data.cache import build_cache
from hilum.data.splits import folds
from hilum.evaluation.proportion import proportion
from hilum.evaluation.view_report import judge_views, view_lines
from hilum.inference.fill_views import chances_of, fill_views
from hilum.sources import import_studies
from hilum.sources.nih import import_nih
from hilum.sources.phantom.patients import first_studies
from hilum.sources.phantom.worlds import WORLDS
from hilum.training.view_classifier import STEPS, best_temperature, tempered, train_view_classifier, views

STUDIES, SEED, FOLDS = 800, 5, 3


def on_phantom(folder: Path, studies: int, steps: int) -> dict[str, Any]:
    """The report on the phantom, and the share of lost views that are filled in, and filled in rightly."""
    table, _ = import_studies("phantom", None, folder, studies=studies, size=96, seed=SEED, workers=1)
    report = views(table, folder / "views", cache=folder / "cache", steps=steps)
    done = fill_views(table, folder / "views", folder / "filled.parquet", cache=folder / "cache")
    cohort = first_studies(SEED, studies, WORLDS["cxr-lt-2023"])
    drawn = {one.image_id(n): image.drawn for one in cohort for n, image in enumerate(one.images)}
    told = pl.read_parquet(folder / "filled-views.parquet").filter(pl.col("filled"))
    right = [drawn[name] == view for name, view in zip(told["image_id"], told["view"])]
    report["lost"] = {
        "unknown": done.unknown,
        "filled": len(right),
        "right": proportion(right, told["image_id"].to_list()),
    }
    return report


def on_nih(data: Path, folder: Path, count: int, steps: int) -> dict[str, Any]:
    """The report over all images, each judged by the classifier of the fold that held its patient out."""
    table = import_nih(data).studies
    images = build_cache(table, folder / "cache-nih", size=64, workers=1)
    names, parts = ["PA", "AP"], []
    for fold in range(count):
        dealt = folds(table, count=FOLDS, fold=fold, valid=0.1)
        train, valid, test = (dealt.filter(pl.col("split") == name) for name in ("train", "valid", "test"))
        model = train_view_classifier(train, images, names, steps=steps, seed=fold)
        temperature = best_temperature(chances_of(model, valid, images), places(valid, names))
        parts.append((test, tempered(chances_of(model, test, images), temperature)))
    judged, chances = pl.concat([part for part, _ in parts]), np.concatenate([each for _, each in parts])
    return judge_views(places(judged, names), chances, judged["patient_id"].to_list(), names)


def places(table: pl.DataFrame, names: list[str]) -> np.ndarray:
    return np.array([names.index(view) for view in table["view"]], dtype=np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nih", type=Path, help="ChestX-ray14, or a part of it; without it the phantom")
    parser.add_argument("--quick", action="store_true", help="few studies and steps, one fold; writes no JSON")
    given = parser.parse_args()
    one_core()
    studies, steps, count = (150, 20, 1) if given.quick else (STUDIES, STEPS, FOLDS)
    what, before = "ChestX-ray14" if given.nih else "phantom", cpu_seconds()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = on_nih(given.nih, folder, count, steps) if given.nih else on_phantom(folder, studies, steps)
    row = {"what": what, "steps": steps, "cpu_seconds": round(cpu_seconds() - before), **report}
    print(f"{what}, {row['cpu_seconds']} CPU s", *view_lines(report), sep="\n  ")
    if "lost" in report:
        print(f"  views the table had lost: {json.dumps(report['lost'])}")
    if not given.quick:
        write(row)


def write(row: dict[str, Any]) -> None:
    """Put the row into results/views.json beside that of the other data."""
    path = FOLDER / "views.json"
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = sorted(
        [row, *(one for one in held if one["what"] != row["what"])], key=lambda one: one["what"], reverse=True
    )
    ours = next((one["frontal_or_lateral"] for one in rows if one["what"] == "phantom"), None)
    save({
        "name": "views",
        "ours": ours,
        "peer": None,
        "unit": "share of phantom images told frontal or lateral rightly [value, low, high]",
        "ratio": None,
        "goal": ">= 0.98 on the phantom",
        "command": "python bench/views.py; python bench/views.py --nih DATA",
        "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
