"""The contract of every loss: unknown is nothing, the gradient's sign, soft labels, entry weights, dtypes, options."""

import inspect
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.batches.dataset import Studies
from hilum.errors import InputError
from hilum.recipe import parse_recipe
from hilum.training.losses import LOSSES, build_loss, check_loss
from hilum.training.losses.loss import Loss, LossOptions
from hilum.training.stage import _loss
from tests import small
from tests.small import small_studies

ACROSS_FINDINGS = {"distribution_balanced"}  # an entry's value depends on the study's other labels, too
AMONG_FINDINGS = {"dual_weighted_metric"}  # and on their logits: an unknown one counts neither as present nor as absent
PAGE = Path(__file__).parents[2] / "docs/reference/recipe.md"
EXCLUSIVE = {"softmax"}  # of findings that exclude one another, no sum over entries: see test_single_label.py
CASES = [(name, {}) for name in LOSSES if name not in EXCLUSIVE] + [
    ("focal", {"class_weights": "class_balanced"}),
    ("class_balanced", {"gamma": 2.0, "weigh": "both"}),
    ("bce", {"smoothing": 0.1}),
    ("ldam", {"class_weights": "inverse"}),
    ("class_aware", {"decoupled": False, "margin": 0.0}),
    ("class_aware", {"weight_gradient": False, "shifted_weight": True}),
    ("distribution_balanced", {"gamma": 2.0}),
]
every_loss = pytest.mark.parametrize(("name", "options"), CASES, ids=lambda case: case if isinstance(case, str) else "")


def draw(seed: int, rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, labels 0 and 1, and which of them are unknown."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    labels = torch.rand(rows, columns, generator=generator, dtype=torch.float64).round()
    return logits, labels, torch.rand(rows, columns, generator=generator) < 0.4


@every_loss
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 6), columns=st.integers(1, 5))
def test_unknown_is_nothing(name, options, seed, rows, columns):
    """NaN entries are 0, get no gradient, and do not touch the others' values or the mean; a batch without any known is 0."""
    logits, labels, unknown = draw(seed, rows, columns)
    logits.requires_grad_()
    loss = build_loss(name, torch.arange(1.0, columns + 1), 20, **options)
    full = loss.elementwise(logits, labels.masked_fill(unknown, 0.0) if name in ACROSS_FINDINGS else labels)
    holed = labels.masked_fill(unknown, math.nan)
    values = loss.elementwise(logits, holed)
    assert (values[unknown] == 0).all()
    if name in AMONG_FINDINGS:
        full = loss.elementwise(torch.where(unknown, 7.0, logits), holed)
    torch.testing.assert_close(values[~unknown], full[~unknown], atol=0, rtol=0)
    loss(logits, holed).backward()
    assert (logits.grad[unknown] == 0).all()
    expected = values[~unknown].mean() if (~unknown).any() else torch.tensor(0.0, dtype=torch.float64)
    torch.testing.assert_close(loss(logits, holed), expected)
    torch.testing.assert_close(
        build_loss(name, torch.arange(1.0, columns + 1), 20, reduction="sum", **options)(logits, holed), values.sum()
    )


@every_loss
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 5))
def test_weights_of_entries(name, options, seed, rows):
    """All 1 change nothing, 0 is unknown, and a study that weighs 2 is there twice."""
    logits, labels, gone = draw(seed, rows, 3)
    labels = (labels + labels.flip(1)) / 2  # soft ones, too
    for reduction in ("mean", "sum"):
        loss = build_loss(name, [5.0, 2.0, 1.0], 20, reduction=reduction, **options)
        assert torch.equal(loss(logits, labels, torch.ones_like(labels)), loss(logits, labels))
        torch.testing.assert_close(
            loss(logits, labels, (~gone).double()), loss(logits, labels.masked_fill(gone, torch.nan))
        )
        doubled = torch.ones_like(labels)
        doubled[0] = 2.0
        twice = loss(torch.cat([logits, logits[:1]]), torch.cat([labels, labels[:1]]))
        torch.testing.assert_close(loss(logits, labels, doubled), twice)
        assert loss.divisor(labels) == loss.divisor(labels, torch.ones_like(labels)) == labels.numel()


@every_loss
def test_gradient_pushes_negatives_down_and_positives_up(name, options):
    p = torch.linspace(0.02, 0.98, 97, dtype=torch.float64)
    smoothed = "smoothing" in options  # there a positive beyond its label is pulled back
    for label, sign in ((0.0, 1), (1.0, -1)):
        x = torch.logit(p).requires_grad_()
        build_loss(name, [5.0], 100, **options).elementwise(
            x[:, None], torch.full((97, 1), label, dtype=torch.float64)
        ).sum().backward()
        inside = (p - label).abs() > 0.05 if smoothed else torch.ones_like(p, dtype=torch.bool)
        assert (sign * x.grad[inside] >= 0).all()
        strictly = inside & (p > 0.21) if label == 0 else inside  # margins leave negatives alone up to 0.2
        assert (sign * x.grad[strictly] > 0).all()


