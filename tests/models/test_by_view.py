"""Backbones by view: each image is read by its own network alone; studies keep their laws; bundles rebuild them by word."""

import json
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.bundle import Bundle, read_bundle, read_weights, write_bundle
from hilum.errors import InputError
from hilum.models.by_view import ByView, build_by_view
from hilum.models.classifier import build_classifier, check_model, rebuild_classifier
from hilum.models.view_classifier import (
    ViewClassifier,
    ViewFacts,
    build_view_classifier,
    load_view_classifier,
    read_view_facts,
    write_view_classifier,
)
from hilum.models.weights import load_weights
from hilum.pixels.spec import PixelSpec
from hilum.recipe import ModelSpec
from tests.small import FINDINGS

SIZE = 64
UNKNOWN, PA, AP, LATERAL = range(4)
ROUTES = ("mean", "predicted")
shapes = given(studies=st.integers(1, 3), views=st.integers(1, 4), seed=st.integers(0, 2**31))
some = settings(max_examples=5, deadline=None, database=None, derandomize=True)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """The folder of a view classifier with random weights."""
    torch.manual_seed(0)
    model = build_view_classifier(["PA", "AP", "LATERAL"])
    folder = tmp_path_factory.mktemp("views") / "views"
    write_view_classifier(model, ViewFacts(model.architecture, PixelSpec(SIZE), {}, ["test"]), folder)
    return folder


def by_grey():
    """A context in which lateral is what is darker than the middle grey: a classifier whose word is known beforehand."""
    return patch.object(ViewClassifier, "is_lateral", lambda self, images: images.mean(dim=(1, 2, 3)) < 0.5)


def model_of(unknown="mean", judge=None, heads="shared", fusion="mean", lateral=None):
    torch.manual_seed(0)
    backbone = {"name": "by_view", "frontal": "test_resnet", "unknown": unknown}
    if lateral:
        backbone["lateral"] = lateral
    if unknown == "predicted":
        backbone["view_classifier"] = str(judge)
    spec = ModelSpec(backbone=backbone, fusion={"name": fusion}, heads=heads)
    return build_classifier(spec, FINDINGS, SIZE).eval()


