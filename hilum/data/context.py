"""What a study table knows of a study besides its images: the patient's study before, and the words of the request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from hilum.builders import listed
from hilum.data.text import TEXTS, TextEncoder

Part = Literal["prior", "indication", "demographics"]
_YEAR = 365.25  # days


@dataclass(frozen=True)
class Wanted:
    """What a model asks for: the images of the study before, and how it reads an indication (None = not at all).

    Age and sex are in every batch.
    """

    prior: bool = False
    text: TextEncoder | None = None


def wanted_by(fusion: Mapping[str, Any]) -> Wanted:
    """What a fusion asks for, from its options as a recipe or a bundle says them."""
    parts = fusion.get("context") or ()
    text = listed("text encoder", TEXTS, fusion.get("text", "hashed_words")) if "indication" in parts else None
    return Wanted("prior" in parts, text)


def priors(table: pl.DataFrame) -> pl.DataFrame:
    """study_id, prior (the patient's latest study of an earlier day), years (Float32, since then) of those that have one.

    Only what the table holds can be found in it: an unknown patient or day has no prior. Of two studies of one day the
    later id counts.
    """
    if "study_date" not in table.columns:
        return pl.DataFrame(schema={"study_id": pl.String, "prior": pl.String, "years": pl.Float32})
    first = pl.col("patient_id", "study_date").drop_nulls().first()
    dated = table.group_by("study_id").agg(first).drop_nulls().sort("study_date", "study_id")
    earlier = dated.select("patient_id", "study_date", prior="study_id", day="study_date")
    joined = dated.join_asof(earlier, on="study_date", by="patient_id", strategy="backward", allow_exact_matches=False,
                             check_sortedness=False)  # fmt: skip
    days = (pl.col("study_date") - pl.col("day")).dt.total_days()
    return joined.drop_nulls("prior").select("study_id", "prior", years=(days / _YEAR).cast(pl.Float32))


def indications(table: pl.DataFrame, text: TextEncoder) -> tuple[list[str], np.ndarray]:
    """The studies whose indication is known, and those as vectors float32 (n, width). Blank ones are not known."""
    if "indication" not in table.columns:
        return [], np.zeros((0, text.width), np.float32)
    told = table.filter(pl.col("indication").str.strip_chars() != "").group_by("study_id", maintain_order=True)
    said = told.agg(pl.col("indication").first())
    return said["study_id"].to_list(), text.encode(said["indication"].to_list())
