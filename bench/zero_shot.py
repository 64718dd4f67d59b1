"""Findings that a model was not trained on, asked about by name: two challenges' protocols, six held-out families, few examples.

    hilum import phantom --benchmark phantom-26-small -o small
    python bench/zero_shot.py small --cache small/cache-64       # trainings that are there already are not repeated
    python bench/zero_shot.py small --cache small/cache-64 --part heart     # one of them alone
    python bench/zero_shot.py quick --quick                      # a few hundred studies, drawn there itself

Parts:
  2024 task 3   trained on those of CXR-LT 2024's 40 findings that the phantom draws (39), asked for its 5 unseen ones
  2026 task 2   trained on those of CXR-LT 2026's 30 that the phantom draws (16), asked for 5 of its 6 unseen ones (no goiter)
  six families  trained on phantom-26-small without a family, which is then asked for; bench/held_out.py says what else is hidden
The first two draw a phantom of 45 findings in FOLDER/zero-shot. Training labels are mined, truth judges; recipe zero_shot_small.
Every AP stands beside chance, and beside what the model's other names give (200 permutations of the names; their 95 % quantile
is to be beaten). Few examples: a linear discriminant on the same frozen features, from 1, 5 and 20 positives.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from by_name import Scored, few_shot, generalised, unseen_only
from held_out import FAMILIES, without
from result import FOLDER, measured_at, save

from hilum.batches.augment import to_float
from hilum.batches.dataset import Studies
from hilum.data.cache import build_cache
from hilum.evaluation.metrics import average_precision
from hilum.findings import FINDING_SETS
from hilum.inference.predict import load
from hilum.models.classifier import unpack
from hilum.progress import shown
from hilum.recipe import load_recipe
from hilum.reproductions.runs import finished
from hilum.sources.phantom.benchmarks import BENCHMARKS, Benchmark
from hilum.sources.phantom.source import draw_benchmark
from hilum.sources.phantom.worlds import WORLDS
from hilum.tables import finding_names, labels_of, read_studies, write_studies

RECIPE, SHOTS = "zero_shot_small", (1, 5, 20)
PROTOCOLS = {
    "2024 task 3": ("cxr-lt-2024-task1", "cxr-lt-2024-task3"),
    "2026 task 2": ("cxr-lt-2026-task1", "cxr-lt-2026-task2"),
}


@dataclass(frozen=True)
class Part:
    """One experiment: a table to train on, the table that judges, the findings that are never labelled."""

    name: str
    training: pl.DataFrame
    truth: pl.DataFrame
    unseen: list[str]
    cache: Path

    @property
    def folder(self) -> str:
        return self.name.replace(",", "").replace(" ", "-")


def families(folder: Path, cache: Path, base: Path, quick: bool) -> dict[str, Part]:
    """The six families of the benchmark in `folder`, or with `quick` of a little one drawn in `base`."""
    if quick:
        draw(
            base / "26", Benchmark(BENCHMARKS["phantom-26-small"].world, 32, train=300, valid=80, test=300, labelled=1)
        )
        folder, cache = base / "26", base / "26" / "cache"
    studies, truth = (read_studies(folder / f"{name}.parquet") for name in ("studies", "truth"))
    there = finding_names(truth)
    held = {name: [one for one in members if one in there] for name, members in FAMILIES.items()}
    return {name: Part(name, without(studies, unseen), truth, unseen, cache) for name, unseen in held.items()}


def protocol(name: str, base: Path, quick: bool) -> Part:
    """A challenge's task, as far as the phantom draws its findings."""
    base = base / "45"
    sizes = (
        {"size": 32, "train": 300, "valid": 80, "test": 300}
        if quick
        else {"size": 64, "train": 6000, "valid": 1000, "test": 8000}
    )
    draw(base, Benchmark(WORLDS["cxr-lt-2024"], labelled=1, **sizes))
    studies, truth = (read_studies(base / f"{table}.parquet") for table in ("studies", "truth"))
    seen, unseen = (FINDING_SETS[which] for which in PROTOCOLS[name])
    there = finding_names(truth)
    asked = [one for one in unseen if one in there]
    gone = [one for one in there if one not in seen]
    return Part(name, studies.drop(gone), truth, asked, base / "cache")


