"""Age and sex beside the image: what a study's logits may depend on, and that the unknown is unknown, not 0."""

import pytest
import torch

from hilum.errors import InputError
from hilum.models.classifier import build_classifier, check_model, rebuild_classifier
from hilum.models.demographics import concat
from hilum.models.weights import load_weights
from hilum.recipe import ModelSpec, parse_recipe
from tests.small import FINDINGS

PEOPLE = torch.tensor([[6.5, 1, 1, 1], [2.0, 1, 0, 0], [0, 0, 0, 1]])  # a man of 65; 20 years; a woman
PRESENT = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
VIEW = torch.tensor([[1, 3, 0], [2, 0, 0], [1, 0, 3]], dtype=torch.int8)
FUSIONS = [
    {"name": "mean"},
    {"name": "concat"},
    {"name": "weighted"},
    {"name": "transformer", "heads": 2, "hidden": 16},
]
HEADS = ["linear", "csra", "location_attention", "ml_decoder"]


def classifier(fusion="mean", head="linear", hidden=0, **more):
    torch.manual_seed(0)
    told = {"name": "concat", "hidden": hidden}
    spec = ModelSpec(backbone={"name": "test_resnet"}, fusion=fusion, head=head, demographics=told, **more)
    return build_classifier(spec, FINDINGS, 64).eval()


def features(channels, views=3):
    return torch.randn(3, views, channels, 2, 2, generator=torch.Generator().manual_seed(1))


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("heads", ["shared", "by_view"])
@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda fusion: fusion["name"])
@pytest.mark.parametrize("head", HEADS)
def test_each_study_is_told_of_its_own_patient_alone(fusion, head, heads):
    model = classifier(fusion, head, hidden=4, heads=heads)
    maps = features(model.backbone.channels)
    logits = model.read(maps, PRESENT, VIEW, PEOPLE)
    for row in range(3):
        alone = [part[row : row + 1] for part in (maps, PRESENT, VIEW, PEOPLE)]
        same(model.read(*alone), logits[row : row + 1])
        other = PEOPLE.clone()
        other[row] = torch.tensor([9.0, 1, 1 - other[row, 2], 1])
        moved = (model.read(maps, PRESENT, VIEW, other) - logits).abs().amax(1)
        assert moved[row] > 1e-6
        assert moved[torch.arange(3) != row].sum() == 0


@torch.no_grad()
def test_unknown_is_unknown():
    model, strange = classifier(), PEOPLE.clone()
    maps = features(model.backbone.channels)
    logits = model.read(maps, PRESENT, VIEW, PEOPLE)
    strange[1, 2], strange[2, 0] = float("nan"), -7.0
    assert torch.equal(model.read(maps, PRESENT, VIEW, strange), logits), "what stands behind a flag of 0 is never read"
    nobody = torch.zeros(3, 4)
    assert torch.equal(model.read(maps, PRESENT, VIEW, nobody), model.read(maps, PRESENT, VIEW))
    newborn, woman = nobody.clone(), nobody.clone()
    newborn[:, 1], woman[:, 3] = 1, 1
    for known in (newborn, woman):
        assert (model.read(maps, PRESENT, VIEW, known) - model.read(maps, PRESENT, VIEW, nobody)).abs().min() > 1e-4


@torch.no_grad()
def test_the_numbers_by_hand():
    numbers = concat()(PEOPLE)
    expected = [[0.75, 1, 1, 1], [-1.5, 0, 1, 0], [0, -1, 0, 1]]  # age, sex, and whether they are known
    same(numbers, torch.tensor(expected, dtype=torch.float32))
    assert concat(hidden=6)(PEOPLE).shape == (3, 6)


@torch.no_grad()
def test_a_head_that_averages_reads_them_beside_the_pooled_features():
    """Late concatenation as published: linear([mean of the map, numbers])."""
    model = classifier()
    maps, here = features(model.backbone.channels, views=1), torch.ones(3, 1, dtype=torch.bool)
    pooled = torch.cat([maps[:, 0].mean((2, 3)), model.head.beside(PEOPLE)], dim=1)
    same(model.read(maps, here, VIEW[:, :1], PEOPLE), model.head.head.project(pooled))


def test_training_reaches_the_stand_ins():
    model = classifier(hidden=4).train()
    maps = features(model.backbone.channels)
    model.read(maps, PRESENT, VIEW, PEOPLE).square().sum().backward()
    assert all(parameter.grad.any() for parameter in model.head.parameters())
    model = classifier().train()
    model.read(maps, PRESENT, VIEW, PEOPLE).square().sum().backward()
    assert (model.head.beside.unknown.grad != 0).all()


@torch.no_grad()
def test_a_bundle_gives_them_back_and_older_ones_have_none():
    model = classifier({"name": "weighted"}, hidden=4, heads="by_view")
    twin = rebuild_classifier(model.architecture, FINDINGS).eval()
    assert load_weights(twin, model.state_dict()).whole
    maps = features(model.backbone.channels)
    assert torch.equal(twin.read(maps, PRESENT, VIEW, PEOPLE), model.read(maps, PRESENT, VIEW, PEOPLE))
    plain = build_classifier(ModelSpec(backbone={"name": "test_resnet"}), FINDINGS, 64)
    assert "demographics" not in plain.architecture
    assert torch.equal(plain.read(maps, PRESENT, VIEW, PEOPLE), plain.read(maps, PRESENT, VIEW))


def test_reading_can_be_exported():
    model = classifier({"name": "weighted"}, hidden=4)
    studies, views = torch.export.Dim("studies", min=1, max=64), torch.export.Dim("views", min=1, max=16)

    class Read(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, maps, present, view, people):
            return self.model.read(maps, present, view, people)

    batch = features(model.backbone.channels), PRESENT, VIEW, PEOPLE
    shapes = (*[{0: studies, 1: views}] * 3, {0: studies})
    with torch.no_grad():
        program = torch.export.export(Read(), batch, dynamic_shapes=shapes).module()
        for rows in (slice(None), slice(0, 2)):
            other = tuple(part[rows] for part in batch)
            same(program(*other), model.read(*other))


def test_a_recipe_says_it():
    page = {"model": {"demographics": {"name": "concat", "hidden": 8}}}
    assert parse_recipe(page).stages[0].model.demographics.options == {"hidden": 8}
    assert parse_recipe(page, ["model.demographics=null"]).stages[0].model.demographics is None
    assert parse_recipe({}, ["model.demographics=concat"]).stages[0].model.demographics.name == "concat"
    with pytest.raises(InputError, match="id you mean 'concat'"):
        check_model(ModelSpec(demographics={"name": "concatt"}))
    with pytest.raises(InputError, match="id you mean 'hidden'"):
        check_model(ModelSpec(demographics={"name": "concat", "hiden": 2}))
    with pytest.raises(InputError, match="or more"):
        concat(hidden=-1)
