"""Foundation backbones: folders of transformers, open_clip and EVA-X become timm networks that say what their own code says."""

import json
import shutil

import pytest
import timm
import torch
from safetensors.torch import save_file

from hilum.errors import InputError, MachineError
from hilum.models import hub
from hilum.models.backbones import build_backbone, check_backbone, rebuild_backbone
from hilum.models.foundation import PUBLISHED
from hilum.models.positions import resample_positions
from hilum.models.weights import load_weights

transformers = pytest.importorskip("transformers")
open_clip = pytest.importorskip("open_clip")
text_folders = pytest.importorskip("tests.models.text_folders")
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TEXT = {"context_length": 16, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
TOWERS = {
    "plain": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "averaged": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "pool_type": "avg"},
    "trunk": {"image_size": 160, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"},
    "trunk-averaged": {
        "image_size": 160,
        "timm_model_name": "test_vit",
        "timm_proj_bias": True,
    },  # open_clip's defaults
}


def lively(model):
    """Away from a start in which layer scales hide the blocks and class tokens are zeros."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each kind, as the libraries themselves write it, and the models that are in them."""
    base, models = tmp_path_factory.mktemp("models"), {}
    dino = transformers.Dinov2Config(**{**SMALL, "mlp_ratio": 2}, image_size=28, patch_size=14)
    vit = transformers.ViTConfig(**SMALL, image_size=32, patch_size=16)
    models["dinov2"] = lively(transformers.Dinov2Model(dino))
    models["vit"] = lively(transformers.ViTForImageClassification(vit))
    for name in ("dinov2", "vit"):
        models[name].save_pretrained(base / name)
    levels = {"image_mean": [0.53, 0.53, 0.53], "image_std": [0.26, 0.26, 0.26]}
    (base / "dinov2" / "preprocessor_config.json").write_text(json.dumps(levels))
    for name, tower in TOWERS.items():
        (base / name).mkdir()
        page = {"embed_dim": 24, "vision_cfg": tower, "text_cfg": TEXT}
        models[name] = lively(open_clip.CLIP(**page))
        told = {"model_cfg": page, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
        (base / name / "open_clip_config.json").write_text(json.dumps(told))
    for name in ("plain", "averaged"):
        save_file(models[name].state_dict(), base / name / "open_clip_model.safetensors")
    for name in ("trunk", "trunk-averaged"):
        torch.save(models[name].state_dict(), base / name / "open_clip_pytorch_model.bin")
    return base, models


def grey(backbone, images):
    return ((images - backbone.mean) / backbone.std).expand(-1, 3, -1, -1)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "side"), [("dinov2", 28), ("vit", 32)])
def test_a_vision_folder_says_what_transformers_says(folders, kind, side):
    base, models = folders
    backbone, images = (
        build_backbone("transformers", side, weights=str(base / kind)).eval(),
        torch.rand(2, 1, side, side),
    )
    theirs = getattr(models[kind], "vit", models[kind])(pixel_values=grey(backbone, images)).last_hidden_state[:, 1:]
    maps = backbone(images)
    assert maps.shape == (2, 32, 2, 2)
    torch.testing.assert_close(maps.flatten(2).transpose(1, 2), theirs, atol=2e-4, rtol=2e-4)
    if kind == "dinov2":
        assert (backbone.facts.mean, backbone.facts.std) == pytest.approx((0.53, 0.26))


