"""One contract for every backbone with every head: shapes, independence, masks, gradients, half precision, the way through a bundle."""

from functools import cache

import pytest
import torch
from torch import nn

from hilum.bundle import Bundle, write_bundle
from hilum.inference.predict import load
from hilum.models.backbones import build_backbone
from hilum.models.classifier import _assembled, build_classifier
from hilum.models.heads import HEADS
from hilum.pixels.spec import PixelSpec
from hilum.recipe import ModelSpec
from tests.small import FINDINGS

SIZE = 64
FAMILIES = {
    "resnet": {"name": "test_resnet"},
    "convnext": {"name": "test_convnext"},
    "vit": {"name": "test_vit"},
    "efficientnet": {"name": "test_efficientnet"},
    "densenet": {"name": "densenet121", "growth_rate": 8, "block_config": (1, 1, 1, 1)},
    "mobilenet": {"name": "mobilenetv1_100"},
    "swin": {
        "name": "swin_tiny_patch4_window7_224",
        "embed_dim": 16,
        "depths": (1, 1, 2, 1),
        "num_heads": (1, 1, 2, 2),
        "window_size": 2,
    },
    "custom": {"name": "custom_cnn", "widths": [8, 16, 32]},
    "coordinates": {"name": "test_resnet", "coordinates": True},
}
HEAD_OPTIONS = {
    **{name: {} for name in HEADS},
    "mlp": {"hidden": [16, 8]},
    "location_attention": {"weights": "sigmoid"},
    "csra": {"heads": 2},
    "label_lstm": {"dim": 8},
    "ml_decoder": {"dim": 16, "heads": 2, "hidden": 16},
    "label_query": {"dim": 16, "heads": 2, "hidden": 16},
    "metric": {"dim": 16},
}
FUSIONS = {  # a late fusion, and an early one whose tokens carry a mask
    "weighted": {"name": "weighted", "weights": "learned"},
    "transformer": {"name": "transformer", "heads": 2, "hidden": 16, "layers": 1, "dim": 16, "reduce": 1},
}
PRESENT = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
VIEW = torch.tensor([[1, 3, 0], [2, 0, 0], [1, 0, 3]], dtype=torch.int8)
PEOPLE = torch.tensor([[6.5, 1, 1, 1], [2.0, 1, 0, 0], [0, 0, 0, 1]])


@cache
def backbone_of(family):
    torch.manual_seed(0)
    options = dict(FAMILIES[family])
    backbone = build_backbone(options.pop("name"), SIZE, **options)
    # timm starts the last norm of a residual branch at 0, which hides the branch
    for parameter in backbone.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return backbone


def classifier(family, head, fusion, **more):
    torch.manual_seed(1)
    told = {"name": head, **HEAD_OPTIONS[head]}
    return _assembled(backbone_of(family), ModelSpec(fusion=FUSIONS[fusion], head=told, **more), FINDINGS, SIZE)


def pictures():
    return torch.rand(3, 3, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def same(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


contract = [
    pytest.mark.parametrize("fusion", FUSIONS),
    pytest.mark.parametrize("head", HEADS),
    pytest.mark.parametrize("family", FAMILIES),
]


def of_all(test):
    for mark in contract:
        test = mark(test)
    return test


@of_all
@torch.no_grad()
def test_a_study_depends_on_its_own_present_views_alone(family, head, fusion):
    model, images = classifier(family, head, fusion).eval(), pictures()
    features = model.encode(images[PRESENT], VIEW[PRESENT])
    assert features.shape[:2] == (6, model.backbone.channels)
    assert features.ndim == 4
    logits = model(images, PRESENT, VIEW)
    assert logits.shape == (3, len(FINDINGS))
    assert logits.isfinite().all()
    holed = images.masked_fill(~PRESENT[:, :, None, None, None], float("nan"))
    assert torch.equal(model(holed, PRESENT, VIEW), logits)
    for row in range(3):
        same(model(images[row : row + 1], PRESENT[row : row + 1], VIEW[row : row + 1]), logits[row : row + 1])
    with torch.autocast("cpu", torch.bfloat16):
        low = model(images, PRESENT, VIEW)
    torch.testing.assert_close(low.float(), logits, atol=0.1, rtol=0.1)


@of_all
def test_training_reaches_every_parameter(family, head, fusion):
    """But for what is left of timm's own classifiers, which stays in the graph with a gradient of zero."""
    model = classifier(family, head, fusion, demographics={"name": "concat", "hidden": 4}).train()
    model.zero_grad()
    logits = model(pictures(), PRESENT, VIEW, PEOPLE)
    (logits - torch.linspace(-1, 1, logits.numel()).view_as(logits)).square().sum().backward()
    idle = {f"backbone.{name}" for name in model.backbone.idle}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name not in idle:
            assert parameter.grad.any(), name


def test_what_is_idle_is_known():
    """timm leaves the norm of ConvNeXt's classifier; EfficientNet's last convolution is part of its maps, so it learns."""
    expected = {"convnext": {"network.head.norm.weight", "network.head.norm.bias"}}
    for family in FAMILIES:
        idle = set(backbone_of(family).idle)
        assert {name for name in idle if "conv_head" not in name} == expected.get(family, set()), family


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_gives_it_back(family, head, tmp_path):
    more = {"demographics": {"name": "concat", "hidden": 4}} if head in ("csra", "mlp") else {}
    model = classifier(family, head, "weighted", **more).eval()
    counts = dict.fromkeys(FINDINGS, 1)
    bundle = Bundle(list(FINDINGS), PixelSpec(SIZE), model.architecture, counts, counts, ["test"])
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    write_bundle(bundle, weights, tmp_path / "bundle", recipe="", card="")
    twin = load(tmp_path / "bundle", device="cpu")
    assert torch.equal(twin.logits(pictures(), PRESENT, VIEW, PEOPLE), model(pictures(), PRESENT, VIEW, PEOPLE))


def test_options_reach_the_network_they_are_for():
    spec = ModelSpec(backbone={"name": "custom_cnn", "widths": [4, 6]})
    assert build_classifier(spec, FINDINGS, SIZE).backbone.channels == 6
