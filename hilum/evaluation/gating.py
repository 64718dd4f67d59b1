"""Rules between findings, laid upon their probabilities: "normal" holds the others down, a child holds its parent up.

They belong after prediction and never into training: a rule changes what is said of an image, not what is learned from it. A
probability that a rule has moved is no calibrated one any more, and thresholds chosen before it no longer fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import polars as pl

from hilum.atomic import refuse_replacing
from hilum.errors import InputError, nearest
from hilum.evaluation.learned_on import learned_on
from hilum.evaluation.metrics import average_precision
from hilum.evaluation.ranking import Floats
from hilum.tables import Predictions, read_predictions, write_predictions

Parents = Mapping[str, str | Sequence[str]]
POWERS = (0.0, 0.25, 0.5, 1.0, 2.0)


def gated(probabilities: Floats, normal: int, power: float) -> Floats:
    """(N, F): p (1 - p_normal)^power for every finding but `normal` itself, whose column stays.

    The code of CXR-LT 2026's first place (power 0.5); a page of theirs gave p (1 - power p_normal) instead.
    """
    factor = (1 - probabilities[:, normal].astype(np.float64)) ** power
    held = (probabilities * factor[:, None]).astype(probabilities.dtype)
    held[:, normal] = probabilities[:, normal]
    return held


def raised(probabilities: Floats, findings: Sequence[str], parents: Parents) -> Floats:
    """(N, F): each parent at least as likely as the likeliest of its children, theirs included. parents: child -> parent(s).

    Raises InputError for a name that is no finding, and where a finding is its own ancestor.
    """
    above = {child: [given] if isinstance(given, str) else list(given) for child, given in parents.items()}
    place = {name: i for i, name in enumerate(findings)}
    for name in (*above, *chain(*above.values())):
        if name not in place:
            raise InputError(f"there is no finding {name!r} among the predictions", do=nearest(name, findings))
    higher = probabilities.copy()
    for child in above:
        found, to_follow = set(), list(above[child])
        while to_follow:
            parent = to_follow.pop()
            if parent == child:
                raise InputError(f"{child!r} is its own ancestor", do="correct the pairs of child and parent")
            if parent not in found:
                found.add(parent)
                to_follow += above.get(parent, [])
                higher[:, place[parent]] = np.maximum(higher[:, place[parent]], probabilities[:, place[child]])
    return higher


def choose_power(labels: Floats, probabilities: Floats, normal: int, powers: Sequence[float] = POWERS) -> float:
    """The power of best mean average precision over the other findings, on studies kept for it; 0, no gate, where none helps."""
    others = [i for i in range(labels.shape[1]) if i != normal and (labels[:, i] > 0.5).any()]
    if not others:
        return 0.0

    def worth(power: float) -> float:
        return float(average_precision(labels[:, others], gated(probabilities, normal, power)[:, others]).mean())

    return max(sorted({0.0, *powers}), key=lambda power: round(worth(power), 12))


def apply_rules(
    predictions: str | Path,
    output: str | Path,
    *,
    normal: str | None = None,
    power: float | None = None,
    fit_on: str | Path | None = None,
    studies: str | Path | None = None,
    parents: Parents | None = None,
) -> tuple[Predictions, float]:
    """Lay the rules upon a predictions table and write OUTPUT; hand it back with the power used, 0 where there is no gate.

    normal: the finding that holds the others down. power: how much; without it the best on `fit_on`, predictions of held-out
    studies whose labels stand in `studies`; none of them, and none of their patients, may be among those that are ruled.
    parents: child -> its parent, or several. The note says the rules. Thresholds and calibration go where a rule changes something.
    """
    refuse_replacing(output, predictions, fit_on, studies)
    made = read_predictions(predictions)
    if normal is not None and normal not in made.findings:
        raise InputError(
            f"there is no finding {normal!r} among the predictions",
            where=predictions,
            do=nearest(normal, made.findings),
        )
    if normal is None and (power is not None or fit_on is not None):
        raise InputError("a power and what to choose it on are of a gate", do="name the finding that gates as normal")
    if power is not None and fit_on is not None:
        raise InputError("the power is given, so there is nothing to choose", do="leave out one of power and fit_on")
    if power is not None and not 0 <= power < float("inf"):
        raise InputError(f"the power of the gate is {power}", do="give 0 or more")
    values = made.table.select(made.findings).to_numpy().astype(np.float32)
    used, said = 0.0, []
    if normal is not None:
        used, doubts = (
            (power, []) if power is not None else _learned(made, Path(predictions).name, normal, fit_on, studies)
        )
        values = gated(values, made.findings.index(normal), used)
        how = f"Every probability was multiplied by (1 - that of {normal}) to the power {used:g}."
        said += [how, *doubts] if used else [f"No gate by {normal} was chosen."]
    if parents:
        values = raised(values, made.findings, parents)
        pairs = ", ".join(
            f"{child} < {given if isinstance(given, str) else ' and '.join(given)}" for child, given in parents.items()
        )
        said.append(f"A finding is at least as likely as those that are part of it ({pairs}).")
    table = made.table.with_columns(pl.Series(name, values[:, i]) for i, name in enumerate(made.findings))
    note = " ".join(filter(None, [made.note, *said])) or None
    kept = not used and not parents
    thresholds = made.thresholds if kept else {}
    result = replace(made, table=table, note=note, calibrated=made.calibrated and kept, thresholds=thresholds)
    write_predictions(result, output)
    return result, used


def _learned(
    made: Predictions, name: str, normal: str, fit_on: str | Path | None, studies: str | Path | None
) -> tuple[float, list[str]]:
    """The power chosen on held-out studies, and doubts about these."""
    if fit_on is None or studies is None:
        raise InputError(
            "the power of the gate is not said, and there is nothing to choose it on",
            do="give power, or predictions of held-out studies as fit_on with their study table",
        )
    held = learned_on([fit_on], studies, [made], [name], "ruled")
    return choose_power(held.labels, held.scores[0], made.findings.index(normal)), held.doubts
