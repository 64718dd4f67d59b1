"""The cache: every image decoded once, as memory-mapped uint8 shards that any number of processes can share.

    folder/cache.json           the pixel spec
    folder/shard-00000.npy      uint8 (n, size, size)
    folder/shard-00000.parquet  its images: image_id, path, modified, bytes, row (-1 = unreadable), reason

A shard counts once its parquet file is there, which is written last; what an interrupted build left half done is
decoded again. A later shard's entry for an image takes the place of an earlier one's (the file had changed).
"""

import json
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import polars as pl

from hilum.atomic import atomic_path, ensure_folder, write_text
from hilum.errors import InputError, UnreadableImage, from_os_error
from hilum.pixels.read import read_pixels
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.tables import read_studies

SHARD_BYTES = 128 << 20
CHECKED_AT_OPENING = 2 << 30
_ENTRY = {
    "image_id": pl.String, "path": pl.String, "modified": pl.Int64, "bytes": pl.Int64, "row": pl.Int64, "reason": pl.String,
}  # fmt: skip


class Cache:
    """A cache folder, open for reading. `image_ids` in row order; `unreadable`: image_id, path, reason."""

    def __init__(self, folder: Path, spec: PixelSpec, shards: list["_Shard"]):
        self.folder, self.spec, self._shards = folder, spec, shards
        self._starts = np.cumsum([0, *(shard.count for shard in shards)])
        entries = [shard.entries.with_columns(row=pl.when(pl.col("row") >= 0).then(pl.col("row") + start).otherwise(-1)) for shard, start in zip(shards, self._starts)]  # fmt: skip
        self.entries = pl.concat([pl.DataFrame(schema=_ENTRY), *entries]).unique(
            "image_id", keep="last", maintain_order=True
        )
        readable = self.entries.filter(pl.col("row") >= 0)
        self.image_ids = readable["image_id"].to_list()
        self._row = dict(zip(self.image_ids, readable["row"].to_list()))
        self.unreadable = self.entries.filter(pl.col("row") < 0).select("image_id", "path", "reason")

    def rows(self, image_ids: Sequence[str]) -> np.ndarray:
        """int64 (n,): where the images stand, -1 for those the cache does not hold."""
        return np.fromiter((self._row.get(name, -1) for name in image_ids), dtype=np.int64, count=len(image_ids))

    def images(self, rows: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size): the images at these rows, copied out of the maps in one pass per shard."""
        rows = np.asarray(rows)
        out = np.empty((len(rows), self.spec.size, self.spec.size), dtype=np.uint8)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(shard_of):
            here = np.flatnonzero(shard_of == number)
            pixels = self._shards[number].pixels
            for place, row in zip(here, rows[here] - self._starts[number]):
                out[place] = pixels[row]
        return out

    def verify(self, progress: Progress = silent) -> None:
        """Check every shard against its checksum. Raises InputError naming the first that is damaged."""
        for shard in progress(self._shards, total=len(self._shards), label="Verifying", unit="shards"):
            shard.verify()

    @property
    def bytes(self) -> int:
        return sum(shard.count for shard in self._shards) * self.spec.size**2


class _Shard:
    """One array file and its table."""

    def __init__(self, table: Path, spec: PixelSpec):
        self.table, self.array = table, table.with_suffix(".npy")
        try:
            self.entries = pl.read_parquet(table)
            self.checksum = int(pl.read_parquet_metadata(table)["crc32"])
            self.count = int((self.entries["row"] >= 0).sum())
            self.pixels = (
                np.load(self.array, mmap_mode="r") if self.count else np.empty((0, spec.size, spec.size), np.uint8)
            )
        except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
            raise self._damaged() from error
        self.count = self.entries.height
        if self.pixels.shape != (self.count, spec.size, spec.size) or self.pixels.dtype != np.uint8:
            raise self._damaged()

    def verify(self) -> None:
        if _checksum(self.pixels) != self.checksum:
            raise self._damaged()

    def _damaged(self) -> InputError:
        advice = f"delete {self.table.name} and build the cache again; only its images are decoded anew"
        return InputError("this part of the cache is damaged", where=self.array, do=advice)


def open_cache(folder: str | Path) -> Cache:
    """Open a cache folder. Raises InputError where there is none or a part of it is damaged."""
    root = Path(folder)
    spec = _stored_spec(root)
    if spec is None:
        raise InputError("this is not a cache folder", where=root, do="make it with `hilum cache`")
    return Cache(root, spec, [_Shard(table, spec) for table in sorted(root.glob("shard-*.parquet"))])


def cache(studies: str | Path | pl.DataFrame, folder: str | Path, **options: Any) -> Cache:
    """Build (or complete) the cache of a study table, given as a path or a frame; see build_cache for the options."""
    table = studies if isinstance(studies, pl.DataFrame) else read_studies(studies)
    return build_cache(table, folder, **options)


def build_cache(
    studies: pl.DataFrame,
    folder: str | Path,
    *,
    size: int,
    fit: Literal["pad", "stretch", "crop"] = "pad",
    tone: Literal["as_is", "equalize_hist", "window"] = "as_is",
    workers: int | None = None,
    progress: Progress = silent,
) -> Cache:
    """Decode every image of a study table that the folder does not hold yet (or whose file has changed), and open it.

    Finished shards of an interrupted build are kept. Unreadable images are recorded with their reason and counted; the
    build goes on. Images are decoded in `workers` threads (one per core): the decoders run outside Python's lock.
    Raises InputError where the folder was made with another pixel spec or a shard is damaged.
    """
    root, spec = ensure_folder(folder), PixelSpec(size, fit, tone)
    stored = _stored_spec(root)
    if stored is not None and stored != spec:
        differing = ", ".join(
            f"{key} {old} instead of {spec.as_dict()[key]}"
            for key, old in stored.as_dict().items()
            if old != spec.as_dict()[key]
        )
        raise InputError(
            f"this cache was made with {differing}", where=root, do="use it as it is, or choose another folder"
        )
    if stored is None:
        write_text(root / "cache.json", json.dumps({"hilum": "cache", "spec": spec.as_dict()}, indent=2) + "\n")
    held = open_cache(root)
    if held.bytes <= CHECKED_AT_OPENING:
        held.verify()
    missing = _missing(studies, held)
    if missing.is_empty():
        return held
    number = 1 + max((int(shard.table.stem.split("-")[1]) for shard in held._shards), default=-1)
    with _one_thread_each(), ThreadPoolExecutor(workers) as pool:
        decoded = progress(_decoded(missing, spec, pool), total=missing.height, label=f"Caching at {size} px")
        for part in missing.iter_slices(max(1, SHARD_BYTES // size**2)):
            _write_shard(root / f"shard-{number:05d}.npy", part, islice(decoded, part.height), spec)
            number += 1
        for _ in decoded:  # let the bar see its end
            pass
    return open_cache(root)


Decoded = tuple[np.ndarray | None, str | None]


def _decoded(entries: pl.DataFrame, spec: PixelSpec, pool: ThreadPoolExecutor, ahead: int = 64) -> Iterator[Decoded]:
    """The image of each entry in order, or the reason why there is none; at most `ahead` are decoded in advance."""
    waiting: deque[Future[Decoded]] = deque()
    for path in entries["path"]:
        waiting.append(pool.submit(_decode, path, spec))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _decode(path: str, spec: PixelSpec) -> Decoded:
    try:
        return read_pixels(path, spec), None
    except UnreadableImage as error:
        return None, error.what


def _write_shard(path: Path, entries: pl.DataFrame, decoded: Iterator[Decoded], spec: PixelSpec) -> None:
    """One array with a row per entry (an unreadable one's stays empty and has no number), then the table that makes it count."""
    rows, reasons = [], []
    with atomic_path(path) as temporary:
        shape = (entries.height, spec.size, spec.size)
        pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for row, (image, reason) in enumerate(decoded):
            if image is not None:
                pixels[row] = image
            rows.append(row if image is not None else -1)
            reasons.append(reason)
        checksum = _checksum(pixels)
        pixels.flush()
        del pixels
    table = entries.with_columns(pl.Series("row", rows, pl.Int64), pl.Series("reason", reasons, pl.String))
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        table.select(_ENTRY).write_parquet(temporary, metadata={"crc32": str(checksum)})


def _checksum(pixels: np.ndarray) -> int:
    return zlib.crc32(pixels)  # type: ignore[arg-type]  # arrays are buffers


def _missing(studies: pl.DataFrame, held: Cache) -> pl.DataFrame:
    """image_id, path, modified, bytes of the images to decode: new ones, and those whose file is another by now."""
    stats = [_stat(path) for path in studies["path"].to_list()]
    wanted = studies.select("image_id", "path").with_columns(
        modified=pl.Series([stat[0] for stat in stats], dtype=pl.Int64),
        bytes=pl.Series([stat[1] for stat in stats], dtype=pl.Int64),
    )
    keys = ["image_id", "modified", "bytes"]
    return wanted.join(held.entries.select(keys), on=keys, how="anti", maintain_order="left")


def _stat(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return -1, -1  # decoding will say why
    return found.st_mtime_ns, found.st_size


def _stored_spec(root: Path) -> PixelSpec | None:
    page = root / "cache.json"
    try:
        return PixelSpec(**json.loads(page.read_text(encoding="utf-8"))["spec"])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise from_os_error(error, page) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "this file cannot be read as the facts of a cache", where=page, do="choose another cache folder"
        ) from error


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """OpenCV's own threads off while ours run, and back as they were."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
