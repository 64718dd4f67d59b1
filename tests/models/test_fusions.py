"""Fusions: what a study's logits may depend on, over random shapes; golden values; numbers that stay numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hilum.errors import InputError
from hilum.models.classifier import build_classifier, check_model, rebuild_classifier
from hilum.models.fusions import FUSIONS
from hilum.models.fusions.transformer import EncoderLayer, sine_positions
from hilum.models.heads import HEADS
from hilum.models.heads.queries import LabelQueries
from hilum.models.weights import load_weights
from hilum.recipe import ModelSpec
from tests.small import FINDINGS

CHANNELS, COUNT = 8, 5
SMALL = {"heads": 2, "hidden": 16}
KINDS = {
    "mean": ("mean", {}),
    "max": ("max", {}),
    "concat": ("concat", {}),
    "concat on a grid": ("concat", {"grid": 2}),
    "probability": ("weighted", {}),
    "probability per view": ("weighted", {"group": "view", "given": {"frontal": 6, "lateral": 4.0}}),
    "logit": ("weighted", {"of": "logit", "weights": "learned"}),
    "feature": ("weighted", {"of": "feature", "group": "view", "weights": "learned"}),
    "per finding": ("weighted", {"weights": "learned_per_finding"}),
    "transformer": ("transformer", SMALL),
    "transformer, pre": ("transformer", {**SMALL, "norm": "pre", "reduce": 1, "dim": 12}),
    "slots": ("transformer", {**SMALL, "embed": "slot"}),
}
ATTENDING = ("query", "key", "score", "norms.0")  # what chooses among tokens has nothing to choose where there is one
UNORDERED = [kind for kind in KINDS if kind != "slots"]
HEAD_OPTIONS = {
    **{name: {} for name in HEADS},
    "mlp": {"hidden": [6, 4]},
    "csra": {"heads": 3},
    "label_lstm": {"dim": 6},
    "ml_decoder": {"dim": 8, **SMALL},
    "label_query": {"dim": 8, **SMALL},
    "metric": {"dim": 8},
}
cases = pytest.mark.parametrize(("kind", "head"), [(kind, head) for kind in KINDS for head in HEADS])
shapes = given(studies=st.integers(1, 4), views=st.integers(1, 11), height=st.integers(1, 5), width=st.integers(1, 5),
               seed=st.integers(0, 2**31))  # fmt: skip
some = settings(max_examples=8, deadline=None, database=None, derandomize=True)


class Reader(nn.Module):
    """A fusion and the head it asks, with some weights of every kind."""

    def __init__(self, kind, head="linear"):
        super().__init__()
        torch.manual_seed(0)
        name, options = KINDS[kind]
        self.fusion = FUSIONS[name](CHANNELS, COUNT, **options)
        self.head = HEADS[head](self.fusion.channels, COUNT, **HEAD_OPTIONS[head])
        know_some_labels(self)
        for parameter in self.parameters():  # a start of zeros would hide what depends on it
            nn.init.normal_(parameter, std=0.5)

    def forward(self, features, present, view):
        return self.fusion(self.head, features, present, view)


def know_some_labels(model):
    """Hand vectors to every head that asks by the labels' texts."""
    for part in model.modules():
        if isinstance(part, LabelQueries) and part.vectors is None:
            part.know(torch.randn(COUNT, 6))


