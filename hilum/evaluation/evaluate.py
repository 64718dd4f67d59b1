"""The verb `evaluate`: predictions and a study table in, metrics.json and report.html out."""

import json
import math
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum import __version__
from hilum.atomic import ensure_folder, write_text
from hilum.errors import InputError, nearest
from hilum.evaluation import calibration, metrics
from hilum.evaluation.intervals import (
    LEVEL,
    MEASURES,
    Fold,
    Resampled,
    Values,
    centred,
    macro,
    mean_of_defined,
    resample,
)
from hilum.evaluation.joined import Joined, Part, join
from hilum.evaluation.report import render
from hilum.evaluation.single_label import judge_single_label
from hilum.findings import TIER_LISTS, TIERS, tiers_by_list, tiers_by_rule
from hilum.progress import Progress, silent
from hilum.tables import Level, labels_of, studies_metadata

ESTIMAND = (
    "The intervals are about the expected value of each measure on a test set of this size from the same source, "
    "not about its limit on an endless one."
)


def evaluate(
    predictions: Sequence[str | Path],
    studies: str | Path,
    output: str | Path,
    *,
    level: Level | None = None,
    replicates: int = 1000,
    seed: int = 0,
    tiers: str = "rule",
    min_positives: int = 10,
    average_all: bool = False,
    images: bool = False,
    single_label: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Judge predictions against a study table; write OUTPUT/metrics.json and OUTPUT/report.html; hand back the former.

    predictions:   files; several are folds of one experiment (no study in two): scored apart, then averaged.
    level:         judge per "study" or per "image"; by default as the predictions are.
    replicates:    draws of the patients behind each interval; seed: of those draws.
    tiers:         "rule" (head > 10 %, tail < 1 % of known training entries) or the name of a published list.
    min_positives: findings with fewer positive patients are listed and not averaged, unless `average_all`.
    images:        embed pictures of the example studies (patient pictures: mind who receives the report).
    single_label:  say in metrics.json, too, how often the one finding of studies that have exactly one scores highest.
    Raises InputError where the files do not fit each other; see hilum.evaluation.joined.
    """
    check_judging(replicates, tiers)
    joined = join([predictions] if isinstance(predictions, str | Path) else predictions, studies, level)
    folder = ensure_folder(output)  # before the slow part
    content = judge(joined, replicates, seed, tiers, min_positives, average_all, progress)
    content["note"] = notes(joined, studies)
    if single_label:
        content["single_label"] = plain(judge_single_label(joined.parts, replicates, seed))
    page = render(content, joined, images=images)
    write_text(folder / "metrics.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", page)
    return content


def check_judging(replicates: int, tiers: str) -> None:
    """Raise InputError for a number of replicates that makes no interval, and for a tier list that there is not."""
    if replicates < 2:
        raise InputError(f"{replicates} replicates make no interval", do="take 2 or more, 1000 for a report")
    if tiers != "rule" and tiers not in TIER_LISTS:
        raise InputError(f"there is no tier list {tiers!r}", do=nearest(tiers, ("rule", *TIER_LISTS)))


def judge(
    joined: Joined,
    replicates: int,
    seed: int,
    tiers: str = "rule",
    min_positives: int = 10,
    average_all: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The content of metrics.json; see `evaluate`."""
    counts, counts_from = training_counts(joined)
    tier_of = tiers_of(joined.findings, counts, tiers)
    thresholds = [_thresholds(part, joined.findings) for part in joined.parts]
    folds = [
        Fold(part.labels, part.scores, np.nan_to_num(chosen, nan=0.5), part.patients)
        for part, chosen in zip(joined.parts, thresholds)
    ]
    resampled = resample(folds, replicates=replicates, seed=seed, progress=progress)
    holders = positive_patients(joined)
    scored = holders >= (1 if average_all else min_positives)
    findings = _per_finding(joined, folds, thresholds, resampled, counts, scored)
    for name, held, kept in zip(joined.findings, holders, scored):
        findings[name] |= {"positive_patients": int(held), "tier": tier_of.get(name), "scored": bool(kept)}
    floors = np.array(
        [np.nan if findings[name]["floor"] is None else findings[name]["floor"] for name in joined.findings]
    )
    tier = np.array([tier_of.get(name, "") for name in joined.findings])
    parts = joined.parts
    content = {
        "level": joined.level,
        "n_studies": len({study for part in parts for study in part.studies}),
        "n_patients": 1 + max(int(part.patients.max()) for part in parts),
        "n_rows": sum(len(part.ids) for part in parts),
        "findings": findings,
        "macro": _group(joined.findings, resampled, floors, scored)
        | {name: _tier(joined.findings, resampled, floors, scored & (tier == name)) for name in TIERS},
        "tiers": {name: tier_of.get(name) for name in joined.findings},
        "tiers_by": tiers,
        "training_counts_from": counts_from,
        "not_scored": [name for name, kept in zip(joined.findings, scored) if not kept],
        "only_predicted": joined.only_predicted,
        "only_labelled": joined.only_labelled,
        "min_positives": min_positives,
        "average_all": average_all,
        "patients_known": joined.patients_known,
        "level_rule": joined.rule,
        "doubts": joined.doubts,
        "predictions": [
            {"file": part.file, "rows": len(part.ids), "bundle": part.predictions.bundle, "calibrated": part.predictions.calibrated}
            for part in parts
        ],
        "estimand": ESTIMAND,
        "interval": LEVEL,
        "replicates": replicates,
        "seed": seed,
        "versions": {"hilum": __version__, "numpy": np.__version__, "polars": pl.__version__, "python": platform.python_version()},
    }  # fmt: skip
    answer: dict[str, Any] = plain(content)
    return answer


def above_floor(content: dict[str, Any]) -> dict[str, bool | None]:
    """For each tier of a metrics.json: does the whole interval of its mAP lie above a random ranking's? None where the tier is absent."""
    claims: dict[str, bool | None] = {}
    for name in TIERS:
        tier = content["macro"].get(name)
        claims[name] = None if tier is None else bool(tier["map"][1] > tier["floor"])
    return claims


def _per_finding(
    joined: Joined,
    folds: Sequence[Fold],
    thresholds: Sequence[Values],
    resampled: Resampled,
    counts: dict[str, tuple[int, int]] | None,
    scored: np.ndarray,
) -> dict[str, dict[str, Any]]:
    def over_folds(measure: Callable[[Fold], Values]) -> Values:
        return mean_of_defined(np.stack([measure(fold) for fold in folds]), axis=0)

    labels = np.concatenate([fold.labels for fold in folds])
    positives, known = (labels > 0.5).sum(0), (~np.isnan(labels)).sum(0)
    with np.errstate(invalid="ignore"):
        prevalence = positives / known
    constant = _constant(joined.findings, counts, prevalence)
    floor = over_folds(lambda fold: metrics.random_ap((fold.labels > 0.5).sum(0), (~np.isnan(fold.labels)).sum(0)))
    columns = {
        "positives": positives,
        "known": known,
        "prevalence": prevalence,
        "floor": floor,
        "lift": resampled.value["ap"] / floor,
        "brier": over_folds(lambda fold: calibration.brier(fold.labels, fold.scores)),
        "brier_constant": over_folds(lambda fold: calibration.brier_of_constant(_prevalence(fold), constant)),
        "ece": over_folds(lambda fold: calibration.ece(fold.labels, fold.scores)),
        "ece_constant": over_folds(lambda fold: np.abs(_prevalence(fold) - constant)),
        "constant": constant,
    }
    chosen = mean_of_defined(np.stack(thresholds), axis=0)
    at = {"half": _calls(folds, [np.full(len(joined.findings), 0.5)] * len(folds))}
    if not np.isnan(chosen).all():
        at["chosen"] = _calls(folds, thresholds)
    return {
        name: {key: values[column] for key, values in columns.items()}
        | {key: _with_interval(resampled, key, column, bool(scored[column])) for key in MEASURES}
        | {"threshold": 0.5 if np.isnan(chosen[column]) else chosen[column]}
        | {"threshold_from": "0.5, none was chosen" if np.isnan(chosen[column]) else "validation"}
        | {"at": {which: {key: values[column] for key, values in calls.items()} for which, calls in at.items()}}
        for column, name in enumerate(joined.findings)
    }


def _constant(findings: Sequence[str], counts: dict[str, tuple[int, int]] | None, prevalence: Values) -> Values:
    """What a constant predictor would say, (F,): the training prevalence, or where unknown that of the data judged."""
    if counts is None:
        return prevalence
    return np.array([counts[name][0] / counts[name][1] if counts[name][1] else math.nan for name in findings])


def _prevalence(fold: Fold) -> Values:
    return mean_of_defined(fold.labels.astype(np.float64), axis=0)


def _calls(folds: Sequence[Fold], thresholds: Sequence[Values]) -> dict[str, Values]:
    """Measures of calls at `thresholds`, each (F,), averaged over the folds; NaN where a finding has no threshold."""
    names = ("f1", "balanced_accuracy", "accuracy", "sensitivity", "specificity", "precision")
    counted = [metrics.confusion(fold.labels, fold.scores, at) for fold, at in zip(folds, thresholds)]
    unset = np.isnan(np.stack(thresholds))
    return {
        name: mean_of_defined(np.where(unset, np.nan, [getattr(count, name) for count in counted]), axis=0)
        for name in names
    } | {"threshold": mean_of_defined(np.stack(thresholds), axis=0)}


def _with_interval(resampled: Resampled, measure: str, column: int, scored: bool) -> list[float]:
    """[value, low, high]; a finding with too few positive patients has a value but no interval that could be trusted."""
    value = float(resampled.value[measure][column])
    if not scored or math.isnan(value):
        return [value, math.nan, math.nan]
    return [value, *centred(value, resampled.replicates[measure][:, column])]


def _group(names: Sequence[str], resampled: Resampled, floors: Values, chosen: np.ndarray) -> dict[str, Any]:
    """Macro averages over the chosen findings, all of them together."""
    group: dict[str, Any] = {}
    for measure in MEASURES:
        kept = chosen & ~np.isnan(resampled.value[measure])
        key = "map" if measure == "ap" else measure
        if kept.any():
            value = float(macro(resampled.value[measure], kept))
            group[key] = [value, *centred(value, macro(resampled.replicates[measure], kept))]
        else:
            group[key] = [math.nan] * 3
    kept = chosen & ~np.isnan(floors)
    return group | {
        "map_floor": float(floors[kept].mean()) if kept.any() else math.nan,
        "findings": [name for name, one in zip(names, kept) if one],
    }


def _tier(names: Sequence[str], resampled: Resampled, floors: Values, chosen: np.ndarray) -> dict[str, Any] | None:
    group = _group(names, resampled, floors, chosen)
    return group | {"floor": group.pop("map_floor")} if group["findings"] else None


def positive_patients(joined: Joined) -> np.ndarray:
    """Patients with at least one positive entry per finding, over all folds, (F,)."""
    patients = np.concatenate([part.patients for part in joined.parts])
    labels = np.concatenate([part.labels for part in joined.parts])
    return np.array([len(np.unique(patients[column > 0.5])) for column in labels.T])


def _thresholds(part: Part, findings: Sequence[str]) -> Values:
    """Thresholds that came with the predictions, (F,), NaN where there is none."""
    return np.array([part.predictions.thresholds.get(name, math.nan) for name in findings], dtype=np.float64)


def training_counts(joined: Joined) -> tuple[dict[str, tuple[int, int]] | None, str | None]:
    """(positives, known) among the training entries of each finding, and where they were found; None where nowhere."""
    made = [part.predictions for part in joined.parts]
    if all(name in one.positives and one.known.get(name, 0) for one in made for name in joined.findings):
        counts = {
            name: (sum(one.positives[name] for one in made), sum(one.known[name] for one in made))
            for name in joined.findings
        }
        return counts, "the training counts that came with the predictions"
    table = joined.table
    if "split" in table.columns and (training := table.filter(pl.col("split") == "train")).height:
        values = labels_of(training, joined.findings, level=joined.level).values
        pairs = zip((values > 0.5).sum(0).tolist(), (~np.isnan(values)).sum(0).tolist())
        return dict(zip(joined.findings, pairs)), "the training rows of the study table"
    return None, None


def tiers_of(findings: Sequence[str], counts: dict[str, tuple[int, int]] | None, which: str) -> dict[str, str]:
    if which != "rule":
        return tiers_by_list(which, findings)
    if counts is None:
        return {}
    return tiers_by_rule({name: one[0] for name, one in counts.items()}, {name: one[1] for name, one in counts.items()})


def notes(joined: Joined, studies: str | Path) -> list[str]:
    """Sentences on data and models that every report repeats, each once."""
    said = [studies_metadata(studies).get("note"), *(part.predictions.note for part in joined.parts)]
    return list(dict.fromkeys(note for note in said if note))


def plain(value: Any) -> Any:
    """The value with numpy numbers as Python's and NaN as None, all the way down."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
