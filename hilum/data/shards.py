"""A cache on disk: decoded images in memory-mapped shards, each beside the list of what it holds.

    FOLDER/cache.json             the pixel spec and the counts
    FOLDER/shard-00000.npy        uint8 (n, size, size)
    FOLDER/shard-00000.parquet    image_id, path, bytes, modified of its n rows; its metadata has the checksum of the .npy
    FOLDER/unreadable.parquet     image_id, path, reason, bytes, modified

A shard counts once its list is there, and the list is written last: a run that is killed leaves whole shards or nothing.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import __version__
from hilum.atomic import atomic_path, write_text
from hilum.errors import InputError, from_os_error
from hilum.pixels.spec import PixelSpec

FORMAT = 1
HELD = {"image_id": pl.String, "path": pl.String, "bytes": pl.Int64, "modified": pl.Int64}  # modified: ns
UNREADABLE = {"image_id": pl.String, "path": pl.String, "reason": pl.String, "bytes": pl.Int64, "modified": pl.Int64}

Rows = np.ndarray[Any, np.dtype[np.int64]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Cache:
    """Decoded images, looked up by id and gathered as arrays.

    spec: how they were decoded; image_ids: what it holds; index: image_id, path, bytes, modified and row of each;
    unreadable: image_id, path, reason of the files that could not be read.
    """

    def __init__(self, folder: str | Path, spec: PixelSpec, *, tolerant: bool = False):
        self.folder, self.spec = Path(folder), spec
        self.lost: list[Path] = []  # shards that are not what their list says; only where `tolerant`
        self._shards: list[Path] = []
        self._starts = [0]
        tables = []
        for path in sorted(self.folder.glob("shard-*.parquet")):
            shard = path.with_suffix(".npy")
            try:
                held = _read(path)
                _check_shard(shard, held.height, spec.size)
            except InputError:
                if not tolerant:
                    raise
                self.lost.append(shard)
                continue
            rows = pl.int_range(self._starts[-1], self._starts[-1] + held.height, dtype=pl.Int64, eager=True)
            tables.append(held.with_columns(row=rows))
            self._shards.append(shard)
            self._starts.append(self._starts[-1] + held.height)
        index = pl.concat(tables) if tables else pl.DataFrame(schema=HELD | {"row": pl.Int64})
        # An image that was decoded anew stands in two shards; the later counts.
        index = index.unique("image_id", keep="last", maintain_order=True)
        known = self.folder / "unreadable.parquet"
        self._unreadable = _read(known) if known.exists() else pl.DataFrame(schema=UNREADABLE)
        self.index = index.join(self._unreadable, on="image_id", how="anti", maintain_order="left")
        self._place = dict(zip(self.index["image_id"].to_list(), self.index["row"].to_list()))
        self._maps: dict[int, Pixels] = {}

    @property
    def image_ids(self) -> list[str]:
        return list(self._place)

    @property
    def unreadable(self) -> pl.DataFrame:
        return self._unreadable.select("image_id", "path", "reason")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # another process maps the files itself

    def rows(self, image_ids: Sequence[str]) -> Rows:
        """int64 (n,): the row of each image, -1 where the cache does not hold it."""
        place = self._place
        return np.fromiter((place.get(name, -1) for name in image_ids), dtype=np.int64, count=len(image_ids))

    def images(self, rows: Rows, out: Pixels | None = None) -> Pixels:
        """uint8 (n, size, size) of these rows, in their order; `out` is an array of that shape to fill instead of a new one.

        Rows are visited in the order in which they lie on disk and each is copied once.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < self._starts[-1]):
            raise InputError(
                f"there is no row {int(rows.min() if rows.min() < 0 else rows.max())}",
                where=self.folder,
                do="-1 stands for an image that the cache does not hold: leave it out",
            )
        if out is None:
            out = np.empty((len(rows), self.spec.size, self.spec.size), dtype=np.uint8)
        order = np.argsort(rows, kind="stable")
        shard = np.searchsorted(self._starts, rows[order], side="right") - 1
        for place, number, row in zip(order.tolist(), shard.tolist(), rows[order].tolist()):
            pixels = self._maps.get(number)
            if pixels is None:
                pixels = self._maps[number] = _mapped(self._shards[number])
            out[place] = pixels[row - self._starts[number]]
        return out

    @property
    def bytes(self) -> int:
        """Bytes of decoded pixels on disk."""
        return self._starts[-1] * self.spec.size**2

    def verify(self) -> None:
        """Read every shard and compare its checksum. Raises InputError naming the shards that are damaged."""
        bad = [path for path in self._shards if _checksum(path) != _stated(path)]
        if bad:
            raise InputError(
                f"damaged shards: {', '.join(path.name for path in bad)}",
                where=self.folder,
                do="delete these files, then build the cache again: only their images are decoded anew",
            )


def read_spec(folder: str | Path) -> PixelSpec | None:
    """The pixel spec of a cache folder, None where no cache is there. Raises InputError for a cache.json that is none."""
    place = Path(folder) / "cache.json"
    try:
        facts = json.loads(place.read_text(encoding="utf-8"))
        if facts["hilum_cache"] != FORMAT:
            raise InputError(
                f"this cache has format {facts['hilum_cache']}, not {FORMAT}",
                where=place,
                do="build it anew in another folder",
            )
        return PixelSpec(**facts["spec"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("this is not the cache.json of a cache", where=place, do="choose another folder") from error
    except OSError as error:
        raise from_os_error(error, place) from error


def write_facts(folder: Path, spec: PixelSpec, images: int, unreadable: int) -> None:
    """Write cache.json."""
    facts = {"hilum_cache": FORMAT, "hilum": __version__, "spec": spec.as_dict(), "images": images}
    write_text(folder / "cache.json", json.dumps(facts | {"unreadable": unreadable}, indent=2) + "\n")


def write_shard(folder: Path, pixels: Pixels, held: pl.DataFrame) -> None:
    """Add a shard: pixels uint8 (n, size, size) and what they are (HELD, n rows), which is written last."""
    numbers = [int(path.stem.partition("-")[2]) for path in folder.glob("shard-*.npy") if path.stem[6:].isdigit()]
    path = folder / f"shard-{max(numbers, default=-1) + 1:05d}.npy"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, pixels)
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        held.write_parquet(temporary, metadata={"hilum": "cache", "crc32": _checksum(path)})


def write_unreadable(folder: Path, table: pl.DataFrame) -> None:
    """Write the list of files that could not be read (UNREADABLE)."""
    with atomic_path(folder / "unreadable.parquet") as temporary:
        table.write_parquet(temporary)


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _lost(path, "it cannot be read") from error


def _check_shard(path: Path, count: int, size: int) -> None:
    try:
        pixels = _mapped(path)
    except (OSError, ValueError, EOFError) as error:
        raise _lost(path, "it is cut off or damaged" if path.exists() else "it is missing") from error
    if pixels.shape != (count, size, size) or pixels.dtype != np.uint8:
        raise _lost(path, "it holds other images than its list says")


def _lost(path: Path, problem: str) -> InputError:
    return InputError(
        f"a part of the cache is lost: {problem}",
        where=path,
        do="build the cache again: only what is lost is decoded anew",
    )


def _mapped(path: Path) -> Pixels:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _stated(path: Path) -> str | None:
    return pl.read_parquet_metadata(path.with_suffix(".parquet")).get("crc32")


def _checksum(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
