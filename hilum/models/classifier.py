"""The classifier: encode images, read studies. Backbone, fusion and head put together."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hilum.builders import check_options, choose, listed
from hilum.errors import InputError
from hilum.models.backbones import Backbone, build_backbone
from hilum.models.fusions import FUSIONS, Fusion
from hilum.models.heads import HEADS
from hilum.recipe import ModelSpec

PARTS = ("backbone", "fusion", "head")


class Classifier(nn.Module):
    """Finds F findings in studies of V views. Two graphs, so that each can be exported and cached apart.

    encode(images (N, 1, H, W) float in [0, 1]) -> features (N, C, h, w)      one image at a time, present ones only
    read(features (B, V, C, h, w), present, view, demographics) -> logits (B, F)

    A study's logits never depend on its batch mates, on absent views or on the order of rows.
    """

    def __init__(
        self,
        backbone: Backbone,
        fusion: Fusion,
        head: nn.Module,
        findings: Sequence[str],
        architecture: dict[str, Any],
    ):
        super().__init__()
        self.backbone, self.fusion, self.head = backbone, fusion, head
        self.findings, self.architecture = tuple(findings), architecture

    def encode(self, images: Tensor) -> Tensor:
        """Feature maps (N, C, h, w) of images (N, 1, H, W) float in [0, 1]."""
        features: Tensor = self.backbone(images)
        return features

    def read(self, features: Tensor, present: Tensor, view: Tensor, demographics: Tensor | None = None) -> Tensor:
        """Logits (B, F) of studies: features (B, V, C, h, w), present bool (B, V), view int8 (B, V), demographics (B, 4)."""
        logits: Tensor = self.fusion(self.head, features, present, view)
        return logits

    def forward(self, images: Tensor, present: Tensor, view: Tensor, demographics: Tensor | None = None) -> Tensor:
        """Logits (B, F) of a batch: images (B, V, 1, H, W) float in [0, 1], present bool (B, V), view int8 (B, V)."""
        return self.read(unpack(self.encode(images[present]), present), present, view, demographics)


def unpack(features: Tensor, present: Tensor) -> Tensor:
    """Features (N, ...) of the present images, in row order, laid out as (B, V, ...) with zeros for absent views."""
    laid = features.new_zeros(*present.shape, *features.shape[1:])
    laid[present] = features
    return laid


def build_classifier(spec: ModelSpec, findings: Sequence[str], image_size: int) -> Classifier:
    """The classifier that a recipe describes. Raises InputError for an unknown part or option."""
    backbone_options = dict(spec.backbone.options)
    backbone = build_backbone(spec.backbone.name, image_size, **backbone_options)
    fusion_builder, head_builder = check_model(spec)
    fusion = fusion_builder(backbone.facts.channels, len(findings), **spec.fusion.options)
    head = head_builder(fusion.channels, len(findings), **spec.head.options)
    backbone_options.pop("pretrained", None)
    architecture = {
        "backbone": {"name": backbone.facts.name, "options": backbone_options, "facts": backbone.facts.as_dict()},
        "fusion": spec.fusion.page(),
        "head": spec.head.page(),
        "head_channels": fusion.channels,
        "image_size": image_size,
    }
    return Classifier(backbone, fusion, head, findings, architecture)


def check_model(spec: ModelSpec) -> tuple[Any, Any]:
    """The builders of fusion and head, their names and options checked; builds nothing."""
    fusion, head = choose("fusion", FUSIONS, spec.fusion.name), choose("head", HEADS, spec.head.name)
    check_options("fusion", spec.fusion.name, fusion, spec.fusion.options)
    check_options("head", spec.head.name, head, spec.head.options)
    return fusion, head


def head_channels(architecture: Mapping[str, Any]) -> int:
    """The channels that the head of such a model reads: its fusion's, in old bundles its backbone's."""
    channels: int = architecture.get("head_channels", architecture["backbone"]["facts"]["channels"])
    return channels


def rebuild_classifier(architecture: Mapping[str, Any], findings: Sequence[str]) -> Classifier:
    """The classifier that a bundle describes, with random weights. Imports and downloads nothing by the bundle's names."""
    fusion, head = dict(architecture["fusion"]), dict(architecture["head"])
    listed("fusion", FUSIONS, fusion["name"])
    listed("head", HEADS, head["name"])
    backbone = architecture["backbone"]
    if ":" in backbone["name"]:
        raise InputError(
            f"the bundle names the backbone {backbone['name']!r}, which is no timm architecture", do="do not use it"
        )
    spec = ModelSpec(
        backbone={"name": backbone["name"], **backbone["options"]},  # type: ignore[arg-type]
        fusion=fusion,  # type: ignore[arg-type]
        head=head,  # type: ignore[arg-type]
    )
    model = build_classifier(spec, findings, architecture["image_size"])
    facts = model.backbone.facts
    told = type(facts)(**backbone["facts"])  # normalisation belongs to the weights, whatever this timm version says
    model.backbone.facts = told
    model.backbone.mean.fill_(told.mean)
    model.backbone.std.fill_(told.std)
    model.architecture = dict(architecture)
    return model
