"""Backbones: any timm network in grey, with the facts timm knows of it."""

import difflib
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import timm
import torch
from torch import Tensor, nn

from hilum.errors import InputError, MachineError


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone and its weights.

    name: timm architecture; tag: its pretrained weights, if they were loaded; mean, std: of grey pixels in [0, 1];
    channels: of its feature map; input_size: the side its weights were trained at; licence: of the weights.
    """

    name: str
    tag: str | None
    channels: int
    input_size: int
    mean: float
    std: float
    licence: str | None

    def as_dict(self) -> dict[str, Any]:
        """The facts as plain values for JSON."""
        return asdict(self)


class Backbone(nn.Module):
    """images (N, 1, H, W) float in [0, 1] -> feature map (N, C, h, w), whatever their view (N,).

    options: what timm was given besides the name.
    """

    mean: Tensor
    std: Tensor
    routes = False  # by view: another view changes nothing here

    def __init__(self, network: nn.Module, facts: BackboneFacts, options: Mapping[str, Any]):
        super().__init__()
        # channels last: the layout that convolutions are fastest in, on processors and on tensor cores
        self.network, self.facts = network.to(memory_format=torch.channels_last), facts  # type: ignore[call-overload]
        self.options = dict(options)
        self.register_buffer("mean", torch.tensor(facts.mean), persistent=False)
        self.register_buffer("std", torch.tensor(facts.std), persistent=False)

    @property
    def channels(self) -> int:
        return self.facts.channels

    @property
    def licence(self) -> str | None:
        return self.facts.licence

    @property
    def architecture(self) -> dict[str, Any]:
        """What `rebuild_backbone` needs, as plain values for JSON."""
        return {"name": self.facts.name, "options": self.options, "facts": self.facts.as_dict()}

    def forward(self, images: Tensor, view: Tensor | None = None) -> Tensor:
        features: Tensor = self.network.forward_features((images - self.mean) / self.std)  # type: ignore[operator]
        if features.ndim == 3:  # a transformer's tokens, class and register tokens first
            features = features[:, getattr(self.network, "num_prefix_tokens", 0) :]
            height, width = self.network.patch_embed.grid_size  # type: ignore[union-attr, misc]
            return features.transpose(1, 2).reshape(len(features), -1, height, width)
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features


def build_backbone(name: str, image_size: int, *, pretrained: bool | None = None, **options: Any) -> Backbone:
    """A timm network with one input channel and no classifier.

    name: `convnext_small.fb_in22k_ft_in1k`, or `hf-hub:...` / `local-dir:...` as timm takes them (these fix the weights).
    image_size: side of the images in pixels, for networks that are built for one size.
    pretrained: load the weights of that name, by default where the name has a tag (`resnet18.a1_in1k`); on failure a
        MachineError, never a silent random start.
    options: passed to timm (drop_path_rate, drop_rate, ...).
    """
    check_backbone(name)
    loaded = pretrained if pretrained is not None else "." in name or ":" in name
    known = timm.get_pretrained_cfg(name) if ":" not in name else None
    sized = {"img_size": image_size} if known and known.fixed_input_size else {}
    try:
        network = timm.create_model(name, pretrained=loaded, in_chans=1, num_classes=0, **sized, **options)
    except TypeError as error:
        raise InputError(
            f"backbone {name!r} does not take these options ({error})", do="remove them from the recipe"
        ) from error
    except (OSError, RuntimeError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MachineError(
            f"the weights of backbone {name!r} cannot be loaded ({first})",
            do="check the connection, name a folder as local-dir:PATH, or set model.backbone.pretrained=false",
        ) from error
    facts = facts_of(network, loaded=loaded)
    if loaded and facts.licence and "nc" in facts.licence:
        warnings.warn(
            f"the weights of {facts.name} are licensed {facts.licence}: non-commercial use only", stacklevel=2
        )
    return Backbone(network, facts, options)


_FROM_ELSEWHERE = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")


def rebuild_backbone(architecture: Mapping[str, Any], image_size: int) -> Backbone:
    """The backbone that a bundle describes, with random weights. Raises InputError where it asks for weights from elsewhere."""
    name, options = architecture["name"], architecture["options"]
    if ":" in name or not timm.is_model(name):
        raise InputError(f"the bundle names the backbone {name!r}, which is no timm architecture", do="do not use it")
    if strange := [option for option in _FROM_ELSEWHERE if option in options]:
        raise InputError(f"the bundle gives its backbone the option {strange[0]!r}", do="do not use it")
    backbone = build_backbone(name, image_size, pretrained=False, **options)
    told = BackboneFacts(
        **architecture["facts"]
    )  # normalisation belongs to the weights, whatever this timm version says
    backbone.facts = told
    backbone.mean.fill_(told.mean)
    backbone.std.fill_(told.std)
    return backbone


def check_backbone(name: str) -> None:
    """Raise InputError, with the nearest name, for a backbone that timm does not have; builds nothing."""
    if ":" in name:
        return
    if not timm.is_model(name):
        stem = name.split(".")[0]
        known = timm.list_models()
        close = difflib.get_close_matches(stem, known, n=4)
        hint = f"did you mean {close[0]!r}? Near it: {', '.join(close)}" if close else "see timm.list_models()"
        raise InputError(f"timm has no backbone {name!r}", do=hint)


def facts_of(network: nn.Module, *, loaded: bool) -> BackboneFacts:
    """What timm knows of a network. Grey mean and std are the averages over the colour channels."""
    known: dict[str, Any] = dict(network.pretrained_cfg)  # type: ignore[arg-type, call-overload]
    return BackboneFacts(
        name=known["architecture"],
        tag=known.get("tag") if loaded else None,
        channels=int(network.num_features),  # type: ignore[arg-type]
        input_size=known["input_size"][-1],
        mean=fmean(known["mean"]),
        std=fmean(known["std"]),
        licence=known.get("license") if loaded else None,
    )
