"""A backbone of two networks, one for frontal and one for lateral images; each image goes to its own by its view."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hilum.errors import InputError
from hilum.models.backbones import Backbone, build_backbone, check_backbone, rebuild_backbone
from hilum.models.view_classifier import ViewClassifier, load_view_classifier, read_view_facts, rebuild_view_classifier
from hilum.tables import VIEWS

Unknown = Literal["predicted", "mean"]
Named = str | Mapping[str, Any]  # a timm name, or {name: ..., options of timm}
_UNKNOWN, _LATERAL = VIEWS.index("unknown"), VIEWS.index("LATERAL")


class ByView(nn.Module):
    """images (N, 1, H, W) float in [0, 1], view int8 (N,) -> feature map (N, C, h, w) of the network for that view.

    An image whose view is unknown goes where the view classifier sends it (`predicted`), or to both networks, whose maps
    are averaged (`mean`). The view classifier is never trained here.
    project: brings the lateral network's channels to the frontal one's, where they differ.
    """

    routes = True  # by view: the same pixels with another view are another map

    def __init__(
        self, frontal: Backbone, lateral: Backbone, project: nn.Module, view_classifier: ViewClassifier | None
    ):
        super().__init__()
        self.frontal, self.lateral, self.project, self.view_classifier = frontal, lateral, project, view_classifier
        if view_classifier is not None:
            view_classifier.requires_grad_(False)

    @property
    def channels(self) -> int:
        return self.frontal.channels

    @property
    def licence(self) -> str | None:
        told = sorted({part.licence for part in (self.frontal, self.lateral) if part.licence})
        return " and ".join(told) or None

    @property
    def data(self) -> list[str]:
        return sorted({*self.frontal.data, *self.lateral.data})

    @property
    def architecture(self) -> dict[str, Any]:
        """What `rebuild_by_view` needs, as plain values for JSON."""
        sides = {"frontal": self.frontal.architecture, "lateral": self.lateral.architecture}
        options: dict[str, Any] = {
            side: {key: told[key] for key in ("name", "options")} for side, told in sides.items()
        }
        if self.view_classifier is not None:
            options["view_classifier"] = self.view_classifier.architecture
        facts = {"channels": self.channels, **{side: told["facts"] for side, told in sides.items()}}
        return {"name": "by_view", "options": options, "facts": facts}

    def train(self, mode: bool = True) -> "ByView":
        super().train(mode)
        if self.view_classifier is not None:
            self.view_classifier.eval()
        return self

    def forward(self, images: Tensor, view: Tensor | None = None) -> Tensor:
        if view is None:
            view = torch.full((len(images),), _UNKNOWN, device=images.device)
        lateral = self.share_of_lateral(images, view)
        return self._side("frontal", images, 1 - lateral) + self._side("lateral", images, lateral)

    def share_of_lateral(self, images: Tensor, view: Tensor) -> Tensor:
        """float (N,): 1 for what the lateral network reads, 0 for the frontal one, 0.5 where each has half a say."""
        known, unknown = (view == _LATERAL).float(), view == _UNKNOWN
        if self.view_classifier is None:
            return known.masked_fill(unknown, 0.5)
        if _exporting():
            return torch.where(unknown, self.view_classifier.is_lateral(images).float(), known)
        rows = unknown.nonzero()[:, 0]
        if len(rows):
            known[rows] = self.view_classifier.is_lateral(images[rows]).float()
        return known

    def _side(self, side: str, images: Tensor, share: Tensor) -> Tensor:
        """Maps (N, C, h, w) of one network times its share (N,), zeros where it has none."""
        network = nn.Sequential(self.frontal) if side == "frontal" else nn.Sequential(self.lateral, self.project)
        if _exporting():  # a graph of fixed shapes: both networks see every image
            maps: Tensor = network(images)
            return maps * share[:, None, None, None]
        rows = share.nonzero()[:, 0]
        if not len(rows):  # nothing to read; in training its weights stay in the graph, as several processes expect
            idle = [0.0 * parameter.sum() for parameter in network.parameters() if self.training]
            return torch.stack(idle).sum() if idle else share.new_zeros(())
        read = network(images[rows])
        laid: Tensor = read.new_zeros(len(images), *read.shape[1:])
        laid[rows] = read * share[rows, None, None, None].to(read.dtype)
        return laid


def build_by_view(
    image_size: int,
    *,
    frontal: Named,
    lateral: Named | None = None,
    unknown: Unknown | None = None,
    view_classifier: str | None = None,
    pretrained: bool | None = None,
) -> ByView:
    """Two timm networks; each is a name, or `{name: ..., option: value}`.

    lateral: by default the same as `frontal`, with weights of its own.
    unknown: where images of unknown view go, by default `predicted` where a view classifier is at hand, else `mean`.
    view_classifier: a folder that `hilum views` wrote.
    pretrained: as for any backbone, for both.
    """
    check_by_view(frontal=frontal, lateral=lateral, unknown=unknown, view_classifier=view_classifier)
    sides = [
        build_backbone(name, image_size, **{"pretrained": pretrained, **options})
        for name, options in (_named(frontal), _named(lateral or frontal))
    ]
    judge = load_view_classifier(view_classifier)[0] if view_classifier and unknown != "mean" else None
    return _assembled(sides[0], sides[1], judge, image_size)


def check_by_view(
    *,
    frontal: Named,
    lateral: Named | None = None,
    unknown: Unknown | None = None,
    view_classifier: str | None = None,
    pretrained: bool | None = None,
) -> None:
    """Raise InputError for a name or option that cannot work; builds nothing."""
    for value in (frontal, lateral):
        if value is not None:
            check_backbone(*_named(value))
    if unknown == "predicted" and not view_classifier:
        raise InputError(
            "backbone by_view: unknown views are to be predicted, but no view_classifier is named",
            do="train one with `hilum views` and name its folder, or set unknown to mean",
        )
    if view_classifier and "LATERAL" not in (known := read_view_facts(view_classifier).views):
        raise InputError(
            f"the view classifier knows {' and '.join(known)} alone: it cannot tell frontal from lateral",
            where=view_classifier,
            do="train one on images of all views",
        )


def rebuild_by_view(architecture: Mapping[str, Any], image_size: int) -> ByView:
    """The backbone that a bundle describes, with random weights. Imports and downloads nothing by the bundle's names."""
    options, facts = architecture["options"], architecture["facts"]
    frontal, lateral = (
        rebuild_backbone({**options[side], "facts": facts[side]}, image_size) for side in ("frontal", "lateral")
    )
    judge = options.get("view_classifier")
    return _assembled(frontal, lateral, rebuild_view_classifier(judge) if judge else None, image_size)


