"""The single-label form of the long-tail benchmark (Holste et al. 2022): seven of its rows, judged by balanced accuracy.

    python bench/single_label.py RUNS                    # draws its studies there; what is trained already stays

A softmax over findings, on phantom images whose reported labels are exactly one finding; the other eight printed rows (focal
loss, LDAM) are per finding in this project and stand in `hilum reproduce longtail_benchmark`. All are judged on test images
whose *true* labels are exactly one finding: on all of these, of which most belong to a few findings, and on a balanced test
set, as many images of every finding. Balanced accuracy gives every finding the same say on both, and accuracy on the former
does not. Several seeds a row; differences over patients, and over paired trainings alone.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from result import save
from system_rows import printed

from hilum.atomic import ensure_folder
from hilum.evaluation.compare import difference
from hilum.evaluation.evaluate import plain
from hilum.evaluation.intervals import centred, macro
from hilum.evaluation.joined import Part, join
from hilum.evaluation.single_label import Recall, exactly_one, recall_of
from hilum.findings import TIERS
from hilum.progress import shown
from hilum.recipe import Recipe
from hilum.reproductions import Row, System, Table, read_system
from hilum.reproductions.judged import over_trainings
from hilum.reproductions.page import spoken
from hilum.reproductions.runs import Runs, Seeds
from hilum.sources.phantom.benchmarks import BENCHMARKS, Benchmark
from hilum.sources.phantom.source import draw_benchmark
from hilum.tables import finding_names, labels_of, read_studies, write_studies

WORLD, RECIPE, SEED, SIZE = "phantom-26-small", "phantom_small", 98, 64
BALANCED = 20  # images of each finding in the balanced test set; findings with fewer are left out of every figure
BASE = "Softmax"
SHARED = ["single_label=true", "train.level=image", "train.select=balanced_accuracy", "train.batch_size=32", f"cache.size={SIZE}"]  # fmt: skip
REPLICATES = 1000


WEIGHTS = {"CB Softmax": "class_balanced", "RW Softmax": "inverse"}
PRINTED = read_system("longtail_benchmark").rows


def row(name: str) -> Row:
    """A row of the multi-label form with a softmax in place of its loss."""
    kept = [one for one in PRINTED[name].overrides if not one.startswith(("loss=", "train.select="))]
    weighed = [f"loss.class_weights={WEIGHTS[name]}"] if name in WEIGHTS else []
    return replace(PRINTED[name], small=[], overrides=["loss.name=softmax", *weighed, *kept])


ROWS = [row(name) for name in (BASE, *WEIGHTS, "MixUp", "Balanced-MixUp", "cRT", "tau-normalisation")]


def drawn(folder: Path, training: int) -> Path:
    """The study table: training and validation studies as reported, test studies as they truly are."""
    file = folder / "studies.parquet"
    if not file.exists():
        size = Benchmark(BENCHMARKS[WORLD].world, size=128, train=training, valid=training // 3, test=training // 2, labelled=1, seed=SEED)  # fmt: skip
        made = draw_benchmark(folder / "images", "single", size, progress=shown)
        assert made.truth is not None
        test = pl.col("split") == "test"
        mixed = pl.concat([made.studies.filter(~test), made.truth.filter(test)])
        write_studies(mixed, file, label_level="study", note=made.note)
    return file


def training_images(studies: Path) -> int:
    """Training images that a recipe with `single_label` keeps."""
    table = read_studies(studies).filter(split="train")
    return int(exactly_one(labels_of(table, finding_names(table), level="image").values).sum())


def trainings(folder: Path, studies: Path, seeds: int, epochs: int) -> dict[str, list[Part]]:
    """row -> its trainings, each joined to the labels of the test images."""
    system = System("", "", "", RECIPE, RECIPE, "rule", [Table("rows", "", ROWS, [])])

    def settle(recipe: Recipe) -> Recipe:
        cache = replace(recipe.cache, folder=str(folder / "cache"))
        return replace(recipe, studies=str(studies), cache=cache, split=replace(recipe.split, column="split"))

    overrides = [*SHARED, f"train.epochs={epochs}"]
    runs = Runs(
        folder / "runs", system, RECIPE, overrides, settle, seeds=Seeds(seeds, seeds), progress=shown, say=print
    )
    return {one.name: [join([file], studies, "image").parts[0] for file in runs.predictions(one)] for one in ROWS}


def balanced_rows(labels: np.ndarray, seed: int = 0) -> np.ndarray:
    """(K,) rows with as many images of every finding that has enough of them, in a random choice."""
    rng = np.random.default_rng(seed)
    alone = exactly_one(labels)
    found = [np.flatnonzero(alone & (column > 0.5)) for column in labels.T]
    return np.sort(np.concatenate([rng.permutation(rows)[:BALANCED] for rows in found if len(rows) >= BALANCED]))


def of_rows(part: Part, rows: np.ndarray) -> Part:
    """Those rows of a part alone."""
    return replace(
        part, ids=[part.ids[row] for row in rows], studies=[part.studies[row] for row in rows],
        patients=part.patients[rows], labels=part.labels[rows], scores=part.scores[rows],
    )  # fmt: skip


def accuracy(recall: Recall, chosen: np.ndarray) -> float:
    """Share of images that are called rightly, each having the same say, among those of the chosen findings."""
    return float(recall.called[chosen].sum() / recall.found[chosen].sum())


def told(recall: Recall, chosen: np.ndarray) -> list[float]:
    """[value, low, high] of balanced accuracy over the chosen findings."""
    value = float(macro(recall.value, chosen))
    return [value, *centred(value, macro(recall.replicates, chosen))]


def judged(made: dict[str, list[Part]], tier_of: dict[str, str]) -> dict[str, Any]:
    """Per row: balanced accuracy, of tiers and of the balanced test set, accuracy, and what it has more than the first row."""
    first = made[BASE][0]
    few = balanced_rows(first.labels)
    whole = {name: recall_of(parts, REPLICATES, 0) for name, parts in made.items()}
    small = {name: recall_of([of_rows(part, few) for part in parts], REPLICATES, 0) for name, parts in made.items()}
    chosen = small[BASE].found > 0
    tier = np.array([tier_of.get(name, "") for name in first.predictions.findings])
    groups = {name: chosen & (tier == name) for name in TIERS}
    single = {
        name: [float(macro(recall_of([part], 1, 0).value, chosen)) for part in parts] for name, parts in made.items()
    }
    rows = []
    for name, recall in whole.items():
        value = float(macro(recall.value - whole[BASE].value, chosen))
        gain = difference(value, np.asarray(macro(recall.replicates - whole[BASE].replicates, chosen)))
        rows.append(
            {
                "what": name,
                "balanced_accuracy": told(recall, chosen),
                "tiers": {one: told(recall, kept) for one, kept in groups.items() if kept.any()},
                "balanced_test": told(small[name], chosen),
                "accuracy": accuracy(recall, chosen),
                "gain": [gain.value, gain.low, gain.high],
                "gain_over_trainings": over_trainings(np.array(single[BASE]), np.array(single[name])),
                "per_training": single[name],
                "theirs": printed(PRINTED[name]),  # percent on NIH-CXR-LT and on MIMIC-CXR-LT
            }
        )
    return {
        "rows": rows,
        "findings": int(chosen.sum()),
        "chance": 1 / int(chosen.sum()),
        "images": int(whole[BASE].found[chosen].sum()) // len(made[BASE]),
        "balanced_images": len(few),
        "most_common": float(whole[BASE].found.max() / whole[BASE].found[chosen].sum()),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", type=Path, help="where the studies, decoded images and trainings go")
    arguments.add_argument("--seeds", type=int, default=3, help="trainings of every row")
    arguments.add_argument("--epochs", type=int, default=12)
    arguments.add_argument(
        "--training", type=int, default=24000, help="training studies drawn, of which a twelfth has one finding"
    )
    arguments.add_argument("--quick", action="store_true", help="few studies, two epochs, one training; no JSON")
    given = arguments.parse_args()
    if given.quick:
        given.seeds, given.epochs, given.training = 1, 2, 3000
    ensure_folder(given.runs)
    studies = drawn(given.runs, given.training)
    found = judged(trainings(given.runs, studies, given.seeds, given.epochs), dict(BENCHMARKS[WORLD].world.tiers))
    print(
        f"{found['images']:,} test images of {found['findings']} findings, {found['balanced_images']:,} of them in the balanced set"
    )
    for one in found["rows"]:
        print(f"{one['what']:<20}{spoken(one['balanced_accuracy'])}   balanced set {spoken(one['balanced_test'])}   "
              f"accuracy {one['accuracy']:.3f}   {spoken(one['gain'], '+')}")  # fmt: skip
    if given.quick:
        return
    best = max(found["rows"], key=lambda one: one["balanced_accuracy"][0])
    save(
        {
            "name": "single_label",
            "ours": round(best["balanced_accuracy"][0], 4),
            "peer": round(found["rows"][0]["balanced_accuracy"][0], 4),
            "unit": "balanced accuracy on the test images with exactly one finding; peer: a softmax and nothing more",
            "ratio": None,
            "goal": "the order of the published rows; there is no target",
            "command": f"python bench/single_label.py RUNS --seeds {given.seeds} --epochs {given.epochs} --training {given.training}",
            "seeds": given.seeds,
            "training_images": training_images(studies),
        }
        | plain(found)
    )


if __name__ == "__main__":
    main()
