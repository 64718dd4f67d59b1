"""Label queries against a plain classifier, and a finding asked by its name alone, on real images of ChestX-ray14.

    python bench/label_queries_nih.py FOLDER_OF_CHESTXRAY14 WORK

Folds by patient; test_resnet at 64 px from random weights, so figures are low, and so are those of every row. Three trainings a
fold: a linear head, label queries, and label queries on all findings but one, which is then asked for by name. Its
control asks the same model by every other name that hilum knows: a name that helps must rank the finding better than these do.
Mean AP over the folds, each resampled by patient.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from result import save

from hilum.data.cache import build_cache, open_cache
from hilum.descriptions import DESCRIPTIONS
from hilum.evaluation.metrics import average_precision, random_ap
from hilum.inference.predict import load
from hilum.recipe import Recipe, parse_recipe
from hilum.reproductions.runs import finished
from hilum.sources import import_studies
from hilum.tables import labels_of, read_studies

LEFT_OUT = "Pleural Effusion"
QUERY = {"name": "label_query", "dim": 96, "heads": 4, "hidden": 256, "layers": 2}
ARMS = {"plain classifier": {"name": "linear"}, "label queries": QUERY, "without it": QUERY}
LEAST = 20  # positives that a finding must have to be scored
Fold = dict[str, Any]


def recipe_of(work: Path, arm: str, findings: list[str], fold: int, folds: int, epochs: int) -> Recipe:
    """One training: everything but the head and the findings is alike."""
    return parse_recipe(
        {
            "studies": str(work / "nih.parquet"),
            "findings": [name for name in findings if arm != "without it" or name != LEFT_OUT],
            "cache": {"folder": str(work / "cache"), "size": 64},
            "split": {"folds": folds, "fold": fold, "valid": 0.1},
            "model": {"backbone": "test_resnet", "head": ARMS[arm]},
            "augment": {"name": "standard", "rotate": 3.0, "shift": 0.02, "scale": 0.04, "noise": 0.01},
            "train": {"level": "image", "epochs": epochs, "batch_size": 32, "lr": 3e-3, "ema": 0.98, "seed": fold},
        }
    )


def measured(work: Path, findings: list[str], fold: int, folds: int, epochs: int) -> Fold:
    """The scores of a fold's test images by every arm: labels (N, F), patients (N,), scores by arm and by name."""
    runs = {
        arm: finished(
            recipe_of(work, arm, findings, fold, folds, epochs),
            work / f"{arm.replace(' ', '-')}-{fold}",
            work / "recipes" / f"{arm.replace(' ', '-')}-{fold}.yaml",
            say=print,
        )
        for arm in ARMS
    }
    table = read_studies(runs["plain classifier"] / "studies.parquet").filter(pl.col("split") == "test")
    images = open_cache(work / "cache")
    said = {arm: load(run / "bundle", device="cpu").predict_cached(table, images) for arm, run in runs.items()}
    names = sorted({LEFT_OUT, *DESCRIPTIONS})
    model = load(runs["without it"] / "bundle", device="cpu")
    asked = model.predict_cached(table, images, classifier=model.asked(names))
    order = said["plain classifier"]["study_id"].to_list()
    assert all(one["study_id"].to_list() == order for one in (*said.values(), asked))
    rows = table.unique("study_id", keep="first", maintain_order=True)
    assert rows["study_id"].to_list() == order
    patients = np.unique(rows["patient_id"].to_numpy(), return_inverse=True)[1]
    trained = [name for name in findings if name != LEFT_OUT]
    return {
        "labels": labels_of(rows, findings).values,
        "patients": patients,
        "plain classifier": said["plain classifier"].select(findings).to_numpy(),
        "label queries": said["label queries"].select(findings).to_numpy(),
        "by name": asked.select(names).to_numpy(),
        "loudest": said["without it"].select(trained).to_numpy().max(axis=1),
        "names": names,
    }


def macro(fold: Fold, arm: str, chosen: np.ndarray, rows: np.ndarray) -> float:
    return float(np.nanmean(average_precision(fold["labels"][rows][:, chosen], fold[arm][rows][:, chosen])))


def left_out(fold: Fold, findings: list[str], scores: np.ndarray, rows: np.ndarray) -> float:
    """AP of the finding left out."""
    labels = fold["labels"][rows, findings.index(LEFT_OUT)]
    return float(average_precision(labels[:, None], scores[rows][:, None])[0])


