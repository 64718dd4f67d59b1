"""The rows of a table judged side by side: every figure with its interval, every difference with its verdict."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hilum.data.context import priors
from hilum.evaluation.compare import about_runs, macro_difference, over_runs
from hilum.evaluation.evaluate import notes, plain, tiers_of, training_counts
from hilum.evaluation.intervals import LEVEL, Resampled, centred, macro
from hilum.evaluation.matched import Matched, match
from hilum.evaluation.metrics import auroc, average_precision
from hilum.findings import TIERS
from hilum.progress import Progress, silent
from hilum.reproductions import COLUMNS, Row, Table
from hilum.tables import Level, read_studies

EVERY, SEVERAL, LATER = "every study", "studies of two or more images", "studies with a study before"
# Student's t, 97.5 %, for 1, 2, ... degrees of freedom; beyond the last, the last: a little too wide
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


def judge_table(
    table: Table,
    files: Mapping[str, Sequence[Path]],
    studies: str | Path,
    *,
    level: Level = "image",
    tiers: str = "rule",
    replicates: int = 1000,
    seed: int = 0,
    min_positives: int = 10,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Figures of the rows of a table and their differences, as plain values.

    files: for each row that was run, its predictions, one file a training; the k-th trainings of two rows are a pair.
    studies: the study table with the labels to judge by; level: what is scored (theirs: images, which repeat a study's score).
    """
    rows = [row for row in table.rows if row.name in files]
    matched = match([files[row.name] for row in rows], studies, level, common=True)
    part = matched.joined.parts[0]
    panels = {EVERY: np.ones(len(part.studies), dtype=bool)} | {
        name: chosen for name, chosen in _apart(table, part.studies, studies) if chosen.any() and not chosen.all()
    }
    counts, counts_from = training_counts(matched.joined)
    tier_of = tiers_of(matched.findings, counts, tiers)
    tier = np.array([tier_of.get(name, "") for name in matched.findings])
    draws: dict[str, Any] = {"replicates": replicates, "seed": seed, "progress": progress}
    content = {
        "name": table.name,
        "title": table.title,
        "level": matched.level,
        "panels": [
            _panel(name, table, rows, _Part.of(matched, chosen), tier, min_positives, draws)
            for name, chosen in panels.items()
        ],
        "tiers": {name: tier_of.get(name) for name in matched.findings},
        "tiers_by": tiers,
        "training_counts_from": counts_from,
        "left_out": matched.left_out,
        "about_runs": about_runs({row.name: len(files[row.name]) for row in rows}),
        "doubts": matched.joined.doubts,
        "note": notes(matched.joined, studies),
        "interval": LEVEL,
        "replicates": replicates,
        "seed": seed,
        "min_positives": min_positives,
    }
    answer: dict[str, Any] = plain(content)
    return answer


def _apart(table: Table, judged: Sequence[str], studies: str | Path) -> Iterator[tuple[str, np.ndarray]]:
    """Which of the judged rows, named by their studies, make up each further panel of the table."""
    rows = read_studies(studies)
    if table.several_views:
        images = rows.group_by("study_id").len()
        count = dict(zip(images["study_id"], images["len"]))
        yield SEVERAL, np.array([count[study] > 1 for study in judged])
    if table.with_prior:
        later = set(priors(rows)["study_id"])
        yield LATER, np.array([study in later for study in judged])


@dataclass(frozen=True)
class _Part:
    """The rows of the matched predictions that a panel judges: labels (N, F), patients (N,), per side the scores of its runs."""

    labels: np.ndarray
    patients: np.ndarray
    scores: list[list[np.ndarray]]
    studies: int

    @classmethod
    def of(cls, matched: Matched, chosen: np.ndarray) -> "_Part":
        _, patients = np.unique(matched.patients[chosen], return_inverse=True)
        owners = np.array(matched.joined.parts[0].studies)[chosen]
        scores = [[run[chosen] for run in side.scores] for side in matched.sides]
        return cls(matched.labels[chosen], patients, scores, len(np.unique(owners)))

    def scored(self, least: int) -> np.ndarray:
        """(F,) whether a finding has positives in so many patients, and any negative."""
        held = np.array([len(np.unique(self.patients[column > 0.5])) for column in self.labels.T])
        negatives: np.ndarray = (self.labels == 0).any(axis=0)
        return np.asarray((held >= least) & negatives)


