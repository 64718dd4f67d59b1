"""How far each finding of a model can be relied on: measured on held-out studies, carried by the bundle, shown with every answer."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hilum.atomic import write_text
from hilum.evaluation.calibration import ece
from hilum.evaluation.evaluate import plain
from hilum.evaluation.intervals import Fold, centred, resample
from hilum.evaluation.metrics import confusion
from hilum.evaluation.ranking import Floats

FILE = "reliability.json"
LEAST = 10  # positives, and negatives, below which no measure is told: its interval would hold nearly everything
REPLICATES = 200


def measure_reliability(
    findings: Sequence[str],
    labels: Floats,
    scores: Floats,
    thresholds: Mapping[str, float],
    patients: Sequence[str],
    measured_on: str,
) -> dict[str, Any]:
    """The content of reliability.json.

    labels (N, F) with NaN = unknown, scores (N, F) probabilities as the bundle gives them, patients (N,).
    Per finding `positives` and `known`, and from 10 positives and 10 negatives on `ap`, `auroc` and `f1` as [value, low, high]
    with 95 % intervals over patients, `ece`, and `sensitivity` and `specificity` at the threshold. measured_on: one sentence.
    """
    _, numbers = np.unique(np.array(patients), return_inverse=True)
    points = np.array([thresholds.get(name, 0.5) for name in findings])
    drawn = resample([Fold(labels, scores, points, numbers.astype(np.intp))], replicates=REPLICATES)
    called, errors = confusion(labels, scores, points), ece(labels, scores)
    told: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(findings):
        positives, known = int((labels[:, column] > 0.5).sum()), int((~np.isnan(labels[:, column])).sum())
        told[name] = {"positives": positives, "known": known}
        if min(positives, known - positives) < LEAST:
            continue
        for measure, values in drawn.replicates.items():
            value = float(drawn.value[measure][column])
            told[name][measure] = [value, *centred(value, values[:, column])]
        told[name] |= {
            "ece": errors[column],
            "sensitivity": called.tp[column] / positives,
            "specificity": called.tn[column] / (known - positives),
        }
    made: dict[str, Any] = plain(
        {"measured_on": measured_on, "studies": len(labels), "patients": int(numbers.max()) + 1, "findings": told}
    )
    return made


def as_bytes(reliability: Mapping[str, Any]) -> bytes:
    """The file's content."""
    return (json.dumps(reliability, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_reliability(reliability: Mapping[str, Any], folder: Path) -> None:
    """Write it into a folder."""
    write_text(folder / FILE, as_bytes(reliability).decode())


def read_reliability(folder: Path) -> dict[str, Any]:
    """What a bundle's folder says; empty where it says nothing, as in bundles of earlier versions."""
    file = folder / FILE
    told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return told
