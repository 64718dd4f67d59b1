"""The verb `ensemble`: predictions of the same studies by several models in, one predictions table out; needs no torch.

What is learned (weights, the choice of members, thresholds) is learned on held-out studies that are not combined here.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum.atomic import refuse_replacing
from hilum.errors import InputError, nearest
from hilum.evaluation.combining import LEARNED, METHODS, Method, Rule, Space, Values, combine, thresholds_of
from hilum.evaluation.joined import KEYS
from hilum.evaluation.learned_on import LearnedOn, cross_fitted, learned_on
from hilum.evaluation.metrics import best_f1_threshold
from hilum.tables import Predictions, read_predictions, write_predictions

Member = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class Ensemble:
    """What `ensemble` made.

    predictions: the table with its facts; members: a name for each; weights: (M, F), of calls where the method is vote.
    fitted_on: studies that something was learned on, 0 = none. judged: on them, by whole patients cross-fitted, the mean
    AP of each member, of their mean and of the method; empty where nothing was learned. doubts: sentences on what may be amiss.
    """

    predictions: Predictions
    members: list[str]
    weights: Values
    fitted_on: int = 0
    judged: dict[str, float] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def ensemble(
    predictions: Sequence[str | Path],
    output: str | Path,
    *,
    method: Method = "mean",
    space: Space = "probability",
    fit_on: Sequence[Member] = (),
    studies: str | Path | None = None,
    shared: bool = False,
    prior: float = 100.0,
    best: int | None = None,
) -> Ensemble:
    """Combine predictions tables by study id and finding name, write OUTPUT, and hand back what was made.

    method:  mean, weighted, vote or per-finding; see hilum.evaluation.combining. space: what mean and per-finding average.
    fit_on:  each member's predictions of held-out studies, in the members' order; several files of one are its folds.
             weighted and per-finding need them; from them come the thresholds of the result and those that vote calls at.
    studies: the study table with the labels of fit_on (and, where it has them, the patients of what is combined).
    shared, prior: of weighted; best: members that per-finding keeps, half of them by default.
    Raises InputError where tables differ in studies, findings, level or calibration, where something is to be learned and
    fit_on or studies lacks, and where fit_on shares a study or a patient with what is combined.
    """
    rule = Rule(method, space, shared, prior, best)
    _check_rule(rule, len(predictions), len(fit_on), studies)
    learned_from = [file for member in fit_on for file in ([member] if isinstance(member, str | Path) else member)]
    refuse_replacing(output, studies, *predictions, *learned_from)
    made = [read_predictions(file) for file in predictions]
    names = _names(predictions)
    _refuse_unlike(made, names)
    first = made[0]
    key, findings = KEYS[first.level], first.findings
    rows = first.table.select(key)
    members = np.stack(
        [rows.join(one.table, on=key, maintain_order="left").select(findings).to_numpy() for one in made]
    )
    held = learned_on(fit_on, studies, made, names) if fit_on and studies is not None else None
    thresholds = _call_thresholds(made, names, held) if method == "vote" else None
    labels = held.labels if held else np.empty((0, len(findings)), dtype=np.float32)
    weights = METHODS[method](rule, labels, held.scores if held else members)
    combined = combine(members, weights, space=space, thresholds=thresholds)
    facts = _facts(rule, made, names, weights, thresholds)
    ids = first.table.select([name for name in first.table.columns if name not in findings])
    table = ids.hstack([pl.Series(name, combined[:, column]) for column, name in enumerate(findings)])
    positives, known = _training_counts(made)
    result = Predictions(
        table=table,
        level=first.level,
        bundle=_identity(facts),
        calibrated=first.calibrated and method != "vote",
        positives=positives,
        known=known,
        thresholds=_result_thresholds(rule, findings, weights, thresholds, held),
        split=first.split if len({one.split for one in made}) == 1 else None,
        note=" ".join(dict.fromkeys(one.note for one in made if one.note)) or None,
        ensemble=facts,
        zero_shot=[name for name in findings if any(name in one.zero_shot for one in made)],
    )
    write_predictions(result, output)
    return Ensemble(
        predictions=result,
        members=names,
        weights=weights,
        fitted_on=len(held.ids) if held else 0,
        judged=cross_fitted(rule, held, names) if held else {},
        doubts=held.doubts if held else [],
    )


def _check_rule(rule: Rule, members: int, fits: int, studies: str | Path | None) -> None:
    """Whether the options go together, before a file is opened."""
    if not members:
        raise InputError(
            "there are no predictions to combine", do="write: hilum ensemble A.parquet B.parquet -o p.parquet"
        )
    if rule.method not in METHODS:
        raise InputError(f"there is no method {rule.method!r}", do=nearest(rule.method, METHODS))
    if rule.space not in ("probability", "logit"):
        raise InputError(f"there is no space {rule.space!r}", do=nearest(rule.space, ("probability", "logit")))
    if rule.space == "logit" and rule.method in ("weighted", "vote"):
        what = "weights are fitted to probabilities" if rule.method == "weighted" else "calls have no logits"
        raise InputError(f"method {rule.method} has no logit space: {what}", do="leave --space out")
    if rule.shared and rule.method != "weighted":
        raise InputError("--shared is of method weighted", do="leave it out, or say --method weighted")
    if rule.best is not None and (rule.method != "per-finding" or not 1 <= rule.best <= members):
        raise InputError(f"--best {rule.best} keeps no sensible part of {members} members", do=f"with --method per-finding give 1 to {members}")  # fmt: skip
    if not 0 <= rule.prior < float("inf"):
        raise InputError(f"--prior {rule.prior:g} is no number of positives", do="give 0 or more")
    if rule.method in LEARNED and not fits:
        raise InputError(
            f"method {rule.method} learns from held-out studies, and none are given",
            do="give each member's predictions of them with --fit-on, and their labels with --studies",
        )
    if fits and fits != members:
        raise InputError(
            f"--fit-on names {fits} tables for {members} members",
            do="give one for each, in the members' order (folds of one with commas between)",
        )
    if fits and studies is None:
        raise InputError("--fit-on needs the labels of its studies", do="name the study table with --studies")


def _names(files: Sequence[str | Path]) -> list[str]:
    """A name for each file: its own, with as many of its folders as it takes to tell all apart."""
    paths = [Path(file) for file in files]
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({place})" for place, path in enumerate(paths, 1)]


def _refuse_unlike(made: Sequence[Predictions], names: Sequence[str]) -> None:
    """Refuse members that are not of the same level, calibration, findings and rows as the first."""
    first = made[0]
    for one, name in zip(made[1:], names[1:]):
        if one.level != first.level:
            raise InputError(
                f"{name} is predicted per {one.level}, {names[0]} per {first.level}",
                do="predict with the same --level by every model",
            )
        if one.calibrated != first.calibrated:
            yes, no = (name, names[0]) if one.calibrated else (names[0], name)
            raise InputError(
                f"{yes} is calibrated and {no} is not: their probabilities mean different things",
                do="calibrate every model with `hilum calibrate` and predict again, or none",
            )
        _refuse_difference(set(first.findings), set(one.findings), "finding", names[0], name)
        key = KEYS[first.level]
        _refuse_difference(set(first.table[key]), set(one.table[key]), first.level, names[0], name)
        owners = [frame.select("study_id", "image_id") for frame in (first.table, one.table) if first.level == "image"]
        if owners and owners[0].join(owners[1], on=["study_id", "image_id"], how="anti").height:
            raise InputError(f"{name} gives images to other studies than {names[0]}", do="correct the ids")


def _refuse_difference(one: set[str], other: set[str], noun: str, first: str, second: str) -> None:
    if one == other:
        return
    holder, item = (first, min(one - other)) if one - other else (second, min(other - one))
    counted = (
        f"{len(one & other):,} are in both, {len(one - other):,} only in {first}, {len(other - one):,} only in {second}"
    )
    raise InputError(
        f"{noun} {item!r} is in {holder} alone ({counted})", do="predict the same studies and findings with every model"
    )


def _call_thresholds(made: Sequence[Predictions], names: Sequence[str], held: LearnedOn | None) -> Values:
    """(M, F) where each member calls a finding: by best F1 on the held-out studies, else as its table says, else at 0.5."""
    if held is not None:
        return thresholds_of(held.labels, held.scores)
    for one, name in zip(made, names):
        if not one.thresholds:
            raise InputError(
                f"{name} holds no thresholds to call findings at",
                do="predict with a bundle that has operating points, or give --fit-on and --studies to choose them by",
            )
    return np.array([[one.thresholds.get(name, 0.5) for name in made[0].findings] for one in made])


def _result_thresholds(
    rule: Rule, findings: Sequence[str], weights: Values, thresholds: Values | None, held: LearnedOn | None
) -> dict[str, float]:
    """Where the ensemble calls a finding: at its best F1 on the held-out studies; without them a vote calls by majority."""
    if held is None:
        return dict.fromkeys(findings, 0.5) if rule.method == "vote" else {}
    scores = combine(held.scores, weights, space=rule.space, thresholds=thresholds)
    found = zip(findings, best_f1_threshold(held.labels, scores))
    return {name: float(value) for name, value in found if not np.isnan(value)}


def _training_counts(made: Sequence[Predictions]) -> tuple[dict[str, int], dict[str, int]]:
    """The members' training counts where they agree, else their sums: tiers ask for shares."""
    told = [(one.positives, one.known) for one in made if one.positives and one.known]
    if not told or all(one == told[0] for one in told):
        return told[0] if told else ({}, {})
    positives, known = (
        {name: sum(one[side].get(name, 0) for one in told) for name in made[0].findings} for side in (0, 1)
    )
    return positives, known


