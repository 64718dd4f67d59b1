"""What a source hands over: the study table and what a person should know of it."""

from dataclasses import dataclass, field

import polars as pl

from hilum.tables import Level, finding_names


@dataclass
class Imported:
    """A data set read into the study table's contract.

    studies:     the study table (hilum.tables).
    label_level: whether the source labels studies or images.
    notes:       counts and decisions for a person, one sentence each ("1,541 of 112,120 listed images are present").
    regions:     image_id, finding, x0, y0, x1, y1 in pixels of the image file, where the source has boxes.
    truth:       the study table with true labels, where they are known apart from the given ones (the phantom).
    partly:      the study table with the labels of some training studies only, where the source has such a form.
    note:        a sentence that every report on this data repeats.
    """

    studies: pl.DataFrame
    label_level: Level
    notes: list[str] = field(default_factory=list)
    regions: pl.DataFrame | None = None
    truth: pl.DataFrame | None = None
    partly: pl.DataFrame | None = None
    note: str | None = None


def level_of(studies: pl.DataFrame) -> Level:
    """study, where the images of every study are labelled alike; else image."""
    names = finding_names(studies)
    if not names:
        return "study"
    kinds = studies.group_by("study_id").agg(pl.col(names).n_unique()).select(pl.max_horizontal(names).max()).item()
    return "study" if kinds == 1 else "image"
