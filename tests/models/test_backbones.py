"""Backbones: the published ones build and give maps, ours beside timm's, coordinates, and what is left of a classifier."""

import pytest
import timm
import torch
import torch.distributed

from hilum.errors import InputError
from hilum.models.backbones import build_backbone, rebuild_backbone
from hilum.models.classifier import check_model
from hilum.models.weights import load_weights
from hilum.recipe import ModelSpec

IMAGENET, HALF = (0.449, 0.226), (0.5, 0.5)
PUBLISHED = {  # name: side of a small image that becomes a map of 2 x 2, channels, grey mean and std
    "vgg16": (64, 512, IMAGENET),
    "vgg19": (64, 512, IMAGENET),
    "mobilenetv1_100": (64, 1024, HALF),
    "inception_resnet_v2": (107, 1536, HALF),
    "inception_v3": (107, 2048, HALF),
    "resnet50": (64, 2048, IMAGENET),
    "densenet121": (64, 1024, IMAGENET),
    "swin_base_patch4_window7_224": (64, 1024, IMAGENET),
    "swin_large_patch4_window7_224": (64, 1536, IMAGENET),
    "convnext_small": (64, 768, IMAGENET),
    "convnextv2_base": (64, 1024, IMAGENET),
    "maxvit_tiny_tf_512": (64, 512, HALF),
}


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_backbones_give_maps(name):
    side, channels, (mean, std) = PUBLISHED[name]
    backbone = build_backbone(name, side, pretrained=False).eval()
    with torch.no_grad():
        maps = backbone(torch.rand(2, 1, side, side))
    assert maps.shape == (2, channels, 2, 2)
    assert (backbone.facts.name, backbone.facts.channels) == (name, channels)
    assert (backbone.facts.mean, backbone.facts.std) == pytest.approx((mean, std), abs=1e-3)
    assert (backbone.facts.tag, backbone.licence) == (None, None), "random weights are nobody's"


@pytest.mark.parametrize(
    ("name", "licence"),
    [
        ("convnextv2_base.fcmae_ft_in22k_in1k", "cc-by-nc-4.0"),
        ("vgg19.tv_in1k", "bsd-3-clause"),
        ("mobilenetv1_100.ra4_e3600_r224_in1k", "apache-2.0"),
        ("inception_resnet_v2.tf_in1k", "apache-2.0"),
        ("swin_large_patch4_window7_224.ms_in22k_ft_in1k", "mit"),
        ("densenet121.ra_in1k", "apache-2.0"),
    ],
)
def test_licences_of_published_weights(name, licence):
    assert timm.get_pretrained_cfg(name).license == licence


def test_weights_not_for_commerce_are_told(monkeypatch):
    """The warning, with weights that were never downloaded."""
    make = timm.create_model

    def loaded(name, **options):
        return make(name, **{**options, "pretrained": False})

    monkeypatch.setattr(timm, "create_model", loaded)
    with pytest.warns(UserWarning, match="non-commercial"):
        backbone = build_backbone("convnextv2_atto.fcmae", 64)
    assert backbone.licence == "cc-by-nc-4.0"


def test_vgg_without_the_hidden_layers_of_its_classifier():
    vgg = build_backbone("vgg11", 32, pretrained=False, mlp_ratio=0.01)  # small ones, to be quick
    assert sum(parameter.numel() for parameter in vgg.parameters()) == 9_219_328, "its eight convolutions alone"
    told = vgg.architecture
    assert told["headless"]
    twin = rebuild_backbone(told, 32)
    assert load_weights(twin, vgg.state_dict()).whole
    before = {key: value for key, value in told.items() if key != "headless"}  # a bundle from when they were kept
    assert "network.pre_logits.fc1.weight" in rebuild_backbone(before, 32).state_dict()
    assert "headless" not in build_backbone("test_resnet", 32).architecture


def test_several_processes_may_train_what_timm_leaves_idle(tmp_path):
    """Every parameter takes part in each step, as data-parallel training expects."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(build_backbone("test_convnext", 32))
        for _ in range(2):
            model(torch.rand(2, 1, 32, 32)).sum().backward()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "custom_cnn"])
def test_coordinates_begin_as_if_they_were_not_there(name):
    torch.manual_seed(0)
    plain = build_backbone(name, 64).eval()
    torch.manual_seed(0)
    aware = build_backbone(name, 64, coordinates=True).eval()
    images = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(aware(images), plain(images), atol=1e-5, rtol=1e-5)
    first = aware.network.get_submodule(aware.network.pretrained_cfg["first_conv"])
    assert first.weight.shape[1] == first.in_channels == 3
    aware.train()(images).square().mean().backward()
    assert first.weight.grad[:, 1:].flatten(2).abs().sum(dim=(0, 2)).min() > 0, "and learn from the first step"


@torch.no_grad()
def test_coordinates_say_where():
    """A flat image has the same map everywhere away from the border; with coordinates that weigh, it has not."""
    aware = build_backbone("custom_cnn", 64, coordinates=True, widths=[4, 4]).eval()
    flat = torch.full((1, 1, 64, 64), 0.5)
    inner = aware(flat)[..., 2:-2, 2:-2]
    torch.testing.assert_close(inner, inner[..., :1, :1].expand_as(inner))
    torch.nn.init.constant_(aware.network.blocks[0][0].weight[:, 1:], 0.3)
    inner = aware(flat)[..., 2:-2, 2:-2]
    assert inner.std() > 1e-3
    twin = rebuild_backbone(aware.architecture, 64).eval()
    assert load_weights(twin, aware.state_dict()).whole
    assert torch.equal(twin(flat), aware(flat))


def test_names_and_options_of_ours():
    assert build_backbone("custom_cnn", 64).channels == 512
    with pytest.raises(InputError, match="no pretrained weights"):
        build_backbone("custom_cnn", 64, pretrained=True)
    with pytest.raises(InputError, match="list of sizes"):
        build_backbone("custom_cnn", 64, widths=[])
    with pytest.raises(InputError, match="id you mean 'widths'"):
        check_model(ModelSpec(backbone={"name": "custom_cnn", "width": [4]}))
    with pytest.raises(InputError, match="id you mean 'custom_cnn'"):
        build_backbone("custom_cn", 64)
    with pytest.raises(InputError, match="no single first convolution"):
        build_backbone("fastvit_t8", 64, pretrained=False, coordinates=True)