def studies_of(studies, views, height, width, seed):
    """Features, present (every study has a view, in any place) and view codes, unknown among them."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(studies, views, generator=generator) < 0.6
    present[torch.arange(studies), torch.randint(views, (studies,), generator=generator)] = True
    view = torch.randint(4, (studies, views), generator=generator).to(torch.int8)
    return torch.randn(studies, views, CHANNELS, height, width, generator=generator), present, view


def same(one, other, message=None):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5, msg=message)


@cases
@shapes
@some
@torch.no_grad()
def test_present_views_matter_and_absent_ones_never(kind, head, studies, views, height, width, seed):
    reader = Reader(kind, head).eval()
    features, present, view = studies_of(studies, views, height, width, seed)
    logits = reader(features, present, view)
    assert logits.shape == (studies, COUNT)
    assert logits.isfinite().all()
    absent = ~present[:, :, None, None, None]
    for stranger in (1e4, float("nan"), float("inf")):
        assert torch.equal(reader(features.masked_fill(absent, stranger), present, view), logits), stranger
    assert torch.equal(reader(features, present, torch.where(present, view, 3).to(torch.int8)), logits), "its type too"
    for row, place in present.nonzero().tolist():
        changed = features.clone()
        changed[row, place] += 3.0
        moved = (reader(changed, present, view) - logits).abs().amax(1)
        assert moved[row] > 1e-6, "a present view must matter"
        assert moved[torch.arange(studies) != row].sum() == 0, "and to its own study alone"


@cases
@shapes
@some
@torch.no_grad()
def test_a_study_alone_or_in_any_batch(kind, head, studies, views, height, width, seed):
    reader = Reader(kind, head).eval()
    batch = studies_of(studies, views, height, width, seed)
    logits = reader(*batch)
    order = torch.arange(studies).flip(0)
    same(reader(*(part[order] for part in batch)), logits[order])
    for row in range(studies):
        here = batch[1][row]  # without the places that stay empty
        same(reader(*(part[row : row + 1, here] for part in batch)), logits[row : row + 1])


@pytest.mark.parametrize(("kind", "head"), [(kind, head) for kind in UNORDERED for head in HEADS])
@shapes
@some
@torch.no_grad()
def test_the_order_of_views_does_not_matter(kind, head, studies, views, height, width, seed):
    reader = Reader(kind, head).eval()
    batch = studies_of(studies, views, height, width, seed)
    order = torch.randperm(views, generator=torch.Generator().manual_seed(seed))
    same(reader(*(part[:, order] for part in batch)), reader(*batch))


@torch.no_grad()
def test_slots_depend_on_the_order_of_present_views_alone():
    reader = Reader("slots").eval()
    features, _, view = studies_of(1, 6, 3, 3, 0)
    present = torch.tensor([[True, True, False, True, True, True]])
    logits = reader(features, present, view)
    turned = [1, 0, 2, 3, 4, 5]
    assert not torch.allclose(reader(features[:, turned], present, view), logits, atol=1e-4)
    moved = [0, 2, 1, 3, 4, 5]  # the gap elsewhere
    same(reader(features[:, moved], present[:, moved], view[:, moved]), logits)
    same(reader(features, present, torch.zeros_like(view)), logits, "types say nothing here")
    last = [0, 1, 2, 3, 5, 4]  # the fourth and fifth view: both beyond the third slot, so they share the fourth
    same(reader(features[:, last], present, view), logits)


@torch.no_grad()
@pytest.mark.parametrize(
    "kind", ["concat", "concat on a grid", "probability", "logit", "feature", "per finding", "transformer"]
)
def test_the_type_of_a_view_matters(kind):
    reader = Reader(kind).eval()
    features, present = torch.randn(1, 2, CHANNELS, 3, 3), torch.ones(1, 2, dtype=torch.bool)
    views = [torch.tensor([codes], dtype=torch.int8) for codes in ([1, 3], [3, 1], [0, 1])]
    logits = [reader(features, present, view) for view in views]
    assert (logits[0] - logits[1]).abs().max() > 1e-4
    assert (logits[0] - logits[2]).abs().max() > 1e-4


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_is_finite_and_reaches_every_parameter(kind, head, dtype):
    reader = Reader(kind, head).train()
    features, present, view = studies_of(6, 11, 3, 4, seed=3)
    present[0] = False  # no such study exists, but were there one, it would not spoil the others
    present[1, 4:] = present[1, 2:] = True
    view[1, :4] = torch.arange(4)
    features = features.masked_fill(~present[:, :, None, None, None], float("nan")).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        logits = reader(features, present, view)
    assert logits.isfinite().all()
    logits[1:].float().sigmoid().square().sum().backward()
    assert features.grad.isfinite().all()
    assert not features.grad[~present].any()
    for name, parameter in reader.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            if kind != "concat on a grid" or not any(word in name for word in ATTENDING):
                assert parameter.grad.any(), name


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_gives_nearly_the_same(kind):
    reader = Reader(kind).eval()
    batch = studies_of(4, 5, 3, 3, 0)
    with torch.autocast("cpu", torch.bfloat16):
        low = reader(*batch)
    torch.testing.assert_close(low.float(), reader(*batch), atol=0.15, rtol=0.05)


# -- what each one is -------------------------------------------------------------------------------------------------


class Told(nn.Module):
    """A head that answers what its tokens say: their mean over positions, channel by channel."""

    def forward(self, tokens, mask=None):
        return tokens.mean(dim=1)


def told(logits, codes, **options):
    """Weighted fusion of one study whose views' logits (V, F) are told, with these view codes."""
    fusion = FUSIONS["weighted"](logits.shape[1], logits.shape[1], **options)
    features = logits[None, :, :, None, None]
    return fusion(Told(), features, torch.ones(1, len(codes), dtype=torch.bool), torch.tensor([codes]))[0]


