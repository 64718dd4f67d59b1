"""Decode once: a study table's images into a cache, by several processes, going on where an interrupted build stopped."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from hilum.atomic import ensure_folder
from hilum.data.decoding import decode_all
from hilum.data.images import HELD, UNREADABLE, Cache, read_spec, write_facts, write_unreadable
from hilum.data.shards import Shelf, alone, drop_lost
from hilum.errors import InputError, MachineError
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.tables import read_studies

__all__ = ["Cache", "build_cache", "cache", "open_cache"]

Fit = Literal["pad", "stretch", "crop"]
Tone = Literal["as_is", "equalize_hist", "window"]
_SHARD_BYTES = 1 << 28
_SHARD_IMAGES = 4096


def build_cache(
    studies: str | Path | pl.DataFrame,
    folder: str | Path,
    *,
    size: int,
    fit: Fit = "pad",
    tone: Tone = "as_is",
    workers: int | None = None,
    progress: Progress = silent,
) -> Cache:
    """Decode every image of a study table that the cache in `folder` does not hold yet; the cache comes back open.

    studies: a study table, or the path of one; image_id and path are needed. Images are decoded anew where their file's
    size or time of change is another than it was; a file that has gone since it was cached keeps its image. Unreadable
    files are listed in `.unreadable` and tried again once they change. A build that is killed loses the shard it was
    filling, no more.
    Raises InputError where the folder holds a cache of another pixel spec or cannot be written, MachineError where the
    disk is full.
    """
    if not isinstance(studies, pl.DataFrame):
        studies = read_studies(studies)
    spec = PixelSpec(size=size, fit=fit, tone=tone)
    place = Path(folder)
    held = _check_spec(place, spec)
    if held is None:
        ensure_folder(place)
        write_facts(place, spec, 0, 0)
    if _todo(studies, Cache(place, spec, tolerant=True)).is_empty():
        return Cache(place, spec)
    ensure_folder(place)
    with alone(place):
        before = Cache(place, spec, tolerant=True)
        drop_lost(place, before)
        _fill(_todo(studies, before), before, place, spec, workers, progress)
    return Cache(place, spec)


cache = build_cache  # the verb's name


def open_cache(folder: str | Path) -> Cache:
    """The cache in a folder. Raises InputError where there is none, or where a part of it is missing or cut off."""
    spec = read_spec(folder)
    if spec is None:
        raise InputError("there is no cache here", where=folder, do="make one with `hilum cache`")
    return Cache(folder, spec)


def _check_spec(folder: Path, spec: PixelSpec) -> PixelSpec | None:
    held = read_spec(folder)
    if held is not None and held != spec:
        raise InputError(
            f"this cache holds images of {_told(held)}, not {_told(spec)}",
            where=folder,
            do="choose another folder for the other kind of images",
        )
    return held


def _told(spec: PixelSpec) -> str:
    return f"{spec.size} px, {spec.fit}, {spec.tone}"


def _todo(studies: pl.DataFrame, before: Cache) -> pl.DataFrame:
    """image_id, path, bytes, modified of the images that must be decoded (bytes null: the file is missing)."""
    wanted = studies.select("image_id", "path").unique("image_id", keep="first", maintain_order=True)
    facts = [_file_facts(path) for path in wanted["path"].to_list()]
    files = wanted.with_columns(
        pl.Series("bytes", [fact[0] for fact in facts], dtype=pl.Int64),
        pl.Series("modified", [fact[1] for fact in facts], dtype=pl.Int64),
    )
    same_file = (pl.col("bytes") == pl.col("bytes_then")) & (pl.col("modified") == pl.col("modified_then"))
    known = pl.concat([part.select("image_id", "bytes", "modified") for part in (before.index, before._unreadable)])
    good = pl.Series("image_id", before.image_ids, dtype=pl.String)
    joined = files.join(
        known.rename({"bytes": "bytes_then", "modified": "modified_then"}).with_columns(known=True),
        on="image_id",
        how="left",
        maintain_order="left",
    )
    gone_but_held = pl.col("bytes").is_null() & pl.col("image_id").is_in(good.implode())
    still_missing = pl.col("bytes").is_null() & pl.col("bytes_then").is_null() & pl.col("known").is_not_null()
    done = same_file.fill_null(False) | gone_but_held | still_missing
    return joined.filter(~done).select("image_id", "path", "bytes", "modified")


def _file_facts(path: str) -> tuple[int | None, int | None]:
    try:
        fact = os.stat(path)  # noqa: PTH116 - called for every image; a Path costs twice as much
    except OSError:
        return None, None
    return fact.st_size, fact.st_mtime_ns


def _fill(
    todo: pl.DataFrame, before: Cache, folder: Path, spec: PixelSpec, workers: int | None, progress: Progress
) -> None:
    """Decode, shard by shard; then say what could not be read."""
    present = todo.filter(pl.col("bytes").is_not_null())
    missing = todo.filter(pl.col("bytes").is_null()).with_columns(reason=pl.lit("no such file"))
    most = max(64, min(_SHARD_IMAGES, _SHARD_BYTES // spec.size**2))
    shelf = Shelf(folder, (spec.size, spec.size), np.uint8, HELD, max(1, min(most, present.height)))
    failures: list[tuple[Any, ...]] = []
    decoded = decode_all(present["path"].to_list(), spec, workers)
    try:
        for row, image in zip(
            present.iter_rows(), progress(decoded, total=present.height, label=f"decoding to {spec.size} px")
        ):
            if isinstance(image, str):
                failures.append((row[0], row[1], image, row[2], row[3]))
            else:
                shelf.add([row], image)
    except (KeyboardInterrupt, MachineError):
        shelf.close()  # what is decoded is kept
        raise
    shelf.close()
    fresh = pl.DataFrame(failures, schema=UNREADABLE, orient="row")
    old = before._unreadable.join(todo, on="image_id", how="anti")
    unreadable = pl.concat([old, missing.select(*UNREADABLE), fresh])
    write_unreadable(folder, unreadable)
    write_facts(folder, spec, len(Cache(folder, spec).image_ids), unreadable.height)
