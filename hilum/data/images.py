"""A cache on disk: decoded images in shards, and the list of those that could not be read.

FOLDER/cache.json             the pixel spec and the counts
FOLDER/shard-00000.npy        uint8 (n, size, size)
FOLDER/shard-00000.parquet    image_id, path, bytes, modified of its n rows
FOLDER/unreadable.parquet     image_id, path, reason, bytes, modified
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import __version__
from hilum.atomic import atomic_path, write_text
from hilum.data.shards import Rows, Shards, read_list
from hilum.errors import InputError, from_os_error
from hilum.pixels.spec import PixelSpec

FORMAT = 1
HELD = {"image_id": pl.String, "path": pl.String, "bytes": pl.Int64, "modified": pl.Int64}  # modified: ns
UNREADABLE = {"image_id": pl.String, "path": pl.String, "reason": pl.String, "bytes": pl.Int64, "modified": pl.Int64}

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Cache(Shards):
    """Decoded images, looked up by id and gathered as arrays.

    spec: how they were decoded; image_ids: what it holds; index: image_id, path, bytes, modified and row of each;
    unreadable: image_id, path, reason of the files that could not be read.
    """

    def __init__(self, folder: str | Path, spec: PixelSpec, *, tolerant: bool = False):
        super().__init__(folder, (spec.size, spec.size), np.uint8, HELD, tolerant=tolerant)
        self.spec = spec
        # An image that was decoded anew stands in two shards; the later counts.
        index = self.held.unique("image_id", keep="last", maintain_order=True)
        known = self.folder / "unreadable.parquet"
        self._unreadable = read_list(known) if known.exists() else pl.DataFrame(schema=UNREADABLE)
        self.index = index.join(self._unreadable, on="image_id", how="anti", maintain_order="left")
        self._place = dict(zip(self.index["image_id"].to_list(), self.index["row"].to_list()))

    @property
    def image_ids(self) -> list[str]:
        return list(self._place)

    @property
    def unreadable(self) -> pl.DataFrame:
        return self._unreadable.select("image_id", "path", "reason")

    def rows(self, image_ids: Sequence[str]) -> Rows:
        """int64 (n,): the row of each image, -1 where the cache does not hold it."""
        place = self._place
        return np.fromiter((place.get(name, -1) for name in image_ids), dtype=np.int64, count=len(image_ids))

    def images(self, rows: Rows, out: Pixels | None = None) -> Pixels:
        """uint8 (n, size, size) of these rows; see `Shards.gather`."""
        return self.gather(rows, out)


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


def none_readable(images: Any, table: pl.DataFrame) -> InputError:
    """What to say of a table of which `images` holds nothing: the first file that could not be read, and why."""
    unread = getattr(images, "unreadable", pl.DataFrame(schema=UNREADABLE))
    unread = unread.filter(pl.col("image_id").is_in(table["image_id"].implode()))
    if unread.is_empty():
        return InputError("no readable image of these studies is in the cache", do="build it first with `hilum cache`")
    what = f"none of {table.height:,} images can be read; of the first: {unread['reason'][0]}"
    return InputError(what, where=unread["path"][0], do="check that the paths of the table lead to images")


def write_facts(folder: Path, spec: PixelSpec, images: int, unreadable: int) -> None:
    """Write cache.json."""
    facts = {"hilum_cache": FORMAT, "hilum": __version__, "spec": spec.as_dict(), "images": images}
    write_text(folder / "cache.json", json.dumps(facts | {"unreadable": unreadable}, indent=2) + "\n")


def write_unreadable(folder: Path, table: pl.DataFrame) -> None:
    """Write the list of files that could not be read (UNREADABLE)."""
    with atomic_path(folder / "unreadable.parquet") as temporary:
        table.write_parquet(temporary)