@every_loss
def test_weights_follow_known_entries_not_rows(name, options):
    """The prevalence of a finding labelled in a tenth of the rows is its share of that tenth."""
    logits, labels = torch.tensor([[0.3]]), torch.tensor([[1.0]])
    by_share = build_loss(name, [10.0], [100.0], **options).elementwise(logits, labels)
    torch.testing.assert_close(by_share, build_loss(name, [1.0], 10, **options).elementwise(logits, labels))


@every_loss
def test_linear_in_soft_labels(name, options):
    logits = torch.linspace(-4, 4, 9, dtype=torch.float64)[:, None].expand(9, 2)
    loss = build_loss(name, [3.0, 1.0], 10, **options)
    ones, zeros = (loss.elementwise(logits, torch.full_like(logits, y)) for y in (1.0, 0.0))
    soft = loss.elementwise(logits, torch.full_like(logits, 0.3))
    linear = torch.allclose(soft, 0.3 * ones + 0.7 * zeros, rtol=1e-9)
    assert linear == (name not in ACROSS_FINDINGS | AMONG_FINDINGS)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_is_kept_and_extremes_are_finite(name, options, dtype):
    logits = torch.tensor([[-60.0, 60.0, 0.0, 60.0, -60.0]], dtype=dtype, requires_grad=True)
    loss = build_loss(name, [1.0, 2.0, 3.0, 0.0, 10.0], 10, **options)  # one that nobody has, one that all have
    for label in (0.0, 0.5, 1.0, math.nan):
        value = loss(logits, torch.full((1, 5), label, dtype=dtype))
        assert value.dtype == dtype
        assert torch.isfinite(value)
        assert loss.elementwise(logits, torch.full((1, 5), label)).dtype == dtype
        value.backward()
        assert torch.isfinite(logits.grad).all()


ROUNDED = {torch.bfloat16: 2**-7, torch.float16: 2**-9}  # relative: two roundings to 8 and to 11 binary digits


def held_to_single_precision(name, options, device, dtype, tolerance):
    """Entries, mean and gradient of the same logits on a device in a precision against float32 on the CPU; unknown is nothing."""
    logits, labels, unknown = draw(0, 64, 5)
    coarse = logits.to(torch.bfloat16)  # the same numbers in every precision
    holed = labels.float().masked_fill(unknown, math.nan)
    found = []
    for place, precision in (("cpu", torch.float32), (device, dtype)):
        loss = build_loss(name, [1.0, 2.0, 30.0, 400.0, 900.0], 1000, **options).to(place)
        x = coarse.to(place, precision).detach().requires_grad_()
        values, mean = loss.elementwise(x, holed.to(place)), loss(x, holed.to(place))
        mean.backward()
        assert values.dtype == mean.dtype == x.grad.dtype == precision
        assert (values[unknown.to(place)] == 0).all()
        assert (x.grad[unknown.to(place)] == 0).all()
        found.append([one.detach().float().cpu() for one in (values, mean, x.grad)])
    for one, other in zip(*found):
        torch.testing.assert_close(other, one, rtol=tolerance, atol=tolerance * one.abs().max().item() / 100)


@every_loss
@pytest.mark.parametrize("dtype", ROUNDED)
def test_half_precision_says_what_single_precision_says(name, options, dtype):
    held_to_single_precision(name, options, "cpu", dtype, ROUNDED[dtype])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_loss
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), *ROUNDED.items()])
def test_a_cuda_device_says_what_the_cpu_says(name, options, dtype, tolerance):
    held_to_single_precision(name, options, "cuda", dtype, tolerance)


@every_loss
def test_it_moves_to_another_device_whole(name, options):
    """No tensor is left behind: on the meta device, any that is would raise."""
    loss = build_loss(name, [1.0, 2.0], 10, **options).to("meta")
    value = loss(torch.zeros(3, 2, device="meta"), torch.zeros(3, 2, device="meta"), torch.ones(3, 2, device="meta"))
    assert value.device.type == "meta"


@pytest.mark.parametrize("known", [[0.0, 0.0], [10.0, 0.0]])
@every_loss
def test_findings_that_nobody_has_or_labelled(name, options, known):
    loss = build_loss(name, [0.0, 0.0], known, **options)
    values = loss.elementwise(torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 0.0]]))
    assert torch.isfinite(values).all()
    assert (values >= 0).all()


# -- options ----------------------------------------------------------------------------------------------------------


