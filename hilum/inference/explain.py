"""Heat maps: what of a study's images spoke for a finding. Numpy over any engine; gradients are a file of their own."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.builders import listed
from hilum.errors import InputError
from hilum.inference.engines import Engine

Array = NDArray[np.float32]
COARSE = 6  # cells a side: on fewer, one cell is a large part of a chest
_AT_ONCE = 32  # studies that are read at once


@dataclass(frozen=True)
class Study:
    """One study as an engine takes it.

    images float32 (V, 1, S, S) in [0, 1]; view int8 (V,), codes of a Batch; demographics float32 (4,); features float32
    (V, C, h, w), what the engine makes of the images.
    """

    images: Array
    view: NDArray[np.int8]
    demographics: Array
    features: Array


@dataclass(frozen=True)
class Explained:
    """maps float32 (findings, V, S, S) over the input images, 0 to 1: the highest value over a study's views is 1.

    A map that is 0 throughout says that nothing spoke for the finding.
    """

    method: str
    maps: Array


def explain(
    engine: Engine,
    images: Array,
    view: NDArray[np.int8],
    demographics: Array | None,
    findings: Sequence[int],
    method: str | None = None,
    *,
    features: Array | None = None,
) -> Explained:
    """What spoke for these findings, by their places among the engine's logits.

    method: a name of METHODS; by default `cells`, which is quick, but on a feature map that is too coarse for it
    `occlusion`. `attention` needs a head that has one, `gradcam` the torch engine; InputError tells where it has not.
    features: what the engine made of the images, where that was done before.
    """
    if method is not None:
        listed("method of explanation", METHODS, method)  # a wrong name is told before anything is computed
    demographics = np.zeros(4, dtype=np.float32) if demographics is None else demographics
    study = Study(images, view, demographics, engine.encode(images, view) if features is None else features)
    method = method or ("cells" if min(study.features.shape[-2:]) >= COARSE else "occlusion")
    return Explained(method, laid(METHODS[method](engine, study, list(findings)), images.shape[-1]))


def laid(heights: Array, size: int) -> Array:
    """Heights (F, V, h, w) as maps (F, V, size, size): negative ones are 0, the highest of a finding over its views is 1."""
    flat = [[cv2.resize(each, (size, size), interpolation=cv2.INTER_CUBIC) for each in views] for views in heights]
    maps = np.maximum(np.asarray(flat, dtype=np.float32), 0.0)
    top = maps.max(axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.divide(maps, top, out=np.zeros_like(maps), where=top > 0), dtype=np.float32)


def attention(engine: Engine, study: Study, findings: list[int]) -> Array:
    """Where the head looks for each finding: its weights above what a position gets on average."""
    weights = engine.read(*_one(study)).attention if engine.attends else None
    if weights is None:
        raise InputError("this model's head has no attention over the image", do="choose another method, such as cells")
    chosen: Array = weights[0][findings]
    above: Array = chosen - chosen.mean(axis=(1, 2, 3), keepdims=True)
    return above


def cells(engine: Engine, study: Study, findings: list[int]) -> Array:
    """What each logit loses when cells of a view's feature map are covered by that view's mean feature.

    A window of about a sixth of the side goes from cell to cell, so only `read` is asked: h * w studies a view.
    """
    views, _, height, width = study.features.shape
    base = engine.read(*_one(study)).logits[0][findings]
    reach = max(height, width) // 12
    windows = [
        (v, slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1))
        for v in range(views)
        for y in range(height)
        for x in range(width)
    ]
    means = study.features.mean(axis=(2, 3))
    lost = []
    for part in _parts(windows):
        covered = np.repeat(study.features[None], len(part), axis=0)
        for row, (v, ys, xs) in enumerate(part):
            covered[row, v, :, ys, xs] = means[v][:, None, None]
        lost.append(base - _logits(engine, study, covered)[:, findings])
    heights: Array = np.concatenate(lost).T.reshape(len(findings), views, height, width)
    return heights


def occlusion(engine: Engine, study: Study, findings: list[int]) -> Array:
    """What each logit loses when a patch of an image is blurred away (occlusion: Zeiler and Fergus 2014).

    Patches are a sixth of the side, half overlapping; a patch is replaced by the image blurred over as much, so that no new
    edge speaks. A pixel's height is the mean over its patches, smoothed over half a step between them. The image is encoded
    once for each of 121 patches a view.
    """
    views, size = study.images.shape[0], study.images.shape[-1]
    base = engine.read(*_one(study)).logits[0][findings]
    side, step = max(2, size // 6), max(1, size // 12)
    starts = [*range(0, size - side, step), size - side]
    blurred = np.stack([cv2.GaussianBlur(image[0], (0, 0), side / 2) for image in study.images])
    heat = np.zeros((len(findings), views, size, size), dtype=np.float32)
    count = np.zeros((size, size), dtype=np.float32)
    for y in starts:
        for x in starts:
            count[y : y + side, x : x + side] += 1
    for part in _parts([(v, y, x) for v in range(views) for y in starts for x in starts]):
        images = np.stack([study.images[v] for v, _, _ in part])
        for row, (v, y, x) in enumerate(part):
            images[row, 0, y : y + side, x : x + side] = blurred[v, y : y + side, x : x + side]
        encoded = engine.encode(images, np.array([study.view[v] for v, _, _ in part], dtype=np.int8))
        covered = np.repeat(study.features[None], len(part), axis=0)
        for row, (v, _, _) in enumerate(part):
            covered[row, v] = encoded[row]
        lost = base - _logits(engine, study, covered)[:, findings]
        for row, (v, y, x) in enumerate(part):
            heat[:, v, y : y + side, x : x + side] += lost[row][:, None, None]
    heat /= count
    return np.stack([[cv2.GaussianBlur(each, (0, 0), step / 2) for each in views] for views in heat])


def gradcam(engine: Engine, study: Study, findings: list[int]) -> Array:
    """Grad-CAM++ (`hilum.inference.grad_cam`), with the torch engine alone."""
    if not hasattr(engine, "classifier"):
        raise InputError("gradients need the torch engine", do="choose another method, such as cells")
    maps: Array = import_module("hilum.inference.grad_cam").maps(engine.classifier, *_one(study), findings)
    return maps


METHODS: dict[str, Callable[[Engine, Study, list[int]], Array]] = {  # -> heights (findings, V, h, w)
    "cells": cells,
    "attention": attention,
    "occlusion": occlusion,
    "gradcam": gradcam,
}


def methods_of(engine: Engine) -> list[str]:
    """The names of METHODS that an engine can do."""
    can = {"attention": engine.attends, "gradcam": hasattr(engine, "classifier")}
    return [name for name in METHODS if can.get(name, True)]


def _one(study: Study) -> tuple[Array, NDArray[np.bool_], NDArray[np.int8], Array]:
    return study.features[None], np.ones((1, len(study.view)), bool), study.view[None], study.demographics[None]


def _logits(engine: Engine, study: Study, features: Array) -> Array:
    """Logits (B, F) of B versions of a study's features (B, V, C, h, w)."""
    _, present, view, demographics = _one(study)
    many = len(features)
    return engine.read(
        features, np.repeat(present, many, 0), np.repeat(view, many, 0), np.repeat(demographics, many, 0)
    ).logits


def _parts(windows: list[tuple[Any, Any, Any]]) -> Iterator[list[tuple[Any, Any, Any]]]:
    for start in range(0, len(windows), _AT_ONCE):
        yield windows[start : start + _AT_ONCE]
