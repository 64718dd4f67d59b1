"""The torch engine: a model over the studies of a table, and over arrays as every other engine."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from hilum.batches.augment import to_float
from hilum.batches.dataset import Batch, Studies
from hilum.bundle import Bundle, read_weights
from hilum.errors import InputError
from hilum.inference.engines import Array, Engine, Reading, Views, labels_of
from hilum.models.classifier import Classifier, rebuild_classifier
from hilum.models.context import Context
from hilum.models.looking import Looking, has_attention
from hilum.models.weights import load_weights
from hilum.progress import Progress, silent


def pick_device(wish: str = "auto") -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU; else the device of that name, such as cuda:1.

    Raises InputError for a name that is none, and for a device that this machine has not.
    """
    there = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    if wish == "auto":
        return torch.device(next(name for name, count in there.items() if count))
    name, _, number = wish.lower().partition(":")
    if name not in there or not (number.isdigit() or not number):
        raise InputError(f"there is no device {wish!r}", do="write auto, cpu, cuda, cuda:1 or mps")
    if int(number or 0) >= there[name]:
        raise InputError(f"this machine has no device {wish}", do="take auto, or cpu")
    return torch.device(wish.lower())


def logits_of(model: "Classifier | AsClassifier", batch: Batch, pixels: Tensor | None = None) -> Tensor:
    """Logits (B, F) of a batch: read from its features where it carries them, else from its images.

    pixels: the images as floats in [0, 1], where they were augmented.
    """
    context = Context(prior=batch.prior, years=batch.years, indication=batch.indication, told=batch.told)
    facts = batch.present, batch.view, batch.demographics, context
    if batch.features is not None:  # read by a Classifier, be it wrapped for its device; an engine encodes by itself
        whole = cast(Classifier, model)
        return whole.read(batch.features.to(next(whole.head.parameters()).dtype), *facts)
    if pixels is None and batch.images is not None:
        pixels = to_float(batch.images)
    logits: Tensor = model(pixels, *facts)
    return logits


def torch_logits(
    model: "Classifier | AsClassifier",
    studies: Studies,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    autocast: AbstractContextManager[object] | None = None,
    pixels: Callable[[Batch], Tensor] | None = None,
    progress: Progress = silent,
    label: str = "Predicting",
) -> np.ndarray:
    """Logits float32 (studies, F) in the order of `studies.ids`; the model is left in the mode it was in.

    pixels: makes other pixels, floats in [0, 1], of a batch's images.
    """
    training = model.training
    model.eval()
    parts = []
    batches: Iterator = studies.in_order(batch_size)  # type: ignore[type-arg]
    with torch.inference_mode(), autocast or nullcontext():
        for batch in progress(batches, total=-(-len(studies) // batch_size), label=label, unit="batches"):
            here = batch.to(device)
            parts.append(logits_of(model, here, pixels(here) if pixels else None).float().cpu().numpy())
    model.train(training)
    return np.concatenate(parts)


class TorchEngine(Engine):
    """A classifier behind numpy; `.classifier` is at hand for what needs gradients."""

    def __init__(self, classifier: Classifier, name: str = "torch"):
        self.name, self.classifier = name, classifier.eval()
        self.attends = has_attention(classifier)
        self._read: Callable[..., Any] = Looking(classifier).eval() if self.attends else classifier.read

    @classmethod
    def of(cls, bundle: Bundle) -> "TorchEngine":
        """The engine of a bundle, on the CPU. Raises InputError where its weights do not fit its architecture."""
        engine = cls(classifier_of(bundle))
        engine.labels = labels_of(bundle)
        return engine

    def _encode(self, images: Array, view: Views) -> Array:
        with torch.inference_mode():
            features: Array = self.classifier.encode(torch.from_numpy(images), torch.from_numpy(view)).numpy()
        return features

    def asked(self, labels: Array) -> "TorchEngine":
        super().asked(labels)  # or refused
        names = [str(row) for row in range(len(labels))]
        twin = TorchEngine(self.classifier.asked(names, torch.from_numpy(labels)), self.name)
        twin.labels = labels
        return twin

    def _answer(self, labels: Array | None = None, **inputs: Any) -> Reading:
        """labels: those that the classifier holds."""
        with torch.inference_mode():
            told = self._read(**{name: torch.from_numpy(part) for name, part in inputs.items()})
        return Reading(*(part.numpy() for part in told)) if self.attends else Reading(told.numpy())


class AsClassifier(nn.Module):
    """An engine in a classifier's place, for what asks one: `torch_logits`, and with it test-time transforms."""

    def __init__(self, engine: Engine, findings: Sequence[str]):
        super().__init__()
        self.engine, self.findings = engine, tuple(findings)

    def asked(self, findings: Sequence[str], vectors: Tensor) -> "AsClassifier":
        """The same about other findings, by the vectors (F, D) of their labels."""
        return AsClassifier(self.engine.asked(vectors.cpu().numpy()), findings)

    def forward(
        self, images: Tensor, present: Tensor, view: Tensor, demographics: Tensor, context: Context | None = None
    ) -> Tensor:
        parts = (part.cpu().numpy() for part in (images, present, view, demographics))
        return torch.from_numpy(self.engine.logits(*parts))


def classifier_of(bundle: Bundle, *, allow_partial: bool = False) -> Classifier:
    """The model of a bundle. Raises InputError unless its weights fit key by key, or `allow_partial`."""
    classifier = rebuild_classifier(bundle.architecture, bundle.findings)
    weights = {key: torch.from_numpy(value) for key, value in read_weights(bundle).items()}
    load_weights(classifier, weights, allow_partial=allow_partial, where=str(bundle.weights_file))
    return classifier
