"""Backbones: any timm network in grey, with the facts timm knows of it, foundation models, and a few of our own."""

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

import timm
import torch
from torch import Tensor, nn

from hilum.builders import check_options
from hilum.errors import InputError, MachineError
from hilum.models.custom_cnn import custom_cnn
from hilum.models.foundation import FOUNDATION, PUBLISHED, Tower, fill_tower, foundation, read_tower

# beside every name that timm has; a network of this kind has timm's pretrained_cfg, num_features and forward_features
BACKBONES: dict[str, Callable[..., nn.Module]] = {"custom_cnn": custom_cnn}

# what some of timm's networks keep of their classifier, though their feature map may never pass it
_OF_A_CLASSIFIER = ("head", "fc_norm", "pre_logits", "conv_head", "aggregate", "pre_classifier", "in_conv")


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone and its weights.

    name: timm architecture; tag: its pretrained weights, if they were loaded; mean, std: of grey pixels in [0, 1];
    channels: of its feature map; input_size: the side its weights were trained at; licence: of the weights.
    data: sets that its weights were trained on, where these are known.
    """

    name: str
    tag: str | None
    channels: int
    input_size: int
    mean: float
    std: float
    licence: str | None
    data: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The facts as plain values for JSON."""
        return {key: value for key, value in asdict(self).items() if value or key != "data"}


class Backbone(nn.Module):
    """images (N, 1, H, W) float in [0, 1] -> feature map (N, C, h, w), whatever their view (N,).

    options: what the builder was given besides the name.
    headless: the hidden layers of a classifier were taken off (VGG's are 120 of its 140 million parameters).
    coordinates: the network also reads each pixel's row and column, each from -1 to 1.
    embeds: the map is (N, D, 1, 1), what an image-text model compares with texts.
    """

    mean: Tensor
    std: Tensor
    routes = False  # by view: another view changes nothing here

    def __init__(self, network: nn.Module, facts: BackboneFacts, options: Mapping[str, Any], *, headless: bool = False):
        super().__init__()
        self.headless, self.coordinates = headless, bool(options.get("coordinates"))
        self.embeds = "embedding" in options
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
    def data(self) -> list[str]:
        return list(self.facts.data)

    @property
    def architecture(self) -> dict[str, Any]:
        """What `rebuild_backbone` needs, as plain values for JSON."""
        told = {"name": self.facts.name, "options": self.options, "facts": self.facts.as_dict()}
        return {**told, "headless": True} if self.headless else told

    @property
    def idle(self) -> dict[str, nn.Parameter]:
        """Parameters left of a classifier, by name: the feature map does without most of them."""
        if self.embeds:
            return {}
        named = self.network.named_parameters()
        return {f"network.{name}": value for name, value in named if name.split(".")[0] in _OF_A_CLASSIFIER}

    def forward(self, images: Tensor, view: Tensor | None = None) -> Tensor:
        pixels = (images - self.mean) / self.std
        if self.coordinates:
            pixels = torch.cat([pixels, _places(pixels)], dim=1)
        if self.embeds:
            embedding: Tensor = self.network(pixels)
            return embedding[:, :, None, None]
        maps = self._maps(self.network.forward_features(pixels))  # type: ignore[operator]
        if self.training:  # idle weights stay in the graph, with a gradient of zero, as several processes expect
            for parameter in self.idle.values():
                maps = maps + 0.0 * parameter.sum()
        return maps

    def _maps(self, features: Tensor) -> Tensor:
        if features.ndim == 3:  # a transformer's tokens, class and register tokens first
            features = features[:, getattr(self.network, "num_prefix_tokens", 0) :]
            height, width = self.network.patch_embed.grid_size  # type: ignore[union-attr, misc]
            return features.transpose(1, 2).reshape(len(features), -1, height, width)
        if getattr(self.network, "output_fmt", "NCHW") == "NHWC":
            return features.permute(0, 3, 1, 2)
        return features


def _places(pixels: Tensor) -> Tensor:
    """(N, 2, H, W): row and column of each pixel, from -1 (top, left) to 1."""
    sides = [torch.linspace(-1, 1, side, device=pixels.device, dtype=pixels.dtype) for side in pixels.shape[2:]]
    return torch.stack(torch.meshgrid(*sides, indexing="ij")).expand(len(pixels), -1, -1, -1)


def build_backbone(
    name: str, image_size: int, *, pretrained: bool | None = None, coordinates: bool = False, **options: Any
) -> Backbone:
    """A network with one input channel and no classifier.

    name: of BACKBONES, of FOUNDATION (options: `foundation`), or of timm, `convnext_small.fb_in22k_ft_in1k`, or `hf-hub:...` /
        `local-dir:...` as timm takes them (these fix the weights).
    image_size: side of the images in pixels, for networks that are built for one size.
    pretrained: load the weights of that name, by default where the name has a tag (`resnet18.a1_in1k`); on failure a
        MachineError, never a silent random start.
    coordinates: also read each pixel's row and column (CoordConv, Liu et al. 2018), by weights that start at zero, so that a
        pretrained network is what it was. Guendel et al. 2018 make a DenseNet location-aware by training it on labels of
        location as well; tables here have none, so the network is told where it looks instead: our reading.
    options: passed to the builder, or to timm (drop_path_rate, drop_rate, ...).
    """
    if name in FOUNDATION:
        check_backbone(name, options)
        tower = read_tower(name, options, weights=pretrained is not False)
        return _of_tower(
            name, tower, image_size, pretrained is not False, coordinates, str(options.get("weights", name))
        )
    return _built(name, image_size, pretrained, coordinates, options, headless=True)


