"""Classifiers: a study's logits depend on its own present views alone; every kind of backbone; heads and loading."""

import pytest
import torch

from hilum.errors import InputError
from hilum.models.backbones import build_backbone
from hilum.models.classifier import build_classifier, rebuild_classifier, unpack
from hilum.models.heads import HEADS
from hilum.models.heads.ml_decoder import ml_decoder
from hilum.models.weights import load_weights
from hilum.recipe import ModelSpec
from tests.small import FINDINGS


def classifier(head="ml_decoder", backbone="test_resnet", **options):
    torch.manual_seed(0)
    spec = ModelSpec(backbone={"name": backbone}, head={"name": head, **options})
    return build_classifier(spec, FINDINGS, 64).eval()


def batch(size=64):
    generator = torch.Generator().manual_seed(1)
    present = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
    view = torch.tensor([[1, 3, 0], [2, 0, 0], [1, 2, 3]], dtype=torch.int8)
    return torch.rand(3, 3, 1, size, size, generator=generator), present, view


@pytest.mark.parametrize("head", HEADS)
def test_laws_of_a_study(head):
    model = classifier(head)
    images, present, view = batch()
    with torch.no_grad():
        logits = model(images, present, view)
        assert logits.shape == (3, 3)
        holed = images.masked_fill(~present[:, :, None, None, None], float("nan"))
        assert torch.equal(model(holed, present, view), logits), "absent views must not matter, not even as NaN"
        alone = torch.cat([model(images[i : i + 1], present[i : i + 1], view[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(alone, logits, atol=1e-5, rtol=1e-5)
        order = torch.tensor([2, 0, 1])
        torch.testing.assert_close(
            model(images[order], present[order], view[order]), logits[order], atol=1e-5, rtol=1e-5
        )
        turned = [images[2:].flip(1), present[2:].flip(1), view[2:].flip(1)]
        torch.testing.assert_close(model(*turned), logits[2:], atol=1e-5, rtol=1e-5)
        images[0, 1] = torch.rand(1, 64, 64)
        changed = model(images, present, view)
        assert not torch.allclose(changed[0], logits[0], atol=1e-6), "a present view must matter"


def test_forward_is_encode_then_read():
    model = classifier()
    images, present, view = batch()
    with torch.no_grad():
        packed = model.read(unpack(model.encode(images[present]), present), present, view)
        assert torch.equal(model(images, present, view), packed)


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext", "swin_tiny_patch4_window7_224"]
)
def test_backbones_give_maps_of_the_channels_they_claim(name):
    backbone = build_backbone(name, 96).eval()
    with torch.no_grad():
        features = backbone(torch.rand(2, 1, 96, 96))
    assert features.shape[:2] == (2, backbone.facts.channels)
    assert features.ndim == 4
    assert 0.4 < backbone.facts.mean < 0.6


def test_a_map_lies_as_the_image_does():
    """A bright corner moves the features of that corner most, whatever layout the network works in."""
    for name in ("test_vit", "swin_tiny_patch4_window7_224", "test_resnet"):
        backbone = build_backbone(name, 96).eval()
        grey = torch.full((1, 1, 96, 96), 0.5)
        lit = grey.clone()
        lit[..., 64:, :32] = 1.0  # bottom left
        with torch.no_grad():
            moved = (backbone(lit) - backbone(grey)).abs().sum(1)[0]
        height, width = moved.shape
        assert moved[height // 2 :, : width // 2].mean() > moved[: height // 2, width // 2 :].mean(), name


def test_ml_decoder_projects_each_group_by_itself():
    """The one product equals the loop over groups that the authors wrote."""
    torch.manual_seed(0)
    head = ml_decoder(16, 7, groups=3, dim=8, heads=2, hidden=16).eval()
    tokens = torch.rand(2, 5, 16)
    memory = torch.relu(head.embed(tokens))
    answers = head.layers[0](head.queries.expand(2, -1, -1), memory)
    looped = torch.stack([answers[:, g] @ head.weight[g] for g in range(3)], 1).reshape(2, -1)[:, :7] + head.bias
    torch.testing.assert_close(head(tokens), looped)


def test_a_shared_classifier_asks_every_query_alike():
    torch.manual_seed(0)
    head = ml_decoder(16, 5, dim=8, heads=2, hidden=16, classifier="shared").eval()
    assert (head.weight.shape, head.bias.shape) == ((1, 8, 1), (1,))
    tokens = torch.randn(3, 4, 16)
    logits = head(tokens)
    assert logits.shape == (3, 5)
    with torch.no_grad():
        head.queries.copy_(head.queries.flip(0))
    torch.testing.assert_close(head(tokens), logits.flip(1))
    with pytest.raises(InputError, match="shared classifier"):
        ml_decoder(16, 5, groups=2, dim=8, heads=2, hidden=16, classifier="shared")


def test_ml_decoder_cross_attention_equals_torch():
    torch.manual_seed(0)
    own = ml_decoder(16, 4, dim=8, heads=2, hidden=16).eval().layers[0].attend
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([own.query.weight, own.key.weight, own.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([own.query.bias, own.key.bias, own.value.bias]))
        theirs.out_proj.load_state_dict(own.out.state_dict())
        queries, tokens = torch.rand(3, 4, 8), torch.rand(3, 6, 8)
        torch.testing.assert_close(own(queries, tokens), theirs(queries, tokens, tokens)[0])


@pytest.mark.parametrize(("queries", "trained"), [("learned", True), ("fixed", False)])
def test_queries_learned_or_fixed(queries, trained):
    assert classifier(queries=queries).head.queries.requires_grad is trained


@pytest.mark.parametrize("count", [1, 26, 250])
def test_any_number_of_findings(count):
    head = ml_decoder(8, count, dim=16, heads=2, hidden=16)
    assert head(torch.rand(2, 3, 8)).shape == (2, count)
    assert len(head.queries) == min(100, count)


def test_bfloat16_works():
    model = classifier()
    images, present, view = batch()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = model(images, present, view)
    with torch.no_grad():
        torch.testing.assert_close(low.float(), model(images, present, view), atol=0.1, rtol=0.1)


def test_rebuilding_gives_the_same_function():
    model = classifier()
    twin = rebuild_classifier(model.architecture, FINDINGS).eval()
    assert load_weights(twin, model.state_dict()).whole
    images, present, view = batch()
    with torch.no_grad():
        assert torch.equal(twin(images, present, view), model(images, present, view))


def test_a_bundle_names_no_code_and_no_hub():
    architecture = classifier().architecture
    for part, name in (("fusion", "os:system"), ("head", "os:system")):
        with pytest.raises(InputError, match="there is no"):
            rebuild_classifier({**architecture, part: {"name": name}}, FINDINGS)
    hub = {**architecture["backbone"], "name": "hf-hub:someone/model"}
    with pytest.raises(InputError, match="no timm architecture"):
        rebuild_classifier({**architecture, "backbone": hub}, FINDINGS)


def test_loading_reports_and_refuses():
    model, weights = classifier(), dict(classifier().state_dict())
    weights["head.extra"] = weights.pop("head.bias")
    weights["head.weight"] = torch.zeros(1)
    before = model.head.queries.clone()
    weights["head.queries"] = before + 1
    with pytest.raises(InputError, match=r"1 missing .*1 unexpected .*1 of another shape"):
        load_weights(model, weights)
    assert torch.equal(model.head.queries, before), "a refused load leaves the model as it was"
    report = load_weights(model, weights, allow_partial=True)
    assert (report.missing, report.unexpected, report.reshaped) == (["head.bias"], ["head.extra"], ["head.weight"])
    assert torch.equal(model.head.queries, before + 1)


def test_wrong_names_say_the_nearest():
    with pytest.raises(InputError, match="resnet18"):
        build_backbone("resnet81", 64)
    with pytest.raises(InputError, match="ml_decoder"):
        classifier("ml_decode")
    with pytest.raises(InputError, match=r"[Dd]id you mean 'dropout'"):
        classifier("linear", dropuot=0.1)
