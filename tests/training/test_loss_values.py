"""Losses by value: golden tables, formulas written out again, and where each loss has its minimum."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.training.losses import LOSSES, build_loss

PROBABILITIES = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
GOLDEN = {  # per entry; first y = 1, then y = 0 (published formulas; bce to robust_asymmetric checked against the authors' code)
    "bce": [
        (4.605170, 2.302585, 1.203973, 0.693147, 0.356675, 0.105361, 0.010050),
        (0.010050, 0.105361, 0.356675, 0.693147, 1.203973, 2.302585, 4.605170),
    ],
    "focal": [
        (4.513527, 1.865094, 0.589947, 0.173287, 0.032101, 0.001054, 0.000001),
        (0.000001, 0.001054, 0.032101, 0.173287, 0.589947, 1.865094, 4.513527),
    ],
    "asymmetric": [
        (4.559118, 2.072327, 0.842781, 0.346574, 0.107002, 0.010536, 0.000101),
        (0.000000, 0.000000, 0.001124, 0.024515, 0.187400, 0.990308, 2.196567),
    ],
    "robust_asymmetric": [
        (4.840295, 2.415085, 1.116473, 0.505647, 0.169175, 0.017861, 0.000175),
        (0.000000, 0.000000, 0.000091, 0.005822, 0.084480, 0.649741, 1.581057),
    ],
    "class_aware": [  # prevalence 0.1
        (4.133926, 2.012707, 0.963749, 0.473955, 0.177914, 0.021670, 0.000229),
        (0.000000, 0.000000, 0.003278, 0.018303, 0.049282, 0.108920, 0.154584),
    ],
}
GRADIENTS = {  # of negatives, by the logit, at p = .3, .5, .7, .9, .97, .99
    "asymmetric": (0.00487, 0.07312, 0.34928, 0.73263, 0.48952, 0.22136),
    "robust_asymmetric": (0.00053, 0.02326, 0.20140, 0.55648, 0.37942, 0.17113),
}
COUNTS, ROWS = [1.0, 10.0, 200.0, 5.0], 1000
ROOT = Path(__file__).parents[2]


def logit(p):
    return torch.logit(torch.tensor(p, dtype=torch.float64))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def entries(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return logits, torch.rand(6, 4, generator=generator, dtype=torch.float64).round()


def by_hand(loss, logits, labels, formula) -> None:
    """Hold a loss against `formula(x, y, finding, labels of the study)`, entry by entry."""
    values = loss.elementwise(logits, labels)
    for row in range(len(logits)):
        for finding in range(logits.shape[1]):
            expected = formula(logits[row, finding].item(), labels[row, finding].item(), finding, labels[row].tolist())
            assert values[row, finding].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


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


# -- formulas written out again ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shifted_weight", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_class_aware_by_hand(margin, decoupled, shifted_weight):
    def formula(x, y, finding, labels):
        a, p = COUNTS[finding] / ROWS, sigmoid(x)
        p_m = max(p - margin, 0)
        base = 1 - a if decoupled else a
        if y:
            return -(1 - a ** (1 - p)) * math.log(p)
        return -(1 - base ** (p_m if shifted_weight else p)) * math.log(1 - p_m)

    options = {"margin": margin, "decoupled": decoupled, "shifted_weight": shifted_weight}
    by_hand(build_loss("class_aware", COUNTS, ROWS, **options), *entries(0), formula)


def test_ldam_by_hand():
    most = max(n**-0.25 for n in COUNTS)

    def formula(x, y, finding, labels):
        margin = 0.5 * COUNTS[finding] ** -0.25 / most
        return -math.log(sigmoid(30 * (x - margin))) if y else -math.log(sigmoid(-30 * x))

    logits, labels = entries(1)
    by_hand(build_loss("ldam", COUNTS, ROWS), logits.clamp(-0.8, 0.8), labels, formula)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_distribution_balanced_by_hand(gamma):
    def formula(x, y, finding, labels):
        everything = sum(label / n for label, n in zip(labels, COUNTS))
        rebalanced = 0.1 + (sigmoid(10 * (1 / COUNTS[finding] / everything - 0.2)) if everything else 1.0)
        x -= 0.05 * math.log(ROWS / COUNTS[finding] - 1)
        if y:
            return rebalanced * (1 - sigmoid(x)) ** gamma * math.log(1 + math.exp(-x))
        return rebalanced * sigmoid(2 * x) ** gamma * math.log(1 + math.exp(2 * x)) / 2

    logits, labels = entries(2)
    labels[0] = 0.0  # a study without findings
    by_hand(build_loss("distribution_balanced", COUNTS, ROWS, gamma=gamma), logits, labels, formula)


def test_dual_weighted_metric_by_hand():
    """Weighted cross-entropy, and at each positive how near the labels that the study has not are; each image alike."""
    logits, labels = entries(5)
    labels[0], labels[1, 2], labels[2] = 0.0, math.nan, math.nan
    loss = build_loss("dual_weighted_metric", COUNTS, ROWS, metric_weight=0.5, margin=0.3, disease_power=1.0)
    raw = [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS]
    expected = build_loss("weighted_bce", COUNTS, ROWS).elementwise(logits, labels)
    for x, y, row in zip(logits.tolist(), labels.tolist(), expected):
        known = [label for label in y if not math.isnan(label)]
        for c in [c for c, label in enumerate(y) if label == 1]:
            near = sum(math.exp(other - x[c] + 0.3) for other, label in zip(x, y) if label == 0)
            row[c] += 0.5 * raw[c] / sum(raw) * len(raw) * len(known) / sum(known) * math.log(1 + near)
    torch.testing.assert_close(loss.elementwise(logits, labels), expected)


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_class_balanced_by_hand(gamma):
    raw = [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS]

    def formula(x, y, finding, labels):
        weight = raw[finding] / sum(raw) * len(raw)
        return (
            -weight * (1 - sigmoid(x)) ** gamma * math.log(sigmoid(x))
            if y
            else -(sigmoid(x) ** gamma) * math.log(1 - sigmoid(x))
        )

    by_hand(build_loss("class_balanced", COUNTS, ROWS, gamma=gamma), *entries(3), formula)


def test_balanced_margin_by_hand():
    """The 2026 winner's weights; margins grow towards the tail, where its code has them shrink."""
    raw = [(1 - 0.9999) / (1 - 0.9999**n) for n in COUNTS]

    def formula(x, y, finding, labels):
        weight = math.sqrt(raw[finding] / (sum(raw) / len(raw)))
        margin = 0.2 * (min(COUNTS) / COUNTS[finding]) ** 0.25
        return -weight * math.log(sigmoid(x - margin) if y else sigmoid(-x))

    by_hand(build_loss("balanced_margin", COUNTS, ROWS), *entries(4), formula)


