"""Augmentation of a whole batch on its device; each study draws its own, all its views alike."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.errors import InputError

Augment = Callable[[Tensor, torch.Generator], Tensor]


def to_float(images: Tensor) -> Tensor:
    """uint8 (..., H, W) -> float32 in [0, 1]: what a model encodes."""
    return images.float().div_(255)


def none() -> Augment:
    """No augmentation: pixels as they are, as float in [0, 1]."""
    return lambda images, generator: to_float(images)


def standard(
    *,
    rotate: float = 7.0,
    shift: float = 0.05,
    scale: float = 0.1,
    brightness: float = 0.1,
    contrast: float = 0.15,
    gamma: float = 0.15,
    noise: float = 0.02,
    erase: float = 0.0,
    flip: float = 0.0,
) -> Augment:
    """Small changes of place and tone; the horizontal flip is off, as it moves the heart.

    rotate: largest angle in degrees; shift: in parts of the side; scale: zoom in 1 +- scale; brightness: added;
    contrast: factor in 1 +- contrast about the mean; gamma: exponent in exp(+-gamma); noise: largest standard deviation;
    erase: chance that one rectangle of 2 to 10 % of the area is blanked; flip: chance of a left-right flip.
    Raises InputError for a number out of its range.
    """
    most = {"rotate": 180.0, "shift": 1.0, "scale": 0.99, "brightness": 1.0, "contrast": 1.0, "gamma": 3.0, "noise": 1.0,
            "erase": 1.0, "flip": 1.0}  # fmt: skip
    given = (rotate, shift, scale, brightness, contrast, gamma, noise, erase, flip)
    for (name, highest), value in zip(most.items(), given, strict=True):
        if not 0 <= value <= highest:
            raise InputError(f"augment.{name} is {value}", do=f"give 0 to {highest:g}")

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        """images uint8 (B, V, 1, H, W) -> float (B, V, 1, H, W) in [0, 1]; the generator lives on the images' device."""
        draw = _Draw(len(images), images.device, generator)
        pixels = to_float(images)
        if rotate or shift or scale or flip:
            pixels = _move(pixels, _affine(draw, rotate, shift, scale, flip))
        if gamma:
            pixels = pixels.clamp(min=1e-6) ** torch.exp(draw.between(-gamma, gamma))
        if contrast or brightness:
            middle = pixels.mean(dim=(-2, -1), keepdim=True)
            pixels = (pixels - middle) * (1 + draw.between(-contrast, contrast)) + middle
            pixels = pixels + draw.between(-brightness, brightness)
        if noise:
            grain = torch.randn(pixels.shape, generator=generator, device=pixels.device)
            pixels = pixels + grain * draw.between(0, noise)
        if erase:
            pixels = pixels * _holes(draw, erase, pixels.shape[-2], pixels.shape[-1])
        return pixels.clamp_(0, 1)

    return augment


AUGMENTS: dict[str, Callable[..., Augment]] = {"none": none, "standard": standard}


class _Draw:
    """Random numbers, one per study, shaped to multiply (B, V, 1, H, W)."""

    def __init__(self, count: int, device: torch.device, generator: torch.Generator):
        self.count, self.device, self.generator = count, device, generator

    def between(self, low: float, high: float) -> Tensor:
        uniform = torch.rand(self.count, generator=self.generator, device=self.device)
        return (low + (high - low) * uniform)[:, None, None, None, None]


def _affine(draw: _Draw, rotate: float, shift: float, scale: float, flip: float) -> Tensor:
    """(B, 2, 3) maps from output to input coordinates in [-1, 1]."""
    angle = torch.deg2rad(draw.between(-rotate, rotate).flatten())
    zoom = 1 / (1 + draw.between(-scale, scale).flatten())
    mirror = torch.where(draw.between(0, 1).flatten() < flip, -1.0, 1.0)
    dx, dy = (2 * draw.between(-shift, shift).flatten() for _ in range(2))
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    return torch.stack([torch.stack([cos * mirror, -sin, dx], -1), torch.stack([sin * mirror, cos, dy], -1)], 1)


def _move(pixels: Tensor, theta: Tensor) -> Tensor:
    grid = F.affine_grid(theta, [len(pixels), 1, *pixels.shape[-2:]], align_corners=False)
    return F.grid_sample(pixels[:, :, 0], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, :, None]


def _holes(draw: _Draw, chance: float, height: int, width: int) -> Tensor:
    """(B, 1, 1, H, W): 0 inside one rectangle for the studies that draw one, else 1."""
    area, aspect = draw.between(0.02, 0.1), torch.exp(draw.between(-0.7, 0.7))
    tall, wide = (area * aspect).sqrt(), (area / aspect).sqrt()
    top, left = draw.between(0, 1) * (1 - tall), draw.between(0, 1) * (1 - wide)
    y = ((torch.arange(height, device=draw.device) + 0.5) / height)[:, None]
    x = (torch.arange(width, device=draw.device) + 0.5) / width
    inside = (y >= top) & (y < top + tall) & (x >= left) & (x < left + wide)
    chosen = draw.between(0, 1) < chance
    return (~(inside & chosen)).float()