def _facts(
    rule: Rule, made: Sequence[Predictions], names: Sequence[str], weights: Values, thresholds: Values | None
) -> dict[str, Any]:
    """What the metadata says of an ensemble: rule, members with their bundles, weights and thresholds per finding."""
    facts: dict[str, Any] = {"method": rule.method, "space": rule.space}
    facts["members"] = [{"file": name, "bundle": one.bundle} for one, name in zip(made, names)]
    facts["weights"] = {name: weights[:, column].tolist() for column, name in enumerate(made[0].findings)}
    if thresholds is not None:
        facts["thresholds"] = {name: thresholds[:, column].tolist() for column, name in enumerate(made[0].findings)}
    return facts


def _identity(facts: dict[str, Any]) -> str | None:
    """A hash of what decides the ensemble's probabilities, whatever the members' order; null where a member has none."""
    if not all(member["bundle"] for member in facts["members"]):
        return None
    columns = [facts[part] for part in ("weights", "thresholds") if part in facts]
    of_members = sorted(
        json.dumps(
            [member["bundle"], *({name: round(each[place], 9) for name, each in part.items()} for part in columns)]
        )
        for place, member in enumerate(facts["members"])
    )
    return hashlib.sha256(json.dumps([facts["method"], facts["space"], of_members]).encode()).hexdigest()


def lines_of(made: Ensemble) -> str:
    """What was made in a few lines: members, what was learned, and what it was worth."""
    combined, facts = made.predictions, made.predictions.ensemble
    space = f" in {facts['space']} space" if facts["method"] in ("mean", "per-finding") else ""
    lines = [
        f"{len(made.members)} members, {combined.table.height:,} {'studies' if combined.level == 'study' else 'images'}, "
        f"{len(combined.findings)} findings: {facts['method']}{space}"
    ]
    if made.judged:
        lines.append(f"mAP on the {made.fitted_on:,} rows of --fit-on, learned and judged on different patients:")
        width = max(len(name) for name in made.judged)
        lines += [f"  {name:<{width}}  {value:.4f}" for name, value in made.judged.items()]
    if facts["method"] in LEARNED:
        lines.append("weights, mean over findings (least to greatest):")
        width = max(len(name) for name in made.members)
        lines += [
            f"  {name:<{width}}  {row.mean():.2f} ({row.min():.2f} to {row.max():.2f})"
            for name, row in zip(made.members, made.weights)
        ]
    return "\n".join([*lines, *made.doubts])
