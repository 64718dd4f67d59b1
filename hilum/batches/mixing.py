"""Mixing: a training sample shown together with another, as a weighted mean of both and of their labels.

    image  = share * its own + (1 - share) * the partner's       each augmented by itself
    label  = the mean of the known ones among the two, by their weights
    weight = share * its own + (1 - share) * the partner's       of each entry: 1 if known, 0 if unknown, a pseudo label's own

So a loss that is linear in the label takes from an entry share times the one's loss plus (1 - share) times the other's, and
an unknown one adds nothing: the known partner's label stands, for as much as it shows. (To call the entry unknown instead
would, where sets with different findings are united, forget most labels.) The view and what is told of the patient are
those of the sample that shows more. Only single images are mixed. Where a stage trains on cached features these are mixed
in place of pixels, which is manifold mixup at the last layer of the backbone (Verma 2019).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hilum.batches.dataset import Batch, Studies
from hilum.batches.sampling import SAMPLERS
from hilum.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """Samples (B,), the partners (B,) they are mixed with, and float32 (B,) what each shows of itself. None: not mixed."""

    samples: np.ndarray
    partners: np.ndarray | None = None
    shares: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def split(self, count: int) -> list["Pairs"]:
        """As so many parts, in order."""
        places = np.array_split(np.arange(len(self)), count)
        return [Pairs(*(None if part is None else part[at] for part in vars(self).values())) for at in places]  # type: ignore[arg-type]

    def targets(self, studies: Studies) -> tuple[Tensor, Tensor | None]:
        """Labels (B, F) and their weights, as the loss will see them."""
        own = studies.targets(self.samples)
        if self.partners is None or self.shares is None:
            return own
        return mixed_targets(own, studies.targets(self.partners), torch.from_numpy(self.shares))


Draw = Callable[[np.ndarray, np.random.Generator], Pairs]  # the samples of a step -> whom each is mixed with
Mix = Callable[[np.ndarray], Draw]  # positives bool (N, F) of all training samples -> how partners are drawn


def none() -> Mix:
    """Nothing is mixed."""
    return lambda positives: lambda samples, generator: Pairs(samples)


def mixup(*, alpha: float = 0.2) -> Mix:
    """MixUp (Zhang 2018): partners from the same step, share ~ Beta(alpha, alpha), drawn for each sample."""
    _check(alpha)

    def draw(samples: np.ndarray, generator: np.random.Generator) -> Pairs:
        return Pairs(samples, generator.permutation(samples), _float32(generator.beta(alpha, alpha, len(samples))))

    return lambda positives: draw


def balanced_mixup(*, alpha: float = 0.2) -> Mix:
    """Balanced-MixUp (Galdran 2021): partners by the `balanced` sampler, their share ~ Beta(alpha, 1), so mostly small."""
    _check(alpha)

    def mix(positives: np.ndarray) -> Draw:
        shares = SAMPLERS["balanced"]()(positives)

        def draw(samples: np.ndarray, generator: np.random.Generator) -> Pairs:
            partners = generator.choice(len(shares), size=len(samples), p=shares / shares.sum())
            return Pairs(samples, partners, _float32(1 - generator.beta(alpha, 1, len(samples))))

        return draw

    return mix


_FACTS = ("view", "demographics", "prior", "years", "indication", "told")  # of a batch, beside images and labels
MIXES: dict[str, Callable[..., Mix]] = {"none": none, "mixup": mixup, "balanced_mixup": balanced_mixup}


def mixed(batch: Batch, other: Batch, shares: Tensor) -> Batch:
    """The batch mixed with another of as many single images. images float (B, 1, 1, H, W), or features; shares (B,)."""
    if batch.present.shape[1] > 1 or other.present.shape[1] > 1:
        raise InputError(
            "a sample of several images is to be mixed", do="train on single images, or set train.mix=none"
        )
    labels, weights = mixed_targets((batch.labels, batch.weights), (other.labels, other.weights), shares)
    facts: dict[str, Any] = {name: _heavier(getattr(batch, name), getattr(other, name), shares) for name in _FACTS}
    images = _mean(batch.images, other.images, shares)
    features = _mean(batch.features, other.features, shares)
    return replace(batch, images=images, features=features, labels=labels, weights=weights, **facts)


def mixed_targets(
    own: tuple[Tensor, Tensor | None], other: tuple[Tensor, Tensor | None], shares: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels (B, F), NaN = unknown in both, and weights (B, F) of two batches mixed by shares (B,)."""
    total, weighed = torch.zeros_like(own[0]), torch.zeros_like(own[0])
    for (labels, weights), share in ((own, shares), (other, 1 - shares)):
        known = ~labels.isnan()
        part = (share[:, None] * (known if weights is None else weights)).masked_fill(~known, 0.0)
        total += part
        weighed += part * labels.masked_fill(~known, 0.0)
    return torch.where(total > 0, weighed / total, torch.nan), total


def _mean(own: Tensor | None, other: Tensor | None, shares: Tensor) -> Tensor | None:
    if own is None or other is None:
        return None
    share = shares.view(-1, *[1] * (own.ndim - 1))
    return share * own + (1 - share) * other


def _heavier(own: Tensor | None, other: Tensor | None, shares: Tensor) -> Tensor | None:
    """Of each pair what belongs to the one that shows more."""
    if own is None or other is None:
        return own
    return torch.where((shares >= 0.5).view(-1, *[1] * (own.ndim - 1)), own, other)


def _float32(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32)


def _check(alpha: float) -> None:
    if not alpha > 0:
        raise InputError(f"train.mix: alpha is {alpha}", do="give a number above 0")