@torch.no_grad()
@pytest.mark.parametrize("kind", TOWERS)
def test_an_image_tower_says_what_open_clip_says(folders, kind):
    base, models = folders
    side = TOWERS[kind]["image_size"]
    images = torch.rand(2, 1, side, side)
    backbone = build_backbone("open_clip", side, weights=str(base / kind), output="embedding").eval()
    assert (backbone.channels, backbone.facts.mean, backbone.facts.std) == (24, 0.5, 0.25)
    theirs = models[kind].encode_image(grey(backbone, images))
    torch.testing.assert_close(backbone(images), theirs[:, :, None, None], atol=1e-4, rtol=1e-4)
    maps = build_backbone("open_clip", side, weights=str(base / kind)).eval()(images)
    told = models[kind].visual.forward_intermediates(
        grey(backbone, images), indices=1, normalize_intermediates=True, intermediates_only=True
    )
    torch.testing.assert_close(maps, told["image_intermediates"][-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["dinov2", "vit", *TOWERS])
@pytest.mark.parametrize("output", ["maps", "embedding"])
def test_a_bundle_gives_it_back_without_the_folder(folders, kind, output):
    """At another size than its own, from plain values alone; every weight learns."""
    if kind in ("dinov2", "vit") and output == "embedding":
        with pytest.raises(InputError, match="read for maps"):
            build_backbone("transformers", 112, weights=str(folders[0] / kind), output=output)
        return
    name = "open_clip" if kind in TOWERS else "transformers"
    backbone = build_backbone(name, 112, weights=str(folders[0] / kind), output=output)
    told = json.dumps(backbone.architecture)
    assert str(folders[0]) not in told
    twin = rebuild_backbone(json.loads(told), 112).eval()
    assert load_weights(twin, backbone.state_dict()).whole
    images = torch.rand(2, 1, 112, 112)
    assert torch.equal(twin(images), backbone.eval()(images))
    backbone.train()(images).square().sum().backward()
    still = [key for key, value in backbone.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == [key for key in still if key in backbone.idle]


@torch.no_grad()
def test_a_folder_that_timm_wrote(tmp_path):
    """By timm's own `local-dir:`, which knows its configuration; the bundle does without the folder."""
    network = lively(timm.create_model("test_vit", num_classes=0, img_size=64))
    timm.models.save_for_hf(network, tmp_path / "vit", model_args={"img_size": 64})
    backbone, images = build_backbone(f"local-dir:{tmp_path / 'vit'}", 64).eval(), torch.rand(2, 1, 64, 64)
    theirs = network.forward_features(grey(backbone, images))[:, 1:].transpose(1, 2).unflatten(2, (4, 4))
    torch.testing.assert_close(backbone(images), theirs, atol=1e-4, rtol=1e-4)
    told = json.dumps(backbone.architecture)
    assert str(tmp_path) not in told
    twin = rebuild_backbone(json.loads(told), 64).eval()
    assert load_weights(twin, backbone.state_dict()).whole
    assert torch.equal(twin(images), backbone(images))


def test_eva_x_by_its_file(tmp_path):
    """Their file: weights under "module", the mask token and the head of pre-training beside them, one more norm at the end."""
    network = lively(
        timm.create_model("eva02_tiny_patch14_224", patch_size=16, ref_feat_shape=(14, 14), num_classes=0, depth=2)
    )
    held = {key.replace("fc_norm.", "norm."): value for key, value in network.state_dict().items()}
    held |= {
        "mask_token": torch.zeros(1, 1, 192),
        "lm_head.weight": torch.zeros(8, 192),
        "lm_head.bias": torch.zeros(8),
    }
    torch.save({"module": held}, tmp_path / PUBLISHED["eva_x_tiny"].file)
    with pytest.raises(InputError, match="do not fit"):  # two blocks for twelve
        build_backbone("eva_x_tiny", 64, weights=str(tmp_path))
    whole = lively(timm.create_model("eva02_tiny_patch14_224", patch_size=16, ref_feat_shape=(14, 14), num_classes=0))
    held |= {key.replace("fc_norm.", "norm."): value for key, value in whole.state_dict().items()}
    torch.save({"module": held}, tmp_path / "mine.pt")
    backbone = build_backbone("eva_x_tiny", 224, weights=str(tmp_path / "mine.pt")).eval()
    assert (backbone.facts.tag, backbone.licence, backbone.data) == ("eva_x_tiny", "mit", ["chexpert", "mimic", "nih"])
    images = torch.rand(1, 1, 224, 224)
    with torch.no_grad():
        theirs = whole.forward_features(grey(backbone, images))[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
        torch.testing.assert_close(backbone(images), theirs, atol=1e-3, rtol=1e-3)
    assert rebuild_backbone(json.loads(json.dumps(backbone.architecture)), 224).channels == 192


def test_a_local_copy_of_a_published_model_keeps_what_is_known_of_it(folders):
    backbone = build_backbone("rad_dino", 28, weights=str(folders[0] / "dinov2"))
    facts = rebuild_backbone(json.loads(json.dumps(backbone.architecture)), 28).facts
    assert (facts.tag, facts.licence) == ("rad_dino", "mit")
    assert {"nih", "mimic", "padchest"} <= set(facts.data)
    assert backbone.facts.mean == 0.53, "the folder's own grey levels"
    random = build_backbone("rad_dino", 28, weights=str(folders[0] / "dinov2"), pretrained=False)
    assert (random.facts.tag, random.licence, random.data) == (None, None, []), "random weights are nobody's"


def test_positions_at_another_size_and_back():
    """512 to 1024: a smooth table keeps its shape, class tokens stay as they are."""
    small, large = (timm.create_model("test_vit", img_size=side, num_classes=0) for side in (64, 128))
    ramp = torch.linspace(-1, 1, 4)[:, None].expand(4, 4).reshape(1, 16, 1).expand(1, 16, 64)
    weights = small.state_dict() | {"pos_embed": torch.cat([torch.full((1, 1, 64), 7.0), ramp], dim=1)}
    fitted = resample_positions(weights, large)
    assert load_weights(large, fitted).whole
    assert torch.equal(fitted["pos_embed"][:, 0], weights["pos_embed"][:, 0])
    rows = fitted["pos_embed"][0, 1:, 0].reshape(8, 8)
    assert (rows[1:] - rows[:-1] > -1e-4).all()
    torch.testing.assert_close(rows, rows[:, :1].expand(8, 8))
    back = resample_positions(fitted, small)["pos_embed"]
    assert (back - weights["pos_embed"]).abs().max() < 0.2
    assert resample_positions(weights, small)["pos_embed"] is weights["pos_embed"], "of the right size, untouched"


@pytest.mark.parametrize(
    ("kind", "change"),
    [("plain", {"pool_type": "none"}), ("averaged", {"final_ln_after_pool": True}), ("trunk", {"timm_pool": "max"})],
)
def test_a_pooling_that_is_not_read_gives_maps_alone(folders, tmp_path, kind, change):
    folder = shutil.copytree(folders[0] / kind, tmp_path / kind)
    page = json.loads((folder / "open_clip_config.json").read_text())
    page["model_cfg"]["vision_cfg"] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(page))
    side = TOWERS[kind]["image_size"]
    with pytest.raises(InputError, match=r"by the pooling '\w+', which is not read.*Leave output out"):
        build_backbone("open_clip", side, weights=str(folder), output="embedding")
    assert build_backbone("open_clip", side, weights=str(folder)).channels > 0


def test_what_cannot_be_read_is_said(folders, tmp_path, monkeypatch):
    base = folders[0]
    with pytest.raises(InputError, match=r"names no weights\. Add `weights: FOLDER`"):
        build_backbone("transformers", 28)
    with pytest.raises(InputError, match="there is no folder"):
        build_backbone("transformers", 28, weights="/no/such/place")
    with pytest.raises(InputError, match=r"holds no config\.json"):
        build_backbone("transformers", 28, weights=str(base / "plain"))
    with pytest.raises(InputError, match="id you mean 'rad_dino'"):
        check_backbone("rad_dine")
    with pytest.raises(InputError, match="id you mean 'weights'"):
        check_backbone("rad_dino", {"weight": "x"})
    page = json.loads((base / "vit" / "config.json").read_text()) | {"model_type": "swinv2"}
    (tmp_path / "config.json").write_text(json.dumps(page))
    with pytest.raises(InputError, match="it and dinov2"):
        build_backbone("transformers", 28, weights=str(tmp_path))
    told = json.loads((base / "plain" / "open_clip_config.json").read_text())
    for change in ({"layers": [1, 1, 1, 1]}, {"ls_init_value": 0.1}, {"no_ln_pre": True}):
        tower = told["model_cfg"]["vision_cfg"] | change
        page = {"model_cfg": told["model_cfg"] | {"vision_cfg": tower}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(page))
        with pytest.raises(InputError, match="no plain vision transformer"):
            build_backbone("open_clip", 28, weights=str(tmp_path))

    text_folders.out_of_reach(monkeypatch, tmp_path / "hub")
    with pytest.raises(MachineError, match=r"rad-dino.*name the folder instead") as told:
        build_backbone("rad_dino", 28)
    assert len(str(told.value).splitlines()) == 1
    with pytest.raises(InputError, match="hoose a size of 504 or 518"):
        build_backbone("transformers", 512, weights=str(base / "dinov2"))
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="tensors alone"):
        hub.read_tensors(tmp_path, ["open_clip_model.safetensors"], what="model")
