"""Test-time augmentation: the same studies read several times, their images changed each time, and the readings averaged.

A transform is asked for by name and, after a colon, by its size: `flip`, `rotate:5`, `random:4`. The image as it is always
counts too. What a transform makes of an image depends on that image alone: not on its name, its study or its batch mates.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.batches.augment import standard, to_float
from hilum.batches.dataset import Batch, Studies
from hilum.builders import listed
from hilum.errors import InputError
from hilum.inference.averaging import averaged
from hilum.inference.torch_engine import AsClassifier, torch_logits
from hilum.models.classifier import Classifier, unpack
from hilum.progress import Progress, silent
from hilum.recipe import PredictSpec

Transform = Callable[[Tensor, int], Tensor]  # images uint8 (N, 1, H, W) and the seed -> float (N, 1, H, W) in [0, 1]
Transforms = dict[str, Transform]  # by the name that predictions carry in their metadata
IDENTITY = "identity"


def identity(size: float = 0.0) -> Transforms:
    """The images as they are."""
    return {IDENTITY: lambda images, seed: to_float(images)}


def flip(size: float = 0.0) -> Transforms:
    """Left for right. It moves the heart to the other side, so it suits models that were trained with flips."""
    return {"flip": lambda images, seed: to_float(images).flip(-1)}


def rotate(size: float = 5.0) -> Transforms:
    """By `size` degrees, once each way."""
    return {f"rotate:{angle:+g}": _affine(angle=angle) for angle in (-size, size)}


def shift(size: float = 0.04) -> Transforms:
    """By `size` parts of the side: left, right, up and down."""
    moves = {"left": (-size, 0.0), "right": (size, 0.0), "up": (0.0, -size), "down": (0.0, size)}
    return {f"shift:{way}:{size:g}": _affine(x=x, y=y) for way, (x, y) in moves.items()}


def zoom(size: float = 0.08) -> Transforms:
    """Larger and smaller by `size` parts of the side."""
    return {f"zoom:{change:+g}": _affine(scale=1 + change) for change in (-size, size)}


def random(size: float = 4.0) -> Transforms:
    """`size` draws of the standard augmentation of training."""
    return {f"random:{number}": _draw(number) for number in range(1, round(size) + 1)}


TTA: dict[str, Callable[..., Transforms]] = {
    "identity": identity, "flip": flip, "rotate": rotate, "shift": shift, "zoom": zoom, "random": random,
}  # fmt: skip
_SIZES = {"rotate": (45.0, "degrees"), "shift": (0.5, "parts of the side"), "zoom": (0.5, "parts of the side")}


def transforms(asked: Sequence[str]) -> Transforms:
    """The transforms asked for, by name, the identity first. Raises InputError for one that is not known, and for a wrong size."""
    chosen = identity()
    for word in asked:
        name, _, size = word.strip().partition(":")
        builder = listed("test-time transform", TTA, name)
        chosen |= builder(_size(name, size)) if size else builder()
    return chosen


def tta_logits(
    model: Classifier | AsClassifier,
    studies: Studies,
    spec: PredictSpec,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[Any]] | None = None,
    progress: Progress = silent,
    label: str = "Predicting",
) -> np.ndarray:
    """Logits float32 (studies, F), averaged over the transforms of `spec`; without any, those of `torch_logits` exactly.

    Studies are read from cached features where they have them, as they are and under each transform; else they are encoded.
    """
    answers = []
    for name, transform in transforms(spec.tta).items():
        plain = name == IDENTITY
        own = studies if plain else studies.with_features(studies.changed.get(name))
        logits = torch_logits(
            model, own, batch_size=batch_size, device=device, autocast=autocast() if autocast else None,
            pixels=None if plain or own.features is not None else _pixels(transform, spec.seed),
            progress=progress, label=label if plain else f"{label}, {name}",
        )  # fmt: skip
        answers.append(logits)
    return averaged(answers, spec.space)


def used(spec: PredictSpec) -> dict[str, Any]:
    """What the predictions' metadata says: every transform, and where their mean was taken. Empty where there was only one."""
    names = list(transforms(spec.tta))
    seed = {"seed": spec.seed} if any(name.startswith("random:") for name in names) else {}
    return {"transforms": names, "space": spec.space, **seed} if len(names) > 1 else {}


def facts_of(name: str, spec: PredictSpec) -> dict[str, Any]:
    """All that the pixels under a transform follow from besides the image; the name says sizes."""
    drawn = {"seed": spec.seed, "of": standard.__kwdefaults__} if name.startswith("random:") else {}
    return {"transform": name, **drawn}


def chosen_by(
    default: Mapping[str, Any],
    tta: str | Sequence[str] | None = None,
    space: str | None = None,
    seed: int | None = None,
) -> PredictSpec:
    """A bundle's own choice, with what a caller says instead; `none` or an empty list switches it off.

    Words may hold several names with commas between. Raises InputError for a name, size or space that is not known.
    """
    spec = PredictSpec(**default)
    if tta is not None:
        words = [part.strip() for word in ([tta] if isinstance(tta, str) else tta) for part in word.split(",")]
        if "none" in words and len(set(words)) > 1:
            raise InputError("test-time transform 'none' stands beside others", do="name those alone, or none alone")
        spec.tta = [word for word in words if word and word != "none"]
    if space is not None:
        spec.space = listed("space to average in", {"probability": "probability", "logit": "logit"}, space)  # type: ignore[assignment]
    spec.seed = spec.seed if seed is None else seed
    transforms(spec.tta)
    return spec


def _size(name: str, text: str) -> float:
    if name in ("identity", "flip"):
        raise InputError(f"the test-time transform {name!r} takes no number", do=f"write {name}")
    if name == "random":
        if not text.isdigit() or int(text) < 1:
            raise InputError(
                f"{name}:{text} is no number of draws", do="write a whole number above 0, such as random:4"
            )
        return float(text)
    most, unit = _SIZES[name]
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size <= most:
        raise InputError(f"{name}:{text} is out of range", do=f"give a number of {unit} above 0 and up to {most:g}")
    return size


def _affine(angle: float = 0.0, x: float = 0.0, y: float = 0.0, scale: float = 1.0) -> Transform:
    """Images turned by degrees, moved by parts of the side, made larger; what comes in from outside is black."""
    radians = np.deg2rad(angle)
    cos, sin = np.cos(radians) / scale, np.sin(radians) / scale

    def transform(images: Tensor, seed: int) -> Tensor:
        pixels = to_float(images)
        theta = pixels.new_tensor([[cos, -sin, -2 * x], [sin, cos, -2 * y]]).expand(len(pixels), 2, 3)
        grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    return transform


def _draw(number: int) -> Transform:
    """The number-th draw of the standard augmentation: of each image its own, from the seed and the image's pixels."""
    augment = standard()

    def transform(images: Tensor, seed: int) -> Tensor:
        moved = []
        for image in images:
            content = hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).digest()
            key = [seed, number, int.from_bytes(content[:8], "little")]
            start = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))
            moved.append(augment(image[None, None], torch.Generator(images.device).manual_seed(start))[0])
        return torch.cat(moved)

    return transform


def _pixels(transform: Transform, seed: int) -> Callable[[Batch], Tensor]:
    """What a batch's images (B, V, 1, H, W) become; absent ones stay black."""

    def pixels(batch: Batch) -> Tensor:
        assert batch.images is not None, "transforms are of pixels"
        with torch.autocast(batch.images.device.type, enabled=False):  # half the digits would move pixels elsewhere
            return unpack(transform(batch.images[batch.present], seed), batch.present)

    return pixels