def batch_of(studies, views, seed):
    """Images, present, view: each study has a view, all codes occur, unknown images are dark or bright."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(studies, views, generator=generator) < 0.6
    present[torch.arange(studies), torch.randint(views, (studies,), generator=generator)] = True
    view = torch.randint(4, (studies, views), generator=generator).to(torch.int8)
    grey = torch.rand(studies, views, 1, 1, 1, generator=generator).round() * 0.6
    return torch.rand(studies, views, 1, SIZE, SIZE, generator=generator) * 0.4 + grey, present, view


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("heads", ["shared", "by_view"])
@pytest.mark.parametrize("unknown", ROUTES)
@shapes
@some
@torch.no_grad()
def test_a_study_depends_on_its_own_present_views_alone(judge, unknown, heads, studies, views, seed):
    model = model_of(unknown, judge, heads)
    images, present, view = batch_of(studies, views, seed)
    logits = model(images, present, view)
    assert logits.isfinite().all()
    holed = images.masked_fill(~present[:, :, None, None, None], float("nan"))
    assert torch.equal(model(holed, present, torch.where(present, view, 3).to(torch.int8)), logits)
    for row in range(studies):
        here = present[row]
        same(
            model(images[row : row + 1, here], present[row : row + 1, here], view[row : row + 1, here]),
            logits[row : row + 1],
        )
    order = torch.randperm(views, generator=torch.Generator().manual_seed(seed))
    same(model(images[:, order], present[:, order], view[:, order]), logits)


@pytest.mark.parametrize("unknown", ROUTES)
@pytest.mark.parametrize("side", ["frontal", "lateral"])
@shapes
@some
@torch.no_grad()
def test_the_weights_of_a_side_move_only_studies_with_images_of_it(judge, unknown, side, studies, views, seed):
    model = model_of(unknown, judge)
    images, present, view = batch_of(studies, views, seed)
    with by_grey():
        logits = model(images, present, view)
        for parameter in getattr(model.backbone, side).parameters():
            parameter.mul_(1.5).add_(0.01)
        moved = (model(images, present, view) - logits).abs().amax(1) > 1e-6
    known = view == LATERAL if side == "lateral" else (view == PA) | (view == AP)
    dark = images.mean(dim=(2, 3, 4)) < 0.5
    guessed = torch.ones_like(present) if unknown == "mean" else (dark if side == "lateral" else ~dark)
    concerned = (present & (known | ((view == UNKNOWN) & guessed))).any(1)
    assert torch.equal(moved, concerned)


@torch.no_grad()
def test_unknown_views_get_the_mean_of_both_or_the_one_predicted(judge):
    images = torch.cat([torch.full((1, 1, SIZE, SIZE), 0.1), torch.full((1, 1, SIZE, SIZE), 0.9)])
    images = images + 0.05 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    views = {code: torch.full((2,), code, dtype=torch.int8) for code in range(4)}
    both = model_of("mean")
    maps = {code: both.encode(images, view) for code, view in views.items()}
    assert torch.equal(maps[PA], maps[AP])
    assert not torch.allclose(maps[PA], maps[LATERAL], atol=1e-3)
    same(maps[UNKNOWN], (maps[PA] + maps[LATERAL]) / 2)
    assert torch.equal(both.encode(images), maps[UNKNOWN]), "without a view, every view is unknown"
    sent = model_of("predicted", judge)
    with by_grey():
        guessed = sent.encode(images, views[UNKNOWN])
    same(guessed[0], sent.encode(images, views[LATERAL])[0])
    same(guessed[1], sent.encode(images, views[PA])[1])


@pytest.mark.parametrize("heads", ["shared", "by_view"])
def test_gradients_reach_both_networks_and_never_the_view_classifier(judge, heads):
    model = model_of("predicted", judge, heads).train()
    assert not model.backbone.view_classifier.training
    with torch.no_grad():
        for side in (model.backbone.frontal, model.backbone.lateral):
            for parameter in side.parameters():  # a residual branch that starts at zero passes no gradient on
                parameter.add_(0.05 * torch.randn_like(parameter))
    before = {key: value.clone() for key, value in model.backbone.view_classifier.state_dict().items()}
    images, present, _ = batch_of(4, 2, 0)
    view = torch.tensor([[PA, LATERAL], [AP, LATERAL], [UNKNOWN, UNKNOWN], [LATERAL, PA]], dtype=torch.int8)
    model(images, torch.ones_like(present), view).square().sum().backward()
    for name, parameter in model.named_parameters():
        reached = parameter.grad is not None and bool(parameter.grad.any())
        assert reached is not name.startswith("backbone.view_classifier"), name
    for key, value in model.backbone.view_classifier.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_batch_without_laterals_leaves_their_network_as_it_was_and_in_the_graph():
    model = model_of().train()
    before = {key: value.clone() for key, value in model.backbone.lateral.state_dict().items()}
    images, present, _ = batch_of(3, 2, 1)
    model(images, present, torch.full(present.shape, PA, dtype=torch.int8)).square().sum().backward()
    for name, parameter in model.backbone.lateral.named_parameters():
        assert parameter.grad is not None, "several processes wait for every gradient"
        assert not parameter.grad.any(), name
    for key, value in model.backbone.lateral.state_dict().items():
        assert torch.equal(value, before[key]), f"{key}: batch-norm statistics too"


@torch.no_grad()
def test_heads_apart_read_their_own_views_and_are_averaged():
    model = model_of(heads="by_view")
    images, present = batch_of(1, 2, 2)[0], torch.ones(1, 2, dtype=torch.bool)
    both = torch.tensor([[PA, LATERAL]], dtype=torch.int8)
    single = [model(images[:, k : k + 1], present[:, :1], both[:, k : k + 1]) for k in range(2)]
    same(model(images, present, both), (single[0] + single[1]) / 2)
    model.head.lateral.project.bias.add_(1.0)
    same(model(images, present, both), (single[0] + single[1] + 1) / 2)
    same(model(images[:, :1], present[:, :1], both[:, :1]), single[0])


@torch.no_grad()
def test_two_kinds_of_network_meet_in_the_frontal_channels():
    model = model_of(lateral="test_efficientnet")
    assert model.backbone.lateral.channels != model.backbone.frontal.channels
    images, present, view = batch_of(3, 3, 3)
    assert model.encode(images[present], view[present]).shape[1] == model.backbone.frontal.channels
    with pytest.raises(InputError, match="stride"):
        build_by_view(160, frontal="test_resnet", lateral="test_vit")


@torch.no_grad()
def test_the_exported_graph_says_the_same(judge):
    for model in (model_of("mean"), model_of("predicted", judge)):
        images, _, _ = batch_of(4, 1, 4)
        view = torch.tensor([UNKNOWN, PA, AP, LATERAL], dtype=torch.int8)
        graph = torch.export.export(model.backbone, (images[:, 0], view), strict=False).module()
        same(graph(images[:, 0], view), model.backbone(images[:, 0], view))


@pytest.mark.parametrize("heads", ["shared", "by_view"])
def test_a_bundle_holds_all_of_it(judge, heads, tmp_path):
    model = model_of("predicted", judge, heads)
    facts = Bundle(
        findings=list(FINDINGS),
        pixels=PixelSpec(SIZE),
        architecture=model.architecture,
        positives={},
        known={},
        sources=[],
    )
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    write_bundle(facts, weights, tmp_path / "bundle", recipe="", card="")
    read = read_bundle(tmp_path / "bundle")
    assert str(judge) not in json.dumps(read.architecture), "it stands by itself: no folder of the maker's"
    twin = rebuild_classifier(read.architecture, read.findings).eval()
    assert load_weights(twin, {key: torch.from_numpy(value) for key, value in read_weights(read).items()}).whole
    with torch.no_grad():
        assert torch.equal(twin(*batch_of(3, 3, 5)), model(*batch_of(3, 3, 5)))


def test_a_bundle_loads_nothing_from_elsewhere(judge):
    told = model_of("predicted", judge).architecture["backbone"]
    options = told["options"]
    for part, wrong in (
        ("frontal", {"name": "local-dir:/x", "options": {}}),
        ("lateral", {"name": "test_resnet", "options": {"checkpoint_path": "/x"}}),
        (
            "view_classifier",
            {**options["view_classifier"], "backbone": {**told["options"]["frontal"], "name": "hf-hub:a/b"}},
        ),
    ):
        architecture = {**model_of().architecture, "backbone": {**told, "options": {**options, part: wrong}}}
        with pytest.raises(InputError, match="the bundle"):
            rebuild_classifier(architecture, FINDINGS)


def test_wrong_words_are_found_before_anything_is_built(judge, tmp_path):
    for options, said in (
        ({"frontal": "test_resnte"}, "test_resnet"),
        ({"frontal": "test_resnet", "lateral": {"drop_rate": 0.1}}, "names no network"),
        ({"frontal": "test_resnet", "unknown": "predicted"}, "no view_classifier"),
        ({"frontal": "test_resnet", "unknown": "guessed"}, "predicted"),
        ({"frontal": "test_resnet", "view_classifier": str(tmp_path)}, "not a view classifier"),
        ({"frontal": "test_resnet", "laterl": "test_resnet"}, "Did you mean 'lateral'"),
        ({}, "needs the option 'frontal'"),
    ):
        with pytest.raises(InputError, match=said):
            check_model(ModelSpec(backbone={"name": "by_view", **options}))
    two = build_view_classifier(["PA", "AP"])
    write_view_classifier(two, ViewFacts(two.architecture, PixelSpec(SIZE), {}, []), tmp_path / "two")
    with pytest.raises(InputError, match="cannot tell frontal from lateral"):
        check_model(
            ModelSpec(backbone={"name": "by_view", "frontal": "test_resnet", "view_classifier": str(tmp_path / "two")})
        )


def test_a_view_classifier_comes_back_as_it_was_and_damage_is_told(judge, tmp_path):
    model = build_view_classifier(["PA", "LATERAL"]).eval()
    model.temperature.fill_(2.0)
    facts = ViewFacts(model.architecture, PixelSpec(96, "stretch"), {"accuracy": [0.9, 0.8, 1.0]}, ["test"], "Phantom.")
    write_view_classifier(model, facts, tmp_path / "views")
    twin, told = load_view_classifier(tmp_path / "views")
    assert (told.pixels, told.report, told.note, told.views) == (
        facts.pixels,
        facts.report,
        facts.note,
        ["PA", "LATERAL"],
    )
    with torch.no_grad():
        images = torch.rand(2, 1, 96, 96)
        assert torch.equal(twin(images), model(images))
        same(
            twin(images) * 2,
            twin.project(twin.backbone(torch.nn.functional.interpolate(images, size=64, mode="area")).mean((2, 3))),
        )
    weights = tmp_path / "views" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00")
    with pytest.raises(InputError, match="not those the facts tell of"):
        read_view_facts(tmp_path / "views")


def test_the_mode_of_training_is_as_asked():
    backbone = build_by_view(SIZE, frontal="test_resnet")
    assert isinstance(backbone, ByView)
    assert backbone.train().frontal.training
    assert not backbone.eval().lateral.training