def test_weighted_probabilities_by_hand():
    """PA .9, LATERAL .2: (7 x .9 + 3 x .2) / 10 = .69; with another AP .5: (7 x .9 + 7 x .5 + 3 x .2) / 17 = .611765;
    per view group: (7 x .7 + 3 x .2) / 10 = .55; with an unknown view of .4: (7 x .9 + 3 x .2 + 5 x .4) / 15 = .593333.
    """
    p = torch.tensor([[0.9], [0.2], [0.5], [0.4]], dtype=torch.float64).logit().float()
    assert told(p[:2], [1, 3]).sigmoid().item() == pytest.approx(0.69, abs=1e-6)
    assert told(p[:3], [1, 3, 2]).sigmoid().item() == pytest.approx(10.4 / 17, abs=1e-6)
    assert told(p[:3], [1, 3, 2], group="view").sigmoid().item() == pytest.approx(0.55, abs=1e-6)
    assert told(p[[0, 1, 3]], [1, 3, 0]).sigmoid().item() == pytest.approx(8.9 / 15, abs=1e-6)
    halves = {"frontal": 1, "lateral": 1}
    assert told(p[:2], [1, 3], given=halves).sigmoid().item() == pytest.approx(0.55, abs=1e-6)
    mean_logit = (0.7 * p[0] + 0.3 * p[1]).item()
    assert told(p[:2], [1, 3], of="logit").item() == pytest.approx(mean_logit, abs=1e-6)
    assert told(p[:2], [1, 3], of="feature").item() == pytest.approx(mean_logit, abs=1e-6)


def test_weights_learned_start_as_given_and_may_differ_per_finding():
    x = torch.randn(3, COUNT, generator=torch.Generator().manual_seed(0))
    for weights in ("learned", "learned_per_finding"):
        same(told(x, [1, 3, 0], weights=weights), told(x, [1, 3, 0]))
    fusion = FUSIONS["weighted"](CHANNELS, COUNT, weights="learned_per_finding")
    assert fusion.offset.shape == (3, COUNT)
    assert not list(FUSIONS["weighted"](CHANNELS, COUNT).parameters())


@pytest.mark.parametrize("size", [3.0, 30.0, 100.0, 1e4])
def test_the_logit_of_a_mean_probability_keeps_its_digits(size):
    """One view alone gives its own logit back; two extreme ones give log(.7/.3) when they disagree."""
    for x in (size, -size):
        same(told(torch.tensor([[x]]), [3]), torch.tensor([x]))
        same(told(torch.tensor([[x], [x]]), [1, 3]), torch.tensor([x]))
    logits = torch.tensor([[size], [-size]], requires_grad=True)
    fused = told(logits, [1, 3])
    expected = (0.7 * logits.detach()[0].double().sigmoid() + 0.3 * logits.detach()[1].double().sigmoid()).logit()
    same(fused, expected.float())
    fused.sum().backward()
    assert logits.grad.isfinite().all()


