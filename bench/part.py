"""The first studies of a benchmark's parts, whole patients, as a study table of their own: for trainings that shall be short."""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from hilum.tables import read_studies, studies_metadata, write_studies


def part_of(studies: Path, file: Path, most: Mapping[str, int]) -> Path:
    """Write the first patients of each split whose studies are together at most so many; the file is handed back."""
    whole, kept = read_studies(studies), []
    for split, studies_at_most in most.items():
        rows = whole.filter(split=split)
        patients = rows.group_by("patient_id", maintain_order=True).agg(pl.col("study_id").n_unique())
        count = int((patients["study_id"].cum_sum() <= studies_at_most).sum())
        kept.append(rows.filter(pl.col("patient_id").is_in(patients["patient_id"].head(count).implode())))
    write_studies(pl.concat(kept), file, label_level="study", note=studies_metadata(studies).get("note"))
    return file
