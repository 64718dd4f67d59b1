"""Mixing: images and labels are the stated means, unknown entries add nothing, and the balanced partners are balanced."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hilum.batches.dataset import Studies
from hilum.batches.mixing import MIXES, Pairs, mixed, mixed_targets
from hilum.errors import InputError
from hilum.training.losses import build_loss
from tests.small import FINDINGS, small_studies


@pytest.fixture(scope="module")
def studies():
    table, images = small_studies(patients=40, unknown=0.3)
    return Studies(table, images, FINDINGS, level="image")


def draws(name, studies, times=1, **options):
    draw = MIXES[name](**options)(studies.positives())
    return [draw(np.arange(len(studies)), np.random.default_rng([7, time])) for time in range(times)]


@pytest.mark.parametrize("loss", ["bce", "weighted_asymmetric", "robust_asymmetric"])
@pytest.mark.parametrize("weighed", [False, True])
def test_the_loss_of_the_mixed_is_the_mix_of_the_losses(loss, weighed):
    """For any network output: share times the one's loss plus the rest times the other's, unknown entries adding nothing."""
    random = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (2, 200, 3), generator=random).float()
    labels[labels == 2] = torch.nan
    weights = torch.rand(2, 200, 3, generator=random) if weighed else [None, None]
    shares = torch.rand(200, generator=random)
    logits = torch.randn(200, 3, generator=random)
    criterion = build_loss(loss, [10.0, 40.0, 80.0], 100)

    def each(index):
        values = criterion.elementwise(logits, labels[index])
        return values if weights[index] is None else values * weights[index]

    target, weight = mixed_targets((labels[0], weights[0]), (labels[1], weights[1]), shares)
    got = criterion.elementwise(logits, target) * weight
    expected = shares[:, None] * each(0) + (1 - shares[:, None]) * each(1)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
    assert torch.equal(target.isnan(), labels.isnan().all(dim=0))
    assert torch.equal(weight == 0, labels.isnan().all(dim=0))


def test_a_partner_of_no_weight_changes_nothing(studies):
    one, other = studies.batch(np.arange(6)), studies.batch(np.arange(6, 12))
    one, other = (replace(batch, images=batch.images / 255) for batch in (one, other))
    same = mixed(one, other, torch.ones(6))
    for name in ("images", "labels", "view", "demographics"):
        torch.testing.assert_close(getattr(same, name), getattr(one, name), equal_nan=True, msg=name)


def test_images_and_features_are_weighted_means_and_the_heavier_gives_its_view(studies):
    one, other = studies.batch(np.arange(6)), studies.batch(np.arange(6, 12))
    one, other = (replace(batch, images=batch.images / 255) for batch in (one, other))
    shares = torch.tensor([0.9, 0.1, 0.5, 0.6, 0.4, 1.0])
    both = mixed(one, other, shares)
    for i, share in enumerate(shares):
        torch.testing.assert_close(both.images[i], share * one.images[i] + (1 - share) * other.images[i])
        heavier = one if share >= 0.5 else other
        assert torch.equal(both.view[i], heavier.view[i])
        assert torch.equal(both.demographics[i], heavier.demographics[i])
    maps = [replace(b, images=None, features=torch.randn(6, 1, 4, 2, 2).half()) for b in (one, other)]
    both = mixed(*maps, shares)
    assert both.images is None
    torch.testing.assert_close(both.features[1], 0.1 * maps[0].features[1].float() + 0.9 * maps[1].features[1].float())


def test_mixup_takes_its_partners_from_the_step(studies):
    (pairs,) = draws("mixup", studies)
    assert sorted(pairs.partners) == list(range(len(studies)))
    assert len(set(pairs.shares)) > len(studies) / 2
    shares = np.concatenate([pairs.shares for pairs in draws("mixup", studies, 100, alpha=0.4)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * 1.8), abs=0.005)  # of Beta(a, a): 1 / (4 (2 a + 1))


def test_balanced_mixup_mixes_with_the_balanced_not_with_itself(studies):
    """The published code reads its balanced batch from the plain one, so that each image is mixed with itself."""
    found = draws("balanced_mixup", studies, 200, alpha=0.2)
    partners = np.concatenate([pairs.partners for pairs in found])
    own = np.concatenate([pairs.samples for pairs in found])
    assert (partners == own).mean() < 5 / len(studies)
    positives = studies.positives()
    members = np.column_stack([positives, ~positives.any(axis=1)]).astype(float)
    expected = members @ (1 / members.sum(axis=0)) / 4
    np.testing.assert_allclose(np.bincount(partners) / len(partners), expected, atol=4 / len(partners) ** 0.5)
    shares = 1 - np.concatenate([pairs.shares for pairs in found])
    assert shares.mean() == pytest.approx(0.2 / 1.2, abs=0.01)  # of Beta(a, 1): a / (a + 1)


def test_parts_are_the_whole_in_order(studies):
    (pairs,) = draws("mixup", studies)
    parts = pairs.split(5)
    for name in ("samples", "partners", "shares"):
        np.testing.assert_array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(pairs, name))
    labels, weights = pairs.targets(studies)
    torch.testing.assert_close(torch.cat([part.targets(studies)[0] for part in parts]), labels, equal_nan=True)
    assert weights is not None
    plain = Pairs(np.arange(3))
    torch.testing.assert_close(plain.targets(studies)[0], studies.targets(np.arange(3))[0], equal_nan=True)


def test_pseudo_labels_mix_with_their_weights(studies):
    filled = studies.with_pseudo(np.full_like(studies.labels, 0.25), np.full_like(studies.labels, 0.5))
    rows = np.arange(len(studies))
    pairs = Pairs(rows, rows[::-1].copy(), np.full(len(rows), 0.75, dtype=np.float32))
    labels, weights = pairs.targets(filled)
    known = ~np.isnan(studies.labels)
    expected = 0.75 * np.where(known, 1, 0.5) + 0.25 * np.where(known, 1, 0.5)[::-1]
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert not labels.isnan().any()


def test_several_images_are_refused():
    table, images = small_studies()
    crowd = Studies(table, images, FINDINGS).batch(np.arange(8))
    with pytest.raises(InputError, match="several images is to be mixed"):
        mixed(crowd, crowd, torch.ones(8))


@pytest.mark.parametrize("name", ["mixup", "balanced_mixup"])
def test_an_impossible_alpha_is_refused(name):
    with pytest.raises(InputError, match=r"train\.mix: alpha is 0"):
        MIXES[name](alpha=0.0)
