"""What is in a study table and what is wrong with it, before anything is trained on it."""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from hilum.data.cache import Cache, build_cache, open_cache
from hilum.data.counts import count
from hilum.data.duplicates import SKETCH, Pixels, near_sketches, pixel_hash, sketches
from hilum.errors import HilumError
from hilum.pixels.read import read_image
from hilum.pixels.render import render
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.tables import SYNTHETIC, finding_names, read_studies, studies_metadata

__all__ = ["Remark", "Report", "check"]

SIDE = 64  # pixels of the copies that are compared
FEW = 10  # positive patients
_ROUNDED = r"^-?(\d+\.0+|\d+\.\d+[eE][+-]?\d+|\d+[eE][+-]\d+)$|^(?i:nan|inf)$"


@dataclass(frozen=True)
class Remark:
    """One thing that was noticed: what it is, all the ids or paths it concerns, and what to do."""

    what: str
    items: list[str] = field(default_factory=list)
    do: str = ""

    def sentence(self, most: int = 5) -> str:
        """The remark in one line, with at most `most` of its items."""
        rest = len(self.items) - most
        named = ", ".join(self.items[:most]) + (f" and {rest:,} more" if rest > 0 else "")
        return self.what + (f": {named}" if named else "") + (f" ({self.do})" if self.do else "") + "."


@dataclass(frozen=True)
class Report:
    """What `check` found. faults: what must be mended; warnings: what to know; tables: the counts, by name (see `count`)."""

    faults: list[Remark]
    warnings: list[Remark]
    tables: dict[str, pl.DataFrame]
    images: int
    studies: int
    patients: int | None


def check(studies: str | Path, *, cache: str | Path | None = None, progress: Progress = silent) -> Report:
    """Count a study table and look for its faults; nothing is changed, and no image file is written to.

    cache: a cache folder to take pixels from; images it lacks are decoded at 64 px into a temporary folder.
    Raises InputError where the table breaks its contract or the cache cannot be read; all other faults are in the report.
    """
    table = read_studies(studies)
    known = not table["patient_id"].null_count()
    tables = count(table)
    faults = [*_ids(table), *_paths(table)]
    if known and "split" in table.columns:
        faults += _shared_patients(table)
    if studies_metadata(studies).get("label_level") == "study":
        faults += _uneven_labels(table)
    with tempfile.TemporaryDirectory(prefix="hilum-check-") as folder:
        held, caches = _open(table, cache, folder, progress)
        faults += _unreadable(caches[-1])
        equal, near = _alike(held, _pixels(held, caches), known)
    faults += _synthetic_judged(table)
    warnings = [*_synthetic(table), *([] if known else [_patients_unknown()]), *near, *_prevalences(tables["findings"])]
    return Report(
        faults=faults + (equal if known else []),
        warnings=warnings + ([] if known else equal),
        tables=tables,
        images=table.height,
        studies=table["study_id"].n_unique(),
        patients=table["patient_id"].n_unique() if known else None,
    )


def _patients_unknown() -> Remark:
    return Remark(
        "Patients are unknown", do="name them if you can: studies of one patient may stand on both sides of a split"
    )


def _synthetic(table: pl.DataFrame) -> Iterator[Remark]:
    made = int((table["source"] == SYNTHETIC).sum())
    if made:
        yield Remark(f"{made:,} of {table.height:,} images were made by a generator: runs only train on them")


def _synthetic_judged(table: pl.DataFrame) -> Iterator[Remark]:
    if "split" in table.columns:
        judged = table.filter(pl.col("source") == SYNTHETIC, pl.col("split").is_in(["valid", "test"]))
        if judged.height:
            told = judged["image_id"].to_list()
            yield Remark(f"{judged.height:,} synthetic images stand in valid or test", told, "put them into train")


def _ids(table: pl.DataFrame) -> Iterator[Remark]:
    for column in ("patient_id", "study_id", "image_id"):
        rounded = table[column].drop_nulls().unique(maintain_order=True)
        rounded = rounded.filter(rounded.str.contains(_ROUNDED))
        if rounded.len():
            yield Remark(f"{rounded.len():,} values of {column} look like rounded numbers", rounded.to_list(),
                         "read the source's ids as text: rounding merges patients")  # fmt: skip


def _paths(table: pl.DataFrame) -> Iterator[Remark]:
    lost = [path for path in table["path"].unique(maintain_order=True) if not Path(path).exists()]
    if lost:
        yield Remark(f"{len(lost):,} paths do not exist", lost, "mount the folder, or import the table again")
    shared = table.filter(pl.col("path").is_duplicated())["path"].unique(maintain_order=True)
    if shared.len():
        yield Remark(f"{shared.len():,} files stand in several rows", shared.to_list(), "keep one row per file")


def _shared_patients(table: pl.DataFrame) -> Iterator[Remark]:
    sides = table.group_by("patient_id", maintain_order=True).agg(pl.col("split").drop_nulls().unique().sort())
    sides = sides.filter(pl.col("split").list.len() > 1)
    if sides.height:
        told = [f"{patient} ({', '.join(split)})" for patient, split in sides.iter_rows()]
        yield Remark(f"{sides.height:,} patients stand in more than one split", told, "split by patient")