def _assembled(frontal: Backbone, lateral: Backbone, judge: ViewClassifier | None, image_size: int) -> ByView:
    channels = frontal.channels, lateral.channels
    project = nn.Identity() if channels[0] == channels[1] else nn.Conv2d(channels[1], channels[0], 1)
    if frontal.architecture["name"] != lateral.architecture["name"]:
        shapes = [_map_size(side, image_size) for side in (frontal, lateral)]
        if shapes[0] != shapes[1]:
            told = " and ".join(f"{height} x {width}" for height, width in shapes)
            raise InputError(
                f"backbone by_view: images of {image_size} px become maps of {told}, which no head can read alike",
                do="choose two networks of the same stride",
            )
    return ByView(frontal, lateral, project, judge)


@torch.inference_mode()
def _map_size(backbone: Backbone, image_size: int) -> tuple[int, int]:
    blank = torch.zeros(1, 1, image_size, image_size)
    height, width = backbone.eval()(blank).shape[2:]
    backbone.train()
    return height, width


def _named(value: Any) -> tuple[str, dict[str, Any]]:
    """Name and options of a network as a recipe says them."""
    if isinstance(value, str):
        return value, {}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise InputError(f"backbone by_view: {value!r} names no network", do="write a timm name, or {name: ..., ...}")
    return value["name"], {key: value[key] for key in value if key != "name"}


def _exporting() -> bool:
    return torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()
