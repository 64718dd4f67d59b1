"""What a study table holds, counted: findings, pairs of findings, views, sizes, ages, sexes, splits."""

from typing import Any

import numpy as np
import polars as pl

from hilum.findings import tiers_by_rule
from hilum.tables import VIEWS, finding_names, labels_of


def count(table: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Every count of a study table by name, each as a table; one whose column is missing has no rows.

    findings: per finding its tier (rule, on split train where there is one), studies positive, negative, uncertain and
    unlabelled, positive patients, prevalence among known entries (0 to 1, null without any).
    pairs: per pair of findings the studies that show both, those expected by chance, and lift = both / expected, over the
    studies where both are known. The others: a value and how many images, studies or patients have it.
    """
    patients = pl.coalesce("patient_id", "study_id") if "patient_id" in table.columns else pl.col("study_id")
    studies = table.unique("study_id", keep="first", maintain_order=True).with_columns(patients.alias("__owner"))
    persons = studies.unique("__owner", keep="first", maintain_order=True)
    per_study = table.group_by("study_id").len("images")["images"].value_counts().sort("images")
    per_patient = studies.group_by("__owner").len("studies")["studies"].value_counts().sort("studies")
    return {
        "findings": _findings(table),
        "pairs": _pairs(table),
        "views": table.group_by("view").len("images").sort(pl.col("view").replace_strict({v: i for i, v in enumerate(VIEWS)})),
        "images per study": per_study.rename({"count": "studies"}),
        "studies per patient": per_patient.rename({"count": "patients"}),
        "ages": _ages(studies),
        "sexes": _values(persons, "sex", "patients"),
        "splits": _splits(table),
    }  # fmt: skip


def _values(rows: pl.DataFrame, column: str, unit: str) -> pl.DataFrame:
    if column not in rows.columns:
        return pl.DataFrame(schema={column: pl.String, unit: pl.UInt32})
    return rows.group_by(pl.col(column).fill_null("unknown")).len(unit).sort(column)


def _findings(table: pl.DataFrame) -> pl.DataFrame:
    names = finding_names(table)
    labels = labels_of(table, names, uncertain="smooth")
    positive, negative = labels.values == 1, labels.values == 0
    unlabelled = np.isnan(labels.values)
    known = (positive | negative).sum(axis=0)
    owners = np.asarray(labels.patients)
    training = labels_of(table.filter(split="train"), names) if "split" in table.columns else labels_of(table, names)
    if not training.ids:
        training = labels_of(table, names)
    tiers = tiers_by_rule(
        dict(zip(names, (training.values == 1).sum(axis=0).tolist())),
        dict(zip(names, (~np.isnan(training.values)).sum(axis=0).tolist())),
    )
    return pl.DataFrame(
        {
            "finding": names,
            "tier": [tiers.get(name) for name in names],
            "positive": positive.sum(axis=0),
            "negative": negative.sum(axis=0),
            "uncertain": (~(positive | negative | unlabelled)).sum(axis=0),
            "unlabelled": unlabelled.sum(axis=0),
            "patients": [len(set(owners[positive[:, i]].tolist())) for i in range(len(names))],
            "prevalence": [float(p) / int(k) if k else None for p, k in zip(positive.sum(axis=0), known)],
        },
        schema_overrides={"finding": pl.String, "tier": pl.String, "prevalence": pl.Float64},
    ).sort("prevalence", descending=True, nulls_last=True, maintain_order=True)


def _pairs(table: pl.DataFrame) -> pl.DataFrame:
    names = finding_names(table)
    values = labels_of(table, names).values
    shown, known = (values == 1).astype(np.float64), (~np.isnan(values)).astype(np.float64)
    both, common, of_one = shown.T @ shown, known.T @ known, shown.T @ known  # of_one[a, b]: a positive, b known
    rows: list[tuple[Any, ...]] = []
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            expected = of_one[a, b] * of_one[b, a] / common[a, b] if common[a, b] else 0.0
            lift = both[a, b] / expected if expected else None
            rows.append((names[a], names[b], int(both[a, b]), float(expected), lift))
    schema = {"one": pl.String, "other": pl.String, "studies": pl.Int64, "expected": pl.Float64, "lift": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("studies", "lift", descending=True, nulls_last=True)


def _ages(studies: pl.DataFrame) -> pl.DataFrame:
    """Studies per decade of age, from the youngest to the oldest that is there."""
    if "age" not in studies.columns:
        return pl.DataFrame(schema={"from": pl.Int64, "studies": pl.UInt32})
    decades = studies.select((pl.col("age") // 10 * 10).cast(pl.Int64, strict=False).alias("from")).drop_nulls()
    return decades.group_by("from").len("studies").sort("from")


def _splits(table: pl.DataFrame) -> pl.DataFrame:
    if "split" not in table.columns:
        return pl.DataFrame(schema={"split": pl.String, "images": pl.UInt32, "studies": pl.UInt32})
    parts = table.group_by(pl.col("split").fill_null("none"))
    return parts.agg(pl.len().alias("images"), pl.col("study_id").n_unique().alias("studies")).sort("split")