def draw(folder: Path, benchmark: Benchmark) -> None:
    if not (folder / "truth.parquet").exists():
        made = draw_benchmark(folder, "zero-shot", benchmark, workers=1, progress=shown)
        for name in ("studies", "truth"):
            write_studies(getattr(made, name), folder / f"{name}.parquet", label_level="study", note=made.note)


def answers(part: Part, runs: Path, overrides: list[str]) -> dict[str, Any]:
    """The trained model's scores of test studies by every name, and mean features of training and test studies; made once."""
    file = runs / part.folder / "answers.npz"
    if not file.exists():
        (runs / part.folder).mkdir(parents=True, exist_ok=True)
        studies = runs / part.folder / "studies.parquet"
        if not studies.exists():
            known = part.training.filter(pl.col("split") != "test")  # what is judged below needs no report of the run
            write_studies(known, studies, label_level="study", note="phantom")
        given = [f"studies={studies}", f"cache.folder={part.cache}", *overrides]
        run = finished(load_recipe(RECIPE, given), runs / part.folder / "run", runs / part.folder / "plan.yaml",
                       progress=shown, say=print)  # fmt: skip
        model = load(run / "bundle", device="cpu")
        names = [*model.findings, *part.unseen]
        asked = model.asked(names)
        found: dict[str, Any] = {"names": np.array(names)}
        for split in ("train", "test"):
            table = part.truth.filter(split=split)
            images = build_cache(table, part.cache, **model.bundle.pixels.as_dict(), progress=shown)
            samples = Studies(table, images, names, views=model.bundle.views)
            scores, features = read(asked, samples)
            found |= {f"{split}_features": features, f"{split}_ids": np.array(samples.ids)}
            if split == "test":
                found |= {"scores": scores, "truth": samples.labels}
        np.savez(file, **found)
    return dict(np.load(file))


