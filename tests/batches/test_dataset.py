"""Batches: the contract's shapes and dtypes, the choice of views, order, what is left out."""

import numpy as np
import polars as pl
import pytest
import torch

from hilum.batches.dataset import Studies
from hilum.errors import InputError
from hilum.tables import VIEWS
from tests.small import FINDINGS, InMemory, small_studies


@pytest.fixture(scope="module")
def small():
    return small_studies()


def test_contract(small):
    table, images = small
    studies = Studies(table, images, FINDINGS, views=4)
    batch = studies.batch(np.arange(7))
    count, views = batch.present.shape
    assert batch.images.shape == (7, views, 1, 32, 32)
    assert (count, batch.labels.shape, batch.demographics.shape) == (7, (7, 3), (7, 4))
    dtypes = (batch.images, batch.present, batch.view, batch.demographics, batch.labels)
    assert [part.dtype for part in dtypes] == [torch.uint8, torch.bool, torch.int8, torch.float32, torch.float32]
    assert batch.study_id == studies.ids[:7]


def test_every_number_is_the_tables(small):
    table, images = small
    studies = Studies(table, images, FINDINGS, views=9)
    batch = studies.batch(np.arange(len(studies)))
    for i, study in enumerate(batch.study_id):
        rows = table.filter(pl.col("study_id") == study)
        assert batch.present[i].sum() == rows.height
        shown = {bytes(image.numpy()) for image in batch.images[i][batch.present[i]]}
        assert shown == {images.pixels[images.place[name]].tobytes() for name in rows["image_id"]}
        for j, name in enumerate(FINDINGS):
            value = rows[name][0]
            assert np.isnan(batch.labels[i, j].item()) if value is None else batch.labels[i, j] == value
        expected = [rows["age"][0] / 10, 1.0, float(rows["sex"][0] == "M"), 1.0]
        np.testing.assert_allclose(batch.demographics[i], expected, rtol=1e-6)


def test_row_order_does_not_matter(small):
    table, images = small
    one, other = (
        Studies(table, images, FINDINGS),
        Studies(table.sample(fraction=1, shuffle=True, seed=3), images, FINDINGS),
    )
    place = {study: i for i, study in enumerate(other.ids)}
    for i in range(len(one)):
        a, b = one.batch(np.array([i])), other.batch(np.array([place[one.ids[i]]]))
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.view, b.view)
        assert torch.equal(a.labels.nan_to_num(-1), b.labels.nan_to_num(-1))


def test_views_are_chosen_in_order_or_drawn(small):
    table, images = small
    studies = Studies(table, images, FINDINGS, views=2)
    many = [i for i in range(len(studies)) if table.filter(pl.col("study_id") == studies.ids[i]).height > 2]
    fixed = [studies.batch(np.array(many)).images for _ in range(2)]
    assert torch.equal(*fixed)
    drawn = [studies.batch(np.array(many), np.random.default_rng(seed)).images for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize(
    ("views", "most", "read"),
    [
        (["PA", "PA", "AP", "AP", "LATERAL"], 4, [0, 1, 2, 4]),
        (["PA", "PA", "AP", "AP", "LATERAL", "unknown"], 4, [0, 1, 4, 5]),
        (["PA", "AP", "LATERAL", "LATERAL", "unknown"], 2, [0, 2]),
        (["AP", "AP", "LATERAL"], 1, [0]),
        (["AP", "AP", "AP", "AP", "AP"], 4, [0, 1, 2, 3]),
    ],
)
def test_frontal_views_do_not_crowd_the_lateral_out(views, most, read):
    """One of each kind, then on in order; and the order in the batch is that of the table's views."""
    table = pl.DataFrame({
        "study_id": "s", "patient_id": "p", "image_id": [f"i{number}" for number in range(len(views))], "view": views,
        **dict.fromkeys(FINDINGS, 1),
    }).cast(dict.fromkeys(FINDINGS, pl.Int8))  # fmt: skip
    pixels = {f"i{number}": np.full((4, 4), number, np.uint8) for number in range(len(views))}
    studies = Studies(table.sample(fraction=1, shuffle=True, seed=0), InMemory(pixels), FINDINGS, views=most)
    batch = studies.batch(np.array([0]))
    assert batch.images[0, :, 0, 0, 0].tolist() == read
    assert [VIEWS[code] for code in batch.view[0]] == [views[place] for place in read]


def test_image_level_samples_single_images(small):
    table, images = small
    studies = Studies(table, images, FINDINGS, level="image")
    assert len(studies) == table.height
    assert studies.batch(np.arange(5)).present.shape == (5, 1)


def test_unreadable_images_leave_and_empty_studies_are_listed(small):
    table, images = small
    gone = table["study_id"][0]
    kept = {name: images.pixels[i] for name, i in images.place.items() if not name.startswith(gone + "i")}
    studies = Studies(table, InMemory(kept), FINDINGS)
    assert studies.without_images == [gone]
    assert gone not in studies.ids
    with pytest.raises(InputError, match="readable image"):
        Studies(table.filter(pl.col("study_id") == gone), InMemory(kept), FINDINGS)


@pytest.mark.parametrize(("policy", "value"), [("ignore", None), ("ones", 1.0), ("zeros", 0.0)])
def test_uncertain_policy(small, policy, value):
    table, images = small
    table = table.with_columns(pl.lit(-1, dtype=pl.Int8).alias("Edema"))
    labels = Studies(table, images, FINDINGS, uncertain=policy).labels[:, 0]
    assert np.isnan(labels).all() if value is None else (labels == value).all()


def test_counts_are_of_known_entries(small):
    table, images = small
    studies = Studies(table, images, FINDINGS)
    positives, known = studies.counts()
    per_study = table.unique("study_id")
    np.testing.assert_array_equal(positives, [per_study[name].sum() for name in FINDINGS])
    np.testing.assert_array_equal(known, [per_study[name].count() for name in FINDINGS])
