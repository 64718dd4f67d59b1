"""The verb `compare`: which differences between predictions of the same studies are more than chance.

Paired: every replicate draws whole patients once, for all tables alike, so what makes a test set hard or easy falls out
of the difference. Where a side is several trainings of one recipe, a replicate draws its runs too; of n runs it draws
n - 1, because n draws would show only (n - 1) / n of their variance (McCarthy and Snowden 1985).
"""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum import __version__
from hilum.atomic import refuse_replacing, write_text
from hilum.evaluation.evaluate import check_judging, notes, plain, positive_patients, tiers_of, training_counts
from hilum.evaluation.intervals import LEVEL, Fold, Resampled, Values, macro, mean_of_defined, percentile, resample
from hilum.evaluation.matched import Matched, match
from hilum.evaluation.ranking import Floats
from hilum.findings import TIERS
from hilum.progress import Progress, silent
from hilum.tables import Level

MEASURES = {"map": "ap", "auroc": "auroc"}  # key in the comparison: key of a resampled measure
ROWS = ("all", *TIERS)
FEW_RUNS = 5  # below it the scatter of runs is hardly known; docs/how-to/compare.md shows what that does
ESTIMAND = (
    "The intervals are about the expected difference on a test set of this size from the same source, "
    "patients drawn alike for both sides."
)