def test_the_options_of_every_loss_are_those_of_the_class():
    parameters = inspect.signature(Loss).parameters.values()
    assert {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} == set(LossOptions.__annotations__)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("asymmetric", {"gama_neg": 2.0}, r"[Dd]id you mean 'gamma_neg'"),
        ("asymetric", {}, r"[Dd]id you mean 'asymmetric'"),
        ("focal", {"class_weights": "class_balance"}, r"[Dd]id you mean 'class_balanced'"),
        ("ldam", {"reduction": "average"}, "reduction"),
        ("class_balanced", {"beta": 1.0}, "beta"),
        ("class_balanced", {"beta": "high"}, "beta"),
        ("bce", {"smoothing": 1.0}, "smoothing"),
        ("class_aware", {"margin": 1.0}, "margin"),
        ("ldam", {"scale": 0.0}, "scale"),
        ("bce", {"parent_weight": 0.1}, "parents"),
        ("bce", {"parents": ["Edema"]}, "parents"),
        ("collections:Counter", {"parents": 3}, "parents"),
    ],
)
def test_what_cannot_be_built_is_said_before_any_data(name, options, said):
    with pytest.raises(InputError, match=said):
        check_loss(name, options)


def test_every_loss_and_option_stands_on_the_page_with_its_default():
    rows = {}
    for line in PAGE.read_text().split("## Losses")[1].split("\n## ")[0].splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| `") and len(cells) >= 2:
            rows |= {name.strip("` "): line for name in cells[0].split(",")}
    assert set(LOSSES) <= set(rows)
    for name, builder in LOSSES.items():
        for option in inspect.signature(builder).parameters.values():
            if option.kind is option.KEYWORD_ONLY and option.name not in LossOptions.__annotations__:
                assert f"`{option.name}` {str(option.default).lower()}" in rows[name], (name, option.name)
    for option in inspect.signature(Loss).parameters.values():
        if option.kind is option.KEYWORD_ONLY:
            assert f"| `{option.default}` |" in rows[option.name], option.name


# -- parents ----------------------------------------------------------------------------------------------------------

FINDINGS = ["Lung Opacity", "Pneumonia", "Edema"]


def test_a_child_above_its_parent_is_penalised_at_its_own_entry():
    logits = torch.logit(torch.tensor([[0.2, 0.7, 0.1], [0.9, 0.7, 0.5]], dtype=torch.float64))
    labels = torch.zeros_like(logits)
    plain, tied = (
        build_loss("bce", [1.0] * 3, 10, findings=FINDINGS, **more)
        for more in ({}, {"parents": {"Pneumonia": "Lung Opacity", "Edema": ["Lung Opacity"]}, "parent_weight": 2.0})
    )
    extra = tied.elementwise(logits, labels) - plain.elementwise(logits, labels)
    expected = torch.zeros_like(extra)
    expected[0, 1] = 2 * 0.5**2
    torch.testing.assert_close(extra, expected)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), rows=st.integers(1, 6))
def test_the_parents_term_keeps_the_contract(seed, rows):
    """Entries with a label unknown on either side get nothing; parts of a batch add up."""
    logits, labels, unknown = draw(seed, rows, 3)
    logits.requires_grad_()
    options = {"parents": {"Pneumonia": "Lung Opacity"}, "parent_weight": 1.0, "reduction": "sum"}
    loss = build_loss("focal", [1.0, 2.0, 3.0], 20, findings=FINDINGS, **options)
    holed = labels.masked_fill(unknown, math.nan)
    assert loss.reduction == "sum"
    loss(logits, holed).backward()
    assert (logits.grad[unknown] == 0).all()
    weights = (~unknown).double()
    torch.testing.assert_close(loss(logits, labels, weights), loss(logits, holed))
    parts = sum(loss(logits[i : i + 1], holed[i : i + 1]) for i in range(rows))
    torch.testing.assert_close(parts, loss(logits, holed))


def test_parents_are_findings_of_the_run():
    with pytest.raises(InputError, match=r"'Pneumonias'.*[Dd]id you mean 'Pneumonia'"):
        build_loss("bce", [1.0] * 3, 10, findings=FINDINGS, parents={"Pneumonias": "Lung Opacity"})


def test_a_stage_hands_the_names_of_its_findings_to_the_loss():
    stage = parse_recipe({"loss": {"name": "focal", "parents": {"Hernia": ["Mass", "Edema"]}}}).stages[0]
    table, images = small_studies(patients=4)
    loss = _loss(stage, Studies(table, images, small.FINDINGS))
    assert (loss.child.tolist(), loss.parent.tolist()) == ([2, 2], [1, 0])


# -- upweight ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bce", "weighted_asymmetric", "class_aware", "ldam"])
def test_an_upweighted_finding_counts_as_often_as_it_says(name):
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 2), (torch.rand(6, 2) < 0.5).float()
    named = {"findings": ["Edema", "Hernia"]}
    plain, more = (
        build_loss(name, [30, 4], 100, **named, **options).elementwise(logits, labels)
        for options in ({}, {"upweight": {"Hernia": 3.0}})
    )
    torch.testing.assert_close(more, plain * torch.tensor([1.0, 3.0]))


def test_upweight_names_findings_of_the_run():
    for wrong, word in (({"Hernai": 2.0}, "Hernia"), ({"Hernia": 0.0}, "above 0")):
        with pytest.raises(InputError, match=word):
            build_loss("bce", [30, 4], 100, findings=["Edema", "Hernia"], upweight=wrong)
