"""The view classifier: a small network that tells PA, AP and LATERAL apart at 64 px, and the folder it is kept in.

FOLDER/model.safetensors   the weights
FOLDER/views.json          what it was trained on, how well it does, and the SHA-256 of the weights
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from hilum import __version__
from hilum.atomic import atomic_folder
from hilum.errors import InputError
from hilum.models.backbones import build_backbone, rebuild_backbone
from hilum.models.weights import load_weights
from hilum.pixels.spec import PixelSpec

SIDE = 64  # pixels
BACKBONE = "test_resnet"  # timm's smallest ResNet: 0.4 million parameters
FORMAT = 1
WEIGHTS, FACTS = "model.safetensors", "views.json"


class ViewClassifier(nn.Module):
    """images (N, 1, H, W) float in [0, 1], square, of any size -> logits (N, K) of its `views`, a row of VIEWS.

    temperature: what the logits are divided by, so that their softmax can be believed (Guo et al. 2017).
    """

    temperature: Tensor

    def __init__(self, backbone: nn.Module, channels: int, views: Sequence[str], architecture: Mapping[str, Any]):
        super().__init__()
        self.backbone, self.project = backbone, nn.Linear(channels, len(views))
        self.views, self.architecture = tuple(views), dict(architecture)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.project(self.backbone(shrunk(images)).mean(dim=(2, 3)))
        return logits / self.temperature

    def is_lateral(self, images: Tensor) -> Tensor:
        """bool (N,): whether LATERAL is likelier than all the frontal views together."""
        chances: Tensor = self(images).softmax(dim=1)
        return chances[:, self.views.index("LATERAL")] > 0.5


def shrunk(images: Tensor) -> Tensor:
    """Images (N, 1, H, W) at 64 x 64 pixels, each the mean of what it covers."""
    return F.interpolate(images, size=(SIDE, SIDE), mode="area")


def build_view_classifier(views: Sequence[str]) -> ViewClassifier:
    """A classifier of these views with random weights."""
    backbone = build_backbone(BACKBONE, SIDE)
    architecture = {"views": list(views), "backbone": backbone.architecture}
    return ViewClassifier(backbone, backbone.facts.channels, views, architecture)


def rebuild_view_classifier(architecture: Mapping[str, Any]) -> ViewClassifier:
    """The classifier of an `architecture`, with random weights. Imports and downloads nothing by the names in it."""
    backbone = rebuild_backbone(architecture["backbone"], SIDE)
    return ViewClassifier(backbone, backbone.facts.channels, architecture["views"], architecture)


@dataclass(frozen=True)
class ViewFacts:
    """What stands in views.json.

    architecture: what it is rebuilt from; pixels: the spec its images were decoded with (of another size will do);
    report: how well it does on patients it never saw; sources: the data sets it saw; note: what every report repeats.
    """

    architecture: dict[str, Any]
    pixels: PixelSpec
    report: dict[str, Any]
    sources: list[str]
    note: str | None = None
    weights: str = ""  # SHA-256
    hilum_version: str = __version__

    @property
    def views(self) -> list[str]:
        return list(self.architecture["views"])


def write_view_classifier(model: ViewClassifier, facts: ViewFacts, folder: str | Path) -> None:
    """Write the folder, whole or not at all."""
    with atomic_folder(folder) as temporary:
        weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        save_file(weights, temporary / WEIGHTS)
        told = asdict(facts) | {"hilum_views": FORMAT, "weights": _sha256(temporary / WEIGHTS)}
        (temporary / FACTS).write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_view_facts(folder: str | Path) -> ViewFacts:
    """The facts of a view classifier, its weights checked against them. Raises InputError where they are not whole."""
    target = Path(folder)
    if not (target / FACTS).is_file():
        advice = "name the folder that `hilum views` wrote"
        raise InputError(f"this is not a view classifier: it holds no {FACTS}", where=target, do=advice)
    try:
        told = json.loads((target / FACTS).read_text(encoding="utf-8"))
        if told.pop("hilum_views") != FORMAT:
            raise ValueError("of another format")
        facts = ViewFacts(**{**told, "pixels": PixelSpec(**told["pixels"])})
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("the facts of the view classifier are damaged", where=target / FACTS, do=_DAMAGED) from error
    if not (target / WEIGHTS).is_file() or _sha256(target / WEIGHTS) != facts.weights:
        raise InputError("the weights are not those the facts tell of", where=target / WEIGHTS, do=_DAMAGED)
    return facts


def load_view_classifier(folder: str | Path) -> tuple[ViewClassifier, ViewFacts]:
    """The view classifier of a folder, in evaluation mode, and its facts. Nothing is unpickled or downloaded."""
    facts = read_view_facts(folder)
    model = rebuild_view_classifier(facts.architecture)
    try:
        load_weights(model, load_file(Path(folder) / WEIGHTS), where=str(folder))
    except SafetensorError as error:
        raise InputError("the weights cannot be read", where=folder, do=_DAMAGED) from error
    return model.eval(), facts


_DAMAGED = "copy the folder again from where it came, or train it anew"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
