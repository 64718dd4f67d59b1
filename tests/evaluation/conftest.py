"""A small made-up data set with everything that can go wrong, and predictions for it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from hilum.tables import Predictions, write_predictions, write_studies

FINDINGS = ("Edema", "Mass", "Hernia", "Nodule")
PREVALENCE = (0.35, 0.08, 0.006, 0.0)  # head, medium, tail (too few to score), absent


class World:
    """Tables in a folder; patients of 1-3 studies of 1-2 images, the first half of them in train."""

    def __init__(self, folder: Path, patients: int = 300, skill: float = 2.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.folder, self.findings = folder, list(FINDINGS)
        rows: list[dict[str, Any]] = []
        for patient in range(patients):
            for study in range(int(rng.integers(1, 4))):
                labels = rng.random(len(FINDINGS)) < PREVALENCE
                blank = rng.random(len(FINDINGS))
                for image in range(int(rng.integers(1, 3))):
                    key = f"p{patient}s{study}"
                    row = {
                        "study_id": key, "patient_id": f"p{patient}", "image_id": f"{key}i{image}",
                        "path": f"/nowhere/{key}i{image}.png", "view": "PA", "source": "made up",
                        "split": "train" if patient < patients // 2 else "test",
                    }  # fmt: skip
                    unknown = {name: None for name, b in zip(FINDINGS, blank) if b < 0.05}
                    unsure = {name: -1 for name, b in zip(FINDINGS, blank) if b > 0.97}
                    rows.append(row | dict(zip(FINDINGS, labels.astype(int).tolist())) | unknown | unsure)
        self.table = pl.DataFrame(rows, schema_overrides=dict.fromkeys(FINDINGS, pl.Int8))
        self.studies = folder / "studies.parquet"
        write_studies(self.table, self.studies, label_level="study", note="These images are made up.")
        studies = self.table.filter(pl.col("split") == "test").unique("study_id", maintain_order=True)
        truth = studies.select(FINDINGS).fill_null(0).to_numpy() > 0.5
        logits = skill * truth + rng.standard_normal(truth.shape) - 1.5
        scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        self.scores = studies.select("study_id").hstack(pl.DataFrame(scores, schema=list(FINDINGS)))

    def predictions(self, name: str = "p.parquet", table: pl.DataFrame | None = None, **facts: Any) -> Path:
        write_predictions(Predictions(self.scores if table is None else table, **facts), self.folder / name)
        return self.folder / name


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def make_world(tmp_path: Path) -> Callable[..., World]:
    def make(name: str = "made", **options: Any) -> World:
        (tmp_path / name).mkdir()
        return World(tmp_path / name, **options)

    return make


def subset(table: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    return table.filter(pl.col("study_id").is_in(list(keys)))