def _of_tower(name: str, tower: Tower, image_size: int, loaded: bool, coordinates: bool, where: str) -> Backbone:
    """The timm network that stands for a published folder, its weights in it, and what is known of them."""
    backbone = _built(tower.architecture, image_size, False, False, tower.options, headless=False)
    patch = int(backbone.network.patch_embed.patch_size[0])  # type: ignore[union-attr, index]
    if image_size % patch:
        raise InputError(
            f"backbone {name!r} reads patches of {patch} px, of which {image_size} is no multiple",
            do=f"choose a size of {image_size // patch * patch} or {(image_size // patch + 1) * patch}",
        )
    if loaded:
        fill_tower(backbone.network, tower, where)
    if coordinates:
        _widen(backbone.network)
    known = PUBLISHED.get(name) if loaded else None
    facts = replace(
        backbone.facts, tag=name if loaded else None, input_size=tower.size, mean=tower.mean, std=tower.std,
        licence=known.licence if known else None, data=known.data if known else (),
    )  # fmt: skip
    return Backbone(backbone.network, facts, {**tower.options, **({"coordinates": True} if coordinates else {})})


def _built(
    name: str,
    image_size: int,
    pretrained: bool | None,
    coordinates: bool,
    options: Mapping[str, Any],
    *,
    headless: bool,
) -> Backbone:
    check_backbone(name, options)
    kept = {**options, **({"coordinates": True} if coordinates else {})}
    if name in BACKBONES:
        if pretrained:
            raise InputError(f"backbone {name!r} has no pretrained weights", do="leave model.backbone.pretrained out")
        network = BACKBONES[name](**options)
        if coordinates:
            _widen(network)
        return Backbone(network, facts_of(network, loaded=False), kept)
    loaded = pretrained if pretrained is not None else "." in name or ":" in name
    known = timm.get_pretrained_cfg(name) if ":" not in name else None
    sized = {"img_size": image_size} if known and known.fixed_input_size else {}
    try:
        plain = {key: value for key, value in options.items() if key != "embedding"}
        classes = options.get("embedding", 0)
        network = timm.create_model(name, pretrained=loaded, in_chans=1, num_classes=classes, **sized, **plain)
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
    dropped = headless and any(name.startswith("pre_logits.") for name, _ in network.named_parameters())
    if dropped:
        network.pre_logits = nn.Identity()
    if coordinates:
        _widen(network)
    facts = facts_of(network, loaded=loaded)
    facts = replace(facts, channels=classes or facts.channels)
    if loaded and facts.licence and "nc" in facts.licence:
        warnings.warn(
            f"the weights of {facts.name} are licensed {facts.licence}: non-commercial use only", stacklevel=2
        )
    return Backbone(network, facts, kept, headless=dropped)


def _widen(network: nn.Module) -> None:
    """Two more input channels for the first convolution, whose weights start at zero."""
    known: Any = network.pretrained_cfg
    if not isinstance(known["first_conv"], str) or not known["first_conv"]:
        raise InputError(
            f"backbone {known['architecture']!r} has no single first convolution that could read coordinates",
            do="choose another backbone, or leave coordinates out",
        )
    first: Any = network.get_submodule(known["first_conv"])
    new = first.weight.new_zeros(first.weight.shape[0], 2, *first.weight.shape[2:])
    first.weight = nn.Parameter(torch.cat([first.weight.detach(), new], dim=1))
    first.in_channels += 2


_FROM_ELSEWHERE = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")


def rebuild_backbone(architecture: Mapping[str, Any], image_size: int) -> Backbone:
    """The backbone that a bundle describes, with random weights. Raises InputError where it asks for weights from elsewhere."""
    name, options = architecture["name"], architecture["options"]
    if name not in BACKBONES and (":" in name or not timm.is_model(name)):
        raise InputError(f"the bundle names the backbone {name!r}, which is no timm architecture", do="do not use it")
    if strange := [option for option in _FROM_ELSEWHERE if option in options]:
        raise InputError(f"the bundle gives its backbone the option {strange[0]!r}", do="do not use it")
    plain = {key: value for key, value in options.items() if key != "coordinates"}
    headless = architecture.get("headless", False)
    backbone = _built(name, image_size, False, bool(options.get("coordinates")), plain, headless=headless)
    # normalisation belongs to the weights, whatever this timm version says
    told = BackboneFacts(**architecture["facts"])
    backbone.facts = told
    backbone.mean.fill_(told.mean)
    backbone.std.fill_(told.std)
    return backbone


def check_backbone(name: str, options: Mapping[str, Any] | None = None) -> None:
    """Raise InputError, with the nearest name, for a backbone that nobody has, or an option that one of ours does not take.

    What timm makes of its options is seen when it builds.
    """
    ours = {key: value for key, value in (options or {}).items() if key not in ("pretrained", "coordinates")}
    if name in BACKBONES or name in FOUNDATION:
        check_options("backbone", name, BACKBONES.get(name, foundation), ours)
    elif ":" not in name and not timm.is_model(name):
        stem = name.split(".")[0]
        known = [*BACKBONES, *FOUNDATION, *timm.list_models()]
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
