"""Feature maps on disk: what a frozen backbone makes of each image, computed once; in shards, as the images are.

    FOLDER/KEY/features.json         what they were made with; KEY is its SHA-256
    FOLDER/KEY/shard-00000.npy       float16 (n, C, h, w)
    FOLDER/KEY/shard-00000.parquet   identity, image_id of its n rows

A folder holds one version: the images as they are, or one augmentation of each. float16 rather than bfloat16: it rounds
to 1 part in 2,048 instead of 1 in 256, numpy knows it, and the range it lacks (beyond 65,504) is checked.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum.atomic import ensure_folder, write_text
from hilum.data.shards import Rows, Shards, Shelf
from hilum.errors import MachineError

FORMAT = 1
HELD = {"identity": pl.String, "image_id": pl.String}
LARGEST = float(np.finfo(np.float16).max)
_SHARD_BYTES = 1 << 26  # what a killed build loses at most

Maps = np.ndarray[Any, np.dtype[np.float16]]


class FeatureCache(Shards):
    """The feature maps of one version of images, looked up by identity: the image's content, and how it was changed.

    Of damaged shards only the whole ones count; what the others held is computed anew.
    """

    def __init__(self, folder: str | Path, shape: tuple[int, ...]):
        super().__init__(folder, shape, np.float16, HELD, tolerant=True)
        self._place = dict(zip(self.held["identity"].to_list(), self.held["row"].to_list()))

    @property
    def bytes_each(self) -> int:
        """Bytes of one feature map."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def rows(self, identities: Sequence[str]) -> Rows:
        """int64 (n,): the row of each map, -1 where it is still to be computed."""
        place = self._place
        return np.fromiter((place.get(name, -1) for name in identities), dtype=np.int64, count=len(identities))

    def shelf(self, expected: int) -> Shelf:
        """Where new maps are laid, a batch at a time; a shard is written whenever the shelf is full."""
        most = max(1, min(expected, _SHARD_BYTES // self.bytes_each))
        return Shelf(self.folder, self.shape, np.float16, HELD, most)


class Versions:
    """The cached maps of images in several versions, of which version 0 is the image as it is.

    rows: int64 (versions, n): where in each cache the map of each of n images is.
    """

    def __init__(self, caches: Sequence[FeatureCache], rows: Rows):
        self.caches, self.rows, self.versions = list(caches), rows, len(caches)

    def maps(self, places: np.ndarray, version: np.ndarray) -> Maps:
        """float16 (n, C, h, w) of the images at these places, each in its own version."""
        out = np.empty((len(places), *self.caches[0].shape), dtype=np.float16)
        for number in np.unique(version).tolist():
            chosen = version == number
            out[chosen] = self.caches[number].gather(self.rows[number, places[chosen]])
        return out


def key_of(facts: Mapping[str, Any]) -> str:
    """The name of the folder of what was made with these facts (plain values)."""
    return digest(json.dumps({"hilum_features": FORMAT, **facts}, sort_keys=True))


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Make the folder, and say in it what it holds."""
    ensure_folder(folder)
    write_text(folder / "features.json", json.dumps({"hilum_features": FORMAT, **facts}, indent=2) + "\n")


def digest(*parts: str | bytes) -> str:
    """The SHA-256 of parts, each told apart from the next, as 64 hexadecimal digits."""
    value = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        value.update(len(content).to_bytes(8, "little") + content)
    return value.hexdigest()


def free_bytes(folder: Path) -> int:
    """What is free on the disk where a folder is, or is to be."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(there).free


def check_room(need: int, folder: Path) -> None:
    """Raise MachineError where the disk has no room for so many bytes."""
    if need > (free := free_bytes(folder)):
        raise MachineError(
            f"the features need {told_bytes(need)}, and {told_bytes(free)} are free",
            where=folder,
            do="free some space, lower train.feature_versions, or set train.feature_cache=off",
        )


def told_bytes(count: float) -> str:
    """Bytes for a person: 1.5 GB."""
    power = min(4, max(0, len(f"{count:.0f}") - 1) // 3)
    return f"{count / 1000**power:.{min(1, power)}f} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"
