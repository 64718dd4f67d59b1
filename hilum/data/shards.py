"""Shards: arrays of one shape in memory-mapped files, each beside the list of what its rows are.

    FOLDER/shard-00000.npy        (n, ...) of one shape and type
    FOLDER/shard-00000.parquet    a line for each of its n rows; its metadata has the checksum of the .npy

A shard counts once its list is there, and the list is written last: a run that is killed leaves whole shards or nothing.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum.atomic import atomic_path
from hilum.errors import InputError

Rows = np.ndarray[Any, np.dtype[np.int64]]
Array = np.ndarray[Any, Any]


class Shards:
    """What the shards of a folder hold: `held` (their lists, one under the other, and `row`), and the arrays by row.

    lost: shards that are not what their list says; unless `tolerant`, the first of them is an InputError.
    """

    def __init__(
        self,
        folder: str | Path,
        shape: tuple[int, ...],
        dtype: type[np.generic],
        columns: Mapping[str, type[pl.DataType]],
        *,
        tolerant: bool = False,
    ):
        self.folder, self.shape, self.dtype = Path(folder), shape, np.dtype(dtype)
        self.lost: list[Path] = []
        self._shards: list[Path] = []
        self._starts = [0]
        tables = []
        for path in sorted(self.folder.glob("shard-*.parquet")):
            shard = path.with_suffix(".npy")
            try:
                held = read_list(path)
                self._check(shard, held.height)
            except InputError:
                if not tolerant:
                    raise
                self.lost.append(shard)
                continue
            rows = pl.int_range(self._starts[-1], self._starts[-1] + held.height, dtype=pl.Int64, eager=True)
            tables.append(held.with_columns(row=rows))
            self._shards.append(shard)
            self._starts.append(self._starts[-1] + held.height)
        self.held = pl.concat(tables) if tables else pl.DataFrame(schema={**columns, "row": pl.Int64()})
        self._maps: dict[int, Array] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # another process maps the files itself

    def gather(self, rows: Rows, out: Array | None = None) -> Array:
        """(n, *shape) of these rows, in their order; `out` is an array of that shape to fill instead of a new one.

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
            out = np.empty((len(rows), *self.shape), dtype=self.dtype)
        order, shard = self._by_shard(rows)
        for place, number, row in zip(order.tolist(), shard.tolist(), rows[order].tolist()):
            held = self._maps.get(number)
            if held is None:
                held = self._maps[number] = _mapped(self._shards[number])
            out[place] = held[row - self._starts[number]]
        return out

    def marks(self, rows: Rows) -> list[str]:
        """A mark of the content of each row: the checksum of its shard and its place in there. Reads no array."""
        rows = np.asarray(rows, dtype=np.int64)
        stated = [_stated(path) for path in self._shards]
        order, shard = self._by_shard(rows)
        marks = [""] * len(rows)
        for place, number, row in zip(order.tolist(), shard.tolist(), rows[order].tolist()):
            marks[place] = f"{stated[number]}-{row - self._starts[number]}"
        return marks

    @property
    def bytes(self) -> int:
        """Bytes of arrays on disk."""
        return self._starts[-1] * int(np.prod(self.shape)) * self.dtype.itemsize

    def verify(self) -> None:
        """Read every shard and compare its checksum. Raises InputError naming the shards that are damaged."""
        bad = [path for path in self._shards if _checksum(path) != _stated(path)]
        if bad:
            raise InputError(
                f"damaged shards: {', '.join(path.name for path in bad)}",
                where=self.folder,
                do="delete these files, then run the same command again: only what they held is made anew",
            )

    def _by_shard(self, rows: Rows) -> tuple[Rows, Rows]:
        """The order in which rows lie on disk, and the number of each one's shard in that order."""
        order = np.argsort(rows, kind="stable")
        return order, np.searchsorted(self._starts, rows[order], side="right") - 1

    def _check(self, path: Path, count: int) -> None:
        try:
            held = _mapped(path)
        except (OSError, ValueError, EOFError) as error:
            raise _lost(path, "it is cut off or damaged" if path.exists() else "it is missing") from error
        if held.shape != (count, *self.shape) or held.dtype != self.dtype:
            raise _lost(path, "it holds something else than its list says")


class Shelf:
    """Collects rows for the shards of a folder and writes a shard whenever one is full.

    most: rows of a shard, and of the buffer that is held in memory.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        dtype: type[np.generic],
        columns: Mapping[str, type[pl.DataType]],
        most: int,
    ):
        self._folder, self._columns = folder, columns
        self._buffer: Array = np.empty((most, *shape), dtype=dtype)
        self._held: list[tuple[Any, ...]] = []

    def add(self, held: Sequence[tuple[Any, ...]], arrays: Array) -> None:
        """Lay arrays (n, ...) and their lines of the list on the shelf; what is added together stands in one shard."""
        if len(self._held) + len(held) > len(self._buffer):
            self.close()
        if len(held) > len(self._buffer):
            self._buffer = np.empty((len(held), *self._buffer.shape[1:]), dtype=self._buffer.dtype)
        self._buffer[len(self._held) : len(self._held) + len(held)] = arrays
        self._held.extend(held)
        if len(self._held) == len(self._buffer):
            self.close()

    def close(self) -> None:
        """Write what is there."""
        if self._held:
            held = pl.DataFrame(self._held, schema=dict(self._columns), orient="row")
            _write(self._folder, self._buffer[: held.height], held)
            self._held = []


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One build at a time: another one in the same folder waits here, and then finds the work done."""
    try:
        import fcntl
    except ImportError:  # a system without file locks
        yield
        return
    with (folder / ".lock").open("w") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def drop_lost(folder: Path, before: Shards) -> None:
    """Remove what a killed run or a deleted file left behind: half-written files, shards without a list, lists without a shard."""
    for path in [*folder.glob(".shard-*"), *folder.glob(".unreadable*")]:
        path.unlink(missing_ok=True)
    for path in folder.glob("shard-*.npy"):
        if not path.with_suffix(".parquet").exists():
            path.unlink(missing_ok=True)
    for path in before.lost:
        path.unlink(missing_ok=True)
        path.with_suffix(".parquet").unlink(missing_ok=True)


def read_list(path: Path) -> pl.DataFrame:
    """The list of a shard. Raises InputError where it cannot be read."""
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise _lost(path, "it cannot be read") from error


def _write(folder: Path, arrays: Array, held: pl.DataFrame) -> None:
    """Add a shard: arrays (n, ...) and what they are (n rows), which is written last."""
    numbers = [int(path.stem.partition("-")[2]) for path in folder.glob("shard-*.npy") if path.stem[6:].isdigit()]
    path = folder / f"shard-{max(numbers, default=-1) + 1:05d}.npy"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, arrays)
    with atomic_path(path.with_suffix(".parquet")) as temporary:
        held.write_parquet(temporary, metadata={"hilum": "cache", "crc32": _checksum(path)})


def _lost(path: Path, problem: str) -> InputError:
    return InputError(
        f"a part of the cache is lost: {problem}",
        where=path,
        do="build it again with the same command: only what is lost is made anew",
    )


def _mapped(path: Path) -> Array:
    return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))


def _stated(path: Path) -> str | None:
    return pl.read_parquet_metadata(path.with_suffix(".parquet")).get("crc32")


def _checksum(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            value = zlib.crc32(block, value)
    return f"{value:08x}"