@torch.no_grad()
def test_maximum_and_slots_by_hand():
    features = torch.tensor([1.0, 5.0, 3.0])[None, :, None, None, None].expand(1, 3, CHANNELS, 1, 1)
    present, view = torch.tensor([[True, False, True]]), torch.tensor([[1, 1, 2]])
    largest = FUSIONS["max"](CHANNELS, COUNT)(Told(), features, present, view)
    assert largest.tolist() == [[3.0] * CHANNELS]
    concat = FUSIONS["concat"](CHANNELS, COUNT)
    nn.init.constant_(concat.absent, 9.0)
    slots = concat(Told(), features, present, view)  # frontal: the mean of 1 and 3; lateral and other: absent
    assert slots.tolist() == [[2.0] * CHANNELS + [9.0] * 2 * CHANNELS]
    slots = concat(Told(), features, ~present, torch.tensor([[0, 0, 0]]))
    assert slots.tolist() == [[9.0] * 2 * CHANNELS + [5.0] * CHANNELS]


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_the_transformer_sees_across_views(head):
    reader = Reader("transformer", head).eval()
    features, view = torch.randn(1, 2, CHANNELS, 4, 4), torch.tensor([[1, 3]])
    both = torch.ones(1, 2, dtype=torch.bool)
    logits = reader(features, both, view)
    singles = [reader(features[:, i : i + 1], both[:, :1], view[:, i : i + 1]) for i in range(2)]
    told = (singles[0] - singles[1]).abs().max()  # what the head makes of a change of features at all
    assert (logits - (singles[0] + singles[1]) / 2).abs().max() > max(0.05 * told, 1e-5)
    tokens, mask = reader.fusion.tokens(features, both, view)
    changed = features.clone()
    changed[:, 1] += 1.0
    moved = (reader.fusion.tokens(changed, both, view)[0] - tokens)[:, : tokens.shape[1] // 2]
    assert moved.abs().amax(-1).min() > 1e-5, "every token of the first view hears of the second"
    assert mask.all()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_an_encoder_layer_equals_torch(norm):
    torch.manual_seed(0)
    own = EncoderLayer(8, 2, 16, 0.0, norm).eval()
    theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=norm == "pre").eval()
    with torch.no_grad():
        attend = own.attend
        theirs.self_attn.in_proj_weight.copy_(torch.cat([attend.query.weight, attend.key.weight, attend.value.weight]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([attend.query.bias, attend.key.bias, attend.value.bias]))
    theirs.self_attn.out_proj.load_state_dict(attend.out.state_dict())
    theirs.linear1.load_state_dict(own.expand.state_dict())
    theirs.linear2.load_state_dict(own.contract.state_dict())
    theirs.norm1.load_state_dict(own.norms[0].state_dict())
    theirs.norm2.load_state_dict(own.norms[1].state_dict())
    tokens, mask = (
        torch.randn(3, 6, 8),
        torch.tensor([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 1]]).bool(),
    )
    mine, other = own(tokens, mask), theirs(tokens, src_key_padding_mask=~mask)  # with gradients: torch's slow path
    same(mine[mask], other[mask])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5), (16, 16)])
def test_positions_differ_by_row_and_by_column(height, width):
    grid = sine_positions(height, width, 16).unflatten(0, (height, width))
    assert grid.shape == (height, width, 16)
    assert torch.cdist(grid.flatten(0, 1), grid.flatten(0, 1)).fill_diagonal_(9).min() > 0.1, "no two places alike"
    same(grid[..., :8], grid[:, :1, :8].expand(-1, width, -1))  # the first half says the row, the second the column
    same(grid[..., 8:], grid[:1, :, 8:].expand(height, -1, -1))
    bigger = sine_positions(height + 2, width + 3, 16).unflatten(0, (height + 2, width + 3))
    same(bigger[:height, :width], grid)
    row, slow = torch.tensor(float(height - 1)), torch.tensor((height - 1) / 10_000 ** (3 / 4))
    same(grid[-1, 0, [0, 3, 4, 7]], torch.stack([row.sin(), slow.sin(), row.cos(), slow.cos()]))


