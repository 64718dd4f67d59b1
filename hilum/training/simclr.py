"""Pre-training without labels: two augmentations of an image are to be alike, and unlike all others (SimCLR, Chen 2020)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.batches.dataset import Batch
from hilum.batches.mixing import Pairs
from hilum.errors import InputError
from hilum.models.classifier import Classifier
from hilum.training.loop import Row, StageLoop, number_from
from hilum.training.untrained import UntrainedLoop

_VALID = 64  # validation studies at once: the number of others bears on the loss, so it is the same on every machine


def ntxent(one: Tensor, other: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy of N pairs of embeddings (N, D), a scalar.

    Each of the 2 N embeddings is to find its twin among the 2 N - 1 others by its cosine (Chen 2020, equation 1).
    """
    both = F.normalize(torch.cat([one, other]).float(), dim=1)
    alike = (both @ both.T / temperature).fill_diagonal_(-torch.inf)
    return F.cross_entropy(alike, torch.arange(len(both), device=both.device).roll(len(one)))


class Projected(nn.Module):
    """A backbone, and a small network on the mean of its map whose outputs are compared; it is thrown away afterwards."""

    def __init__(self, model: Classifier, dim: int):
        super().__init__()
        channels = model.backbone.channels
        self.backbone = model.backbone
        self.project = nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, dim))

    def forward(self, images: Tensor, view: Tensor) -> Tensor:
        """Embeddings (N, D) of images (N, 1, H, W) float in [0, 1], view int8 (N,)."""
        embeddings: Tensor = self.project(self.backbone(images, view).mean(dim=(2, 3)))
        return embeddings


class ContrastiveLoop(StageLoop):
    """Trains the backbone of a classifier on the images of the training studies alone; labels play no part.

    The other images of a step, on its own device, are what each is told from, so a large batch is a harder task.
    """

    forward_methods = ()

    def __init__(
        self,
        temperature: float,
        dim: int,
        fabric: Any,
        name: str,
        spec: Any,
        model: Classifier,
        *rest: Any,
        **options: Any,
    ):
        with torch.random.fork_rng([]):
            torch.manual_seed(number_from(spec.seed, 1))
            projected = Projected(model, dim)
        super().__init__(fabric, name, spec, projected, *rest, **options)  # type: ignore[arg-type]
        self.temperature = temperature

    def _loss(self, part: Pairs, key: tuple[int, int, int], whole: float) -> Tensor:
        batch = self.train.batch(part.samples, np.random.default_rng([self.spec.seed, *key, 1]))
        seeds = [number_from(self.spec.seed, *key, stream) for stream in (2, 5)]
        return self._contrast(self.wrapped, batch.to(self.fabric.device), seeds)

    def _contrast(self, model: nn.Module, batch: Batch, seeds: list[int]) -> Tensor:
        """The loss of a batch's images, augmented once by each seed."""
        view, twins = batch.view[batch.present], []
        for seed in seeds:
            generator = torch.Generator(self.fabric.device).manual_seed(seed)
            twins.append(self.augment(batch.images, generator)[batch.present])  # type: ignore[arg-type]
        with self.fabric.autocast():
            embeddings = model(torch.cat(twins), torch.cat([view, view]))
        one, other = embeddings.chunk(2)
        return ntxent(one, other, self.temperature)

    @torch.no_grad()
    def _validate(self) -> Row:
        training = self.judged.training
        self.judged.eval()
        losses = [
            self._contrast(self.judged, batch.to(self.fabric.device), [number_from(number, 2), number_from(number, 5)])
            for number, batch in enumerate(self.valid.in_order(_VALID))
        ]
        self.judged.train(training)
        return {"valid_loss": float(torch.stack(losses).mean())}

    def _value(self, row: Row) -> float:
        return -float(row["valid_loss"])


def labels() -> Callable[..., StageLoop]:
    """The stage's loss on the findings: what a classifier is trained for."""
    return StageLoop


def simclr(*, temperature: float = 0.1, dim: int = 128) -> Callable[..., StageLoop]:
    """SimCLR on the training images, whatever their labels, with the stage's augmentation; only the backbone is trained."""
    if not temperature > 0 or dim < 1:
        raise InputError(f"objective simclr: temperature {temperature}, dim {dim}", do="give numbers above 0")
    return partial(ContrastiveLoop, temperature, dim)


def none() -> Callable[..., StageLoop]:
    """Nothing: the model is judged and saved as it starts."""
    return UntrainedLoop


OBJECTIVES: dict[str, Callable[..., Callable[..., StageLoop]]] = {"labels": labels, "simclr": simclr, "none": none}
