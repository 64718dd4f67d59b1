"""Labels as vectors, as a bundle carries them: names, numbers, and how these were made. What makes them is `models.label_vectors`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hilum.errors import InputError

FILE = "text.safetensors"


@dataclass(frozen=True)
class LabelVectors:
    """Vectors of findings as a head reads them: less `mean` (D,), through `turn` (D, D) where there is one, of length sqrt(D).

    names, vectors: findings and float32 (K, D). text: how they were made, `LabelText.page`; closeness: the mean cosine of
    two training findings, of the raw vectors and of these, null where there is but one. `mean` and `turn` are of the training findings alone, so that
    neither their order nor a finding added later changes a vector.
    """

    names: tuple[str, ...]
    vectors: np.ndarray
    mean: np.ndarray
    turn: np.ndarray | None
    text: Mapping[str, Any]
    closeness: tuple[float | None, float | None]

    def __str__(self) -> str:
        raw, placed = self.closeness
        prompts = f"{len(self.text['prompts'])} prompt{'s' if len(self.text['prompts']) > 1 else ''}"
        near = "" if raw is None or placed is None else f"; mean cosine of two of them {raw:.2f}, as read {placed:.2f}"
        return f"by {self.text['name']}, {prompts}{near}"

    def of(self, findings: Sequence[str]) -> np.ndarray:
        """float32 (F, D) of these findings, in their order."""
        place = {name: i for i, name in enumerate(self.names)}
        return self.vectors[[place[name] for name in findings]]

    def placed(self, raw: np.ndarray) -> np.ndarray:
        """Raw vectors (n, D) of the encoder as a head reads them, float32."""
        return placed(raw, self.mean, self.turn)

    def facts(self) -> dict[str, Any]:
        """What a bundle says of its labels; width is D."""
        closeness = [None if value is None else round(value, 4) for value in self.closeness]
        return {**self.text, "width": self.vectors.shape[1], "closeness": closeness}

    def to_bytes(self) -> bytes:
        """The content of a bundle's text.safetensors."""
        arrays = {"vectors": self.vectors, "mean": self.mean} | ({} if self.turn is None else {"turn": self.turn})
        page = {"names": self.names, "text": dict(self.text), "closeness": self.closeness}
        return save({key: np.ascontiguousarray(value) for key, value in arrays.items()}, {"labels": json.dumps(page)})


def read_label_vectors(path: Path) -> LabelVectors:
    """The vectors of a bundle's text.safetensors. Raises InputError where it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            page = json.loads(file.metadata()["labels"])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping, has only keys())
        told = (page["text"], tuple(page["closeness"]))
        return LabelVectors(tuple(page["names"]), arrays["vectors"], arrays["mean"], arrays.get("turn"), *told)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the label vectors cannot be read", where=path, do="copy the bundle again from where it came"
        ) from error


def placed(raw: np.ndarray, mean: np.ndarray, turn: np.ndarray | None) -> np.ndarray:
    """Raw vectors (n, D) less the mean (D,), through the turn (D, D) where there is one, of length sqrt(D); float32."""
    moved = raw.astype(np.float64) - mean
    if turn is not None:
        moved = moved @ turn
    vectors: np.ndarray = (unit(moved) * raw.shape[1] ** 0.5).astype(np.float32)
    return vectors


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays one."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    made: np.ndarray = vectors / np.where(length > 0, length, 1)
    return made
