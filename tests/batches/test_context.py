"""Batches with a context: the images of the study before and never its labels, the words of the request, and nothing unasked."""

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
import torch

from hilum.batches.dataset import Studies
from hilum.data.context import Wanted
from hilum.data.text import TEXTS, hashed_words
from tests.small import FINDINGS, InMemory, small_studies

BOTH = Wanted(prior=True, text=TEXTS["hashed_words"])


@pytest.fixture(scope="module")
def dated():
    """p0s0, p0s1, ... a month apart; the request of every second study is known."""
    table, images = small_studies(patients=12)
    number = pl.col("study_id").str.extract(r"s(\d+)$").cast(pl.Int64)
    odd = pl.col("patient_id").str.slice(1).cast(pl.Int64) % 2 == 1
    return table.with_columns(
        study_date=number.map_elements(lambda n: date(2020, 1, 1) + timedelta(days=30 * n), return_dtype=pl.Date),
        indication=pl.when(odd).then(pl.concat_str(pl.lit("fall of "), "study_id")),
    ), images


def before(study):
    patient, number = study.split("s")
    return f"{patient}s{int(number) - 1}"


def shown(batch, row, which):
    return {bytes(image.numpy()) for image in batch.images[row][which[row]]}


def test_the_images_of_the_study_before_follow_and_its_labels_do_not(dated):
    table, images = dated
    studies, plain = (Studies(table, images, FINDINGS, views=9, context=wanted) for wanted in (BOTH, Wanted()))
    batch, bare = (one.batch(np.arange(len(one))) for one in (studies, plain))
    later = 0
    for row, study in enumerate(batch.study_id):
        own = batch.present & ~batch.prior
        assert shown(batch, row, own) == shown(bare, row, bare.present)
        previous = table.filter(pl.col("study_id") == before(study))
        pixels = {images.pixels[images.place[name]].tobytes() for name in previous["image_id"]}
        assert shown(batch, row, batch.prior) == pixels
        assert batch.years[row].item() == pytest.approx(30 / 365.25 if previous.height else 0.0)
        order = batch.view[row][batch.prior[row]].tolist()
        assert order == sorted(order, key=lambda code: (code == 0, code)), "PA, AP, LATERAL, unknown"
        later += bool(previous.height)
    assert 5 < later < len(studies)
    assert not (batch.prior & ~batch.present).any()
    assert torch.equal(batch.labels.nan_to_num(-1), bare.labels.nan_to_num(-1))
    assert torch.equal(batch.demographics, bare.demographics)
    assert studies.rows.tolist() == plain.rows.tolist()
    assert all(studies.places(i).tolist() == plain.places(i).tolist() for i in range(len(plain)))


def test_words_are_there_where_they_are_known(dated):
    table, images = dated
    batch = Studies(table, images, FINDINGS, context=BOTH).batch(np.arange(20))
    for row, study in enumerate(batch.study_id):
        known = int(study.split("s")[0][1:]) % 2 == 1
        assert bool(batch.told[row]) == known
        expected = hashed_words([f"fall of {study}"])[0] if known else np.zeros_like(batch.indication[row])
        np.testing.assert_array_equal(batch.indication[row], expected)


def test_what_nobody_asks_for_is_not_there(dated):
    table, images = dated
    batch = Studies(table, images, FINDINGS).batch(np.arange(5))
    assert (batch.prior, batch.years, batch.indication, batch.told) == (None, None, None, None)
    words = Studies(table, images, FINDINGS, context=Wanted(text=BOTH.text)).batch(np.arange(5))
    assert words.prior is None
    assert words.told.any()


def test_a_table_that_knows_nothing_gives_studies_without_context():
    table, images = small_studies(patients=4)
    batch = Studies(table, images, FINDINGS, context=BOTH).batch(np.arange(4))
    assert not batch.prior.any()
    assert not batch.told.any()
    assert not batch.years.any()


def test_views_of_the_study_before_are_as_many_as_of_a_study(dated):
    table, images = dated
    studies = Studies(table, images, FINDINGS, views=2, context=BOTH)
    batch = studies.batch(np.arange(len(studies)))
    assert batch.prior.sum(dim=1).max() == 2
    assert (batch.present & ~batch.prior).sum(dim=1).max() == 2
    drawn = [studies.batch(np.arange(len(studies)), np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(drawn[0].images, drawn[1].images)
    assert not torch.equal(drawn[0].images, drawn[2].images)


def test_rows_in_any_order_and_single_images_as_samples(dated):
    table, images = dated
    one, other = (
        Studies(rows, images, FINDINGS, context=BOTH)
        for rows in (table, table.sample(fraction=1, shuffle=True, seed=3))
    )
    place = {study: i for i, study in enumerate(other.ids)}
    for i in range(len(one)):
        a, b = one.batch(np.array([i])), other.batch(np.array([place[one.ids[i]]]))
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.prior, b.prior)
    singles = Studies(table, images, FINDINGS, views=9, level="image", context=BOTH)
    batch = singles.batch(np.arange(len(singles)))
    assert ((batch.present & ~batch.prior).sum(dim=1) == 1).all()
    held = dict(table.group_by("study_id").len().iter_rows())
    assert batch.prior.sum(dim=1).tolist() == [held.get(before(study), 0) for study in singles.studies]


def test_a_study_before_that_cannot_be_read_is_none(dated):
    table, images = dated
    gone = next(study for study in table["study_id"] if before(study) in set(table["study_id"]))
    kept = {name: images.pixels[i] for name, i in images.place.items() if not name.startswith(before(gone) + "i")}
    studies = Studies(table, InMemory(kept), FINDINGS, context=BOTH)
    assert not studies.batch(np.array([studies.ids.index(gone)])).prior.any()
