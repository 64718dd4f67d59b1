"""Engines: what runs a bundle's two graphs, numpy in and numpy out. None of them is loaded before it is asked for."""

import json
from abc import ABC, abstractmethod
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from hilum.builders import listed
from hilum.bundle import Bundle
from hilum.errors import InputError
from hilum.inference.vocabulary import carried_labels

Array = NDArray[np.float32]
Flags = NDArray[np.bool_]
Views = NDArray[np.int8]
_AT_ONCE = 16  # images that are encoded at once: more need memory and bring nothing on a CPU


class Reading(NamedTuple):
    """logits float32 (B, F); attention float32 (B, F, V, h', w'), None where the head has none (`hilum.models.looking`)."""

    logits: Array
    attention: Array | None = None


def as_floats(images: NDArray[np.uint8]) -> Array:
    """Images of 0 to 255 as float32 in [0, 1], as a model reads them."""
    return np.divide(images, 255, dtype=np.float32)


class Engine(ABC):
    """What computes a bundle's logits.

    name: as in ENGINES. attends: whether a reading brings attention. A row's answer does not depend on the other rows.
    labels: of an open vocabulary the vectors float32 (F, D) of the findings that it answers for, else None.
    """

    name: str
    attends: bool
    labels: Array | None = None

    def encode(self, images: Array, view: Views | None = None) -> Array:
        """Features (N, C, h, w) of images (N, 1, H, W) float32 in [0, 1]; view int8 (N,), without it unknown throughout."""
        if view is None:
            view = np.zeros(len(images), dtype=np.int8)
        parts = [
            self._encode(np.ascontiguousarray(images[k : k + _AT_ONCE]), np.ascontiguousarray(view[k : k + _AT_ONCE]))
            for k in range(0, len(images), _AT_ONCE)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def read(self, features: Array, present: Flags, view: Views, demographics: Array | None = None) -> Reading:
        """Logits (B, F) of studies: features (B, V, C, h, w), present bool (B, V), view int8 (B, V), demographics (B, 4)."""
        if demographics is None:
            demographics = np.zeros((len(features), 4), dtype=np.float32)
        parts: dict[str, Any] = {"features": features, "present": present, "view": view, "demographics": demographics}
        if self.labels is not None:
            parts["labels"] = self.labels
        return self._answer(**{name: np.ascontiguousarray(part) for name, part in parts.items()})

    def asked(self, labels: Array) -> "Engine":
        """The same model asked about other findings, by the vectors (K, D) of their labels, each by itself.

        Raises InputError where the vocabulary is closed.
        """
        if self.labels is None:
            raise InputError("the vocabulary of this bundle is closed", do="leave findings out")
        twin = copy(self)
        twin.labels = labels
        return twin

    def logits(self, images: Array, present: Flags, view: Views, demographics: Array | None = None) -> Array:
        """Logits (B, F) from images (B, V, 1, H, W) float32 in [0, 1]; what stands in place of an absent one does not matter."""
        features = self.encode(images[present], view[present])
        laid = np.zeros((*present.shape, *features.shape[1:]), dtype=np.float32)
        laid[present] = features
        return self.read(laid, present, view, demographics).logits

    @abstractmethod
    def _encode(self, images: Array, view: Views) -> Array: ...

    @abstractmethod
    def _answer(self, **inputs: Any) -> Reading:
        """The reading of contiguous arrays by the names of `read`; labels are there where the vocabulary is open."""


class _Opens(Protocol):
    def __call__(self, bundle: Bundle) -> Engine: ...


# name -> where its opener stands: a function or class method that takes a bundle. Loaded by name, because the serving install
# has no torch, and not everyone has OpenVINO.
ENGINES: dict[str, str] = {
    "torch": "hilum.inference.torch_engine:TorchEngine.of",
    "onnx": "hilum.inference.onnx_engine:OnnxEngine.of",
    "openvino": "hilum.inference.openvino_engine:OpenVinoEngine.of",
    "openvino-bf16": "hilum.inference.openvino_engine:OpenVinoEngine.in_bf16",
    "openvino-int8": "hilum.inference.openvino_engine:OpenVinoEngine.in_int8",
}


def open_engine(bundle: Bundle, name: str) -> Engine:
    """The engine of that name for a bundle.

    Raises InputError for an unknown name, where its packages are not installed, and where the bundle has not been exported to it.
    """
    module, _, attributes = listed("engine", ENGINES, name).partition(":")
    extra = {"torch": "train", "onnx": "serve"}.get(name, "openvino")
    try:
        opens: Any = import_module(module)
    except ImportError as error:
        raise InputError(
            f"the engine {name!r} is not installed ({error.name} is missing)", do=f"install hilum[{extra}]"
        ) from error
    for attribute in attributes.split("."):
        opens = getattr(opens, attribute)
    opened: _Opens = opens
    engine = opened(bundle)
    engine.labels = labels_of(bundle)
    return engine


def labels_of(bundle: Bundle) -> Array | None:
    """The vectors (F, D) of an open bundle's own findings, None where its vocabulary is closed."""
    carried = carried_labels(bundle)
    return None if carried is None else carried.of(bundle.findings)


PARITY = "parity.json"  # of each folder of graphs: by precision, what `hilum export` measured against torch


def offered(bundle: Bundle, folder: str, precision: str) -> Path:
    """The folder of a bundle's graphs. Raises InputError unless they were exported at this precision and kept to its tolerance."""
    place = bundle.weights_file.parent / folder
    told = json.loads((place / PARITY).read_text(encoding="utf-8")) if (place / PARITY).is_file() else {}
    measured = told.get(precision, {})
    if measured.get("identity") != bundle.identity or ("added" in measured) != (bundle.vocabulary == "open"):
        options = "" if precision == "fp32" else f" --precision {precision}"
        raise InputError(
            f"this bundle has not been exported to {folder.removeprefix('model.')} in {precision}",
            where=bundle.weights_file.parent,
            do=f"run `hilum export {bundle.weights_file.parent} --to {folder.removeprefix('model.')}{options}`",
        )
    return place
