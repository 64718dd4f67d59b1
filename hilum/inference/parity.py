"""How far an engine's answers lie from torch's, and whether that is near enough to offer the engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hilum.bundle import Bundle
from hilum.errors import InputError
from hilum.evaluation.calibration import ece
from hilum.evaluation.metrics import average_precision
from hilum.inference.self_test import largest_difference, sigmoid
from hilum.operating_points import calibrated_logits

# The largest difference of a probability that is accepted, by precision. int8 moves single probabilities more than that and
# is judged by what it does to a ranking: mAP, over findings with enough positives to be measured.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.01}
MAP_LOSS, MIN_POSITIVES = 0.002, 10
ECE_LOSS = 0.01  # by how much the mean calibration error may grow in less than fp32
NEIGHBOURS = 1e-5  # by how much a probability may change in fp32 because a study is asked beside others
OTHERS = (
    1e-6  # by how much a logit may change because further findings are asked about (of its size, where that is above 1)
)


def compared(bundle: Bundle, ours: np.ndarray, reference: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Plain values for parity.json: an engine's logits (N, F) held against torch's.

    largest_difference: of a probability, calibrated as the bundle says; decisions_changed: how many of the N x F answers lie on
    the other side of their threshold. labels (N, F), NaN = unknown, or None: with them `map` and `ece` of [torch, engine].
    """
    mapped = [calibrated_logits(logits, bundle.findings, bundle.operating_points) for logits in (reference, ours)]
    chances = [sigmoid(logits) for logits in mapped]
    limits = {point.finding: point.threshold for point in bundle.operating_points}
    called = [part >= np.array([limits.get(name, np.inf) for name in bundle.findings]) for part in chances]
    told: dict[str, Any] = {
        "studies": len(ours),
        "largest_difference": largest_difference(*mapped),
        "decisions_changed": int((called[0] != called[1]).sum()),
        "decisions": int(ours.shape[0] * len(limits)),
    }
    if labels is not None:
        measured = (labels == 1).sum(axis=0) >= MIN_POSITIVES
        told["findings_measured"] = int(measured.sum())
        if measured.any():
            told["map"] = [_mean(average_precision(labels[:, measured], part[:, measured])) for part in chances]
            told["ece"] = [_mean(ece(labels[:, measured], part[:, measured])) for part in chances]
    return told


def accept(precision: str, told: Sequence[dict[str, Any]], neighbours: float = 0.0) -> None:
    """Raise InputError unless the comparisons keep to the precision's tolerance.

    neighbours: the largest change of a probability because a study was asked beside others.
    """
    if precision == "fp32" and not neighbours <= NEIGHBOURS:
        raise InputError(
            f"a probability changes by {neighbours:.2g} with the studies beside it, more than {NEIGHBOURS:g}: it is not offered",
            do="use another engine or precision",
        )
    worst = max(part["largest_difference"] for part in told)
    if precision in TOLERANCES and worst > TOLERANCES[precision]:
        raise InputError(
            f"in {precision} a probability changes by {worst:.2g}, more than {TOLERANCES[precision]:g}: it is not offered",
            do="use another engine or precision",
        )
    if (changed := max(part.get("others", 0.0) for part in told)) > OTHERS:
        raise InputError(
            f"a logit changes by {changed:.2g} where further findings are asked about, more than {OTHERS:g}: it is not offered",
            do="use another engine or precision",
        )
    if precision not in TOLERANCES:
        maps = next((part["map"] for part in told if "map" in part), None)
        if maps is None:
            raise InputError(
                f"{precision} is offered only where its mAP has been measured",
                do=f"name labelled studies with --studies, of which a finding has {MIN_POSITIVES} positives or more",
            )
        if maps[0] - maps[1] > MAP_LOSS:
            raise InputError(
                f"in {precision} mAP falls from {maps[0]:.4f} to {maps[1]:.4f}, by more than {MAP_LOSS}: it is not offered",
                do="use another engine or precision",
            )
    for before, after in (part["ece"] for part in told if precision != "fp32" and "ece" in part):
        if after - before > ECE_LOSS:
            raise InputError(
                f"in {precision} the calibration error grows from {before:.4f} to {after:.4f}, by more than {ECE_LOSS}: it is not offered",
                do="use another engine or precision",
            )


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values))
