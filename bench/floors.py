"""Floors: what knows nothing of disease already reaches. Constant, view + age + sex, ridge on 16 x 16 thumbnails.

    python bench/floors.py demo/run/studies.parquet --truth demo/truth.parquet --run demo/run

Trained on the rows of split train and judged on test, for any study table (one without a split is dealt by patient).
`--run` adds the predictions of a run on the same studies. A network that does not clear these has learnt where and of
whom pictures are taken, or what a blurred glance shows. On real images bench/nested.py asks the same over five folds.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from result import FOLDER, save
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from hilum.data.cache import build_cache
from hilum.data.splits import hold_out
from hilum.errors import InputError
from hilum.evaluation.evaluate import evaluate
from hilum.tables import VIEWS, Predictions, finding_names, labels_of, read_studies, write_predictions

SIDE = 16


def demographics(table: pl.DataFrame) -> np.ndarray:
    """(studies, 8): images per view, then age in decades and sex, each with whether it is known."""
    counts = [pl.col("view").eq(view).sum().alias(view) for view in VIEWS]
    known = [pl.col(name).first() if name in table.columns else pl.lit(None).alias(name) for name in ("age", "sex")]
    rows = table.group_by("study_id", maintain_order=True).agg(*counts, *known)
    age, sex = rows["age"].cast(pl.Float64), rows["sex"].cast(pl.String)
    columns = [
        *(rows[view] for view in VIEWS),
        age.fill_null(0) / 10,
        age.is_not_null(),
        (sex == "M").fill_null(False),
        sex.is_not_null(),
    ]
    return np.stack([column.cast(pl.Float64).to_numpy() for column in columns], axis=1)


def thumbnails(table: pl.DataFrame, cache: Path) -> np.ndarray:
    """(studies, 2 * 256): the mean 16 x 16 picture of a study's frontal, then of its lateral images; zeros where none."""
    images = build_cache(table, cache, size=SIDE)
    rows = images.rows(table["image_id"].to_list())
    if (rows < 0).all():
        raise InputError(
            "none of its images can be read", where=table["path"][0], do="check the paths with `hilum check`"
        )
    pixels = np.zeros((table.height, SIDE * SIDE))
    pixels[rows >= 0] = images.images(rows[rows >= 0]).reshape(-1, SIDE * SIDE) / 255
    study = {name: number for number, name in enumerate(table["study_id"].unique(maintain_order=True))}
    number = np.array([study[name] for name in table["study_id"]])
    lateral = (table["view"] == "LATERAL").to_numpy().astype(int)
    total, count = np.zeros((len(study), 2, SIDE * SIDE)), np.zeros((len(study), 2, 1))
    np.add.at(total, (number, lateral), pixels)
    np.add.at(count, (number, lateral), 1.0)
    return (total / np.maximum(count, 1)).reshape(len(study), -1)


def constant(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """The training prevalence, for everyone."""
    return np.full(len(new), y.mean())


def logistic(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Logistic regression, scikit-learn's default strength."""
    return np.asarray(LogisticRegression(max_iter=1000).fit(x, y).predict_proba(new)[:, 1])


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Ridge regression, its strength chosen within the training studies; squeezed into [0, 1], which keeps the order."""
    score = RidgeCV(alphas=np.logspace(0, 5, 11)).fit(x, y).predict(new)
    return 1 / (1 + np.exp(-np.asarray(score)))


def floors(table: pl.DataFrame, folder: Path) -> dict[str, Path]:
    """Predictions of each floor for the test studies of a table with a split: name -> file in `folder`."""
    findings = finding_names(table)
    labels = labels_of(table, findings)
    split = dict(table.select("study_id", "split").iter_rows())
    part = np.array([split[study] for study in labels.ids])
    train, test = part == "train", part == "test"
    pictures = StandardScaler().fit_transform(thumbnails(table, folder / "cache"))
    facts = StandardScaler().fit_transform(demographics(table))
    methods: dict[str, tuple[Callable[..., np.ndarray], np.ndarray]] = {
        "constant": (constant, facts), "view, age, sex": (logistic, facts), "ridge on 16 x 16": (ridge, pictures),
    }  # fmt: skip
    known = train[:, None] & ~np.isnan(labels.values)
    counts = {name: int((labels.values[:, k][known[:, k]] == 1).sum()) for k, name in enumerate(findings)}
    sizes = {name: int(known[:, k].sum()) for k, name in enumerate(findings)}
    judged = {}
    for name, (method, x) in methods.items():
        frame = pl.DataFrame({"study_id": np.array(labels.ids)[test].tolist()})
        for k, finding in enumerate(findings):
            rows, y = known[:, k], labels.values[known[:, k], k]
            enough = 0 < y.sum() < len(y)
            score = (method if enough else constant)(x[rows], y, x[test]) if len(y) else np.zeros(test.sum())
            frame = frame.with_columns(pl.Series(finding, score.astype(np.float32)))
        judged[name] = folder / f"floor-{len(judged)}.parquet"
        write_predictions(Predictions(frame, positives=counts, known=sizes, split="test"), judged[name])
    return judged


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("studies", type=Path)
    arguments.add_argument("--truth", type=Path, help="judge against this table's labels instead")
    arguments.add_argument("--run", type=Path, help="a run whose predictions_test.parquet stands beside the floors")
    arguments.add_argument("--quick", action="store_true", help="100 replicates, no JSON")
    given = arguments.parse_args()
    table = read_studies(given.studies)
    if "split" not in table.columns:
        table = hold_out(table)
    replicates = 100 if given.quick else 1000
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        judged = floors(table, Path(folder))
        if given.run:
            judged[f"run {given.run.name}"] = given.run / "predictions_test.parquet"
        for name, file in judged.items():
            metrics = evaluate([file], given.truth or given.studies, Path(folder) / "report", replicates=replicates)
            rows.append(
                {
                    "what": name,
                    **{tier: _told(metrics, tier) for tier in ("head", "medium", "tail")},
                    "auroc": metrics["macro"]["auroc"],
                }
            )
    rows.append(
        {
            "what": "random ranking (expected)",
            **{tier: (metrics["macro"][tier] or {}).get("floor") for tier in ("head", "medium", "tail")},
        }
    )
    print(f"{'mAP on ' + str(metrics['n_studies']) + ' test studies':<28}{'head':<24}{'medium':<24}{'tail':<24}AUROC")
    for row in rows:
        print(
            f"{row['what']:<28}" + "".join(f"{_text(row.get(key)):<24}" for key in ("head", "medium", "tail", "auroc"))
        )
    if not given.quick:
        result = {
            "name": "floors",
            "ours": rows[-2]["head"][0] if given.run else None,
            "peer": rows[2]["head"][0],
            "unit": "mAP of head findings: the run, and ridge on thumbnails",
            "ratio": round(rows[-2]["head"][0] / rows[2]["head"][0], 2) if given.run else None,
            "goal": None,
            "command": "python bench/floors.py demo/run/studies.parquet --truth demo/truth.parquet --run demo/run",
            "rows": rows,
        }
        save(result | _nested())


def _nested() -> dict[str, Any]:
    """What bench/nested.py has written into this benchmark's result: it stays."""
    path = FOLDER / "floors.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    return {name: held[name] for name in ("difference_to_ridge", "nested") if name in held}


def _told(metrics: dict[str, Any], tier: str) -> list[float | None] | None:
    part = metrics["macro"][tier]
    return part["map"] if part else None


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"


if __name__ == "__main__":
    main()
