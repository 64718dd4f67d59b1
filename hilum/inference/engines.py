"""Engines: what runs a model over studies. The torch engine."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from hilum.batches.augment import to_float
from hilum.batches.dataset import Studies
from hilum.models.classifier import Classifier
from hilum.progress import Progress, silent


def pick_device(wish: str = "auto") -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU; else the device of that name."""
    if wish != "auto":
        return torch.device(wish)
    return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")


def torch_logits(
    model: Classifier,
    studies: Studies,
    *,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    autocast: AbstractContextManager[object] | None = None,
    progress: Progress = silent,
    label: str = "Predicting",
) -> np.ndarray:
    """Logits float32 (studies, F) in the order of `studies.ids`; the model is left in the mode it was in."""
    training = model.training
    model.eval()
    parts = []
    batches: Iterator = studies.in_order(batch_size)  # type: ignore[type-arg]
    with torch.inference_mode(), autocast or nullcontext():
        for batch in progress(batches, total=-(-len(studies) // batch_size), label=label, unit="batches"):
            here = batch.to(device)
            logits = model(to_float(here.images), here.present, here.view, here.demographics)
            parts.append(logits.float().cpu().numpy())
    model.train(training)
    return np.concatenate(parts)
