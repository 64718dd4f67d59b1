"""Filling in views that a study table does not know, where the view classifier is sure enough; known ones stay as they are."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import torch

from hilum.atomic import atomic_path, refuse_replacing
from hilum.batches.augment import to_float
from hilum.batches.dataset import Images
from hilum.data.cache import build_cache
from hilum.data.images import read_spec
from hilum.errors import InputError
from hilum.inference.torch_engine import pick_device
from hilum.models.view_classifier import ViewClassifier, load_view_classifier
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.tables import VIEWS, Level, read_studies, studies_metadata, write_studies

_AT_ONCE = 256


@dataclass(frozen=True)
class Filled:
    """What a filling did: images of unknown view before, how many of each view were filled in, how many stay unknown.

    unreadable: of those that stay, how many no classifier could see. confidence: mean and least of what was filled in,
    null where nothing was. unseen: views that the classifier never saw, so that it calls their images something else.
    """

    unknown: int
    filled: dict[str, int]
    left: int
    unreadable: int
    confidence: tuple[float, float] | None
    unseen: list[str] = field(default_factory=list)


def fill_views(
    studies: str | Path,
    classifier: str | Path,
    output: str | Path,
    *,
    cache: str | Path,
    confidence: float = 0.9,
    device: str = "auto",
    progress: Progress = silent,
) -> Filled:
    """Write the study table with `view` filled in where it was unknown; `view_raw` and known views are not touched.

    classifier: a folder that `views` wrote. cache: a cache folder to use and keep, decoded as the classifier's was.
    confidence: a view of a lower probability stays unknown.
    Beside OUT.parquet, OUT-views.parquet tells for every image whose view was unknown: image_id, view (the likeliest),
    confidence, filled. The table's note tells how many were filled in, for every report that is made from it.
    Raises InputError where output is the input, or the cache holds images of another fit or tone.
    """
    source, target = Path(studies), Path(output)
    refuse_replacing(target, source)
    if not 0 <= confidence <= 1:
        raise InputError(f"confidence {confidence} is no probability", do="give 0 to 1")
    model, facts = load_view_classifier(classifier)
    model.to(pick_device(device))
    table = read_studies(source)
    unknown = table.filter(pl.col("view") == "unknown")
    spec = read_spec(cache) or facts.pixels
    check_pixels(spec, facts.pixels, where=cache)
    images = build_cache(unknown, cache, **spec.as_dict(), progress=progress)
    seen = unknown.filter(pl.Series(images.rows(unknown["image_id"].to_list()) >= 0, dtype=pl.Boolean))
    guesses = _guesses(model, seen, images, confidence, progress)
    filled = guesses.filter(pl.col("filled"))
    view = pl.col("image_id").replace_strict(filled["image_id"], filled["view"], default=None, return_dtype=pl.String)
    done = table.with_columns(
        pl.when(pl.col("view") == "unknown").then(pl.coalesce(view, "view")).otherwise("view").alias("view")
    )
    metadata = studies_metadata(source)
    level: Level = "image" if metadata.get("label_level") == "image" else "study"
    told = f"The views of {filled.height:,} of {table.height:,} images were not known and are a classifier's (confidence {confidence:g} or more)."
    note = " ".join(filter(None, [metadata.get("note"), told if filled.height else None])) or None
    write_studies(done, target, label_level=level, note=note)
    with atomic_path(target.with_name(f"{target.stem}-views.parquet")) as temporary:
        guesses.write_parquet(temporary)
    sure = filled["confidence"].to_numpy()
    return Filled(
        unknown=unknown.height,
        filled=dict(filled["view"].value_counts(sort=True).iter_rows()),
        left=unknown.height - filled.height,
        unreadable=unknown.height - seen.height,
        confidence=(float(sure.mean()), float(sure.min())) if len(sure) else None,
        unseen=[name for name in VIEWS if name != "unknown" and name not in facts.views],
    )


def check_pixels(given: PixelSpec, expected: PixelSpec, *, where: str | Path) -> None:
    """Raise InputError where images are not fitted and toned as those the view classifier learnt from; size does not matter."""
    if (given.fit, given.tone) != (expected.fit, expected.tone):
        raise InputError(
            f"these images are {given.fit}, {given.tone}; the view classifier learnt from {expected.fit}, {expected.tone}",
            where=where,
            do="use a cache of that kind, or train a view classifier on this one",
        )


@torch.inference_mode()
def chances_of(
    model: ViewClassifier, table: pl.DataFrame, images: Images, *, progress: Progress = silent
) -> np.ndarray:
    """float64 (n, K): the probability of each of the classifier's views, for every row of a study table."""
    device = next(model.parameters()).device
    rows = images.rows(table["image_id"].to_list())
    parts = [np.empty((0, len(model.views)))]
    starts = range(0, len(rows), _AT_ONCE)
    for start in progress(starts, total=len(starts), label="telling views", unit="batches"):
        pixels = torch.from_numpy(images.images(rows[start : start + _AT_ONCE]))[:, None].to(device)
        parts.append(model(to_float(pixels)).double().softmax(dim=1).cpu().numpy())
    return np.concatenate(parts)


def _guesses(
    model: ViewClassifier, table: pl.DataFrame, images: Images, confidence: float, progress: Progress
) -> pl.DataFrame:
    """image_id, view, confidence, filled: the likeliest view of every image, and whether it is likely enough."""
    chances = chances_of(model, table, images, progress=progress)
    likeliest = [model.views[place] for place in chances.argmax(axis=1)] if len(chances) else []
    columns = {"image_id": table["image_id"], "view": pl.Series(likeliest, dtype=pl.String)}
    columns |= {"confidence": pl.Series(chances.max(axis=1, initial=0.0), dtype=pl.Float64)}
    return pl.DataFrame(columns).with_columns(filled=pl.col("confidence") >= confidence)