def _uneven_labels(table: pl.DataFrame) -> Iterator[Remark]:
    names = finding_names(table)
    uneven = table.group_by("study_id", maintain_order=True).agg(pl.col(names).n_unique() > 1)
    uneven = uneven.filter(pl.any_horizontal(names)) if names else uneven.clear()
    if uneven.height:
        told = [
            f"{row[0]} ({', '.join(n for n, differs in zip(names, row[1:]) if differs)})" for row in uneven.iter_rows()
        ]
        yield Remark(f"{uneven.height:,} studies are labelled as a whole, yet their rows differ", told,
                     "give all rows of a study the same labels, or write the table with label_level image")  # fmt: skip


def _unreadable(cache: Cache) -> Iterator[Remark]:
    broken = cache.unreadable.filter(pl.col("reason") != "no such file")
    if broken.height:
        told = [f"{path} ({reason})" for path, reason in broken.select("path", "reason").iter_rows()]
        yield Remark(f"{broken.height:,} files cannot be read", told, "copy them again, or leave them out")


def _open(
    table: pl.DataFrame, cache: str | Path | None, folder: str, progress: Progress
) -> tuple[pl.DataFrame, list[Cache]]:
    """The rows whose pixels are there, and the caches that hold them: the given one, then a temporary one of the rest."""
    given = [open_cache(cache)] if cache is not None else []
    held = {name for one in given for name in one.image_ids}
    rest = table.filter(~pl.col("image_id").is_in(list(held)))
    caches = [*given, build_cache(rest, folder, size=SIDE, progress=progress)]
    held |= set(caches[-1].image_ids)
    return table.filter(pl.col("image_id").is_in(list(held))), caches


def _pixels(held: pl.DataFrame, caches: Sequence[Cache], chunk: int = 512) -> Iterator[tuple[list[int], Pixels]]:
    """The pictures of these rows, uint8 (n, 64, 64), some at a time, each time with their places."""
    for cache in caches:
        rows = cache.rows(held["image_id"].to_list())
        wanted = np.flatnonzero(rows >= 0)
        for start in range(0, len(wanted), chunk):
            part = wanted[start : start + chunk]
            images = cache.images(rows[part])
            small = [image if len(image) == SIDE else render(image, PixelSpec(size=SIDE)) for image in images]
            yield part.tolist(), np.stack(small)


def _alike(
    held: pl.DataFrame, pixels: Iterator[tuple[list[int], Pixels]], known: bool
) -> tuple[list[Remark], list[Remark]]:
    """Equal pictures and near-duplicates under two patients (under two studies, where patients are unknown).

    Of each picture a digest and a sketch of 1 KB are held, not its pixels.
    """
    names, paths = held["image_id"].to_list(), held["path"].to_list()
    owners = (held["patient_id"] if known else held["study_id"]).to_list()
    whose = "patients" if known else "studies"
    digests, small = [b""] * held.height, np.zeros((held.height, *SKETCH), dtype=np.uint8)
    for places, images in pixels:
        small[places] = sketches(images)
        for place, image in zip(places, images):
            digests[place] = pixel_hash(image)
    groups: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        groups.setdefault(digest, []).append(row)
    equal: list[list[int]] = []
    for digest, rows in groups.items():
        if len({owners[row] for row in rows}) > 1:
            whole: dict[bytes, list[int]] = {}  # equal at 64 px; are they at full size?
            for row in rows:
                whole.setdefault(_whole_hash(paths[row], digest), []).append(row)
            equal += [same for same in whole.values() if len({owners[row] for row in same}) > 1]
    group_of = {row: number for number, rows in enumerate(equal) for row in rows}
    near = [
        (a, b) for a, b in near_sketches(small, owners).tolist() if a not in group_of or group_of[a] != group_of.get(b)
    ]
    faults, warnings = [], []
    if equal:
        told = [" = ".join(f"{names[row]} ({owners[row]})" for row in rows) for rows in equal]
        faults.append(Remark(f"{len(equal):,} pictures have equal pixels under several {whose}", told,
                             "correct the ids, or keep one of them"))  # fmt: skip
    if near:
        told = [f"{names[a]} ({owners[a]}) ~ {names[b]} ({owners[b]})" for a, b in near]
        warnings.append(Remark(f"{len(near):,} pairs of pictures are nearly the same under two {whose}", told,
                               "look at them: they may be one patient"))  # fmt: skip
    return faults, warnings


def _whole_hash(path: str, small: bytes) -> bytes:
    try:
        return pixel_hash(read_image(path))
    except HilumError:  # gone since it was cached
        return small


def _prevalences(findings: pl.DataFrame) -> Iterator[Remark]:
    often = findings.filter(pl.col("prevalence") > 0.5)["finding"].to_list()
    if often:
        yield Remark(f"{len(often)} findings are positive in more than half of their known entries", often,
                     "make sure that absent is stored as 0 and not left empty")  # fmt: skip
    few = findings.filter(pl.col("patients") < FEW).select("finding", "patients")
    if few.height:
        yield Remark(f"{few.height} findings have fewer than {FEW} positive patients",
                     [f"{name} ({n})" for name, n in few.iter_rows()], "reports list them without averaging them")  # fmt: skip
