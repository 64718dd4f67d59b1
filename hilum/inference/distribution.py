"""The gate: does an image look like those a model was trained on? Statistics in the bundle, numpy alone at serving."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.errors import InputError

FILE = "distribution.json"
QUANTILE = 0.99  # of held-out validation images that pass
_VERSION = 2  # of the statistics
_SIDE = 16  # of the thumbnail
_MOST = 16  # directions that are told apart; with 32 every negative of a real chest lay among them
_FLAT = 0.02  # standard deviation, of 1, below which a picture shows nothing

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cloud:
    """Points around a mean, with a few directions of their own width and one width for all others (probabilistic PCA:
    Tipping and Bishop 1999), and how far the points of other patients lie.

    mean (D,), axes (K, D), variances (K,), rest: the variance in every other direction, limit: a distance.
    """

    mean: Array
    axes: Array
    variances: Array
    rest: float
    limit: float = 1.0

    def distances(self, points: NDArray[Any]) -> Array:
        """(N,): Mahalanobis distances of points (N, D)."""
        centred = np.asarray(points, dtype=np.float64) - self.mean
        along = centred @ self.axes.T
        beside = np.maximum((centred**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        return np.asarray(np.sqrt((along**2 / self.variances).sum(axis=1) + beside / self.rest))


@dataclass(frozen=True)
class Judged:
    """score: the largest distance of a study's images over its limit; `limit` is 1. reasons: a sentence for each thing seen."""

    score: float
    limit: float
    reasons: list[str]

    @property
    def inside(self) -> bool:
        return self.score <= self.limit


@dataclass(frozen=True)
class Distribution:
    """picture: of thumbnails (256,), whatever the model; features: of the model's features averaged over positions (C,).

    quantile of the images held out from training lie within each limit; images, held_out: how many it was made of.
    """

    picture: Cloud
    features: Cloud
    quantile: float
    images: int
    held_out: int

    def judge(self, images: NDArray[np.uint8], features: NDArray[Any]) -> Judged:
        """Judge the views of one study: images (V, S, S) as the pixel spec renders them, features (V, C, h, w)."""
        small, pooled = thumbnails(images), features.mean(axis=(2, 3))
        picture = self.picture.distances(small) / self.picture.limit
        inner = self.features.distances(pooled) / self.features.limit
        turned = self.picture.distances(thumbnails(255 - images)) / self.picture.limit
        reasons = []
        flat = small.std(axis=1) < 0.99  # normalised, or too flat for that
        picture = np.where(flat, np.maximum(picture, 2.0), picture)
        for view, (outer, within, negative) in enumerate(zip(picture, inner, turned)):
            which = f"image {view + 1}" if len(images) > 1 else "the image"
            if flat[view]:
                reasons.append(f"{which} is one grey throughout")
            elif outer > 1 and negative < outer / 2:
                reasons.append(f"{which} looks like a negative: what should be bright is dark")
            elif outer > 1:
                reasons.append(f"{which} as a picture is unlike the images that the model was trained on")
            if within > 1:
                reasons.append(f"what the model sees in {which} is unlike what it saw in training")
        return Judged(float(max(picture.max(), inner.max())), 1.0, reasons)

    def to_json(self) -> str:
        """As the text of distribution.json: numbers to six digits."""
        facts = asdict(self)
        for name in ("picture", "features"):
            for key, value in facts[name].items():
                facts[name][key] = _rounded(value)
        return json.dumps({"hilum_distribution": _VERSION, **facts}) + "\n"


def thumbnails(images: NDArray[np.uint8]) -> Array:
    """(N, 256): images (N, S, S) averaged down to 16 x 16, each with mean 0 and standard deviation 1.

    So brightness and contrast, which differ between films, do not count, and a negative is as far away as can be.
    """
    small = [cv2.resize(image, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for image in images]
    greys = np.stack(small).reshape(len(images), -1).astype(np.float64) / 255
    return np.asarray((greys - greys.mean(axis=1, keepdims=True)) / np.maximum(greys.std(axis=1, keepdims=True), _FLAT))


def learn_distribution(
    train: tuple[NDArray[Any], NDArray[Any]], held_out: tuple[NDArray[Any], NDArray[Any]], quantile: float = QUANTILE
) -> Distribution:
    """Statistics of training images, limits from held-out ones; each a pair: thumbnails (N, 256), pooled features (N, C).

    Each of the two limits is the quantile (1 + quantile) / 2, so that about 1 - quantile of held-out images are refused by
    either. Held-out patients must be others than those in training, or the limits are too narrow.
    """
    clouds = []
    for known, new in zip(train, held_out):
        cloud = _cloud(np.asarray(known, dtype=np.float64))
        limit = float(np.quantile(cloud.distances(new), (1 + quantile) / 2))
        clouds.append(Cloud(cloud.mean, cloud.axes, cloud.variances, cloud.rest, limit))
    return Distribution(clouds[0], clouds[1], quantile, len(train[0]), len(held_out[0]))


def read_distribution(folder: str | Path) -> Distribution | None:
    """The statistics of a bundle, None where it has none of this version. Raises InputError where they are damaged."""
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.pop("hilum_distribution") != _VERSION:
            return None
        for name in ("picture", "features"):
            facts[name] = _checked(**facts[name])
        return Distribution(**facts)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            "the statistics of the training images are damaged",
            where=path,
            do="copy the bundle again from where it came",
        ) from error


def _cloud(points: Array) -> Cloud:
    mean = points.mean(axis=0)
    count, dimensions = points.shape
    _, widths, axes = np.linalg.svd(points - mean, full_matrices=False)
    variances = widths**2 / max(1, count - 1)
    keep = max(1, min(_MOST, count // 4, dimensions - 1))
    rest = float(variances[keep:].sum() / max(1, dimensions - keep))
    floor = max(rest, float(variances.sum()) * 1e-6, 1e-12)  # a direction that training never took is narrow, not shut
    return Cloud(mean, axes[:keep], np.maximum(variances[:keep], floor), floor)


def _checked(mean: Any, axes: Any, variances: Any, rest: float, limit: float) -> Cloud:
    cloud = Cloud(np.array(mean, float), np.array(axes, float), np.array(variances, float), float(rest), float(limit))
    fits = cloud.mean.ndim == 1 and cloud.axes.shape == (len(cloud.variances), len(cloud.mean))
    if not fits or not all(np.isfinite(part).all() for part in (cloud.mean, cloud.axes, cloud.variances)):
        raise ValueError("shapes")
    if not (min(cloud.rest, cloud.limit, *cloud.variances) > 0 and np.isfinite([cloud.rest, cloud.limit]).all()):
        raise ValueError("widths")
    return cloud


def _rounded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_rounded(each) for each in value]
    return float(f"{value:.6g}")
