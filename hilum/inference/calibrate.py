"""Calibration and operating points of a bundle, from studies that it was not trained on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from hilum.batches.dataset import Studies
from hilum.bundle import amend_bundle, replace_operating_points
from hilum.data.cache import build_cache
from hilum.errors import InputError
from hilum.evaluation.calibration import ece
from hilum.evaluation.metrics import best_f1_threshold, confusion
from hilum.evaluation.platt import choose_strength, cross_fit, fit_maps, log_loss, sigmoid
from hilum.evaluation.reliability import measure_reliability, write_reliability
from hilum.inference.predict import load
from hilum.inference.tta import chosen_by, tta_logits
from hilum.operating_points import OperatingPoint
from hilum.progress import Progress, silent
from hilum.tables import read_studies

FOLDS = 5
MEASURED_ON = "The studies that the bundle was calibrated on: maps cross-fitted over patients, thresholds not, so sensitivity and specificity are a little too good."


@dataclass(frozen=True)
class Calibrated:
    """What a calibration did: each (before, after), after by maps and thresholds fitted without the studies judged.

    ece, log_loss: means over findings; f1: mean F1 at the thresholds; strength: of the pull towards the common map.
    """

    studies: int
    strength: float
    ece: tuple[float, float]
    log_loss: tuple[float, float]
    f1: tuple[float, float]
    points: list[OperatingPoint]


def calibrate(
    bundle: str | Path,
    studies: str | Path,
    *,
    cache: str | Path,
    sensitivity: float | None = None,
    split: str | None = "valid",
    seed: int = 0,
    device: str = "auto",
    progress: Progress = silent,
) -> Calibrated:
    """Fit a map and a threshold per finding and put them into the bundle.

    studies: a study table; only its rows of `split` are used (all, where it has no such column or split is None).
    sensitivity: threshold that reaches this share of positives; by default the threshold of best F1.
    Raises InputError where a finding set or the studies do not allow it. The report is cross-fitted over patients.
    """
    model = load(bundle, device=device)
    table = read_studies(studies)
    if split is not None and "split" in table.columns:
        table = table.filter(pl.col("split") == split)
        if table.is_empty():
            raise InputError(
                f"no study of the table is in split {split!r}",
                where=studies,
                do="name another with --split, or --split all",
            )
    if absent := [name for name in model.findings if name not in table.columns]:
        raise InputError(
            f"the table has no labels of {absent[0]!r}",
            where=studies,
            do="calibrate on studies labelled for every finding",
        )
    if sensitivity is not None and not 0 < sensitivity < 1:
        raise InputError(f"sensitivity {sensitivity} is out of range", do="give a number between 0 and 1")
    images = build_cache(table, cache, **model.bundle.pixels.as_dict(), progress=progress)
    samples = Studies(table, images, model.findings, views=model.bundle.views, context=model.context)
    spec = chosen_by(model.bundle.predict)  # as the bundle predicts unless it is told otherwise
    raw = tta_logits(model.classifier, samples, spec, device=model.device, progress=progress)
    labels, scores = samples.labels, sigmoid(raw.astype(np.float64))
    if not ((labels > 0.5).any(axis=0) & (labels <= 0.5).any(axis=0)).any():
        advice = "calibrate on studies of which some are labelled positive and others negative"
        raise InputError("no finding has both a positive and a negative study here", where=studies, do=advice)
    fold = patient_folds(samples.patients, seed)
    strength = choose_strength(labels, scores, fold)
    mapped = cross_fit(labels, scores, fold, strength)
    maps = fit_maps(labels, scores, strength)
    criterion = "max F1" if sensitivity is None else f"sensitivity {sensitivity:g}"
    points = [
        OperatingPoint(
            finding=name,
            threshold=0.5 if np.isnan(threshold) else float(threshold),
            criterion="none: no positive to choose by" if np.isnan(threshold) else criterion,
            chosen_on=f"{len(samples):,} studies, cross-fitted",
            slope=float(slope),
            intercept=float(intercept),
        )
        for name, threshold, slope, intercept in zip(
            model.findings, thresholds_of(labels, mapped, sensitivity), maps.slopes, maps.intercepts
        )
    ]
    replace_operating_points(model.bundle, points)
    thresholds = {point.finding: point.threshold for point in points}
    told = measure_reliability(model.findings, labels, mapped, thresholds, samples.patients, MEASURED_ON)
    amend_bundle(model.bundle, lambda folder: write_reliability(told, folder))
    return Calibrated(
        studies=len(samples),
        strength=strength,
        ece=(_mean(ece(labels, scores)), _mean(ece(labels, mapped))),
        log_loss=(log_loss(labels, scores), log_loss(labels, mapped)),
        f1=(_mean(confusion(labels, scores, 0.5).f1), _mean(_crossed_f1(labels, mapped, fold, sensitivity))),
        points=points,
    )


def patient_folds(patients: list[str], seed: int) -> np.ndarray:
    """(N,) fold numbers 0..FOLDS-1, the same for all studies of a patient, whatever the order of rows."""
    names, number = np.unique(np.array(patients), return_inverse=True)
    if len(names) < FOLDS:
        raise InputError(
            f"{len(names)} patients are too few to calibrate on", do=f"give at least {FOLDS}, better hundreds"
        )
    shuffled = np.random.default_rng(seed).permutation(len(names))
    return shuffled[number] % FOLDS


def thresholds_of(labels: np.ndarray, scores: np.ndarray, sensitivity: float | None) -> np.ndarray:
    """(F,) thresholds of best F1, or the highest that reach a sensitivity; NaN where a finding has no positive."""
    if sensitivity is None:
        return best_f1_threshold(labels, scores)
    chosen = np.full(labels.shape[1], np.nan)
    for finding in range(labels.shape[1]):
        positives = np.sort(scores[labels[:, finding] > 0.5, finding])[::-1]
        if len(positives):
            chosen[finding] = positives[int(np.ceil(sensitivity * len(positives))) - 1]
    return chosen


def _crossed_f1(labels: np.ndarray, scores: np.ndarray, fold: np.ndarray, sensitivity: float | None) -> np.ndarray:
    """(F,) F1 of calls that were each made at a threshold chosen without their own fold."""
    margin = np.full(scores.shape, np.nan)
    for part in np.unique(fold):
        inside = fold == part
        margin[inside] = scores[inside] - thresholds_of(labels[~inside], scores[~inside], sensitivity)
    return confusion(labels, np.nan_to_num(margin, nan=-1.0), 0.0).f1


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else float("nan")
