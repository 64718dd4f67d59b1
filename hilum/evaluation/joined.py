"""Predictions beside the labels they are judged against: joined by id and by the name of the finding, never by position."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hilum.errors import InputError, nearest
from hilum.evaluation.ranking import Floats
from hilum.tables import Labels, Level, Predictions, finding_names, labels_of, read_predictions, read_studies

KEYS: dict[Level, str] = {"study": "study_id", "image": "image_id"}


@dataclass(frozen=True)
class Part:
    """One predictions file, joined: a whole test set, or one fold of an experiment.

    file:     its name without the folder.
    ids:      study (or image) of each row; studies: the study of each row.
    patients: (N,) numbers 0..P-1, shared by all parts.
    labels:   (N, F) 1, 0, NaN (unknown or uncertain); scores: (N, F) probabilities, float32.
    """

    file: str
    ids: list[str]
    studies: list[str]
    patients: NDArray[np.intp]
    labels: Floats
    scores: Floats
    predictions: Predictions


@dataclass(frozen=True)
class Joined:
    """Everything a judgement needs.

    patients_known: False where the table holds no patients; every study then counts as a patient of its own.
    rule:           how predictions at one level came to be judged at the other, or null.
    only_predicted, only_labelled: findings that stand in one of the two tables only and are not judged.
    doubts:         sentences on what may spoil the judgement (training rows judged, rows without a prediction).
    """

    level: Level
    findings: list[str]
    parts: list[Part]
    table: pl.DataFrame
    patients_known: bool
    rule: str | None
    only_predicted: list[str]
    only_labelled: list[str]
    doubts: list[str]


def join(files: Sequence[str | Path], studies: str | Path, level: Level | None = None) -> Joined:
    """Read and join predictions and study table at `level` (by default that of the predictions).

    Raises InputError where an id has no labels, files share a study, levels differ, or no finding is in common.
    """
    if not files:
        raise InputError("there are no predictions to evaluate", do="name at least one predictions file")
    table = read_studies(studies)
    made = [read_predictions(file) for file in files]
    if level is None:
        if len({predictions.level for predictions in made}) > 1:
            raise InputError("some predictions are per study, others per image", do="choose one with --level")
        level = made[0].level
    findings, only_predicted, only_labelled = _shared_findings(made, files, finding_names(table), studies)
    labels = labels_of(table, findings, level=level)
    row_of = {key: row for row, key in enumerate(labels.ids)}
    study_of = dict(zip(table[KEYS[level]], table["study_id"]))
    patients = dict(table.select("study_id", pl.coalesce("patient_id", "study_id")).iter_rows())
    number_of: dict[str, int] = {}
    parts = []
    for file, predictions in zip(files, made):
        frame = _at_level(predictions, table, level, file)
        ids = frame[KEYS[level]].to_list()
        own = [study_of[key] for key in ids]
        numbers = [number_of.setdefault(patients[study], len(number_of)) for study in own]
        parts.append(
            Part(
                file=Path(file).name,
                ids=ids,
                studies=own,
                patients=np.array(numbers, dtype=np.intp),
                labels=labels.values[[row_of[key] for key in ids]],
                scores=frame.select(findings).to_numpy().astype(np.float32),
                predictions=predictions,
            )
        )
    _refuse_shared_studies(parts)
    return Joined(
        level=level,
        findings=findings,
        parts=parts,
        table=table,
        patients_known=not table["patient_id"].null_count(),
        rule=_rule(made, level),
        only_predicted=only_predicted,
        only_labelled=only_labelled,
        doubts=_doubts(parts, table, labels, level),
    )


def _shared_findings(
    made: Sequence[Predictions], files: Sequence[str | Path], labelled: list[str], studies: str | Path
) -> tuple[list[str], list[str], list[str]]:
    """Findings of all files and the study table, in the order of the first file; then those of one side only."""
    everywhere = set(labelled).intersection(*(predictions.findings for predictions in made))
    findings = [name for name in made[0].findings if name in everywhere]
    predicted = list(dict.fromkeys(name for predictions in made for name in predictions.findings))
    if not findings:
        hint = nearest(predicted[0], labelled) if predicted else "the predictions hold no finding at all"
        raise InputError(
            f"predictions and {Path(studies).name} have no finding in common", where=files[0], do=f"check names: {hint}"
        )
    shared = set(findings)
    return findings, [n for n in predicted if n not in shared], [n for n in labelled if n not in shared]


def _at_level(predictions: Predictions, table: pl.DataFrame, level: Level, file: str | Path) -> pl.DataFrame:
    """Predictions with one row per study or image: averaged over the images of a study, or repeated over them."""
    key = KEYS[predictions.level]
    there = table.select("study_id", "image_id").unique(key, maintain_order=True)
    missing = predictions.table.join(there, on=key, how="anti")
    if missing.height:
        noun = "studies" if predictions.level == "study" else "images"
        raise InputError(
            f"{missing.height} of {predictions.table.height} predicted {noun} are not in the study table"
            f" (the first is {missing[key][0]!r})",
            where=file,
            do="give the study table that these predictions were made from, or write ids alike in both",
        )
    findings = predictions.findings
    if predictions.level == level:
        return predictions.table
    if level == "image":
        return table.select("study_id", "image_id").join(
            predictions.table.select("study_id", *findings), on="study_id", how="inner", maintain_order="left"
        )
    # The study table, not the predictions file, says which study an image belongs to.
    owned = predictions.table.select("image_id", *findings).join(there, on="image_id", maintain_order="left")
    return owned.group_by("study_id", maintain_order=True).agg(pl.col(findings).mean())


def _refuse_shared_studies(parts: Sequence[Part]) -> None:
    owner: dict[str, str] = {}
    for part in parts:
        for study in set(part.studies):
            if study in owner:
                raise InputError(
                    f"study {study!r} stands in {owner[study]} and in {part.file}; several files mean folds of one experiment",
                    do="give files that share no study, or combine them first with `hilum ensemble`",
                )
            owner[study] = part.file


def _rule(made: Sequence[Predictions], level: Level) -> str | None:
    if all(predictions.level == level for predictions in made):
        return None
    if level == "study":
        return "predicted per image; the probabilities of the images of a study are averaged"
    return "predicted per study; the probability of a study is repeated for each of its images"


def _doubts(parts: Sequence[Part], table: pl.DataFrame, labels: Labels, level: Level) -> list[str]:
    """What the splits of the table say against the judgement, in sentences.

    Predictions that a run made of its own held-out part answer to that run's split, not to the table's.
    """
    parts = [part for part in parts if part.predictions.split is None]
    if "split" not in table.columns or not parts:
        return []
    judged = {study for part in parts for study in part.studies}
    marked = table.unique("study_id").with_columns(judged=pl.col("study_id").is_in(list(judged)))
    inside, training = marked.filter("judged"), marked.filter(pl.col("split") == "train")
    doubts = []
    if trained := inside.filter(pl.col("split") == "train").height:
        doubts.append(f"{trained:,} of the {inside.height:,} judged studies are training studies of the table.")
    leaked = inside.filter(pl.col("split") != "train").join(training, on="patient_id", how="semi")
    if leaked.height:
        doubts.append(f"{leaked['patient_id'].n_unique():,} judged patients also have training studies.")
    splits = inside["split"].drop_nulls().unique().to_list()
    absent = marked.filter(~pl.col("judged") & pl.col("split").is_in(splits))
    if absent.height:
        doubts.append(
            f"{absent.height:,} studies of the judged split ({', '.join(sorted(splits))}) have no prediction."
        )
    return doubts
