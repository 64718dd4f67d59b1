"""Shards: what is added together stays together, a row's mark is its content's, and what a list does not cover is lost."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.data.shards import Shards, Shelf, drop_lost
from hilum.errors import InputError

COLUMNS = {"name": pl.String}


def fill(folder: Path, sizes: list[int], most: int, first: int = 0) -> np.ndarray:
    """Batches of these sizes laid on a shelf; all rows, as they should come back."""
    folder.mkdir(exist_ok=True)
    shelf, number = Shelf(folder, (2, 3), np.float16, COLUMNS, most), first
    rows = []
    for size in sizes:
        arrays = np.arange(number, number + size, dtype=np.float16)[:, None, None] + np.zeros((2, 3), np.float16)
        shelf.add([(str(name),) for name in range(number, number + size)], arrays)
        rows.append(arrays)
        number += size
    shelf.close()
    return np.concatenate(rows)


def opened(folder: Path, **options) -> Shards:
    return Shards(folder, (2, 3), np.float16, COLUMNS, **options)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 7))
@settings(max_examples=15, deadline=None)
def test_rows_come_back_and_batches_are_not_torn(tmp_path_factory, sizes, most):
    folder = tmp_path_factory.mktemp("shards")
    expected = fill(folder, sizes, most)
    held = opened(folder)
    held.verify()
    assert held.held["name"].to_list() == [str(row) for row in range(sum(sizes))]
    order = np.random.default_rng(0).permutation(sum(sizes))
    assert (held.gather(order) == expected[order]).all()
    assert held.bytes == sum(sizes) * 12
    ends = {0, *np.cumsum(sizes).tolist()}
    assert set(held._starts) <= ends, "a shard begins where a batch begins"
    assert all(size <= max(most, *sizes) for size in np.diff(held._starts))


def test_a_mark_tells_content(tmp_path):
    fill(tmp_path / "one", [3, 3], 3)
    fill(tmp_path / "same", [3, 3], 3)
    fill(tmp_path / "other", [3, 3], 3, first=1)
    one, same, other = (opened(tmp_path / name).marks(np.arange(6)) for name in ("one", "same", "other"))
    assert one == same
    assert len(set(one)) == 6
    assert not set(one) & set(other)
    assert opened(tmp_path / "one").marks(np.array([4, 0])) == [one[4], one[0]]


def test_only_whole_shards_count(tmp_path):
    fill(tmp_path, [3, 3, 3], 3)
    (tmp_path / "shard-00001.npy").unlink()
    with pytest.raises(InputError, match=r"shard-00001.*missing"):
        opened(tmp_path)
    held = opened(tmp_path, tolerant=True)
    assert held.held["name"].to_list() == ["0", "1", "2", "6", "7", "8"]
    assert held.held["row"].to_list() == list(range(6))
    assert (held.gather(np.array([5]))[0] == 8).all()
    drop_lost(tmp_path, held)
    assert len(opened(tmp_path).held) == 6
    with pytest.raises(InputError, match=r"something else|other"):
        Shards(tmp_path, (3, 2), np.float16, COLUMNS)
