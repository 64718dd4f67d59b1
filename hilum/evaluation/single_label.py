"""The single-label form: of studies with exactly one finding, which one is it? Balanced accuracy (Holste 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.evaluation.intervals import Values, centred, macro
from hilum.evaluation.joined import Part
from hilum.evaluation.ranking import Floats


def exactly_one(labels: Floats) -> NDArray[np.bool_]:
    """bool (N,): the rows of labels (N, F) in which every entry is known and exactly one is positive."""
    return np.asarray(~np.isnan(labels).any(axis=1) & ((labels > 0.5).sum(axis=1) == 1))


def balanced_accuracy(labels: Floats, scores: Floats) -> float:
    """The mean over findings of how many of its studies have their highest score there; of rows with exactly one finding.

    labels, scores (N, F). Findings without such a row are left out; NaN where there is no such row. Of equal scores the
    first counts. It needs no thresholds, and each finding has the same say, however rare.
    """
    found, called = _counted(labels, scores, np.zeros(len(labels), dtype=np.intp), 1)
    recall = _recall(found, called)[0]
    return float(recall[found[0] > 0].mean()) if (found[0] > 0).any() else float("nan")


@dataclass(frozen=True)
class Recall:
    """How often the one finding of a row scores highest, per finding, over all parts together.

    found, called: (F,) rows that have the finding alone, and those of them that are called so; value: (F,) their ratio,
    NaN where nothing is to be found; replicates: (R, F) the same with patients drawn with replacement.
    """

    found: Values
    called: Values
    value: Values
    replicates: Values


def recall_of(parts: Sequence[Part], replicates: int, seed: int) -> Recall:
    """Recall of folds, or of trainings that judge the same patients, together; equal seeds draw the same patients."""
    patients = 1 + max(int(part.patients.max()) for part in parts)
    pairs = [_counted(part.labels, part.scores, part.patients, patients) for part in parts]
    found, called = (np.sum(each, axis=0) for each in zip(*pairs))
    rng = np.random.default_rng(seed)
    drawn = np.full((replicates, found.shape[1]), np.nan)
    for replicate in drawn:
        times = np.bincount(rng.integers(0, patients, patients), minlength=patients)
        replicate[:] = _recall(times @ found, times @ called)
    sums = found.sum(axis=0), called.sum(axis=0)
    return Recall(*sums, _recall(*sums), drawn)


def judge_single_label(parts: Sequence[Part], replicates: int, seed: int) -> dict[str, Any]:
    """Balanced accuracy over all folds together, [value, low, high] with patients drawn, and each finding's recall."""
    recall = recall_of(parts, replicates, seed)
    occurs = recall.found > 0
    value = float(recall.value[occurs].mean()) if occurs.any() else float("nan")
    low, high = centred(value, macro(recall.replicates, occurs)) if occurs.any() else (float("nan"),) * 2
    return {
        "rows": int(recall.found.sum()),
        "balanced_accuracy": [value, low, high],
        "chance": 1 / occurs.sum() if occurs.any() else float("nan"),
        "recall": recall.value.tolist(),
        "of": recall.found.astype(int).tolist(),
    }


def _counted(labels: Floats, scores: Floats, patients: NDArray[np.intp], count: int) -> tuple[Values, Values]:
    """Per patient and finding (P, F): rows that have it alone, and those of them that are called so."""
    rows = exactly_one(labels)
    truth, guess = labels[rows].argmax(axis=1), scores[rows].argmax(axis=1)
    found, called = np.zeros((count, labels.shape[1])), np.zeros((count, labels.shape[1]))
    np.add.at(found, (patients[rows], truth), 1)
    np.add.at(called, (patients[rows], truth), truth == guess)
    return found, called


def _recall(found: Values, called: Values) -> Values:
    """called / found, NaN where nothing is to be found."""
    return np.asarray(np.divide(called, found, out=np.full(found.shape, np.nan), where=found > 0))