def _panel(
    name: str, table: Table, rows: Sequence[Row], part: _Part, tier: np.ndarray, least: int, draws: dict[str, Any]
) -> dict[str, Any]:
    scored = part.scored(least)
    chosen = {"all": scored, **{one: scored & (tier == one) for one in TIERS}}
    sides = [_Side.of(row, part, runs, chosen, draws) for row, runs in zip(rows, part.scores)]
    told = [
        {
            "name": side.row.name,
            "runs": side.runs,
            "ours": {column: side.figure(column, chosen) for column in COLUMNS},
            "theirs": dict(zip(COLUMNS, side.row.published)) or None,
            "remark": side.row.remark,
        }
        for side in sides
    ]
    pairs = [_pair(one, other, chosen) for place, one in enumerate(sides) for other in sides[place + 1 :]]
    return {
        "name": name,
        "studies": part.studies,
        "rows_judged": len(part.labels),
        "patients": 1 + int(part.patients.max()),
        "findings": {column: int(kept.sum()) for column, kept in chosen.items()},
        "rows": told,
        "against": [one for one in table.against if any(row.name == one for row in rows)],
        "differences": pairs,
        "order": _order(told, pairs),
    }


@dataclass(frozen=True)
class _Side:
    """A row with its replicates and, for each of its trainings, the macro value of every column (runs, columns)."""

    row: Row
    resampled: Resampled
    per_run: np.ndarray

    @classmethod
    def of(
        cls, row: Row, part: _Part, runs: Sequence[np.ndarray], chosen: dict[str, np.ndarray], draws: dict[str, Any]
    ) -> "_Side":
        resampled = over_runs(part.labels, runs, part.patients, **draws)
        per_run = []
        for scores in runs:
            ap = average_precision(part.labels, scores)
            area = _mean(auroc(part.labels, scores), chosen["all"])
            per_run.append([*(_mean(ap, kept) for kept in chosen.values()), area])
        return cls(row, resampled, np.array(per_run))

    @property
    def runs(self) -> int:
        return len(self.per_run)

    def figure(self, column: str, chosen: dict[str, np.ndarray]) -> list[float]:
        """[value, low, high] of a column; NaN where no finding is scored."""
        measure, kept = _measure(column, chosen)
        if not kept.any():
            return [math.nan] * 3
        value = float(macro(self.resampled.value[measure], kept))
        return [value, *centred(value, macro(self.resampled.replicates[measure], kept))]


def _pair(one: _Side, other: _Side, chosen: dict[str, np.ndarray]) -> dict[str, Any]:
    """Other minus one in every column: over patients (and trainings), over paired trainings alone, and as published."""
    columns: dict[str, Any] = {}
    for place, column in enumerate(COLUMNS):
        measure, kept = _measure(column, chosen)
        if not kept.any():
            columns[column] = None
            continue
        found = macro_difference(other.resampled, one.resampled, measure, kept)
        theirs = [_printed(side.row, place) for side in (one, other)]
        columns[column] = {
            "difference": [found.value, found.low, found.high],
            "p": found.p,
            "told_apart": found.told_apart,
            "over_trainings": over_trainings(one.per_run[:, place], other.per_run[:, place]),
            "theirs": theirs[1] - theirs[0],
        }
    return {"from": one.row.name, "to": other.row.name, "columns": columns}


def over_trainings(one: np.ndarray, other: np.ndarray) -> list[float] | None:
    """[mean, low, high] of other minus one over paired trainings (n,), by Student's t; null below two pairs.

    Where one row has fewer, its trainings are counted round, as those that start from them are.
    """
    pairs = max(len(one), len(other))
    if pairs < 2:
        return None
    apart = np.resize(other, pairs) - np.resize(one, pairs)
    half = _T[min(pairs - 1, len(_T)) - 1] * apart.std(ddof=1) / math.sqrt(pairs)
    mean = float(apart.mean())
    return [mean, mean - float(half), mean + float(half)]


def _order(rows: Sequence[dict[str, Any]], pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rows by mAP, ours and theirs, and how many pairs stand as published: told apart the same way, the other way, or noise."""
    counts = {"as_published": 0, "the_other_way": 0, "noise": 0}
    for pair in pairs:
        found = pair["columns"]["all"]
        if found is None or math.isnan(found["theirs"]):
            continue
        alike = found["difference"][0] * found["theirs"] > 0
        kind = "noise" if not found["told_apart"] else "as_published" if alike else "the_other_way"
        counts[kind] += 1
    ours = sorted(
        (row for row in rows if not math.isnan(row["ours"]["all"][0])), key=lambda row: -row["ours"]["all"][0]
    )
    printed = (row for row in rows if row["theirs"] and row["theirs"]["all"] is not None)
    theirs = sorted(printed, key=lambda row: -row["theirs"]["all"])
    return {"ours": [row["name"] for row in ours], "theirs": [row["name"] for row in theirs], "pairs": counts}


def _printed(row: Row, place: int) -> float:
    """A published figure, NaN where there is none."""
    value = row.published[place] if row.published else None
    return math.nan if value is None else value


def _measure(column: str, chosen: dict[str, np.ndarray]) -> tuple[str, np.ndarray]:
    return ("auroc", chosen["all"]) if column == "auroc" else ("ap", chosen[column])


def _mean(values: np.ndarray, chosen: np.ndarray) -> float:
    return float(values[chosen].mean()) if chosen.any() else math.nan