# -- weights of findings ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 10**5), min_size=1, max_size=8), kind=st.sampled_from(["class_balanced", "inverse"])
)
def test_class_weights_sum_to_the_findings_and_fall_with_their_number(counts, kind):
    loss = build_loss("bce", counts, 10**6, class_weights=kind)
    weights = loss.positive_weight
    assert weights.sum().item() == pytest.approx(len(counts))
    by_count = weights[torch.tensor(counts).argsort()]
    assert (by_count.diff() <= 1e-12).all()
    assert (loss.negative_weight == 1).all()
    both = build_loss("bce", counts, 10**6, class_weights=kind, weigh="both")
    assert torch.equal(both.negative_weight, both.positive_weight)


def test_class_balanced_goes_from_equal_to_inverse_with_beta():
    counts = [1.0, 10.0, 1000.0]
    weights = {beta: build_loss("class_balanced", counts, 5000, beta=beta).positive_weight for beta in (0.0, 1 - 1e-12)}
    assert (weights[0.0] == 1).all()
    torch.testing.assert_close(
        weights[1 - 1e-12], build_loss("inverse", counts, 5000).positive_weight, rtol=1e-3, atol=0
    )


def test_a_finding_without_positives_does_not_take_the_weight_of_others():
    with_empty, without = (
        build_loss("inverse", counts, 100).positive_weight for counts in ([5.0, 0.0, 20.0], [5.0, 20.0])
    )
    torch.testing.assert_close(with_empty[[0, 2]], without)
    assert with_empty[1] == 1


def test_inverse_is_of_the_share_of_known_entries():
    weights = build_loss("inverse", [10.0, 10.0], [100.0, 1000.0]).positive_weight
    assert (weights[1] / weights[0]).item() == pytest.approx(10)


