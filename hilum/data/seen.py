"""Whom a model has seen: patients as short digests that travel with what it made, and the data sets of its backbone."""

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hilum.errors import InputError


@dataclass(frozen=True)
class Seen:
    """Digests of patients (of studies, where patients are unknown).

    trained: those whose studies a model was trained on; chosen_on: those that its epoch, thresholds and calibration were
        chosen on. Both empty: a model of other patients altogether.
    """

    trained: frozenset[int] = frozenset()
    chosen_on: frozenset[int] = frozenset()

    @classmethod
    def of(cls, table: pl.DataFrame) -> "Seen":
        """Whom a run on this table, which has a split, saw."""
        return cls(*(frozenset(_digests(table.filter(pl.col("split") == part))) for part in ("train", "valid")))

    def __or__(self, other: "Seen") -> "Seen":
        return Seen(self.trained | other.trained, self.chosen_on | other.chosen_on)

    def __bool__(self) -> bool:
        return bool(self.trained or self.chosen_on)

    def page(self) -> dict[str, str]:
        """As text for JSON: base64 of sorted unsigned 64-bit numbers."""
        return {
            name: base64.b64encode(np.array(sorted(part), "<u8").tobytes()).decode()
            for name, part in vars(self).items()
        }

    @classmethod
    def from_page(cls, page: Mapping[str, str]) -> "Seen":
        """Back from text."""
        return cls(
            **{name: frozenset(np.frombuffer(base64.b64decode(text), "<u8").tolist()) for name, text in page.items()}
        )


def seen_by_backbone(data: Iterable[str], sources: Iterable[str]) -> str | None:
    """A sentence where a backbone's weights were trained on data sets that studies are of; None where none is known to be.

    data: by the names that study tables have in `source`; label files of a data set, such as nih-cxr-lt, are of its images.
    """
    of = {source.lower() for source in sources}
    seen = [name for name in data if any(source == name or source.startswith(f"{name}-") for source in of)]
    if not seen:
        return None
    return f"The backbone was trained on images of {', '.join(seen)} before: held-out studies may be among them."


def check_apart(seen: Seen, table: pl.DataFrame, where: str | Path) -> None:
    """Raise InputError where the table's valid or test patients are among those that a teacher was trained on, or its test
    patients among those that it was chosen on.
    """
    held = {part: _digests(table.filter(pl.col("split") == part)) for part in ("valid", "test")}
    for those, parts, how in (
        (seen.trained, ("valid", "test"), "trained"),
        (seen.chosen_on, ("test",), "chosen or calibrated"),
    ):
        met = [(part, patient) for part in parts for number, patient in held[part].items() if number in those]
        if met:
            part, patient = met[0]
            raise InputError(
                f"the teacher was {how} on {len(met):,} patients of valid and test, first {patient!r} of {part}"
                if how == "trained"
                else f"the teacher was {how} on {len(met):,} patients of test, first {patient!r}",
                where=where,
                do="train teacher and student on one split (split.column=split on the table of the teacher's run)",
            )


def _digests(table: pl.DataFrame) -> dict[int, str]:
    """The patients of a table by the first 64 bits of their SHA-256."""
    names = table.select(pl.coalesce("patient_id", "study_id")).to_series().unique(maintain_order=True).to_list()
    return {int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little"): name for name in names}