# -- heads, names, bundles ---------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
def test_a_head_reads_the_tokens_that_are_there(name):
    torch.manual_seed(0)
    head = HEADS[name](CHANNELS, COUNT, **HEAD_OPTIONS[name]).eval()
    know_some_labels(head)
    tokens, mask = torch.randn(3, 7, CHANNELS), torch.rand(3, 7) < 0.6
    mask[:, 0] = True
    logits = head(tokens, mask)
    assert torch.equal(head(tokens.masked_fill(~mask[..., None], float("nan")), mask), logits)
    for row in range(3):
        same(head(tokens[row : row + 1, mask[row]]), logits[row : row + 1])
    same(head(tokens, torch.ones_like(mask)), head(tokens))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_gives_every_fusion_back(kind):
    name, options = KINDS[kind]
    spec = ModelSpec(backbone={"name": "test_resnet"}, fusion={"name": name, **options})
    model = build_classifier(spec, FINDINGS, 64).eval()
    twin = rebuild_classifier(model.architecture, FINDINGS).eval()
    assert load_weights(twin, model.state_dict()).whole
    images, present = torch.rand(2, 3, 1, 64, 64), torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    view = torch.tensor([[1, 3, 0], [2, 0, 3]], dtype=torch.int8)
    with torch.no_grad():
        assert torch.equal(twin(images, present, view), model(images, present, view))


def test_a_bundle_from_before_the_other_fusions_still_loads():
    architecture = dict(build_classifier(ModelSpec(backbone={"name": "test_resnet"}), FINDINGS, 64).architecture)
    assert architecture.pop("head_channels") == 96
    assert architecture["fusion"] == {"name": "mean"}
    assert rebuild_classifier(architecture, FINDINGS).fusion.channels == 96


@pytest.mark.parametrize(
    "kind", ["mean", "concat", "concat on a grid", "probability per view", "feature", "transformer", "slots"]
)
def test_reading_can_be_exported(kind):
    """No branch depends on a value: the graph of one batch answers another of any size."""
    reader = Reader(kind).eval()
    studies, views = torch.export.Dim("studies", min=1, max=64), torch.export.Dim("views", min=1, max=16)
    batch = studies_of(3, 4, 3, 3, 0)
    shapes = tuple({0: studies, 1: views} for _ in batch)
    with torch.no_grad():
        program = torch.export.export(reader, batch, dynamic_shapes=shapes).module()
        for other in (studies_of(5, 7, 3, 3, 1), batch):
            same(program(*other), reader(*other))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("weighted", {"of": "probabilty"}, "id you mean 'probability'"),
        ("weighted", {"given": 7}, "Give names with values"),
        ("transformer", {"embed": "place"}, "Known: type, slot"),
        ("transformer", {"layers": 2.5}, "Give a whole number"),
        ("transformers", {}, "id you mean 'transformer'"),
    ],
)
def test_wrong_options_are_told_before_anything_is_built(name, options, message):
    with pytest.raises(InputError, match=message):
        check_model(ModelSpec(fusion={"name": name, **options}))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("weighted", {"of": "feature", "weights": "learned_per_finding"}, "no weights per finding"),
        ("weighted", {"given": {"frontl": 7}}, "id you mean 'frontal'"),
        ("weighted", {"given": {"frontal": 0}}, "above 0"),
        ("transformer", {"heads": 3}, "not a multiple"),
        ("transformer", {"dim": 6, "heads": 2}, "not a multiple of 4"),
        ("transformer", {"reduce": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_work_are_refused(name, options, message):
    with pytest.raises(InputError, match=message):
        FUSIONS[name](CHANNELS, COUNT, **options)