def test_stopped_gradients_change_the_gradient_only():
    x = torch.tensor([[0.4]], requires_grad=True)
    for name, option in (("asymmetric", "focus_gradient"), ("class_aware", "weight_gradient")):
        flowing, stopped = (build_loss(name, [1.0], 2, **{option: flow}) for flow in (True, False))
        assert flowing(x, torch.zeros(1, 1)).item() == stopped(x, torch.zeros(1, 1)).item()
        gradients = [torch.autograd.grad(loss(x, torch.zeros(1, 1)), x)[0].item() for loss in (flowing, stopped)]
        assert gradients[0] > gradients[1] > 0, name


# -- where the minimum is ---------------------------------------------------------------------------------------------


def minimum(loss, share: float) -> float:
    """The logit with the least expected loss for one finding that is there with this probability."""
    x = torch.linspace(-12, 12, 24001, dtype=torch.float64)[:, None]
    values = loss.elementwise(x, torch.full_like(x, share))  # linear in the label: a soft one is an expectation
    return x[values.argmin()].item()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.8])
def test_the_minimum_is_where_theory_has_it(share):
    odds, prior = math.log(share / (1 - share)), math.log(0.1 / 0.9)
    built = lambda name, **options: build_loss(name, [10.0], 100, **options)  # noqa: E731
    close = lambda value: pytest.approx(value, abs=1e-3)  # noqa: E731
    assert minimum(built("bce"), share) == close(odds)
    assert minimum(built("brier"), share) == close(odds)
    assert minimum(built("logit_adjusted"), share) == close(odds - prior)
    assert minimum(built("logit_adjusted", tau=0.5), share) == close(odds - 0.5 * prior)
    assert minimum(built("ldam", max_margin=0.0, scale=2.0), share) == close(odds / 2)
    smoothed = 0.9 * share + 0.05
    assert minimum(built("bce", smoothing=0.1), share) == close(math.log(smoothed / (1 - smoothed)))
    assert minimum(built("weighted_bce"), share) == close(odds + 1 - 2 * 0.1)  # e^(1 - pi) to e^pi
    if share != 0.5:
        assert abs(minimum(built("mae"), share)) == 12  # off to the end: all of one label
        assert (minimum(built("mae"), share) > 0) == (share > 0.5)
        assert 0 < minimum(built("focal"), share) / odds < 1  # between the share and one half


def test_weights_on_positives_move_the_minimum_and_on_both_terms_do_not():
    rows = torch.linspace(-12, 12, 24001, dtype=torch.float64)[:, None].expand(-1, 2)
    share, odds = torch.full_like(rows, 0.1), math.log(0.1 / 0.9)
    least = {
        weigh: rows[build_loss("inverse", [1.0, 4.0], 100, weigh=weigh).elementwise(rows, share).argmin(0), [0, 1]]
        for weigh in ("positives", "both")
    }
    expected = [odds + math.log(1.6), odds + math.log(0.4)]
    torch.testing.assert_close(least["positives"], torch.tensor(expected, dtype=torch.float64), atol=1e-3, rtol=0)
    torch.testing.assert_close(least["both"], torch.full((2,), odds, dtype=torch.float64), atol=1e-3, rtol=0)


def test_the_page_repeats_the_minima_that_were_measured():
    page = (ROOT / "docs/why/losses.md").read_text()
    measured = {row["what"]: row["p"] for row in json.loads((ROOT / "bench/results/losses.json").read_text())["rows"]}
    for what, minima in measured.items():
        name, comma, rest = what.partition(", ")
        assert f"| `{name}`{comma}{rest} | {' | '.join(f'{p:.3f}' for p in minima)} |" in page
    apart = {"distribution_balanced", "mae", "softmax"}  # looks at other labels, least at -inf, of exclusive findings
    for name in LOSSES:  # the figures are still what the code has
        if name not in apart:
            loss = build_loss(name, [100.0, 1000.0, 4000.0], 10_000)
            x = torch.linspace(-8, 8, 1601, dtype=torch.float64)[:, None].expand(-1, 3)
            share = torch.tensor([0.01, 0.1, 0.4], dtype=torch.float64).expand_as(x)
            least = x[:, 0][loss.elementwise(x, share).argmin(dim=0)].sigmoid()
            torch.testing.assert_close(least, torch.tensor(measured[name], dtype=torch.float64), atol=0.004, rtol=0)
