"""From a teacher's probabilities to pseudo labels: which unknown entries get one, soft or hard, and how many negatives.

The kinds of unknown entries: the studies of a table that nobody labelled (`unlabelled`), findings that a source lacks
altogether (`absent`), and the other empty or uncertain entries of labelled studies (`unknown`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.errors import InputError, nearest

CASES = ("unlabelled", "unknown", "absent")
EVERY = "*"
Bound = float | Mapping[str, float] | None
Floats = NDArray[np.floating]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Rules:
    """How pseudo labels are chosen.

    hard:      0 and 1 instead of the probability.
    match_prevalence: hard labels, as many positives among a finding's entries as its prevalence in the teacher's training
        says, those with the highest scores; needs no calibrated teacher, only its order.
    low, high: sure negatives have at most `low`, sure positives at least `high`, and what lies between stays unknown. One
        number, or one per finding with "*" for the others. With one of the two only its side is sure. With neither every
        entry gets its soft label.
    negatives: at most so many negatives (labels below a half) per positive of each finding (the sum of its labels), drawn
        at random: to keep the likeliest would teach hard ones alone.
    cases:     which kinds of unknown entries are labelled; weight: of every row.
    """

    hard: bool = False
    match_prevalence: bool = False
    low: Bound = None
    high: Bound = None
    negatives: float | None = None
    cases: Sequence[str] = CASES
    weight: float = 1.0

    def page(self) -> dict[str, Any]:
        """The rules as plain values."""
        return asdict(self) | {"cases": list(self.cases)}


@dataclass(frozen=True)
class Chosen:
    """labels (N, F) with NaN = none; between, dropped (N, F): entries left unknown as not sure enough, or by the cap."""

    labels: Floats
    between: Mask
    dropped: Mask


def check_rules(rules: Rules, findings: Sequence[str]) -> None:
    """Raise InputError for rules that contradict one another or name a finding the teacher does not know."""
    bounds = [("low", rules.low), ("high", rules.high)]
    for name, bound in bounds:
        for finding, value in (bound if isinstance(bound, Mapping) else {EVERY: bound}).items():
            if finding not in (EVERY, *findings):
                raise InputError(f"{name}: the teacher has no finding {finding!r}", do=nearest(finding, findings))
            if value is not None and not 0 <= value <= 1:
                raise InputError(f"{name} {value} is no probability", do="give a number from 0 to 1")
    low, high = (_per_finding(bound, findings) for _, bound in bounds)
    if (crossed := np.flatnonzero(low > high)).size:
        one = crossed[0]
        raise InputError(
            f"low {low[one]:g} is above high {high[one]:g} for {findings[one]!r}", do="lower low, or raise high"
        )
    given = rules.low is not None or rules.high is not None
    if rules.match_prevalence and given:
        raise InputError("matched prevalences and the bounds low and high exclude one another", do="choose one")
    if rules.hard and not (rules.match_prevalence or given):
        advice = "give low and high, or match prevalences"
        raise InputError("hard labels need to know which probabilities are sure", do=advice)
    if unheard := [case for case in rules.cases if case not in CASES]:
        raise InputError(f"there is no case {unheard[0]!r}", do=nearest(unheard[0], CASES))
    if not rules.cases:
        raise InputError("no case is to be labelled", do=f"name one of {', '.join(CASES)}")
    for name, number in (("negatives", rules.negatives), ("weight", rules.weight)):
        if number is not None and not 0 <= number < np.inf:
            raise InputError(f"{name} {number} is out of range", do="give 0 or more")


def cases_of(labels: Floats, sources: Sequence[str]) -> dict[str, Mask]:
    """Case -> (N, F) the unknown entries of that kind; labels (N, F) with NaN = unknown; sources: of each study."""
    known = ~np.isnan(labels)
    somebody = known.any(axis=1, keepdims=True)
    names, number = np.unique(np.asarray(sources), return_inverse=True)
    held = np.stack([known[number == one].any(axis=0) for one in range(len(names))])[number]
    return {"unlabelled": ~known & ~somebody, "unknown": ~known & somebody & held, "absent": ~known & somebody & ~held}


def choose_labels(
    scores: Floats, wanted: Mask, findings: Sequence[str], prevalence: Floats, rules: Rules, lot: NDArray[np.integer]
) -> Chosen:
    """Pseudo labels of the wanted entries.

    scores (N, F): the teacher's probabilities; prevalence (F,), NaN = not known: such a finding gets no matched labels;
    lot (N, F): who goes first among equals, and whom the cap spares.
    """
    if rules.match_prevalence:
        labels = _matched(scores, wanted, prevalence, lot)
    else:
        low, high = _per_finding(rules.low, findings), _per_finding(rules.high, findings)
        unbound = np.isnan(low) & np.isnan(high) & (not rules.hard)
        sure = (scores <= low) | (scores >= high) | unbound
        values = np.where(scores >= high, 1.0, 0.0) if rules.hard else scores
        labels = np.where(wanted & sure, values, np.nan)
    between = wanted & np.isnan(labels)
    dropped = np.zeros_like(wanted)
    if rules.negatives is not None:
        dropped = _too_many(labels, rules.negatives, lot)
        labels = np.where(dropped, np.nan, labels)
    return Chosen(labels.astype(np.float32), between, dropped)


def counts_of(
    chosen: Chosen, cases: Mapping[str, Mask], findings: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Case -> finding -> entries, labelled, positives, between, dropped: labelled, between and dropped add up to entries."""
    labelled, values = ~np.isnan(chosen.labels), np.nan_to_num(chosen.labels)
    return {
        case: {
            name: {
                "entries": int(mask[:, column].sum()),
                "labelled": int((mask & labelled)[:, column].sum()),
                "positives": round(float(values[mask[:, column], column].sum(dtype=np.float64)), 3),
                "between": int((mask & chosen.between)[:, column].sum()),
                "dropped": int((mask & chosen.dropped)[:, column].sum()),
            }
            for column, name in enumerate(findings)
        }
        for case, mask in cases.items()
    }


def _per_finding(bound: Bound, findings: Sequence[str]) -> Floats:
    """(F,) bounds, NaN where there is none."""
    given = bound if isinstance(bound, Mapping) else {EVERY: bound}
    values = [given.get(name, given.get(EVERY)) for name in findings]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _matched(scores: Floats, wanted: Mask, prevalence: Floats, lot: NDArray[np.integer]) -> Floats:
    labels = np.full(scores.shape, np.nan)
    for column in np.flatnonzero(~np.isnan(prevalence)):
        rows = np.flatnonzero(wanted[:, column])
        order = rows[np.lexsort((lot[rows, column], -scores[rows, column]))]
        labels[order, column] = 0.0
        labels[order[: round(float(prevalence[column]) * len(rows))], column] = 1.0
    return labels


def _too_many(labels: Floats, most: float, lot: NDArray[np.integer]) -> Mask:
    """(N, F): the negatives beyond `most` per positive."""
    dropped = np.zeros(labels.shape, dtype=bool)
    for column in range(labels.shape[1]):
        rows = np.flatnonzero(labels[:, column] < 0.5)
        kept = int(np.ceil(most * np.nansum(labels[:, column])))
        dropped[rows[np.argsort(lot[rows, column])][kept:], column] = True
    return dropped