@torch.inference_mode()
def read(model: Any, samples: Studies) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, K) and the mean feature (N, C) over positions and views of every study."""
    scores, features = [], []
    for batch in shown(samples.in_order(256), total=-(-len(samples) // 256), label="asking", unit="batches"):
        maps = unpack(model.encode(to_float(batch.images)[batch.present], batch.view[batch.present]), batch.present)
        scores.append(model.read(maps, batch.present, batch.view, batch.demographics).numpy())
        features.append((maps.mean(dim=(3, 4)).sum(dim=1) / batch.present.sum(dim=1, keepdim=True)).numpy())
    return np.concatenate(scores), np.concatenate(features)


def measured(part: Part, runs: Path, overrides: list[str], quick: bool) -> dict[str, Any]:
    """The row of a part: unseen findings by name, among all findings, and from a few examples."""
    found = answers(part, runs, overrides)
    scored = Scored(found["names"].tolist(), found["scores"], found["truth"])
    unseen = [one for one in part.unseen if found["truth"][:, scored.names.index(one)].sum() >= (1 if quick else 10)]
    training = part.truth.filter(split="train")
    labels = labels_of(training, unseen)  # few examples are picked by hand, so they are true ones
    row_of = {study: row for row, study in enumerate(labels.ids)}
    known = labels.values[[row_of[study] for study in found["train_ids"].tolist()]]
    shots = {}
    for count in SHOTS:
        each = {
            name: few_shot(found["train_features"], known[:, i], found["test_features"], scored.truth[:, scored.names.index(name)],
                           count, 3 if quick else 20)
            for i, name in enumerate(unseen)
        }  # fmt: skip
        told = [value for value in each.values() if value == value]
        shots[str(count)] = {"ap": float(np.mean(told)) if len(told) == len(each) else None,
                             "findings": {name: None if value != value else value for name, value in each.items()}}  # fmt: skip
    seen = scored.place([name for name in scored.names if name not in part.unseen])
    return {
        "part": part.name,
        "trained_on": len(scored.names) - len(part.unseen),
        "unseen": unseen,
        "seen_map": float(np.nanmean(average_precision(scored.truth[:, seen], scored.scores[:, seen]))),
        "unseen_only": unseen_only(scored, unseen),
        "generalised": generalised(scored, unseen),
        "few_shot": shots,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument(
        "folder", type=Path, help="where `hilum import phantom --benchmark phantom-26-small` drew it"
    )
    arguments.add_argument("--cache", type=Path, help="decoded images of 64 px, by default FOLDER/cache-64")
    arguments.add_argument("--work", type=Path, help="folder of trainings and drawings, by default FOLDER/zero-shot")
    arguments.add_argument(
        "--part",
        action="append",
        choices=[*PROTOCOLS, *FAMILIES],
        help="only this one, again for another; the JSON keeps what it has of the others",
    )
    arguments.add_argument("--quick", action="store_true", help="a few hundred studies of 32 px, one epoch, no JSON")
    arguments.add_argument("overrides", nargs="*", help="changes to the recipe, such as model.head.layers=2")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    work = given.work or given.folder / "zero-shot"
    changes = [*(["cache.size=32", "train.epochs=1"] if given.quick else []), *given.overrides]
    rows = []
    held = families(given.folder, given.cache or given.folder / "cache-64", work, given.quick)
    for name in given.part or [*PROTOCOLS, *FAMILIES]:
        part = held[name] if name in held else protocol(name, work, given.quick)
        rows.append(measured(part, work / "runs", changes, given.quick))
    show(rows)
    if not given.quick:
        rows = together(rows, given.overrides)
        beaten = [row["part"] for row in rows if row["unseen_only"]["p"] <= 0.05]
        save(
            {
                "name": "zero_shot",
                "ours": len(beaten),
                "peer": len(rows),
                "unit": "experiments in which the right names beat 95 % of permuted ones, of all",
                "ratio": round(len(beaten) / len(rows), 2),
                "goal": "all; what a phantom can say of it stands in docs/why/zero-shot.md",
                "command": " ".join(["python bench/zero_shot.py small --cache small/cache-64", *given.overrides]),
                "not_run": [name for name in (*PROTOCOLS, *FAMILIES) if name not in {row["part"] for row in rows}],
                "rows": rows,
            }
        )


def together(rows: list[dict[str, Any]], overrides: list[str]) -> list[dict[str, Any]]:
    """What was measured now, and what stands on file of the other parts by the same recipe, in the order of the parts."""
    file = FOLDER / "zero_shot.json"
    stored = json.loads(file.read_text())["rows"] if file.exists() else []
    found = {row["part"]: row for row in stored if row["overrides"] == overrides}
    found |= {row["part"]: row | measured_at() | {"overrides": overrides} for row in rows}
    return [found[name] for name in (*PROTOCOLS, *FAMILIES) if name in found]


def show(rows: list[dict[str, Any]]) -> None:
    """One line for each part: AP by name, chance and the permutations, over studies and within them; AP from few examples."""
    print(
        f"{'held out':<22}{'seen':>6}   {'by name':<22}{'chance':>7}{'wrong':>7}{'95 %':>7}{'p':>7}   {'within':>6}{'chance':>7}{'95 %':>7}{'p':>7}   {'1':>5}{'5':>6}{'20':>6}"
    )
    for row in rows:
        one, among = row["unseen_only"], row["generalised"]
        value, low, high = one["ap"]
        shots = "".join(
            f"{row['few_shot'][str(n)]['ap']:>6.3f}" if row["few_shot"][str(n)]["ap"] is not None else f"{'-':>6}"
            for n in SHOTS
        )
        print(
            f"{row['part']:<22}{row['seen_map']:>6.3f}   {f'{value:.3f} [{low:.3f}, {high:.3f}]':<22}{one['chance']:>7.3f}"
            f"{one['wrong_names']:>7.3f}{one['wrong_names_95']:>7.3f}{one['p']:>7.3f}   {among['ap']:>6.3f}{among['chance']:>7.3f}"
            f"{among['wrong_names_95']:>7.3f}{among['p']:>7.3f}  {shots}"
        )


if __name__ == "__main__":
    main()
