"""The classifier: encode images, read studies. Backbone, fusion and head put together."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hilum.builders import check_options, choose, listed
from hilum.errors import InputError
from hilum.models.backbones import Backbone, build_backbone, check_backbone, rebuild_backbone
from hilum.models.by_view import ByView, build_by_view, check_by_view, rebuild_by_view
from hilum.models.context import Context
from hilum.models.demographics import DEMOGRAPHICS, Informed
from hilum.models.fusions import FUSIONS, Fusion
from hilum.models.fusions.apart import Apart, HeadPair
from hilum.models.heads import HEADS
from hilum.models.heads.queries import LabelQueries
from hilum.models.label_vectors import MINILM, EmbeddedLabels, check_labels, label_vectors
from hilum.recipe import ModelSpec

PARTS = ("backbone", "fusion", "head")


class Classifier(nn.Module):
    """Finds F findings in studies of V views. Two graphs, so that each can be exported and cached apart.

    encode(images (N, 1, H, W) float in [0, 1], view (N,)) -> features (N, C, h, w)   one image at a time, present ones only
    read(features (B, V, C, h, w), present, view, demographics, context) -> logits (B, F)

    A study's logits never depend on its batch mates, on absent views, on the order of rows, or on a part of the context
    that is unknown or that the fusion does not read.

    labels: the vectors that the head's queries are made of, with those of every other known finding; None where it reads
    none, and in a model that was rebuilt from a bundle.
    """

    labels: EmbeddedLabels | None = None

    def __init__(
        self,
        backbone: Backbone | ByView,
        fusion: Fusion,
        head: nn.Module,
        findings: Sequence[str],
        architecture: dict[str, Any],
    ):
        super().__init__()
        self.backbone, self.fusion, self.head = backbone, fusion, head
        self.findings, self.architecture = tuple(findings), architecture

    @property
    def vocabulary(self) -> Literal["open", "closed"]:
        """Whether findings can be added by the vectors of their labels alone and leave the others' logits as they are."""
        heads = [getattr(head, "open", False) for head in _single_heads(self.head)]
        return "open" if all(heads) and not self.fusion.per_finding else "closed"

    def asked(self, findings: Sequence[str], vectors: Tensor) -> "Classifier":
        """The same weights asked about other findings, by the vectors (F, D) of their labels. For open vocabularies."""
        head = deepcopy(self.head)
        for queries in _label_queries(head):
            queries.know(vectors)
        twin = Classifier(self.backbone, self.fusion, head, findings, self.architecture)
        twin.training = self.training
        return twin

    def encode(self, images: Tensor, view: Tensor | None = None) -> Tensor:
        """Feature maps (N, C, h, w) of images (N, 1, H, W) float in [0, 1]; view int8 (N,), without it unknown throughout."""
        features: Tensor = self.backbone(images, view)
        return features

    def read(
        self,
        features: Tensor,
        present: Tensor,
        view: Tensor,
        demographics: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Logits (B, F) of studies: features (B, V, C, h, w), present bool (B, V), view int8 (B, V), demographics (B, 4).

        context: what else is known of them; without it nothing is.
        """
        told = (context or Context())._replace(demographics=demographics)
        if "prior" not in self.fusion.context:
            present, told = told.own(present), told._replace(prior=None)
        elif told.prior is not None:
            told = told._replace(prior=told.prior & present)
        head = self.head.knowing(demographics, present.shape[0]) if isinstance(self.head, Informed) else self.head
        logits: Tensor = self.fusion(head, features, present, view, *([told] if self.fusion.context else []))
        return logits

    def forward(
        self,
        images: Tensor,
        present: Tensor,
        view: Tensor,
        demographics: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Logits (B, F) of a batch: images (B, V, 1, H, W) float in [0, 1], present bool (B, V), view int8 (B, V)."""
        features = self.encode(images[present], view[present])
        return self.read(unpack(features, present), present, view, demographics, context)


def unpack(features: Tensor, present: Tensor) -> Tensor:
    """Features (N, ...) of the present images, in row order, laid out as (B, V, ...) with zeros for absent views."""
    laid = features.new_zeros(*present.shape, *features.shape[1:])
    laid[present] = features
    return laid


def build_classifier(spec: ModelSpec, findings: Sequence[str], image_size: int) -> Classifier:
    """The classifier that a recipe describes. Raises InputError for an unknown part or option."""
    check_model(spec)
    name, options = spec.backbone.name, spec.backbone.options
    if name == "by_view":
        return _assembled(build_by_view(image_size, **options), spec, findings, image_size)
    return _assembled(build_backbone(name, image_size, **options), spec, findings, image_size)


def check_model(spec: ModelSpec) -> tuple[Any, Any]:
    """The builders of fusion and head, the names and options of all three parts checked; builds nothing."""
    if spec.backbone.name == "by_view":
        check_options("backbone", "by_view", build_by_view, spec.backbone.options)
        check_by_view(**spec.backbone.options)
    else:
        check_backbone(spec.backbone.name, spec.backbone.options)
    check_labels(spec.labels or MINILM)
    fusion, head = choose("fusion", FUSIONS, spec.fusion.name), choose("head", HEADS, spec.head.name)
    check_options("fusion", spec.fusion.name, fusion, spec.fusion.options)
    check_options("head", spec.head.name, head, spec.head.options)
    for kind, part in (("backbone", spec.backbone), ("fusion", spec.fusion), ("head", spec.head)):
        for option in ("dropout", "drop_path_rate", "drop_rate"):
            if not 0 <= (value := part.options.get(option) or 0) < 1:
                raise InputError(f"model.{kind}.{option} is {value}", do="give 0 to below 1")
    if beside := spec.demographics:
        check_options("demographics", beside.name, listed("demographics", DEMOGRAPHICS, beside.name), beside.options)
    return fusion, head


def head_channels(architecture: Mapping[str, Any]) -> int:
    """The channels that the head of such a model reads: its fusion's and demographics', in old bundles its backbone's."""
    channels: int = architecture.get("head_channels", architecture["backbone"]["facts"]["channels"])
    return channels


def rebuild_classifier(architecture: Mapping[str, Any], findings: Sequence[str]) -> Classifier:
    """The classifier that a bundle describes, with random weights. Imports and downloads nothing by the bundle's names."""
    fusion, head = dict(architecture["fusion"]), dict(architecture["head"])
    listed("fusion", FUSIONS, fusion["name"])
    listed("head", HEADS, head["name"])
    told, image_size = architecture["backbone"], architecture["image_size"]
    rebuild = rebuild_by_view if told["name"] == "by_view" else rebuild_backbone
    spec = ModelSpec(
        fusion=fusion,  # type: ignore[arg-type]
        head=head,  # type: ignore[arg-type]
        heads=architecture.get("heads", "shared"),
        demographics=architecture.get("demographics"),
    )
    blank = torch.zeros(len(findings), architecture.get("labels", {}).get("width", 1))  # the weights fill them in
    model = _assembled(rebuild(told, image_size), spec, findings, image_size, blank)
    model.architecture = dict(architecture)
    return model


def _assembled(
    backbone: Backbone | ByView,
    spec: ModelSpec,
    findings: Sequence[str],
    image_size: int,
    vectors: Tensor | None = None,
) -> Classifier:
    """vectors: (F, D) of the labels, made here where a head asks for them and none are given."""
    fusion: Fusion = choose("fusion", FUSIONS, spec.fusion.name)(
        backbone.channels, len(findings), **spec.fusion.options
    )
    told = spec.demographics
    beside = listed("demographics", DEMOGRAPHICS, told.name)(**told.options) if told else None
    channels = fusion.channels + (beside.channels if beside else 0)
    build_head, by_view = choose("head", HEADS, spec.head.name), spec.heads == "by_view"
    heads = [build_head(channels, len(findings), **spec.head.options) for _ in range(1 + by_view)]
    head = HeadPair(*heads) if by_view else heads[0]
    waiting = [queries for queries in _label_queries(head) if queries.vectors is None]
    labels = label_vectors(check_labels(spec.labels or MINILM), findings) if waiting and vectors is None else None
    if labels is not None:
        vectors = torch.from_numpy(labels.of(findings))
    for queries in waiting:
        assert vectors is not None
        queries.know(vectors)
    architecture = {
        "backbone": backbone.architecture,
        "fusion": spec.fusion.page(),
        "head": spec.head.page(),
        "heads": spec.heads,
        "head_channels": channels,
        "image_size": image_size,
        **({"demographics": told.page()} if told else {}),
        **({"labels": labels.facts()} if labels else {}),
    }
    model = Classifier(
        backbone,
        Apart(fusion) if by_view else fusion,
        Informed(head, beside) if beside else head,
        findings,
        architecture,
    )
    model.labels = labels
    return model


def _label_queries(head: nn.Module) -> Iterator[LabelQueries]:
    return (part for part in head.modules() if isinstance(part, LabelQueries))


def _single_heads(head: nn.Module) -> list[nn.Module]:
    """The heads themselves: without what stands beside them, one by one where there is a pair."""
    if isinstance(head, Informed):
        return _single_heads(head.head)
    return [head.frontal, head.lateral] if isinstance(head, HeadPair) else [head]
