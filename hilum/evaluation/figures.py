"""What the report draws and shows of each finding: curves as SVG paths, reliability plots, example studies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hilum.evaluation.calibration import reliability
from hilum.evaluation.joined import Joined, Part
from hilum.evaluation.metrics import Curve, pr_curve, roc_curve

BOX = 100  # side of a plot in SVG units, y upwards in data and downwards on the page
EXAMPLES = 3


@dataclass(frozen=True)
class Plot:
    """One square plot: a path per fold, and dots (x, y, radius) of a reliability plot; `top` is the value at the end of both axes."""

    paths: list[str]
    dots: list[tuple[float, float, float]]
    top: float
    description: str


@dataclass(frozen=True)
class Example:
    """One call worth a look: the study (or image), its probability, the file it is from, pictures as data addresses."""

    key: str
    study: str
    probability: float
    file: str


@dataclass(frozen=True)
class Figures:
    """All of one finding; a plot is None where it is undefined."""

    roc: Plot | None
    pr: Plot | None
    reliability: Plot | None
    examples: dict[str, list[Example]]


def figures(joined: Joined, facts: dict[str, Any]) -> dict[str, Figures]:
    """Finding -> its figures; `facts` is the `findings` part of metrics.json."""
    owners = [(part, row) for part in joined.parts for row in range(len(part.ids))]
    return {
        name: Figures(
            roc=_roc(joined, column, facts[name]),
            pr=_pr(joined, column, facts[name]),
            reliability=_reliability(joined, column, facts[name]),
            examples=_examples(joined, column, owners),
        )
        for column, name in enumerate(joined.findings)
    }


def _roc(joined: Joined, column: int, fact: dict[str, Any]) -> Plot | None:
    curves = [roc_curve(part.labels[:, column], part.scores[:, column]) for part in joined.parts]
    paths = [_path(curve) for curve in curves if curve is not None]
    if not paths:
        return None
    return Plot(paths, [], 1.0, f"ROC curve, area {_said(fact['auroc'][0])}")


def _pr(joined: Joined, column: int, fact: dict[str, Any]) -> Plot | None:
    curves = [pr_curve(part.labels[:, column], part.scores[:, column]) for part in joined.parts]
    paths = [_path(curve) for curve in curves if curve is not None]
    if not paths:
        return None
    return Plot(
        paths,
        [],
        1.0,
        f"precision-recall curve, average precision {_said(fact['ap'][0])}, a random ranking {_said(fact['floor'])}",
    )


def _reliability(joined: Joined, column: int, fact: dict[str, Any]) -> Plot | None:
    bins = [reliability(part.labels[:, column], part.scores[:, column]) for part in joined.parts]
    bins = [one for one in bins if len(one.entries)]
    if not bins:
        return None
    # A rare finding lives in a corner of 0..1, so the axes end at the next round number above all that is drawn.
    largest = max(float(max(one.probability.max(), one.positive.max())) for one in bins)
    top = next((limit for limit in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if largest <= limit), 1.0)
    dots = []
    for one in bins:
        radius = np.sqrt(one.entries / one.entries.max()) * 2.6
        dots += [
            (round(x / top * BOX, 1), round(BOX - y / top * BOX, 1), round(float(r), 1))
            for x, y, r in zip(one.probability, one.positive, radius)
        ]
    paths = [_path(Curve(one.probability / top, one.positive / top)) for one in bins]
    return Plot(paths, dots, top, f"reliability plot, calibration error {_said(fact['ece'])}, axes end at {top:g}")


def _path(curve: Curve) -> str:
    """Curve in 0..1 as an SVG path in a box of BOX units."""
    points = zip(np.round(curve.x * BOX, 1).tolist(), np.round(BOX - curve.y * BOX, 1).tolist())
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points)


def _said(value: float | None) -> str:
    return "undefined" if value is None or math.isnan(value) else f"{value:.3f}"


def _examples(joined: Joined, column: int, owners: Sequence[tuple[Part, int]]) -> dict[str, list[Example]]:
    """found, missed: positives scored highest, lowest; alarms: negatives scored highest."""
    labels = np.concatenate([part.labels[:, column] for part in joined.parts])
    scores = np.concatenate([part.scores[:, column] for part in joined.parts])

    def taken(rows: Sequence[int]) -> list[Example]:
        chosen = [(*owners[row], float(scores[row])) for row in rows]
        return [Example(part.ids[row], part.studies[row], score, part.file) for part, row, score in chosen]

    rising = np.argsort(scores, kind="stable")
    positives, negatives = rising[labels[rising] > 0.5], rising[labels[rising] <= 0.5]
    # With few positives the two lists of positives must not show the same study as a success and as a failure.
    shown = min(EXAMPLES, (len(positives) + 1) // 2)
    return {
        "found": taken(positives[::-1][:shown].tolist()),
        "missed": taken(positives[: min(EXAMPLES, len(positives) - shown)].tolist()),
        "alarms": taken(negatives[::-1][:EXAMPLES].tolist()),
    }