def compare(
    predictions: Sequence[Sequence[str | Path]] | Sequence[str | Path],
    studies: str | Path,
    *,
    output: str | Path | None = None,
    level: Level | None = None,
    replicates: int = 1000,
    seed: int = 0,
    tiers: str = "rule",
    min_positives: int = 10,
    common: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Compare every side with the first: differences of mAP and AUROC with 95 % intervals; written to `output` if given.

    predictions:   two or more sides, each a predictions file or a list of files: those that share studies are several
                   trainings of one recipe, those that share none are folds, ranked apart and averaged, as in `evaluate`.
    level:         compare per "study" or per "image"; by default as the predictions are.
    replicates:    draws of the patients (and runs) behind each interval; seed: of those draws.
    tiers:         "rule" or the name of a published list, as in `evaluate`.
    min_positives: findings with fewer positive patients are averaged nowhere and get no interval.
    common:        compare on the studies and findings that all files share, where they differ.
    Raises InputError where there are fewer than two sides, where studies or findings differ (unless `common`), and
    wherever a file does not fit the study table. The order of rows, and of the runs of a side, has no say.
    """
    check_judging(replicates, tiers)
    sides = [[side] if isinstance(side, str | Path) else list(side) for side in predictions]
    if output is not None:
        refuse_replacing(output, studies, *(file for side in sides for file in side))
    matched = match(sides, studies, level, common=common)
    content = judge(matched, replicates, seed, tiers, min_positives, progress)
    content["note"] = notes(matched.joined, studies)
    if output is not None:
        write_text(Path(output), json.dumps(content, indent=1, allow_nan=False) + "\n")
    return content


def judge(
    matched: Matched, replicates: int, seed: int, tiers: str, min_positives: int, progress: Progress = silent
) -> dict[str, Any]:
    """The content of comparison.json; see `compare`."""
    findings, joined = matched.findings, matched.joined
    counts, counts_from = training_counts(joined)
    tier_of = tiers_of(findings, counts, tiers)
    tier = np.array([tier_of.get(name, "") for name in findings])
    scored = positive_patients(joined) >= min_positives
    draws: dict[str, Any] = {"replicates": replicates, "seed": seed, "progress": progress}
    sides = [over_runs(matched.labels, side.scores, matched.patients, matched.folds, **draws) for side in matched.sides]
    pairs = [
        {
            "first": matched.sides[0].name,
            "second": matched.sides[number].name,
            "macro": {
                row: _row(findings, sides[0], sides[number], scored & (True if row == "all" else tier == row))
                for row in ROWS
            },
            "findings": _per_finding(findings, sides[0], sides[number], scored),
        }
        for number in range(1, len(sides))
    ]
    tests = {measure: _correct(pairs, measure) for measure in MEASURES}
    for pair in pairs:
        _say(pair)
    content = {
        "level": matched.level,
        "n_studies": matched.n_studies,
        "n_patients": 1 + int(matched.patients.max()),
        "n_rows": len(matched.labels),
        "sides": [
            {
                "name": side.name,
                "files": side.files,
                "runs": len(side.scores),
                "folds": side.folds,
                "bundles": side.bundles,
            }
            for side in matched.sides
        ],
        "pairs": pairs,
        "holm": {"tests": tests, "over": "pairs x tiers (all findings counted as a tier), each measure apart"},
        "smallest_p": 2 / (replicates + 1),
        "about_runs": about_runs({side.name: len(side.scores) for side in matched.sides}),
        "left_out": matched.left_out,
        "tiers": {name: tier_of.get(name) for name in findings},
        "tiers_by": tiers,
        "training_counts_from": counts_from,
        "not_scored": [name for name, kept in zip(findings, scored) if not kept],
        "min_positives": min_positives,
        "patients_known": joined.patients_known,
        "doubts": joined.doubts,
        "estimand": ESTIMAND,
        "interval": LEVEL,
        "replicates": replicates,
        "seed": seed,
        "versions": {"hilum": __version__, "numpy": np.__version__},
    }
    answer: dict[str, Any] = plain(content)
    return answer


def over_runs(
    labels: Floats,
    runs: Sequence[Floats],
    patients: np.ndarray,
    folds: np.ndarray | None = None,
    *,
    replicates: int,
    seed: int,
    progress: Progress = silent,
) -> Resampled:
    """Measures of one side: the mean over its runs, on the data and on draws of patients and of runs.

    labels (N, F) of 1, 0, NaN; runs: scores (N, F) of each; patients (N,) numbers 0..P-1; folds (N,): where given, rows
    are ranked within their fold and the measures averaged over the folds. The draw of patients follows from `seed` and P
    alone, which pairs the sides; the draw of runs from `seed` and the scores themselves, so that a side keeps its draw in
    whatever place it stands.
    """
    digests = [hashlib.sha256(np.ascontiguousarray(scores).tobytes()).digest() for scores in runs]
    order = sorted(range(len(runs)), key=lambda run: digests[run])
    half = np.full(labels.shape[1], 0.5)
    parts = [slice(None)] if folds is None else [folds == fold for fold in np.unique(folds)]
    made = [
        resample(
            [Fold(labels[part], runs[run][part], half, patients[part]) for part in parts],
            replicates=replicates, seed=seed, progress=progress,
        )
        for run in order
    ]  # fmt: skip
    if len(made) == 1:
        return made[0]
    rng = np.random.default_rng([seed, *(int.from_bytes(digests[run][:8]) for run in order)])
    drawn = rng.integers(0, len(made), (replicates, len(made) - 1))
    rows = np.arange(replicates)[:, None]
    return Resampled(
        value={key: np.mean([one.value[key] for one in made], axis=0) for key in made[0].value},
        replicates={
            key: np.stack([one.replicates[key] for one in made])[drawn, rows].mean(1) for key in made[0].replicates
        },
    )


@dataclass(frozen=True)
class Difference:
    """First minus second, within -1..1, with its centred 95 % interval and two-sided bootstrap p; NaN where undefined."""

    value: float
    low: float
    high: float
    p: float

    @property
    def told_apart(self) -> bool | None:
        """Whether the interval leaves 0 out; None where there is no interval."""
        return None if math.isnan(self.low) else not self.low <= 0 <= self.high


def difference(value: float, replicates: Values) -> Difference:
    """The difference `value` with the interval and p that its replicates (R,) give, once shifted to lie around it.

    p is twice the smaller share of replicates at or beyond 0, the data counted as one of them: never below 2 / (R + 1)
    (Davison and Hinkley 1997, section 4.4).
    """
    defined = replicates[~np.isnan(replicates)]
    if math.isnan(value) or not len(defined):
        return Difference(value, math.nan, math.nan, math.nan)
    shifted = defined - float(mean_of_defined(defined, axis=0)) + value
    low, high = np.clip(percentile(shifted), -1, 1)
    beyond = 1 + min(int((shifted <= 0).sum()), int((shifted >= 0).sum()))
    return Difference(value, float(low), float(high), min(1.0, 2 * beyond / (len(shifted) + 1)))


def macro_difference(first: Resampled, second: Resampled, measure: str, chosen: np.ndarray) -> Difference:
    """Difference of the macro averages of `measure` over the chosen (F,) findings, the same in every replicate."""
    value = macro(first.value[measure] - second.value[measure], chosen)
    return difference(float(value), macro(first.replicates[measure] - second.replicates[measure], chosen))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number, each within 0..1 (Holm 1979, step-down); in the order given."""
    corrected, highest = [0.0] * len(p), 0.0
    for rank, place in enumerate(sorted(range(len(p)), key=lambda place: p[place])):
        highest = max(highest, min(1.0, (len(p) - rank) * p[place]))
        corrected[place] = highest
    return corrected


def about_runs(runs: dict[str, int]) -> str:
    """What the intervals say about training, given the number of runs of each side."""
    told = "Runs: " + ", ".join(f"{name} {count}" for name, count in runs.items()) + ". "
    single = [name for name, count in runs.items() if count == 1]
    if len(single) == len(runs):
        return told + "One run a side leaves training's randomness out: another seed may give another answer."
    if single:
        return told + f"With one run of {' and of '.join(single)} the intervals leave training's randomness out there."
    few = (
        f"; with fewer than {FEW_RUNS} runs they may still be too narrow for it"
        if min(runs.values()) < FEW_RUNS
        else ""
    )
    return told + f"The intervals hold the draw of patients and the randomness of training{few}."


def _row(findings: Sequence[str], first: Resampled, second: Resampled, chosen: np.ndarray) -> dict[str, Any] | None:
    """Macro differences over the chosen findings; None where there are none."""
    if not chosen.any():
        return None
    row: dict[str, Any] = {"findings": [name for name, one in zip(findings, chosen) if one]}
    for key, measure in MEASURES.items():
        kept = chosen & ~np.isnan(first.value[measure])  # labels decide this, so both sides agree
        if kept.any():
            values = [float(macro(side.value[measure], kept)) for side in (first, second)]
            row[key] = _told(values, macro_difference(first, second, measure, kept))
        else:
            row[key] = _told([math.nan] * 2, difference(math.nan, np.empty(0)))
    return row


def _per_finding(
    findings: Sequence[str], first: Resampled, second: Resampled, scored: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Differences per finding; one with too few positive patients has a value but no interval that could be trusted."""
    told: dict[str, dict[str, Any]] = {}
    for column, name in enumerate(findings):
        told[name] = {"scored": bool(scored[column])}
        for measure in MEASURES.values():
            drawn = (first.replicates[measure] - second.replicates[measure])[:, column]
            values = [float(side.value[measure][column]) for side in (first, second)]
            told[name][measure] = _told(
                values, difference(values[0] - values[1], drawn if scored[column] else np.empty(0))
            )
    return told


def _told(values: Sequence[float], found: Difference) -> dict[str, Any]:
    interval = [found.value, found.low, found.high]
    return {"values": list(values), "difference": interval, "p": found.p, "told_apart": found.told_apart}


def _correct(pairs: Sequence[dict[str, Any]], measure: str) -> int:
    """Put p_holm and told_apart_holm beside every defined macro p of the measure; hand back how many there are."""
    rows = [
        row[measure] for pair in pairs for row in pair["macro"].values() if row and not math.isnan(row[measure]["p"])
    ]
    for row, p in zip(rows, holm([row["p"] for row in rows])):
        row |= {"p_holm": p, "told_apart_holm": bool(row["told_apart"] and p <= 1 - LEVEL + 1e-12)}
    return len(rows)


def _say(pair: dict[str, Any]) -> None:
    """Put the plain word to every difference of a pair."""
    told = [row[key] for row in pair["macro"].values() if row for key in MEASURES]
    told += [one[measure] for one in pair["findings"].values() for measure in MEASURES.values()]
    for one in told:
        one["verdict"] = verdict(pair["first"], pair["second"], one["difference"])


def verdict(first: str, second: str, interval: Sequence[float]) -> str:
    """The plain word for a difference first minus second, [value, low, high]."""
    value, low, high = interval
    if math.isnan(low):
        return "not scored"
    if low <= 0 <= high:
        return "cannot be told apart"
    if value < 0:
        first, value, low, high = second, -value, -high, -low
    return f"{first} is better by {value:.3f} [{low:.3f}, {high:.3f}]"
