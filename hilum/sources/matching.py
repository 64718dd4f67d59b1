"""Which file a table's cell means: a path from the folder, the end of one, or a bare name, with its ending or without."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hilum.errors import InputError
from hilum.sources.reading import without_suffix

Parts = tuple[str, ...]


def match_files(cells: Sequence[str | None], files: Sequence[Path], root: Path, table: Path) -> list[Path | None]:
    """The file beneath `root` that each cell means; None for a blank cell and for one that fits no file.

    A file fits when its path from `root` ends in what the cell says, so a folder in the cell must agree. A cell may
    begin with folders that `root` ends in (files/p10/x.jpg under .../files), or be absolute.
    Raises InputError, naming the table, for a cell that fits several files.
    """
    found = _Tails(files, root)
    matched: list[Path | None] = []
    for cell in cells:
        fitting = found.fitting(cell) if cell else []
        if len(fitting) > 1:
            first, second = (path.relative_to(root).as_posix() for path in fitting[:2])
            raise InputError(
                f"{cell!r} fits {len(fitting):,} files, such as {first!r} and {second!r}",
                where=table,
                do="name a column with paths from the folder by --image-column, or import one folder at a time",
            )
        matched.append(fitting[0] if fitting else None)
    return matched


def with_files(
    rows: pl.DataFrame, cells: Sequence[str | None], files: Sequence[Path], root: Path, table: Path
) -> tuple[pl.DataFrame, list[str]]:
    """The rows whose cell means a file, its path in the column `path`, and notes on the rows and files left over.

    Raises InputError where no row has a file, and as `match_files`.
    """
    matched = [None if path is None else str(path) for path in match_files(cells, files, root, table)]
    found = rows.with_columns(path=pl.Series(matched, dtype=pl.String)).filter(pl.col("path").is_not_null())
    if rows.is_empty():
        raise InputError("the table has no rows", where=table, do="download the file again")
    if found.is_empty():
        raise InputError(
            f"none of the {rows.height:,} images that {table.name} lists is here, such as {cells[0]!r}",
            where=root,
            do="give the folder that holds the images",
        )
    notes = [f"{found.height:,} of the {rows.height:,} listed images are present."]
    if lost := [cell for cell, path in zip(cells, matched, strict=True) if path is None]:
        notes.append(f"{len(lost):,} images have no file and were left out, such as {lost[0]!r}.")
    if spare := len(files) - found["path"].n_unique():
        notes.append(f"{spare:,} image files are not listed and were left out.")
    return found, notes


class _Tails:
    """Files by the last parts of their path, indexed for each number of parts when it is first asked for.

    That keeps 200,000 files that are all called view1_frontal.jpg as quick to find as others.
    """

    def __init__(self, files: Sequence[Path], root: Path):
        self.files = [(path, _without_ending(path.relative_to(root).parts)) for path in files]
        self.root = root.parts[1:]
        self.indexes: dict[int, dict[Parts, list[tuple[Path, Parts]]]] = {}

    def fitting(self, cell: str) -> list[Path]:
        said = tuple(part for part in cell.replace("\\", "/").split("/") if part not in ("", "."))
        if not said:
            return []
        overlaps = [k for k in range(min(len(self.root), len(said) - 1), 0, -1) if said[:k] == self.root[-k:]]
        for start in (0, *overlaps):
            wanted = _without_ending(said[start:])
            candidates = self._index(len(wanted)).get(wanted, [])
            if len(wanted) > 1 and len(candidates) > 1:  # the path from `root` itself comes before a deeper one
                candidates = [each for each in candidates if each[1] == wanted] or candidates
            paths = [path for path, _ in candidates]
            if len(paths) > 1:  # x.png beside x.jpg
                paths = [path for path in paths if path.name == said[-1]] or paths
            if paths:
                return paths
        return []

    def _index(self, parts: int) -> dict[Parts, list[tuple[Path, Parts]]]:
        if parts not in self.indexes:
            index: dict[Parts, list[tuple[Path, Parts]]] = defaultdict(list)
            for path, own in self.files:
                if len(own) >= parts:
                    index[own[-parts:]].append((path, own))
            self.indexes[parts] = dict(index)
        return self.indexes[parts]


def _without_ending(parts: Parts) -> Parts:
    return (*parts[:-1], without_suffix(parts[-1]))
