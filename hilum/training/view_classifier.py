"""Training a view classifier on the images of a study table whose view is known, judged on patients held out."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from hilum.batches.augment import standard, to_float
from hilum.data.cache import Cache, build_cache
from hilum.data.images import none_readable, read_spec
from hilum.data.splits import hold_out
from hilum.errors import InputError
from hilum.evaluation.view_report import judge_views
from hilum.inference.fill_views import chances_of
from hilum.inference.torch_engine import pick_device
from hilum.models.view_classifier import (
    SIDE,
    ViewClassifier,
    ViewFacts,
    build_view_classifier,
    shrunk,
    write_view_classifier,
)
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.tables import SPLITS, VIEWS, read_studies, studies_metadata
from hilum.training.average import MovingAverage
from hilum.training.optim import build_optimizer
from hilum.training.schedule import learning_rate

STEPS, BATCH = 600, 32
_PEAK, _DECAY, _WEIGHT_DECAY = 3e-3, 0.98, 0.05  # ours, as in the recipe phantom_small
_LEAST = 10  # images of a view that are needed to learn it
_TEMPERATURES = np.geomspace(1.0, 10.0, 91)  # a network is never made surer than it is


def views(
    studies: str | Path | pl.DataFrame,
    output: str | Path,
    *,
    cache: str | Path,
    steps: int = STEPS,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a view classifier, write its folder, and hand back its report (`evaluation.view_report`).

    studies: a study table; images of unknown view are left out. Its own `split` counts where it has train, valid and test,
        else patients are dealt 70 : 10 : 20. Trained on train; its temperature is set on valid; judged on test.
    cache: a cache folder to use and keep, of any size; one of 64 px is made where there is none.
    steps: of 32 images. The same seed gives the same classifier, on a CPU bit for bit.
    Raises InputError where the folder `output` is in use, or where no two views have 10 images each to learn from.
    """
    target = Path(output)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError("this folder is in use", where=target, do="name another one with -o")
    if steps < 1:
        raise InputError(f"{steps} steps teach nothing", do="give 1 or more")
    known, names = _known(studies if isinstance(studies, pl.DataFrame) else read_studies(studies))
    spec = read_spec(cache) or PixelSpec(SIDE)
    images = build_cache(known, cache, **spec.as_dict(), progress=progress)
    seen = known.filter(pl.Series(images.rows(known["image_id"].to_list()) >= 0))
    if seen.is_empty():
        raise none_readable(images, known)
    known, names = _known(seen)
    parts = {name: known.filter(pl.col("split") == name) for name in SPLITS}
    place = pick_device(device)
    model = train_view_classifier(
        parts["train"], images, names, steps=steps, seed=seed, device=place, progress=progress
    )
    valid, test = (chances_of(model, parts[name], images, progress=progress) for name in ("valid", "test"))
    temperature = best_temperature(valid, _places(parts["valid"], names))
    model.temperature.fill_(temperature)
    report = judge_views(_places(parts["test"], names), tempered(test, temperature), _patients(parts["test"]), names)
    report |= {"temperature": temperature, "steps": steps, "seed": seed, "trained_on": _counts(parts["train"])}
    note = None if isinstance(studies, pl.DataFrame) else studies_metadata(studies).get("note")
    facts = ViewFacts(model.architecture, spec, report, sorted(set(known["source"].to_list())), note)
    write_view_classifier(model, facts, target)
    return report


def train_view_classifier(
    table: pl.DataFrame,
    images: Cache,
    views: list[str],
    *,
    steps: int = STEPS,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> ViewClassifier:
    """A classifier of `views`, trained on the rows of a study table; in evaluation mode, with temperature 1."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = build_view_classifier(views).to(device).train()
    average = MovingAverage(model, _DECAY)
    optimizer = build_optimizer(model, _PEAK, _WEIGHT_DECAY)
    # mirrored too: a lateral faces either way, and the heart's side does not tell PA from AP
    augment = standard(rotate=10, shift=0.08, scale=0.15, contrast=0.2, gamma=0.2, flip=0.5)
    rows, target = images.rows(table["image_id"].to_list()), _places(table, views)
    for step in progress(range(steps), total=steps, label="learning views", unit="steps"):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, peak=_PEAK, warmup=0.05, final=0.01)
        drawn = np.random.default_rng([seed, step]).integers(len(rows), size=BATCH)
        pixels = augment(
            small(images, rows[drawn], device), torch.Generator(device).manual_seed(seed * 1_000_003 + step)
        )
        loss = F.cross_entropy(model(pixels[:, 0]), torch.from_numpy(target[drawn]).to(device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model, step)
    judged: ViewClassifier = average.model.eval()  # type: ignore[assignment]
    return judged


def small(images: Cache, rows: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 (n, 1, 1, 64, 64) of these rows of a cache: each image a study of its own, so that each draws its own change."""
    pixels = torch.from_numpy(images.images(rows))[:, None].to(device)
    return (shrunk(to_float(pixels)) * 255).round().to(torch.uint8)[:, None]


def best_temperature(chances: np.ndarray, truth: np.ndarray) -> float:
    """The temperature, 1 to 10, of least log loss on validation images (Guo et al. 2017)."""
    rows = np.arange(len(truth))
    losses = [-np.log(tempered(chances, each)[rows, truth]).mean() for each in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def tempered(chances: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities (N, K) as they would be had their logits been divided by the temperature."""
    powers = np.clip(chances.astype(np.float64), 1e-12, 1.0) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _known(table: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The images of known view with a split, and the views there are enough of, in the order of VIEWS."""
    counts = _counts(table)
    names = [name for name in VIEWS if name != "unknown" and counts.get(name, 0) >= _LEAST]
    if len(names) < 2:
        told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        advice = f"give a table with {_LEAST} or more images of two views"
        raise InputError(f"there are no two views to tell apart ({told})", do=advice)
    known = table.filter(pl.col("view").is_in(names))
    if "split" in known.columns and set(known["split"].drop_nulls()) == set(SPLITS):
        return known.filter(pl.col("split").is_not_null()), names
    shown = [
        (pl.col("view") == name).cast(pl.Int8).alias(name) for name in names
    ]  # each spread evenly, as findings are
    dealt = hold_out(known.select("study_id", "patient_id", *shown), valid=0.1, test=0.2)
    return known.with_columns(dealt["split"]), names


def _places(table: pl.DataFrame, views: list[str]) -> np.ndarray:
    """int64 (n,): the place of each image's view in `views`."""
    place = {name: k for k, name in enumerate(views)}
    return np.array([place[view] for view in table["view"].to_list()], dtype=np.int64)


def _patients(table: pl.DataFrame) -> list[str]:
    """Whose image each is; where patients are unknown, each study stands for its own."""
    return table.select(pl.coalesce("patient_id", "study_id"))["patient_id"].to_list()


def _counts(table: pl.DataFrame) -> dict[str, int]:
    return dict(table["view"].value_counts().iter_rows())
