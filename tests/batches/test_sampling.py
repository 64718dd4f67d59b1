"""Samplers: how often each finding is seen is what its formula says; the order is its own, valid, and the same again."""

import numpy as np
import pytest

from hilum.batches.dataset import Studies
from hilum.batches.sampling import SAMPLERS, by_class, epoch_length, epoch_order, repeat_factor
from hilum.errors import InputError
from tests.small import FINDINGS, small_studies


@pytest.fixture(scope="module")
def positives():
    """500 samples, 4 findings from common to rare, one that nobody has; about 4 in 10 have none at all."""
    random = np.random.default_rng(5)
    return random.random((500, 5)) < [0.4, 0.2, 0.05, 0.008, 0.0]


def drawn(name, positives, epochs=1, **options):
    """How often each sample is drawn, per epoch."""
    shares = SAMPLERS[name](**options)(positives)
    orders = [epoch_order(shares, 3, epoch) for epoch in range(epochs)]
    return np.stack([np.bincount(order, minlength=len(positives)) for order in orders])


def test_shuffle_draws_in_the_order_it_always_drew():
    """Runs begun earlier go on: these are the first samples of NumPy's permutation for (seed, epoch)."""
    assert epoch_order(np.ones(1000), 0, 0)[:8].tolist() == [459, 206, 222, 162, 711, 814, 350, 890]
    assert epoch_order(np.ones(1000), 3, 7)[:8].tolist() == [493, 499, 411, 867, 268, 637, 595, 433]
    assert epoch_order(np.ones(11), 5, 2).tolist() == [4, 2, 5, 6, 0, 3, 9, 8, 10, 1, 7]
    assert (SAMPLERS["shuffle"]()(np.zeros((7, 2), dtype=bool)) == 1).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_order_is_its_own_valid_and_as_long_as_said(name, positives):
    shares = SAMPLERS[name]()(positives)
    orders = [epoch_order(shares, 1, epoch) for epoch in (0, 0, 1)]
    assert (orders[0] == orders[1]).all()
    assert not np.array_equal(orders[0], orders[2])
    assert not np.array_equal(orders[0], epoch_order(shares, 2, 0))
    for order in orders:
        assert order.dtype == np.int64
        assert len(order) == epoch_length(shares)
        assert ((order >= 0) & (order < len(positives))).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sample_comes_as_often_as_its_share_says(name, positives):
    """In every epoch the share rounded down or up; over many the share itself."""
    shares = SAMPLERS[name]()(positives)
    exact = shares * epoch_length(shares) / shares.sum()
    times = drawn(name, positives, epochs=400)
    assert (times >= np.floor(exact - 1e-9)).all()
    assert (times <= np.ceil(exact + 1e-9)).all()
    np.testing.assert_allclose(times.mean(axis=0), exact, atol=4 * 0.5 / 400**0.5)


def test_class_aware_shows_each_finding_by_its_definition(positives):
    """Against the definition, drawn one by one: a finding uniformly, then one of its positives."""
    random, present = np.random.default_rng(0), positives.any(axis=0).nonzero()[0]
    members = {finding: positives[:, finding].nonzero()[0] for finding in present}
    picks = [random.choice(members[finding]) for finding in random.choice(present, 40_000)]
    expected = positives[picks].mean(axis=0)
    seen = (drawn("class_aware", positives, epochs=40).mean(axis=0) @ positives) / len(positives)
    np.testing.assert_allclose(seen, expected, atol=0.02)
    assert seen[3] > 0.25 - 1e-9 > 20 * positives[:, 3].mean()
    assert drawn("class_aware", positives)[0, ~positives.any(axis=1)].sum() == 0


def test_balanced_counts_those_without_a_finding_as_a_class(positives):
    none = ~positives.any(axis=1)
    shares = SAMPLERS["balanced"]()(positives)
    assert shares[none].sum() == pytest.approx(len(positives) / 5)  # 4 findings that occur, and none of them
    assert shares.sum() == pytest.approx(len(positives))


def test_powers_lead_from_balanced_to_as_it_is():
    """On single-label samples power 1 is the table itself, and 1/2 makes classes of 81 and 9 as 9 to 3 (Kang 2020)."""
    positives = np.zeros((90, 2), dtype=bool)
    positives[:81, 0], positives[81:, 1] = True, True
    np.testing.assert_allclose(by_class(power=1.0, none=True)(positives), 1)
    root = SAMPLERS["square_root"]()(positives)
    assert root[:81].sum() / root[81:].sum() == pytest.approx(3)


def test_repeat_factor_is_lvis(positives):
    shares = repeat_factor(threshold=0.1, cap=2.5)(positives)
    frequency = positives.mean(axis=0)
    for row, share in zip(positives, shares):
        factors = [max(1.0, (0.1 / frequency[c]) ** 0.5) for c in range(5) if row[c]]
        assert share == pytest.approx(min(2.5, max([1.0, *factors])))
    assert shares.max() == 2.5
    assert (repeat_factor(threshold=1e-4)(positives) == 1).all()  # nothing is so rare: then it shuffles


def test_over_under_and_mixed_move_towards_their_size():
    positives = np.zeros((160, 2), dtype=bool)
    positives[:40, 0], positives[40:44, 1] = True, True  # 40, 4, and 116 without
    sizes = {name: [share.sum() for share in np.split(SAMPLERS[name]()(positives), [40, 44])] for name in
             ("over", "under", "mixed")}  # fmt: skip
    assert sizes["over"] == pytest.approx([116, 40, 116])  # the rare one is stopped by the cap of 10
    assert sizes["under"] == pytest.approx([40, 4, 40])
    assert sizes["mixed"] == pytest.approx([40, 40, 40])


def test_unknown_and_pseudo_labels_are_not_positive():
    table, images = small_studies(unknown=0.5)
    studies = Studies(table, images, FINDINGS)
    filled = studies.with_pseudo(np.ones_like(studies.labels), np.ones_like(studies.labels))
    assert np.isnan(studies.labels).any()
    np.testing.assert_array_equal(studies.positives(), studies.labels == 1)
    np.testing.assert_array_equal(filled.positives(), studies.positives())


@pytest.mark.parametrize("name", ["class_aware"])
def test_nothing_to_draw_by_is_said(name):
    with pytest.raises(InputError, match="no training study has a positive finding"):
        SAMPLERS[name]()(np.zeros((5, 2), dtype=bool))


@pytest.mark.parametrize("options", [{"threshold": -1.0}, {"cap": 0.5}])
def test_impossible_numbers_are_refused(options):
    with pytest.raises(InputError, match=r"train\.sampler"):
        repeat_factor(**options)
