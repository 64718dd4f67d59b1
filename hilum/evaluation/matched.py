"""Several predictions tables of the same studies, row by row beside one another: what a paired comparison starts from."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hilum.errors import InputError
from hilum.evaluation.joined import Joined, Part, join
from hilum.evaluation.ranking import Floats
from hilum.tables import Level, finding_names


@dataclass(frozen=True)
class Side:
    """One of the things compared: a model, or several trainings of one recipe.

    name: A, B, C ...; files: of its runs, told apart by as much of their folders as that takes; scores: (N, F) of each
    run; bundles: the hash of each run's bundle, or null.
    """

    name: str
    files: list[str]
    scores: list[Floats]
    bundles: list[str | None]


@dataclass(frozen=True)
class Matched:
    """All sides on the same rows, in order of id, and the same findings, in the order of the study table.

    labels:   (N, F) 1, 0, NaN; patients: (N,) numbers 0..P-1 in order of first appearance.
    joined:   every run as a part, for the counts and notes that come with the tables.
    left_out: rows and findings that some files have and others lack; empty unless asked for with `common`.
    """

    level: Level
    findings: list[str]
    labels: Floats
    patients: NDArray[np.intp]
    n_studies: int
    sides: list[Side]
    joined: Joined
    left_out: dict[str, list[str] | int]


def match(
    sides: Sequence[Sequence[str | Path]], studies: str | Path, level: Level | None = None, *, common: bool = False
) -> Matched:
    """Read every file of every side beside the study table and bring them onto the same rows and findings.

    Raises InputError where there are fewer than two sides, a side has no file or the same predictions twice, levels
    differ, nothing is shared, or (unless `common`) studies or findings differ.
    """
    if len(sides) < 2:
        raise InputError(
            "there is one side, and a comparison needs two", do="write: hilum compare A.parquet B.parquet --studies ..."
        )
    if not all(sides):
        raise InputError("a side names no predictions file", do="name at least one file a side")
    files = [file for side in sides for file in side]
    made = [join([file], studies, level) for file in files]
    if len({one.level for one in made}) > 1:
        raise InputError("some predictions are per study, others per image", do="choose one with --level")
    names = _shortest(files)
    rows = _shared(
        [set(one.parts[0].ids) for one in made], names, "studies" if made[0].level == "study" else "images", common
    )
    kept = _shared([set(one.findings) for one in made], names, "labelled findings", common)
    findings = [name for name in finding_names(made[0].table) if name in kept]
    parts = [_in_order(one, rows, findings) for one in made]
    joined = replace(
        made[0],
        findings=findings,
        parts=parts,
        doubts=list(dict.fromkeys(doubt for one in made for doubt in one.doubts)),
    )
    ends = np.cumsum([len(side) for side in sides]).tolist()
    return Matched(
        level=joined.level,
        findings=findings,
        labels=parts[0].labels,
        patients=parts[0].patients,
        n_studies=len(set(parts[0].studies)),
        sides=[
            _side(number, names[start:end], parts[start:end])
            for number, (start, end) in enumerate(zip([0, *ends], ends))
        ],
        joined=joined,
        left_out={
            "rows": len(set().union(*(one.parts[0].ids for one in made))) - len(rows),
            "findings": sorted(set().union(*(one.findings for one in made)) - kept),
        },
    )


def _shared(held: Sequence[set[str]], files: Sequence[str], noun: str, common: bool) -> set[str]:
    """What all files hold; InputError with the counts where they differ and `common` is not given, or share nothing."""
    shared = set.intersection(*held)
    if shared and (common or all(one == shared for one in held)):
        return shared
    counts = "; ".join(f"{file} has {len(one):,}" for file, one in zip(files, held))
    raise InputError(
        f"the files are not of the same {noun}: {counts}; {len(shared):,} are in all of them",
        where=files[next(number for number, one in enumerate(held) if one != shared)],
        do="give --common to compare on those, or predict the same with every model" if shared else "check the ids",
    )


def _in_order(one: Joined, rows: set[str], findings: Sequence[str]) -> Part:
    """The part of a joined file with the shared rows in order of id, the findings in the given order, patients renumbered."""
    part = one.parts[0]
    order = sorted((row for row, key in enumerate(part.ids) if key in rows), key=lambda row: part.ids[row])
    columns = [one.findings.index(name) for name in findings]
    _, first, number = np.unique(part.patients[order], return_index=True, return_inverse=True)
    return replace(
        part,
        ids=[part.ids[row] for row in order],
        studies=[part.studies[row] for row in order],
        patients=np.argsort(np.argsort(first))[number],
        labels=part.labels[np.ix_(order, columns)],
        scores=part.scores[np.ix_(order, columns)],
    )


def _side(number: int, files: list[str], parts: Sequence[Part]) -> Side:
    name = chr(ord("A") + number) if number < 26 else f"side {number + 1}"
    for later, part in enumerate(parts):
        for earlier in range(later):
            if np.array_equal(parts[earlier].scores, part.scores):
                raise InputError(
                    f"side {name} holds the same predictions twice, also as {files[earlier]}",
                    where=files[later],
                    do="name each run once: copies would make the interval too narrow",
                )
    return Side(name, files, [part.scores for part in parts], [part.predictions.bundle for part in parts])


def _shortest(files: Sequence[str | Path]) -> list[str]:
    """Files without the folders that all of them share."""
    whole = [Path(file).absolute() for file in files]
    shared = os.path.commonpath([file.parent for file in whole])
    return [file.relative_to(shared).as_posix() for file in whole]