def with_interval(folds: list[Fold], value: Any, draws: int) -> list[float]:
    """[mean over folds, low, high] of value(fold, rows): 95 % over patients, who are drawn anew within each fold."""
    random, drawn = np.random.default_rng(0), []
    whole = [np.arange(len(fold["patients"])) for fold in folds]
    for _ in range(draws):
        values = []
        for fold in folds:
            count = int(fold["patients"].max()) + 1
            mine = np.argsort(fold["patients"], kind="stable")
            starts = np.searchsorted(fold["patients"][mine], np.arange(count + 1))
            picked = random.integers(count, size=count)
            values.append(value(fold, np.concatenate([mine[starts[p] : starts[p + 1]] for p in picked])))
        drawn.append(np.nanmean(values))
    mean = float(np.mean([value(fold, rows) for fold, rows in zip(folds, whole)]))
    ends = (
        np.quantile(drawn, [0.025, 0.975]) + mean - np.mean(drawn)
    )  # drawing twice flatters AP: centred, as everywhere
    return [round(float(number), 4) for number in (mean, *ends)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("nih", type=Path, help="a folder of ChestX-ray14, or of a part; its images in one size")
    arguments.add_argument("work", type=Path, help="where runs are kept; what is there is not done again")
    arguments.add_argument("--folds", type=int, default=3)
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--quick", action="store_true", help="two folds, one epoch, no JSON")
    given = arguments.parse_args()
    folds, epochs = (2, 1) if given.quick else (given.folds, given.epochs)
    given.work.mkdir(parents=True, exist_ok=True)
    if not (given.work / "nih.parquet").exists():
        import_studies("nih", given.nih, given.work / "nih.parquet")
    table = read_studies(given.work / "nih.parquet")
    build_cache(table, given.work / "cache", size=64)
    counts = labels_of(table, names := [n for n in DESCRIPTIONS if n in table.columns]).values
    findings = [name for name, column in zip(names, counts.T) if np.nansum(column) >= LEAST]
    parts = [measured(given.work, findings, fold, folds, epochs) for fold in range(folds)]
    chosen, draws = np.ones(len(findings), dtype=bool), 100 if given.quick else 400
    place = findings.index(LEFT_OUT)
    arms = ("plain classifier", "label queries")
    rows: list[dict[str, Any]] = [
        {"what": f"mAP, {arm}", "value": with_interval(parts, lambda f, r, arm=arm: macro(f, arm, chosen, r), draws)}
        for arm in arms
    ]
    apart = with_interval(parts, lambda f, r: macro(f, arms[1], chosen, r) - macro(f, arms[0], chosen, r), draws)
    rows.append({"what": "mAP, label queries minus plain classifier", "value": apart})
    for what, scores in (
        ("trained on it, plain classifier", lambda f: f[arms[0]][:, place]),
        ("trained on it, label queries", lambda f: f[arms[1]][:, place]),
        ("left out, asked by its name", lambda f: f["by name"][:, f["names"].index(LEFT_OUT)]),
        ("left out, the highest of the other findings", lambda f: f["loudest"]),
    ):
        value = with_interval(parts, lambda f, r, of=scores: left_out(f, findings, of(f), r), draws)
        rows.append({"what": f"AP of {LEFT_OUT}: {what}", "value": value})
    every = range(len(parts[0]["names"]))
    by_name = np.array(
        [[left_out(f, findings, f["by name"][:, k], np.arange(len(f["patients"]))) for k in every] for f in parts]
    ).mean(axis=0)
    own = parts[0]["names"].index(LEFT_OUT)
    others = np.delete(by_name, own)
    order = np.argsort(-by_name)[:5]
    hits = [np.nansum(f["labels"][:, place]) for f in parts]
    known = [np.sum(~np.isnan(f["labels"][:, place])) for f in parts]
    rows.append(
        {"what": "control: other names, 95 % of them below", "value": [round(float(np.quantile(others, 0.95)), 4)]}
    )
    rows.append({"what": "control: median of the other names", "value": [round(float(np.median(others)), 4)]})
    rows.append(
        {
            "what": "share of other names that rank it as well",
            "value": [round(float((others >= by_name[own]).mean()), 4)],
        }
    )
    rows.append(
        {"what": "a random ranking", "value": [round(float(np.mean(random_ap(np.array(hits), np.array(known)))), 4)]}
    )
    print(
        f"{len(findings)} findings with {LEAST} positives or more, {sum(len(f['patients']) for f in parts):,} images, {folds} folds"
    )
    for row in rows:
        value, *ends = row["value"]
        print(f"{row['what']:<66}{value:.3f}" + (f"  [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else ""))
    best = [[parts[0]["names"][k], round(float(by_name[k]), 3)] for k in order]
    print("names that rank it best: " + ", ".join(f"{name} {value:.3f}" for name, value in best))
    if not given.quick:
        command = f"python bench/label_queries_nih.py FOLDER WORK --folds {folds} --epochs {epochs}"
        facts = {
            "findings": findings,
            "positives": int(sum(hits)),
            "images": int(sum(len(f["patients"]) for f in parts)),
            "best_names": best,
        }
        save(
            {"name": "label_queries_nih", "ours": rows[1]["value"], "peer": rows[0]["value"], "unit": "AP", "ratio": None, "goal": None,
             "command": command, "rows": rows, **facts}
        )  # fmt: skip


if __name__ == "__main__":
    main()
