"""Label queries: what each kind is, what leaves a vocabulary open, and that no finding's logit depends on the others asked."""

import pytest
import torch

from hilum.errors import InputError
from hilum.models.classifier import build_classifier, rebuild_classifier
from hilum.models.heads import HEADS
from hilum.models.heads.queries import LabelQueries
from hilum.models.label_vectors import label_vectors
from hilum.recipe import ModelSpec
from tests.small import FINDINGS

SMALL = {"dim": 8, "heads": 2, "hidden": 16}
CHANNELS, COUNT, WIDTH = 6, 4, 10
OPEN = {
    "label_query": ("label_query", {}),
    "label_query, frozen": ("label_query", {"projection": "frozen"}),
    "ml_decoder": ("ml_decoder", {"queries": "text", "classifier": "shared"}),
}
CLOSED = {
    "self-attention": ("label_query", {"query_self_attention": True}),
    "separate": ("label_query", {"classifier": "separate"}),
    "learned": ("label_query", {"queries": "learned"}),
    "fixed": ("label_query", {"queries": "fixed"}),
    "one_hot": ("label_query", {"queries": "one_hot"}),
    "ml_decoder, separate": ("ml_decoder", {"queries": "text"}),
    "ml_decoder, one_hot": ("ml_decoder", {"queries": "one_hot", "classifier": "shared"}),
    "ml_decoder": ("ml_decoder", {}),
}
PRESENT = torch.tensor([[1, 1, 0], [1, 0, 0]], dtype=torch.bool)
VIEW = torch.tensor([[1, 3, 0], [2, 0, 0]], dtype=torch.int8)


def head_of(name, options, vectors=None, findings=COUNT):
    torch.manual_seed(0)
    head = HEADS[name](CHANNELS, findings, **SMALL, **options).eval()
    for part in head.modules():
        if isinstance(part, LabelQueries) and part.vectors is None:
            part.know(torch.randn(findings, WIDTH) if vectors is None else vectors)
    return head


def model_of(head, options, **more):
    torch.manual_seed(0)
    spec = ModelSpec(backbone={"name": "test_resnet"}, head={"name": head, **SMALL, **options}, **more)
    return build_classifier(spec, FINDINGS, 32).eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", OPEN)
def test_neither_order_nor_additions_change_a_logit(kind):
    torch.manual_seed(1)
    vectors, tokens, mask = torch.randn(COUNT, WIDTH), torch.randn(3, 5, CHANNELS), torch.rand(3, 5) < 0.7
    mask[:, 0] = True
    head = head_of(*OPEN[kind], vectors)
    assert head.open
    logits = head(tokens, mask)
    order = torch.tensor([2, 0, 3, 1])
    queries = next(part for part in head.modules() if isinstance(part, LabelQueries))
    queries.know(torch.cat([vectors[order], torch.randn(3, WIDTH)]))
    more = head(tokens, mask)
    assert more.shape == (3, COUNT + 3)
    torch.testing.assert_close(more[:, :COUNT], logits[:, order], atol=1e-6, rtol=0)
    assert (more[:, COUNT:] - logits[:, :3]).abs().amin() > 1e-4, "other labels, other logits"


@pytest.mark.parametrize("kind", CLOSED)
def test_closed_ones_are_closed(kind):
    head = head_of(*CLOSED[kind])
    assert not head.open
    assert head(torch.randn(2, 3, CHANNELS)).shape == (2, COUNT)


@torch.no_grad()
def test_self_attention_is_why():
    """With it, another finding changes the logits of the others, as the flag says."""
    torch.manual_seed(1)
    vectors, tokens = torch.randn(COUNT, WIDTH), torch.randn(3, 5, CHANNELS)
    head = head_of("label_query", {"query_self_attention": True}, vectors)
    logits = head(tokens)
    head.queries.know(torch.cat([vectors, torch.randn(1, WIDTH)]))
    assert (head(tokens)[:, :COUNT] - logits).abs().amax() > 1e-4


