"""Making the gate of a bundle: what the model sees in training images, and how far held-out ones lie from it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hilum.batches.augment import to_float
from hilum.batches.dataset import Studies
from hilum.bundle import Bundle, amend_bundle, read_bundle
from hilum.data.cache import build_cache
from hilum.errors import InputError
from hilum.inference.distribution import FILE, QUANTILE, Distribution, learn_distribution, thumbnails
from hilum.inference.torch_engine import classifier_of, pick_device
from hilum.models.classifier import Classifier
from hilum.progress import Progress, silent
from hilum.tables import read_studies

MOST = 512  # images of each side; more change the limits little


def measure_distribution(
    model: Classifier, train: Studies, held_out: Studies, *, quantile: float = QUANTILE, most: int = MOST
) -> Distribution:
    """The gate of a model: from up to `most` training images, spread over the table, and as many of other patients."""
    sides = [_seen(model, samples, most) for samples in (train, held_out)]
    return learn_distribution(sides[0], sides[1], quantile)


def put_distribution(bundle: Bundle, distribution: Distribution) -> Bundle:
    """Write the statistics into a bundle on disk, whole or not at all; its identity stays."""
    return amend_bundle(bundle, lambda folder: (folder / FILE).write_text(distribution.to_json(), encoding="utf-8"))


def gate(
    bundle: str | Path,
    studies: str | Path,
    *,
    cache: str | Path = "cache",
    quantile: float = QUANTILE,
    most: int = MOST,
    device: str = "auto",
    progress: Progress = silent,
) -> Distribution:
    """Give a bundle its gate, from the rows train and valid of the table that it was trained on (`RUN/studies.parquet`).

    quantile: of held-out images that shall pass. Raises InputError where the table has no such rows.
    """
    if not 0.5 <= quantile < 1:
        raise InputError(f"the quantile is {quantile:g}", do="give 0.5 or more, and less than 1")
    facts = read_bundle(bundle)
    table = read_studies(studies)
    if "split" not in table.columns or not {"train", "valid"} <= set(table["split"]):
        raise InputError(
            "the table has no rows with split train and valid", where=studies, do="give RUN/studies.parquet"
        )
    wanted = table.filter(table["split"].is_in(["train", "valid"]))
    images = build_cache(wanted, cache, **facts.pixels.as_dict(), progress=progress)
    train, valid = (Studies(wanted.filter(wanted["split"] == side), images, []) for side in ("train", "valid"))
    model = classifier_of(facts).to(pick_device(device))
    made = measure_distribution(model, train, valid, quantile=quantile, most=most)
    put_distribution(facts, made)
    return made


@torch.inference_mode()
def _seen(model: Classifier, samples: Studies, most: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Thumbnails (N, 256) and pooled features (N, C) of up to `most` images."""
    device, training = next(model.parameters()).device, model.training
    model.eval()
    chosen = np.unique(np.linspace(0, len(samples.rows) - 1, min(most, len(samples.rows))).round().astype(int))
    small, pooled = [], []
    for part in np.array_split(chosen, -(-len(chosen) // 64)):
        images = samples.source.images(samples.rows[part])
        small.append(thumbnails(images))
        view = torch.from_numpy(samples.view[part]).to(device)
        features = model.encode(to_float(torch.from_numpy(images[:, None]).to(device)), view)
        pooled.append(features.float().mean(dim=(2, 3)).cpu().numpy())
    model.train(training)
    return np.concatenate(small), np.concatenate(pooled)
