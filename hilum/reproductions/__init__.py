"""Published systems as plain data: the rows of their tables, what each changes in a recipe, and the figures printed there."""

import re
from dataclasses import field
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from hilum.errors import InputError, nearest

_STRICT = ConfigDict(extra="forbid")
PAGES = Path(__file__).parent
COLUMNS = (
    "all",
    "head",
    "medium",
    "tail",
    "auroc",
)  # of published figures: mAP in four groups of findings, macro AUROC


@dataclass(config=_STRICT, frozen=True)
class Row:
    """One line of a table. Where its predictions come from is said by one of `stage`, `average`, `tta`, `same` and `ensemble`.

    name:      as in the table; unique in its system.
    stage:     trained: this stage of the recipe, with `overrides` (and `small` more in the small form).
    start:     the row that a trained one begins with (what is frozen then, the recipe says); or whose model is asked otherwise.
    frozen:    in the small form, the row whose backbone this one keeps as it is, so that the rest alone is trained.
    extra:     trained on further studies besides, of a table that whoever reproduces names.
    average:   not trained: the weighted mean of what `start` says of each image; weights of frontal, lateral, other views.
    tta:       what the model of `start`, or the row's own, says with these test-time transforms.
    ensemble:  not trained: what the rows `of` say together, by their mean or per finding by the best of them on validation.
    same:      the same model as that row's.
    level:     what the model is asked about: each image by itself, or all views of a study at once.
    pseudo:    trained with pseudo labels besides, soft or hard, of the model of the row `teacher`.
    upweight:  in the loss, of the quarter of findings that the row `poor` does worst on, by validation AP.
    published: mAP over all, head, medium, tail findings, then AUROC, null where it is not printed; empty: ours alone.
    remark:    on the published figures.
    """

    name: str
    stage: str | None = None
    overrides: list[str] = field(default_factory=list)
    small: list[str] = field(default_factory=list)
    start: str | None = None
    average: dict[Literal["frontal", "lateral", "other"], float] | None = None
    tta: list[str] | None = None
    same: str | None = None
    frozen: str | None = None
    extra: bool = False
    ensemble: Literal["mean", "per-finding"] | None = None
    of: list[str] = field(default_factory=list)
    level: Literal["image", "study"] = "study"
    pseudo: Literal["soft", "hard"] | None = None
    teacher: str | None = None
    upweight: float | None = None
    poor: str | None = None
    published: list[float | None] = field(default_factory=list)
    remark: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "Row":
        asked = self.tta if self.stage is None else None  # a row's own model may be asked otherwise, too
        if [self.stage, self.average, asked, self.same, self.ensemble].count(None) != 4:
            raise ValueError("a row has one of stage, average, tta and same, or is an ensemble")
        if (self.ensemble is None) != (not self.of):
            raise ValueError("an ensemble and the rows it is of go together")
        if (self.average or asked) is not None and self.start is None:
            raise ValueError("an average, of views or of transforms, needs the row that it starts from")
        if (self.pseudo is None) != (self.teacher is None):
            raise ValueError("pseudo labels and their teacher go together")
        if (self.upweight is None) != (self.poor is None):
            raise ValueError("an upweight and the row that does poorly go together")
        if len(self.published) not in (0, len(COLUMNS)):
            raise ValueError(f"published holds {', '.join(COLUMNS)}")
        return self

    @property
    def folder(self) -> str:
        """The row's name, fit for a folder."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")


@dataclass(config=_STRICT, frozen=True)
class Table:
    """One table.

    against: the rows that all others are held against. several_views, with_prior: judge studies of two or more images, and
    studies before which the patient had another, apart, too.
    """

    name: str
    title: str
    rows: list[Row]
    against: list[str]
    several_views: bool = False
    with_prior: bool = False


@dataclass(config=_STRICT, frozen=True)
class System:
    """A published system. recipe: what its rows change; small: the recipe of the laptop-sized form; tiers: the list it scored by."""

    title: str
    source: str
    judged: str
    recipe: str
    small: str
    tiers: str
    tables: list[Table]
    remarks: list[str] = field(default_factory=list)

    @property
    def rows(self) -> dict[str, Row]:
        """Every row by name, in order."""
        return {row.name: row for table in self.tables for row in table.rows}

    @model_validator(mode="after")
    def _check(self) -> "System":
        names = [row.name for table in self.tables for row in table.rows]
        if len(set(names)) < len(names):
            raise ValueError("two rows have one name")
        told = [name for table in self.tables for name in table.against]
        told += [
            name
            for row in self.rows.values()
            for name in (row.start, row.same, row.teacher, row.poor, row.frozen, *row.of)
            if name
        ]
        if unknown := [name for name in told if name not in names]:
            raise ValueError(f"there is no row {unknown[0]!r}")
        return self


_ADAPTER = TypeAdapter(System)


def system_names() -> list[str]:
    """The systems that can be reproduced."""
    return sorted(page.stem for page in PAGES.glob("*.yaml"))


def read_system(name: str) -> System:
    """The system of that name. Raises InputError, with the nearest name, where there is none."""
    if name not in system_names():
        raise InputError(f"there is no system {name!r} to reproduce", do=nearest(name, system_names()))
    return _ADAPTER.validate_python(yaml.safe_load((PAGES / f"{name}.yaml").read_text(encoding="utf-8")))
