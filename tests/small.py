"""Small studies for tests: a table, and images in memory."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from hilum.tables import write_studies

FINDINGS = ("Edema", "Mass", "Hernia")


class InMemory:
    """Images by id, as a cache hands them out."""

    def __init__(self, pixels: dict[str, np.ndarray]):
        self.place = {name: i for i, name in enumerate(pixels)}
        self.pixels = np.stack(list(pixels.values()))

    def rows(self, image_ids: Sequence[str]) -> np.ndarray:
        return np.array([self.place.get(name, -1) for name in image_ids], dtype=np.int64)

    def images(self, rows: np.ndarray) -> np.ndarray:
        return self.pixels[rows]

    def marks(self, rows: np.ndarray) -> list[str]:
        return [hashlib.sha256(self.pixels[row].tobytes()).hexdigest() for row in rows]


def small_studies(
    patients: int = 20, size: int = 32, seed: int = 0, unknown: float = 0.1
) -> tuple[pl.DataFrame, InMemory]:
    """Patients with 1 to 3 studies of 1 to 5 images; a finding is a bright square in a corner of its own."""
    random = np.random.default_rng(seed)
    rows, pixels = [], {}
    for p in range(patients):
        for s in range(random.integers(1, 4)):
            labels = {name: int(random.random() < share) for name, share in zip(FINDINGS, (0.5, 0.3, 0.15))}
            for i in range(random.integers(1, 6)):
                name = f"p{p}s{s}i{i}"
                image = random.integers(0, 120, (size, size)).astype(np.uint8)
                for corner, finding in enumerate(FINDINGS):
                    y, x = (corner // 2) * size // 2, (corner % 2) * size // 2
                    image[y : y + size // 3, x : x + size // 3] += np.uint8(100 * labels[finding])
                pixels[name] = image
                view = ("PA", "AP", "LATERAL", "unknown")[int(random.integers(4))]
                rows.append({"study_id": f"p{p}s{s}", "patient_id": f"p{p}", "image_id": name, "path": f"/x/{name}.png",
                             "view": view, "source": "test", "age": 50.0 + p, "sex": "FM"[p % 2], **labels})  # fmt: skip
    table = pl.DataFrame(rows, schema_overrides={"age": pl.Float32, **dict.fromkeys(FINDINGS, pl.Int8)})
    hidden = {name: random.random(table["study_id"].n_unique()) < unknown for name in FINDINGS}
    studies = table["study_id"].unique(maintain_order=True).to_list()
    for name in FINDINGS:
        gone = [study for study, hide in zip(studies, hidden[name]) if hide]
        table = table.with_columns(
            pl.when(pl.col("study_id").is_in(gone)).then(None).otherwise(pl.col(name)).alias(name)
        )
    return table, InMemory(pixels)


def write_small_studies(folder: Path, patients: int, note: str | None = None) -> Path:
    """The same as PNG files and a study table on disk."""
    table, images = small_studies(patients=patients)
    for name, place in images.place.items():
        cv2.imwrite(str(folder / f"{name}.png"), images.pixels[place])
    paths = [str(folder / f"{name}.png") for name in table["image_id"]]
    write_studies(table.with_columns(path=pl.Series(paths)), folder / "studies.parquet", label_level="study", note=note)
    return folder / "studies.parquet"


def short_run(folder: Path) -> list[str]:
    """Options of a recipe for one epoch on the small studies that were written into `folder`, a quarter each held out."""
    return [f"studies={folder / 'studies.parquet'}", f"cache.folder={folder / 'cache'}", "findings=null", "cache.size=32",
            "train.epochs=1", "train.batch_size=16", "split.valid=0.25", "split.test=0.25"]  # fmt: skip
