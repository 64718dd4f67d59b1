"""Several predictions tables of the same studies, row by row beside one another: what a paired comparison starts from.

Files of one side that share studies are runs (trainings of one recipe); files that share none are folds of one run.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hilum.errors import InputError
from hilum.evaluation.joined import Joined, Part, join
from hilum.evaluation.ranking import Floats
from hilum.tables import Level, finding_names, read_predictions


@dataclass(frozen=True)
class Side:
    """One of the things compared: a model, or several trainings of one recipe.

    name: A, B, C ...; files: of its runs, told apart by as much of their folders as that takes, those of a run's folds
    after one another; folds: files per run; scores: (N, F) of each run; bundles: the hash of each file's bundle, or null.
    """

    name: str
    files: list[str]
    folds: int
    scores: list[Floats]
    bundles: list[str | None]


@dataclass(frozen=True)
class Matched:
    """All sides on the same rows, in order of id, and the same findings, in the order of the study table.

    labels:   (N, F) 1, 0, NaN; patients: (N,) numbers 0..P-1 in order of first appearance.
    folds:    (N,) the fold within which a row is ranked, by all runs alike; all 0 where no run comes in folds.
    joined:   a part per file (its facts, its run's rows), for the counts and notes that come with the tables.
    left_out: rows and findings that some files have and others lack; empty unless asked for with `common`.
    """

    level: Level
    findings: list[str]
    labels: Floats
    patients: NDArray[np.intp]
    folds: NDArray[np.intp]
    n_studies: int
    sides: list[Side]
    joined: Joined
    left_out: dict[str, list[str] | int]


def match(
    sides: Sequence[Sequence[str | Path]], studies: str | Path, level: Level | None = None, *, common: bool = False
) -> Matched:
    """Read every file of every side beside the study table and bring them onto the same rows and findings.

    A run of a single file is ranked within the folds of the others, so that like is compared with like.
    Raises InputError where there are fewer than two sides, a side has no file or the same predictions twice, levels
    differ, runs are dealt into different folds, nothing is shared, or (unless `common`) studies or findings differ.
    """
    if len(sides) < 2:
        raise InputError(
            "there is one side, and a comparison needs two", do="write: hilum compare A.parquet B.parquet --studies ..."
        )
    if not all(sides):
        raise InputError("a side names no predictions file", do="name at least one file a side")
    runs = [_runs(side) for side in sides]
    made = [join(files, studies, level) for side in runs for files in side]
    if len({one.level for one in made}) > 1:
        raise InputError("some predictions are per study, others per image", do="choose one with --level")
    shown = _shortest([file for side in runs for files in side for file in files])
    ends = np.cumsum([len(one.parts) for one in made]).tolist()
    names = [shown[start:end] for start, end in zip([0, *ends], ends)]  # of each run
    short = [f"{one[0]} ({len(one)} folds)" if len(one) > 1 else one[0] for one in names]
    held = [{key for part in one.parts for key in part.ids} for one in made]
    rows = _shared(held, short, "studies" if made[0].level == "study" else "images", common)
    kept = _shared([set(one.findings) for one in made], short, "labelled findings", common)
    findings = [name for name in finding_names(made[0].table) if name in kept]
    whole = [_in_order(one, rows, findings) for one in made]
    first = whole[0].part
    joined = replace(
        made[0],
        findings=findings,
        parts=[replace(one.part, predictions=part.predictions) for one, run in zip(whole, made) for part in run.parts],
        doubts=list(dict.fromkeys(doubt for one in made for doubt in one.doubts)),
    )
    ends = np.cumsum([len(side) for side in runs]).tolist()
    return Matched(
        level=joined.level,
        findings=findings,
        labels=first.labels,
        patients=first.patients,
        folds=_one_deal(whole, short),
        n_studies=len(set(first.studies)),
        sides=[
            _side(number, names[start:end], whole[start:end])
            for number, (start, end) in enumerate(zip([0, *ends], ends))
        ],
        joined=joined,
        left_out={
            "rows": len(set().union(*held)) - len(rows),
            "findings": sorted(set().union(*(one.findings for one in made)) - kept),
        },
    )


def _runs(files: Sequence[str | Path]) -> list[list[str | Path]]:
    """The files of a side as runs: each file joins, as a fold, the first run that it shares no study with."""
    runs: list[tuple[set[str], list[str | Path]]] = []
    for file in files:
        studies = set(read_predictions(file).table["study_id"]) if len(files) > 1 else set()
        held, folds = next((run for run in runs if run[0].isdisjoint(studies)), (set[str](), list[str | Path]()))
        if not folds:
            runs.append((held, folds))
        held |= studies
        folds.append(file)
    return [folds for _, folds in runs]


def _shared(held: Sequence[set[str]], files: Sequence[str], noun: str, common: bool) -> set[str]:
    """What all files hold; InputError with the counts where they differ and `common` is not given, or share nothing."""
    shared = set.intersection(*held)
    if shared and (common or all(one == shared for one in held)):
        return shared
    counts = "; ".join(f"{file} has {len(one):,}" for file, one in zip(files, held))
    raise InputError(
        f"the files are not of the same {noun}: {counts}; {len(shared):,} are in all of them",
        where=files[next(number for number, one in enumerate(held) if one != shared)],
        do="give --common to compare on those, or predict the same with every model"
        if shared
        else "check the ids; folds are one side: name them with commas between, or by a quoted pattern",
    )


@dataclass(frozen=True)
class _Run:
    """A run's folds laid together: one part in order of id, the fold of each row (N,), and each file's bundle."""

    part: Part
    folds: NDArray[np.intp]
    bundles: list[str | None]


def _in_order(one: Joined, rows: set[str], findings: Sequence[str]) -> _Run:
    """The shared rows of a run in order of id, the findings in the given order, patients and folds numbered by first appearance."""
    ids = [key for part in one.parts for key in part.ids]
    studies = [study for part in one.parts for study in part.studies]
    order = sorted((row for row, key in enumerate(ids) if key in rows), key=lambda row: ids[row])
    columns = [one.findings.index(name) for name in findings]
    part = replace(
        one.parts[0],
        ids=[ids[row] for row in order],
        studies=[studies[row] for row in order],
        patients=_renumbered(np.concatenate([part.patients for part in one.parts])[order]),
        labels=np.concatenate([part.labels for part in one.parts])[np.ix_(order, columns)],
        scores=np.concatenate([part.scores for part in one.parts])[np.ix_(order, columns)],
    )
    folds = np.repeat(np.arange(len(one.parts)), [len(part.ids) for part in one.parts])
    return _Run(part, _renumbered(folds[order]), [part.predictions.bundle for part in one.parts])


def _renumbered(numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """The numbers (N,) replaced by 0, 1, ... in order of first appearance."""
    _, first, number = np.unique(numbers, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[number]


def _one_deal(runs: Sequence[_Run], names: Sequence[str]) -> NDArray[np.intp]:
    """The fold of each row (N,), which all runs that come in folds must share; 0 where none does."""
    dealt = [number for number, run in enumerate(runs) if len(run.bundles) > 1]
    if not dealt:
        return np.zeros_like(runs[0].folds)
    for number in dealt:
        if not np.array_equal(runs[number].folds, runs[dealt[0]].folds):
            raise InputError(
                f"{names[number]} is dealt otherwise than {names[dealt[0]]}",
                do="compare runs of the same folds (one split, one split.seed): ranks within unlike folds are no pair",
            )
    return runs[dealt[0]].folds


def _side(number: int, files: list[list[str]], runs: Sequence[_Run]) -> Side:
    name = chr(ord("A") + number) if number < 26 else f"side {number + 1}"
    for later, run in enumerate(runs):
        for earlier in range(later):
            same = (runs[earlier].part.scores == run.part.scores).all(axis=1)
            if any(same[run.folds == fold].all() for fold in np.unique(run.folds)):
                raise InputError(
                    f"side {name} holds the same predictions twice, also in {files[earlier][0]}",
                    where=files[later][0],
                    do="name each run once: copies would make the interval too narrow",
                )
    return Side(
        name,
        files=[file for one in files for file in one],
        folds=max(len(one) for one in files),
        scores=[run.part.scores for run in runs],
        bundles=[bundle for run in runs for bundle in run.bundles],
    )


def _shortest(files: Sequence[str | Path]) -> list[str]:
    """Files without the folders that all of them share."""
    whole = [Path(file).absolute() for file in files]
    shared = os.path.commonpath([file.parent for file in whole])
    return [file.relative_to(shared).as_posix() for file in whole]
