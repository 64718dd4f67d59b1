"""Losses: golden values, the gradient's sign, unknown labels, soft labels, dtypes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import InputError
from hilum.training.losses import LOSSES, build_loss

PROBABILITIES = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
GOLDEN = {  # per entry; first y = 1, then y = 0 (published formulas, checked against the authors' code)
    "bce": [
        (4.605170, 2.302585, 1.203973, 0.693147, 0.356675, 0.105361, 0.010050),
        (0.010050, 0.105361, 0.356675, 0.693147, 1.203973, 2.302585, 4.605170),
    ],
    "asymmetric": [
        (4.559118, 2.072327, 0.842781, 0.346574, 0.107002, 0.010536, 0.000101),
        (0.000000, 0.000000, 0.001124, 0.024515, 0.187400, 0.990308, 2.196567),
    ],
    "robust_asymmetric": [
        (4.840295, 2.415085, 1.116473, 0.505647, 0.169175, 0.017861, 0.000175),
        (0.000000, 0.000000, 0.000091, 0.005822, 0.084480, 0.649741, 1.581057),
    ],
}
GRADIENTS = {  # of negatives, by the logit, at p = .3, .5, .7, .9, .97, .99
    "asymmetric": (0.00487, 0.07312, 0.34928, 0.73263, 0.48952, 0.22136),
    "robust_asymmetric": (0.00053, 0.02326, 0.20140, 0.55648, 0.37942, 0.17113),
}


def logit(p):
    return torch.logit(torch.tensor(p, dtype=torch.float64))


@pytest.mark.parametrize("name", GOLDEN)
@pytest.mark.parametrize("label", [1, 0])
def test_golden_values(name, label):
    loss = build_loss(name, [1.0], 10)
    values = loss.elementwise(logit(PROBABILITIES)[:, None], torch.full((7, 1), float(label), dtype=torch.float64))
    expected = torch.tensor(GOLDEN[name][1 - label], dtype=torch.float64)
    torch.testing.assert_close(values[:, 0], expected, atol=6e-7, rtol=0)


def test_weighted_asymmetric_golden_mean():
    loss = build_loss("weighted_asymmetric", [100, 10], 1000)
    assert loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]])).item() == pytest.approx(0.550382, abs=5e-7)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient_of_negatives_golden(name):
    x = logit((0.3, 0.5, 0.7, 0.9, 0.97, 0.99)).requires_grad_()
    build_loss(name, [1.0], 10, reduction="sum")(x[:, None], torch.zeros(6, 1, dtype=torch.float64)).backward()
    torch.testing.assert_close(x.grad, torch.tensor(GRADIENTS[name], dtype=torch.float64), atol=6e-6, rtol=0)


def test_robust_is_asymmetric_without_its_polynomials_and_hill():
    """With L far away, the factor on negatives is L^2 p^2: divided by it, what is left is the asymmetric loss."""
    p = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    for clip in (0.0, 0.05):
        plain = build_loss("asymmetric", [1.0], 10, clip=clip)
        bare = build_loss(
            "robust_asymmetric", [1.0], 10, clip=clip, gamma_pos=1.0, poly_pos=0.0, poly_pos2=0.0, hill=1e9
        )
        positive, negative = bare.terms(torch.logit(p)[:, None])
        expected = plain.terms(torch.logit(p)[:, None])
        torch.testing.assert_close(positive, expected[0])
        torch.testing.assert_close(negative / (1e18 * p[:, None] ** 2), expected[1], atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_pushes_negatives_down_and_positives_up(name):
    p = torch.linspace(0.02, 0.98, 97, dtype=torch.float64)
    for label, sign in ((0.0, 1), (1.0, -1)):
        x = torch.logit(p).requires_grad_()
        loss = build_loss(name, [5.0], 100)
        loss.elementwise(x[:, None], torch.full((97, 1), label, dtype=torch.float64)).sum().backward()
        assert (sign * x.grad >= 0).all()
        assert (sign * x.grad[p > 0.06] > 0).all() if label == 0 else (sign * x.grad > 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_weights_follow_known_entries_not_rows(name):
    """The prevalence of a finding labelled in a tenth of the rows is its share of that tenth."""
    logits, labels = torch.tensor([[0.3]]), torch.tensor([[1.0]])
    by_share = build_loss(name, [10.0], [100.0]).elementwise(logits, labels)
    torch.testing.assert_close(by_share, build_loss(name, [1.0], 10).elementwise(logits, labels))


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 6), columns=st.integers(1, 5))
def test_unknown_is_nothing(name, seed, rows, columns):
    """NaN entries are 0, get no gradient, and do not touch the others' values or the mean."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, columns, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.rand(rows, columns, generator=generator, dtype=torch.float64).round()
    unknown = torch.rand(rows, columns, generator=generator) < 0.4
    loss = build_loss(name, torch.arange(1.0, columns + 1), 20)
    full = loss.elementwise(logits, labels)
    holed = labels.masked_fill(unknown, math.nan)
    values = loss.elementwise(logits, holed)
    assert (values[unknown] == 0).all()
    torch.testing.assert_close(values[~unknown], full[~unknown], atol=0, rtol=0)
    loss(logits, holed).backward()
    assert (logits.grad[unknown] == 0).all()
    expected = full[~unknown].mean() if (~unknown).any() else torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close(loss(logits, holed), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_linear_in_soft_labels(name):
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None]
    loss = build_loss(name, [3.0], 10)
    ones, zeros = (loss.elementwise(logits, torch.full_like(logits, y)) for y in (1.0, 0.0))
    soft = loss.elementwise(logits, torch.full_like(logits, 0.3))
    torch.testing.assert_close(soft, 0.3 * ones + 0.7 * zeros)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept_and_extremes_are_finite(name, dtype):
    logits = torch.tensor([[-60.0, 60.0, 0.0]], dtype=dtype, requires_grad=True)
    loss = build_loss(name, [1.0, 2.0, 3.0], 10)
    for label in (0.0, 1.0):
        value = loss(logits, torch.full((1, 3), label, dtype=dtype))
        assert value.dtype == dtype
        assert loss.elementwise(logits, torch.full((1, 3), label)).dtype == dtype
        value.backward()
        assert torch.isfinite(logits.grad).all()


def test_stopped_focus_gradient_changes_the_gradient_only():
    x = torch.tensor([[0.4]], requires_grad=True)
    flowing, stopped = (build_loss("asymmetric", [1.0], 2, focus_gradient=flow) for flow in (True, False))
    assert flowing(x, torch.zeros(1, 1)).item() == stopped(x, torch.zeros(1, 1)).item()
    gradients = [torch.autograd.grad(loss(x, torch.zeros(1, 1)), x)[0].item() for loss in (flowing, stopped)]
    assert gradients[0] > gradients[1] > 0


def test_misspelt_option_names_the_nearest():
    with pytest.raises(InputError, match=r"[Dd]id you mean 'gamma_neg'"):
        build_loss("asymmetric", [1.0], 2, gama_neg=2.0)
    with pytest.raises(InputError, match=r"[Dd]id you mean 'asymmetric'"):
        build_loss("asymetric", [1.0], 2)