@torch.no_grad()
def test_projections_and_kinds():
    frozen = head_of("label_query", {"projection": "frozen"}, vectors := torch.randn(COUNT, SMALL["dim"]))
    assert torch.equal(frozen.queries(), vectors), "of the same width they are taken as they are"
    wide = head_of("label_query", {"projection": "frozen"}, torch.randn(COUNT, WIDTH))
    assert not [name for name, _ in wide.named_parameters() if name.startswith("queries")]
    assert "queries.project.weight" in wide.state_dict()
    tuned = head_of("label_query", {})
    assert {name for name, _ in tuned.named_parameters() if name.startswith("queries")} == {
        "queries.project.weight", "queries.project.bias",
    }  # fmt: skip
    one_hot = head_of("label_query", {"queries": "one_hot"})
    assert torch.equal(one_hot.queries.vectors, torch.eye(COUNT) * COUNT**0.5)
    assert not head_of("label_query", {"queries": "fixed"}).queries.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("kind", ["label_query", "ml_decoder"])
def test_attention_is_where_it_looked(kind):
    """A token's weight in the last layer sums to 1 over those that are there, and decides what is read."""
    head = head_of(*OPEN[kind])
    tokens, mask = torch.randn(2, 5, CHANNELS), torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    weights = head.attention(tokens, mask)
    assert weights.shape == (2, COUNT, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, COUNT))
    assert weights[0, :, 3:].abs().sum() == 0


@torch.no_grad()
@pytest.mark.parametrize("more", [{}, {"heads": "by_view"}, {"demographics": {"name": "concat"}}])
@pytest.mark.parametrize("fusion", ["mean", "transformer"])
def test_single_images_and_fused_views_with_all_that_stands_beside_a_head(fusion, more):
    options = {
        "name": fusion,
        **({"dim": 8, "heads": 2, "hidden": 8, "layers": 1, "reduce": 1} if fusion == "transformer" else {}),
    }
    model = model_of("label_query", {}, fusion=options, **more)
    assert model.vocabulary == "open"
    images = torch.rand(2, 3, 1, 32, 32)
    logits = model(images, PRESENT, VIEW)
    names = ("Hernia", "Scoliosis", "Edema", "Mass")
    vectors = label_vectors(model.labels.source, FINDINGS, names)
    twin = model.asked(names, torch.from_numpy(vectors.of(names)))
    assert (twin.findings, model.findings, twin.training) == (names, FINDINGS, False)
    torch.testing.assert_close(twin(images, PRESENT, VIEW)[:, [2, 3, 0]], logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(model(images, PRESENT, VIEW), logits, atol=0, rtol=0)


def test_a_fusion_with_weights_of_findings_closes_it():
    model = model_of("label_query", {}, fusion={"name": "weighted", "weights": "learned_per_finding"})
    assert model.fusion.per_finding
    assert model.vocabulary == "closed"


@torch.no_grad()
def test_it_is_rebuilt_from_its_facts_without_reading_a_text(monkeypatch):
    model = model_of("label_query", {}, labels={"name": "minilm", "prompts": ["{description}"]})
    monkeypatch.setattr("hilum.models.label_vectors.encoder", None)
    twin = rebuild_classifier(model.architecture, FINDINGS).eval()
    twin.load_state_dict(model.state_dict())
    images = torch.rand(2, 3, 1, 32, 32)
    assert torch.equal(twin(images, PRESENT, VIEW), model(images, PRESENT, VIEW))
    assert twin.vocabulary == "open"
    facts = model.architecture["labels"]
    assert (facts["name"], facts["prompts"], facts["width"]) == ("minilm", ["{description}"], 384)


def test_the_start_of_other_weights_does_not_depend_on_the_texts():
    one, other = (
        model_of("label_query", {}, labels={"name": "minilm", "centre": c}).state_dict() for c in (True, False)
    )
    assert [key for key in one if not torch.equal(one[key], other[key])] == ["head.queries.vectors"]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("label_query", {"dim": 9}, "multiple of heads"),
        ("label_query", {"layers": 0}, "at least 1"),
        ("ml_decoder", {"queries": "text", "groups": 2}, "set groups=4"),
    ],
)
def test_options_that_cannot_work_are_refused(name, options, message):
    with pytest.raises(InputError, match=rf"(?i){message}"):
        HEADS[name](CHANNELS, COUNT, **{**SMALL, **options})


def test_other_widths_are_refused():
    head = head_of("label_query", {})
    with pytest.raises(InputError, match="Embed them alike"):
        head.queries.know(torch.randn(2, WIDTH + 1))
