"""The held-out studies that an ensemble learns on: every member's predictions of them beside their labels, apart from what is combined."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hilum.errors import InputError
from hilum.evaluation.combining import METHODS, Rule, combine, equal, thresholds_of
from hilum.evaluation.joined import Joined, join
from hilum.evaluation.metrics import average_precision
from hilum.evaluation.ranking import Floats
from hilum.tables import Predictions, read_studies

FOLDS = 5


@dataclass(frozen=True)
class LearnedOn:
    """Rows in order of id. labels (N, F) of the members' findings, NaN = unknown; scores (M, N, F); patients (N,) numbers."""

    ids: list[str]
    labels: Floats
    scores: Floats
    patients: NDArray[np.intp]
    doubts: list[str]


def learned_on(
    fit_on: Sequence[str | Path | Sequence[str | Path]],
    studies: str | Path,
    made: Sequence[Predictions],
    names: Sequence[str],
    done: str = "combined",
) -> LearnedOn:
    """Read and join each member's predictions of the held-out studies (one file, or its folds).

    made, names: the members' tables; done: what is done with them. Raises InputError where the held-out tables differ from
    these in findings, level or calibration, are not of one another's studies, belong to another member, or share a study
    or a patient with these.
    """
    joined = []
    for given, one, name in zip(fit_on, made, names):
        files = [given] if isinstance(given, str | Path) else list(given)
        joined.append(join(files, studies))
        _refuse_unlike(joined[-1], one, name, made, names)
    held = [{key for part in one.parts for key in part.ids} for one in joined]
    if different := next((place for place, ids in enumerate(held) if ids != held[0]), None):
        raise InputError(
            f"--fit-on has {len(held[0]):,} rows for {names[0]} and {len(held[different]):,} for {names[different]}, "
            f"{len(held[0] & held[different]):,} of them the same",
            do="predict the same held-out studies with every model",
        )
    doubts = [*joined[0].doubts, *_refuse_seen(joined[0], studies, made[0], done)]
    ids = sorted(held[0])
    first = joined[0]
    row_of = {key: row for row, key in enumerate(key for part in first.parts for key in part.ids)}
    order = [row_of[key] for key in ids]
    findings = made[0].findings
    labels = np.full((len(ids), len(findings)), np.nan, dtype=np.float32)
    place = {name: column for column, name in enumerate(first.findings)}
    shared = [column for column, name in enumerate(findings) if name in place]
    given_labels = np.concatenate([part.labels for part in first.parts])
    labels[:, shared] = given_labels[np.ix_(order, [place[findings[column]] for column in shared])]
    return LearnedOn(
        ids=ids,
        labels=labels,
        scores=np.stack([_scores(one, ids, findings) for one in joined]),
        patients=np.concatenate([part.patients for part in first.parts])[order],
        doubts=doubts,
    )


def _scores(one: Joined, ids: Sequence[str], findings: Sequence[str]) -> Floats:
    """(N, F) of a member in order of id, its folds laid together."""
    frames = [part.predictions.table for part in one.parts]
    key = "study_id" if one.level == "study" else "image_id"
    whole = pl.concat([frame.select(key, *findings) for frame in frames])
    rows = pl.DataFrame({key: ids}).join(whole, on=key, maintain_order="left")
    scores: Floats = rows.select(findings).to_numpy()
    return scores


def _refuse_unlike(
    one: Joined, member: Predictions, name: str, made: Sequence[Predictions], names: Sequence[str]
) -> None:
    """Refuse held-out predictions that are not by the member they stand for, or not of its kind."""
    for part in one.parts:
        said = part.predictions
        if said.level != member.level:
            raise InputError(f"{part.file} is per {said.level}, {name} per {member.level}", do="predict both alike")
        if said.calibrated != member.calibrated:
            yes, no = (part.file, name) if said.calibrated else (name, part.file)
            raise InputError(f"{yes} is calibrated and {no} is not", do="predict both with the same bundle")
        if missing := [finding for finding in member.findings if finding not in said.findings]:
            raise InputError(
                f"{part.file} lacks the finding {missing[0]!r} of {name}", do="predict both with one bundle"
            )
        others = [other for other, table in zip(names, made) if table.bundle and table.bundle == said.bundle]
        if others and said.bundle != member.bundle:
            raise InputError(
                f"{part.file} was made by the model of {others[0]}, and stands for {name}",
                do="give --fit-on in the order of the members",
            )


def _refuse_seen(held: Joined, studies: str | Path, combined: Predictions, done: str) -> list[str]:
    """Refuse to learn on a study, or on another study of a patient, that is combined; a doubt where patients are not known."""
    table = read_studies(studies).select("study_id", "patient_id").unique("study_id")
    own = {study for part in held.parts for study in part.studies}
    rows = combined.table.select("study_id").unique()
    if shared := sorted(own & set(rows["study_id"])):
        raise InputError(
            f"{len(shared):,} studies of --fit-on are also {done}, such as {shared[0]!r}",
            do=f"learn on validation or out-of-fold studies, others than those {done}",
        )
    frames = [frame for frame in (combined.table, table) if "patient_id" in frame.columns]
    owners = pl.concat([frame.select("study_id", "patient_id") for frame in frames]).drop_nulls()
    owners = owners.filter(pl.col("study_id").is_in(rows["study_id"].implode()))
    patients = set(table.filter(pl.col("study_id").is_in(list(own)))["patient_id"].drop_nulls())
    if seen := sorted(patients & set(owners["patient_id"])):
        raise InputError(
            f"{len(seen):,} patients of --fit-on also have studies that are {done}, such as {seen[0]!r}",
            do="split by patient, and learn on the studies of others",
        )
    if patients and owners["study_id"].n_unique() == rows.height:
        return []
    return ["Patients are not known on both sides, so only studies were held apart."]


def cross_fitted(rule: Rule, held: LearnedOn, names: Sequence[str], least: int = 10) -> dict[str, float]:
    """Mean AP over findings of at least `least` positives: of each member, of their mean, and of the rule.

    Each fold of patients is scored by what was learned on the others. Empty where there are fewer patients than folds.
    """
    people = np.unique(held.patients)
    clear = ((held.labels > 0.5).sum(axis=0) >= least) & (held.labels <= 0.5).any(axis=0)
    if len(people) < FOLDS or not clear.any():
        return {}
    fold = (np.random.default_rng(0).permutation(int(people.max()) + 1) % FOLDS)[held.patients]
    crossed = np.empty(held.labels.shape, dtype=np.float32)
    for part in range(FOLDS):
        inside = fold == part
        labels, scores = held.labels[~inside], held.scores[:, ~inside]
        thresholds = thresholds_of(labels, scores) if rule.method == "vote" else None
        weights = METHODS[rule.method](rule, labels, scores)
        crossed[inside] = combine(held.scores[:, inside], weights, space=rule.space, thresholds=thresholds)
    mean = combine(held.scores, equal(len(held.scores), held.labels.shape[1]))
    sides = {**dict(zip(names, held.scores)), "mean": mean, rule.method: crossed}
    return {name: float(average_precision(held.labels, scores)[clear].mean()) for name, scores in sides.items()}
