"""A small convolutional network of our own, for trials without pretrained weights: the "CustomNet" of Pillai 2022, as we read it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from hilum.errors import InputError


class CustomCNN(nn.Module):
    """Grey images (N, 1, H, W) -> feature maps (N, C, H / 2^n, W / 2^n), n the number of widths, C the last of them.

    Each block is two 3 x 3 convolutions with batch norm and ReLU, then a maximum over 2 x 2. The paper compares a network of
    its own with well-known ones and does not say enough to build it again; this is the plain form of that time.
    pretrained_cfg, num_features, forward_features: as timm's networks have them.
    """

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        half = (0.5, 0.5, 0.5)
        self.pretrained_cfg: dict[str, Any] = {
            "architecture": "custom_cnn", "input_size": (3, 224, 224), "mean": half, "std": half, "first_conv": "blocks.0.0",
        }  # fmt: skip
        self.num_features = widths[-1]
        self.blocks = nn.Sequential(*(_block(into, out) for into, out in pairwise([1, *widths])))

    def forward_features(self, images: Tensor) -> Tensor:
        features: Tensor = self.blocks(images)
        return features


def _block(into: int, out: int) -> nn.Sequential:
    convolutions = [nn.Conv2d(into, out, 3, padding=1, bias=False), nn.Conv2d(out, out, 3, padding=1, bias=False)]
    parts = [part for one in convolutions for part in (one, nn.BatchNorm2d(out), nn.ReLU(inplace=True))]
    return nn.Sequential(*parts, nn.MaxPool2d(2))


def custom_cnn(*, widths: Sequence[int] = (32, 64, 128, 256, 512)) -> nn.Module:
    """A block for each of these widths, each with half the resolution of the one before."""
    sizes = isinstance(widths, list | tuple) and all(isinstance(w, int) and not isinstance(w, bool) for w in widths)
    if not sizes or not widths or min(widths) < 1:
        raise InputError(
            f"backbone custom_cnn: widths are {widths!r}", do="give a list of sizes, such as [32, 64, 128]"
        )
    return CustomCNN(widths)
