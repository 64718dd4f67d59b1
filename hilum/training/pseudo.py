"""Pseudo labels laid upon a stage's training studies: where nobody labelled, and nowhere else."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hilum.batches.dataset import Studies
from hilum.data.pseudo_table import PseudoLabels, read_pseudo
from hilum.data.seen import check_apart
from hilum.errors import InputError
from hilum.recipe import Stage
from hilum.training.inputs import Material


def lay_pseudo(
    stage: Stage,
    train: Studies,
    material: Material,
    *,
    before: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Studies, dict[str, Any] | None]:
    """The training studies with the stage's pseudo labels, and the facts for the manifest; as they came where it has none.

    before: the facts of this stage when it began, where it is resumed.
    Raises InputError where the table is another one than then, where the teacher saw patients that this run validates or tests on, or where that is not known, and
    where the table has nothing to say on these studies or findings.
    """
    if stage.pseudo is None:
        return train, None
    path, weight = stage.pseudo.table, stage.pseudo.weight
    pseudo, content = read_pseudo(path), content_of(path)
    if before is not None and before["content"] != content:
        advice = "put that one back, or start a new run"
        raise InputError("these are not the pseudo labels that the run began with", where=path, do=advice)
    if pseudo.seen is None:
        raise InputError(
            "these pseudo labels do not say which patients their teacher saw",
            where=path,
            do="make them with `hilum pseudo`, and change them by hilum.data.pseudo_table, which keeps what they say",
        )
    check_apart(pseudo.seen, material.table, path)
    labels, weights = entries_of(pseudo, train, material.findings)
    if np.isnan(labels).all():
        raise InputError(
            "no training study has a pseudo label here",
            where=path,
            do="make them for the study table and the findings of this recipe",
        )
    laid = train.with_pseudo(labels, weights * np.float32(weight))
    new = np.isnan(train.labels) & ~np.isnan(laid.labels)
    start = f"goes on from {stage.init}" if stage.init else "starts from scratch"
    facts = {
        "table": path,
        "content": content,
        "teacher": pseudo.teacher,
        "weight": weight,
        "samples": int(new.any(axis=1).sum()),
        "entries": int(new.sum()),
        "known_entries": int((~np.isnan(train.labels)).sum()),
        "positives": {
            name: round(float(laid.labels[new[:, i], i].sum()), 2) for i, name in enumerate(material.findings)
        },
        "start": start,
    }
    teacher = f"teacher {pseudo.teacher[:12]}" if pseudo.teacher else "a teacher without a name"
    say(
        f"pseudo    {facts['entries']:,} entries of {facts['samples']:,} samples by {teacher} at weight {weight:g}, "
        f"beside {facts['known_entries']:,} known ones"
    )
    say(
        f"          the student {start}{'' if pseudo.seen else '; the teacher is said to have learned from other patients'}"
    )
    return laid, facts


def content_of(table: str | Path) -> str:
    """The SHA-256 of a table of pseudo labels, by which a run knows it."""
    return hashlib.sha256(Path(table).read_bytes()).hexdigest()


def entries_of(pseudo: PseudoLabels, train: Studies, findings: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo labels float32 (N, F) of samples and findings, NaN = none, and the weights (N, 1) of their rows."""
    place = {study: row for row, study in enumerate(pseudo.table["study_id"].to_list())}
    rows = np.array([place.get(study, -1) for study in train.studies], dtype=np.int64)
    labels = np.full((len(train), len(findings)), np.nan, dtype=np.float32)
    for column, name in enumerate(findings):
        if name in pseudo.findings:
            values = pseudo.table[name].fill_null(float("nan")).to_numpy()
            labels[:, column] = np.where(rows >= 0, values[rows], np.nan)
    weights = np.where(rows >= 0, pseudo.table["weight"].to_numpy()[rows], 1.0)
    return labels, weights[:, None].astype(np.float32)
