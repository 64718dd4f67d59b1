"""The context of a study: what is known moves its logits, what is not known never does, over random shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hilum.data.text import BUCKETS
from hilum.errors import InputError
from hilum.models.classifier import Classifier, build_classifier, check_model, rebuild_classifier
from hilum.models.context import Context
from hilum.models.fusions import FUSIONS
from hilum.models.fusions.apart import Apart, HeadPair
from hilum.models.heads import HEADS
from hilum.models.weights import load_weights
from hilum.recipe import ModelSpec
from tests.models.test_fusions import CHANNELS, COUNT, KINDS, SMALL, same, studies_of
from tests.small import FINDINGS

HEAD_OPTIONS = {"linear": {}, "ml_decoder": {"dim": 16, **SMALL}}
PARTS = ["prior", "indication", "demographics"]
READERS = {
    "post": {**SMALL, "context": PARTS},
    "pre": {**SMALL, "context": PARTS, "norm": "pre", "reduce": 1, "dim": 12},
    "slots": {**SMALL, "context": PARTS, "embed": "slot"},
}
STRANGERS = (1e4, float("nan"), float("inf"))
cases = pytest.mark.parametrize(("kind", "head"), [(kind, head) for kind in READERS for head in HEAD_OPTIONS])
shapes = given(studies=st.integers(1, 4), views=st.integers(2, 9), height=st.integers(1, 4), width=st.integers(1, 4),
               seed=st.integers(0, 2**31))  # fmt: skip
some = settings(max_examples=4, deadline=None, database=None, derandomize=True)


def reader(name, options, head="linear", heads="shared"):
    """A classifier of which only the reading is used, with some weights of every kind."""
    torch.manual_seed(0)
    fusion = FUSIONS[name](CHANNELS, COUNT, **options)
    made = [HEADS[head](fusion.channels, COUNT, **HEAD_OPTIONS[head]) for _ in range(2)]
    if heads == "by_view":
        fusion, made = Apart(fusion), [HeadPair(*made)]
    model = Classifier(nn.Identity(), fusion, made[0], [str(k) for k in range(COUNT)], {})
    for parameter in model.parameters():  # a start of zeros would hide what depends on it
        nn.init.normal_(parameter, std=0.5) if parameter.ndim > 1 else parameter.data.add_(
            0.1 * torch.randn_like(parameter)
        )
    return model.eval()


def told_of(studies, views, height, width, seed):
    """Arguments of `read`: some studies know their age, some their sex, some have words or a study before, some nothing."""
    features, present, view = studies_of(studies, views, height, width, seed)
    generator = torch.Generator().manual_seed(seed + 1)

    def flags(*shape):
        return torch.rand(*shape, generator=generator) < 0.6

    first = present.float().argmax(dim=1)
    prior = flags(studies, views) & present & flags(studies, 1)
    prior[torch.arange(studies), first] = False  # a study has an image of its own
    age, sex = (torch.rand(studies, generator=generator) * 9, flags(studies).float())
    demographics = torch.stack([age, flags(studies).float(), sex, flags(studies).float()], dim=1)
    words = torch.rand(studies, BUCKETS, generator=generator) * (
        torch.rand(studies, BUCKETS, generator=generator) < 0.02
    )
    context = Context(
        prior=prior, years=torch.rand(studies, generator=generator) * 5, indication=words, told=flags(studies)
    )
    return features, present, view, demographics, context


def change(arguments, **parts):
    """The same arguments with some replaced, those of the context among them."""
    named = dict(zip(("features", "present", "view", "demographics"), arguments[:4]))
    context = arguments[4]._replace(
        **{name: part for name, part in parts.items() if name in Context._fields and name not in named}
    )
    return *({**named, **parts}[name] for name in named), context


@cases
@shapes
@some
@torch.no_grad()
def test_what_is_not_known_never_matters(kind, head, **shape):
    model, told = reader("transformer", READERS[kind], head), told_of(**shape)
    features, present, _, demographics, context = told
    logits = model.read(*told)
    assert logits.shape == (shape["studies"], COUNT)
    assert logits.isfinite().all()
    unknown = torch.stack([demographics[:, 1] == 0, torch.zeros(len(logits)) > 0] * 2, dim=1)
    unknown[:, 2] = demographics[:, 3] == 0
    for stranger in STRANGERS:
        other = change(
            told,
            features=features.masked_fill(~present[:, :, None, None, None], stranger),
            demographics=demographics.masked_fill(unknown, stranger),
            years=context.years.masked_fill(~context.prior.any(dim=1), stranger),
            indication=context.indication.masked_fill(~context.told[:, None], stranger),
            prior=context.prior | ~present,
        )
        assert torch.equal(model.read(*other), logits), stranger


@cases
@shapes
@some
@torch.no_grad()
def test_what_is_known_matters_to_its_own_study_alone(kind, head, **shape):
    model, told = reader("transformer", READERS[kind], head), told_of(**shape)
    features, _, _, demographics, context = told
    logits, has_prior = model.read(*told), context.prior.any(dim=1)
    for row in range(shape["studies"]):
        older, turned = demographics.clone(), demographics.clone()
        older[row, 0] += 3
        turned[row, 2] = 1 - turned[row, 2]
        seen, said, later = features.clone(), context.indication.clone(), context.years.clone()
        seen[row][context.prior[row]] += 3
        said[row] += 0.3
        later[row] += 3
        for other, known in (
            (change(told, demographics=older), demographics[row, 1] > 0),
            (change(told, demographics=turned), demographics[row, 3] > 0),
            (change(told, indication=said), context.told[row]),
            (change(told, years=later), has_prior[row]),
            (change(told, features=seen), has_prior[row]),
            (change(told, prior=context.prior & (torch.arange(len(logits)) != row)[:, None]), has_prior[row]),
        ):
            moved = (model.read(*other) - logits).abs().amax(dim=1)
            assert bool(moved[row] > 1e-6) == bool(known)
            assert moved[torch.arange(len(logits)) != row].sum() == 0


@cases
@shapes
@some
@torch.no_grad()
def test_a_study_alone_in_any_batch_and_in_any_order_of_views(kind, head, **shape):
    model, told = reader("transformer", READERS[kind], head), told_of(**shape)
    logits = model.read(*told)
    flat = [*told[:4], *told[4][1:]]

    def read(parts):
        return model.read(*parts[:4], Context(None, *parts[4:]))

    turned = torch.arange(len(logits)).flip(0)
    same(read([part[turned] for part in flat]), logits[turned])
    for row in range(len(logits)):
        alone = [part[row : row + 1] for part in flat]
        here = told[1][row]
        same(
            read([part[:, here] if place in (0, 1, 2, 4) else part for place, part in enumerate(alone)]),
            logits[row : row + 1],
        )
    if kind != "slots":
        order = torch.randperm(shape["views"], generator=torch.Generator().manual_seed(shape["seed"]))
        same(read([part[:, order] if place in (0, 1, 2, 4) else part for place, part in enumerate(flat)]), logits)


@pytest.mark.parametrize("kind", READERS)
@torch.no_grad()
def test_not_known_is_as_if_nobody_had_spoken_of_it(kind):
    model = reader("transformer", READERS[kind])
    features, present, view, demographics, context = told_of(5, 4, 3, 3, 1)
    silent = Context(
        prior=torch.zeros_like(present), years=context.years, indication=context.indication, told=torch.zeros(5) > 0
    )
    unknown = demographics * torch.tensor([1.0, 0.0, 1.0, 0.0])
    same(model.read(features, present, view, unknown, silent), model.read(features, present, view))
    same(
        model.read(features, present, view, None, context._replace(prior=None, told=None)),
        model.read(features, present, view),
    )


@pytest.mark.parametrize("heads", ["shared", "by_view"])
@pytest.mark.parametrize("kind", [*KINDS, "words alone"])
@torch.no_grad()
def test_a_study_before_is_no_view_to_whoever_does_not_read_it(kind, heads):
    name, options = KINDS.get(kind, ("transformer", {**SMALL, "context": ["indication"]}))
    model = reader(name, options, heads=heads)
    features, present, view, demographics, context = told_of(6, 5, 3, 3, 0)
    assert context.prior.any()
    shown = features.masked_fill(context.prior[:, :, None, None, None], float("nan"))
    logits = model.read(shown, present, view, demographics, context)
    same(logits, model.read(features, present & ~context.prior, view, None, context._replace(prior=None)))
    assert not torch.allclose(
        logits, model.read(features, present, view, None, context._replace(prior=None)), atol=1e-4
    )


@pytest.mark.parametrize("part", PARTS)
@torch.no_grad()
def test_an_ablated_part_is_not_read(part):
    """Each part alone, and all but it: only the fusion that asks for it is moved by it."""
    told = told_of(6, 5, 3, 3, 0)
    features, _, _, demographics, context = told
    other = {
        "prior": change(told, features=features + context.prior[:, :, None, None, None]),
        "indication": change(told, indication=context.indication + 0.3),
        "demographics": change(told, demographics=demographics + torch.tensor([2.0, 0.0, 0.0, 0.0])),
    }[part]
    for context_read in ([part], [one for one in PARTS if one != part], []):
        model = reader("transformer", {**SMALL, "context": context_read})
        assert torch.equal(model.read(*told), model.read(*other)) == (part not in context_read)
    names = {
        name.split(".")[1]
        for name, _ in reader("transformer", {**SMALL, "context": [part]}).fusion.told.named_parameters()
    }
    assert names <= {"weight", "bias"}


@torch.no_grad()
def test_heads_by_view_are_asked_by_the_studys_own_views():
    model = reader("transformer", READERS["post"], heads="by_view")
    features, present, _, demographics, context = told_of(6, 5, 3, 3, 0)
    own_lateral = torch.where(context.prior, 1, 3).to(torch.int8)  # own images lateral, those before frontal
    logits = model.read(features, present, own_lateral, demographics, context)
    model.head.frontal.linear.bias.add_(7.0) if hasattr(model.head.frontal, "linear") else nn.init.ones_(
        next(model.head.frontal.parameters())
    )
    assert torch.equal(model.read(features, present, own_lateral, demographics, context), logits)


@torch.no_grad()
def test_slots_of_the_study_before_are_its_own():
    model = reader("transformer", READERS["slots"])
    features, view = torch.randn(1, 4, CHANNELS, 2, 2), torch.ones(1, 4, dtype=torch.int8)
    present, prior = torch.ones(1, 4, dtype=torch.bool), torch.tensor([[False, False, True, True]])
    context, turned = Context(prior=prior), [2, 3, 0, 1]
    same(
        model.read(features[:, turned], present, view, None, Context(prior=prior[:, turned])),
        model.read(features, present, view, None, context),
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", READERS)
def test_training_is_finite_and_reaches_every_parameter(kind, dtype):
    model, told = reader("transformer", READERS[kind]).train(), told_of(8, 6, 3, 4, 3)
    told[4].indication[~told[4].told] = float("nan")
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits = model.read(*told)
    assert logits.isfinite().all()
    logits.float().sigmoid().square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model.eval().read(*told).float()
    torch.testing.assert_close(low, model.read(*told).detach(), atol=0.15, rtol=0.05)


def test_a_bundle_gives_it_back_and_one_from_before_has_nothing_of_it():
    spec = ModelSpec(backbone={"name": "test_resnet"}, fusion={"name": "transformer", **SMALL, "context": PARTS})
    model = build_classifier(spec, FINDINGS, 64).eval()
    twin = rebuild_classifier(model.architecture, FINDINGS).eval()
    assert load_weights(twin, model.state_dict()).whole
    _, present, view, demographics, context = told_of(3, 4, 1, 1, 0)
    images = torch.rand(3, 4, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(
            twin(images, present, view, demographics, context), model(images, present, view, demographics, context)
        )
    before = build_classifier(
        ModelSpec(backbone={"name": "test_resnet"}, fusion={"name": "transformer", **SMALL}), FINDINGS, 64
    )
    assert before.architecture["fusion"] == {"name": "transformer", **SMALL}
    assert not [key for key in before.state_dict() if "told" in key]


def test_reading_can_be_exported():
    model = reader("transformer", READERS["post"])
    studies, views = torch.export.Dim("studies", min=1, max=64), torch.export.Dim("views", min=1, max=16)

    class Reading(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, features, present, view, demographics, prior, years, indication, told):
            context = Context(prior=prior, years=years, indication=indication, told=told)
            return self.model.read(features, present, view, demographics, context)

    def flat(told):
        return (*told[:4], *told[4][1:])

    batch = flat(told_of(3, 4, 3, 3, 0))
    dims = tuple({0: studies, 1: views} if place in (0, 1, 2, 4) else {0: studies} for place in range(8))
    with torch.no_grad():
        program = torch.export.export(Reading(), batch, dynamic_shapes=dims).module()
        for other in (batch, flat(told_of(5, 7, 3, 3, 1))):
            same(program(*other), Reading()(*other))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": ["priors"]}, "holds 'priors'. Give a list of prior, indication, demographics"),
        ({"context": "prior"}, "holds 'prior'. Give a list"),
        ({"context": ["prior"], "text": 3}, "Give a text"),
    ],
)
def test_wrong_options_are_told_before_anything_is_built(options, message):
    with pytest.raises(InputError, match=message):
        check_model(ModelSpec(fusion={"name": "transformer", **options}))
    with pytest.raises(InputError, match="hashed_words"):
        FUSIONS["transformer"](CHANNELS, COUNT, **SMALL, text="hashed_word")
