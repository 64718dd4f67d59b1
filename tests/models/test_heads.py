"""Heads: each against its formula written out, the tokens it may read, and options that cannot work."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hilum.errors import InputError
from hilum.models.classifier import check_model
from hilum.models.heads import HEADS
from hilum.recipe import ModelSpec

CHANNELS, COUNT = 8, 5
KINDS = {
    "linear": ("linear", {}),
    "mlp": ("mlp", {"hidden": [6, 4]}),
    "mlp of one layer": ("mlp", {"hidden": []}),
    "attention": ("location_attention", {}),
    "attention, sigmoid": ("location_attention", {"weights": "sigmoid"}),
    "attention per finding": ("location_attention", {"maps": "per_finding"}),
    "attention of four": ("location_attention", {"heads": 4, "weights": "sigmoid", "maps": "per_finding"}),
    "csra": ("csra", {}),
    "csra, maximum": ("csra", {"temperatures": [math.inf], "bias": True}),
    "csra of four": ("csra", {"heads": 4, "normalise": False}),
    "lstm": ("label_lstm", {"dim": 6}),
    "decoder": ("ml_decoder", {"dim": 8, "heads": 2, "hidden": 16}),
    "label queries": ("label_query", {"dim": 8, "heads": 2, "hidden": 16, "queries": "learned"}),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def head_of(kind, channels=CHANNELS, findings=COUNT):
    torch.manual_seed(0)
    name, options = KINDS[kind]
    return HEADS[name](channels, findings, **options).eval()


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@kinds
@given(rows=st.integers(1, 3), tokens=st.integers(1, 9), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None, database=None, derandomize=True)
@torch.no_grad()
def test_only_tokens_that_are_there_are_read(kind, rows, tokens, seed):
    head, generator = head_of(kind), torch.Generator().manual_seed(seed)
    values = torch.randn(rows, tokens, CHANNELS, generator=generator)
    mask = torch.rand(rows, tokens, generator=generator) < 0.6
    mask[:, 0] = True
    logits = head(values, mask)
    assert logits.shape == (rows, COUNT)
    for stranger in (float("nan"), float("inf"), -1e4):
        assert torch.equal(head(values.masked_fill(~mask[..., None], stranger), mask), logits)
    for row in range(rows):
        same(head(values[row : row + 1, mask[row]]), logits[row : row + 1])
    order = torch.randperm(tokens, generator=generator)
    same(head(values[:, order], mask[:, order]), logits)


@kinds
def test_a_row_without_tokens_spoils_nobody(kind):
    head = head_of(kind).train()
    values, mask = torch.randn(3, 4, CHANNELS), torch.ones(3, 4, dtype=torch.bool)
    mask[1] = False
    logits = head(values, mask)
    assert logits.isfinite().all()
    logits[::2].square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@kinds
def test_one_finding_is_enough(kind):
    assert head_of(kind, findings=1)(torch.randn(2, 3, CHANNELS)).shape == (2, 1)


@torch.no_grad()
def test_mlp_is_a_network_for_each_finding():
    head, tokens = HEADS["mlp"](CHANNELS, COUNT, hidden=[6, 4]), torch.randn(3, 7, CHANNELS)
    alone = []
    for i in range(COUNT):
        layers = []
        for layer in head.layers:
            one = nn.Linear(*layer.weight.shape[1:])
            one.weight.copy_(layer.weight[i].T)
            one.bias.copy_(layer.bias[i])
            layers += [one, nn.ReLU()]
        alone.append(nn.Sequential(*layers[:-1])(tokens.mean(1)))
    same(head(tokens), torch.cat(alone, dim=1))
    published = HEADS["mlp"](1536, 14)
    assert [layer.weight.shape for layer in published.layers] == [
        (14, 1536, 384),
        (14, 384, 48),
        (14, 48, 48),
        (14, 48, 1),
    ]


@torch.no_grad()
def test_attention_by_hand():
    """Two positions with features (1, 0) and (3, 4); scores 0 and ln 3: softmax .25, .75; sigmoids .5, .75 over 1.25."""
    tokens = torch.tensor([[[1.0, 0.0], [3.0, 4.0]]])
    for weights, expected in (("softmax", [2.5, 3.0]), ("sigmoid", [2.2, 2.4])):
        head = HEADS["location_attention"](2, 2, weights=weights)
        head.score.weight.copy_(torch.tensor([[0.0, math.log(3) / 4]]))
        nn.init.eye_(head.project.weight)
        for name in ("score", "project"):
            if getattr(head, name).bias is not None:
                getattr(head, name).bias.zero_()
        same(head(tokens), torch.tensor([expected]))
    two = HEADS["location_attention"](
        2, 2, heads=2
    )  # the first channel is read where it is 1, the second where it is 4
    two.score.weight.copy_(torch.tensor([[-50.0, 0.0], [0.0, 50.0]]))
    nn.init.eye_(two.project.weight)
    two.project.bias.zero_()
    same(two(tokens), torch.tensor([[1.0, 4.0]]))


@torch.no_grad()
def test_a_map_per_finding_looks_elsewhere_for_each():
    head = HEADS["location_attention"](2, 2, maps="per_finding")
    head.score.weight.copy_(torch.tensor([[50.0, 0.0], [0.0, 50.0]]))
    weights = head.weights(torch.eye(2)[None])[0, :, :, 0]  # one position has the first feature, the other the second
    same(weights, torch.eye(2))
    shared = HEADS["location_attention"](2, 2).weights(torch.eye(2)[None])
    assert shared.shape == (1, 2, 1, 1)


@torch.no_grad()
@pytest.mark.parametrize(
    ("heads", "temperatures"),
    [(1, [1]), (2, [1, math.inf]), (4, [1, 2, 4, math.inf]), (6, [1, 2, 3, 4, 5, math.inf])],
)
def test_csra_is_the_formula_of_the_paper(heads, temperatures):
    torch.manual_seed(0)
    head, tokens = HEADS["csra"](CHANNELS, COUNT, heads=heads, share=0.3), torch.randn(2, 9, CHANNELS)
    expected = torch.zeros(2, COUNT)
    for h, temperature in enumerate(temperatures):
        for b in range(2):
            for i in range(COUNT):
                w = head.weight[h, i]
                s = tokens[b] @ w / w.norm()
                weights = (temperature * s).softmax(0) if temperature < math.inf else (s == s.max()).float()
                attended = (weights[:, None] * tokens[b]).sum(0)  # the class-specific feature, before it is scored
                expected[b, i] += (tokens[b].mean(0) + 0.3 * attended) @ w / w.norm()
    assert head.temperatures == tuple(temperatures)
    same(head(tokens), expected)


@torch.no_grad()
def test_the_lstm_is_torchs_own_fed_with_its_answers():
    torch.manual_seed(0)
    head, tokens = HEADS["label_lstm"](CHANNELS, COUNT, dim=6), torch.randn(2, 7, CHANNELS)
    cell, pooled, ask = nn.LSTMCell(CHANNELS + COUNT + 1, 6), tokens.mean(1), torch.eye(COUNT)

    def as_torch(gates):  # ours: forget, input, output, cell; torch's: input, forget, cell, output
        keep, write, show, new = gates.chunk(4)
        return torch.cat([write, keep, new, show])

    cell.weight_ih.copy_(as_torch(torch.cat([head.image.weight, head.asked.T, head.before[:, None]], dim=1)))
    cell.weight_hh.copy_(as_torch(head.recur.weight))
    cell.bias_ih.copy_(as_torch(head.image.bias))
    cell.bias_hh.zero_()
    state, memory = head.start(pooled).tanh().chunk(2, dim=1)
    earlier, expected = torch.zeros(2, 1), []
    for i in range(COUNT):
        state, memory = cell(torch.cat([pooled, ask[i].expand(2, -1), earlier], dim=1), (state, memory))
        expected.append(head.answer(state)[:, i])
        earlier = expected[-1].sigmoid()[:, None]
    same(head(tokens), torch.stack(expected, dim=1))


@torch.no_grad()
def test_a_finding_depends_on_those_before_it_alone():
    head, tokens = head_of("lstm"), torch.randn(2, 7, CHANNELS)
    logits = head(tokens)
    head.answer.bias[2] += 2.0
    moved = (head(tokens) - logits).abs().amax(0)
    assert moved[:2].sum() == 0
    assert (moved[2:] > 1e-5).all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mlp", {"hidden": [384, 0]}, "give a list of sizes"),
        ("mlp", {"hidden": "48"}, "give a list of sizes"),
        ("location_attention", {"heads": 3}, "8 channels do not divide by heads 3"),
        ("csra", {"temperatures": [1, 0]}, "above 0"),
        ("csra", {"temperatures": []}, "above 0"),
        ("csra", {"heads": 0}, "at least 1"),
        ("csra", {"heads": 3, "temperatures": [1, 2]}, "2 temperatures for 3 heads"),
        ("label_lstm", {"dim": 0}, "at least 1"),
    ],
)
def test_options_that_cannot_work_are_refused(name, options, message):
    with pytest.raises(InputError, match=rf"(?i){message}"):
        HEADS[name](CHANNELS, COUNT, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("location_attention", {"weights": "softmx"}, "id you mean 'softmax'"),
        ("location_attention", {"maps": "each"}, "Known: shared, per_finding"),
        ("csra", {"lambda": 0.1}, "not an option of head 'csra'"),
    ],
)
def test_wrong_options_are_told_before_anything_is_built(name, options, message):
    with pytest.raises(InputError, match=message):
        check_model(ModelSpec(head={"name": name, **options}))
