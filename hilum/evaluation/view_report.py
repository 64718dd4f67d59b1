"""How well a view classifier does on patients it never saw: accuracy, confusion, and whether its confidence can be believed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hilum.evaluation.calibration import reliability
from hilum.evaluation.proportion import proportion

Values = NDArray[np.float64]


def judge_views(
    truth: NDArray[np.integer], chances: Values, patients: Sequence[str], views: Sequence[str]
) -> dict[str, Any]:
    """The report, plain values for JSON; shares are [value, low, high] (`evaluation.proportion`), null without entries.

    truth: (N,) places in `views`; chances: (N, K) probabilities; patients: whose image each is.
    """
    owner = np.asarray(patients)
    said, confidence = chances.argmax(axis=1), chances.max(axis=1)

    def share(hits: NDArray[np.bool_], rows: NDArray[np.bool_]) -> list[float] | None:
        return proportion(hits[rows], owner[rows].tolist())

    right, every = said == truth, np.ones(len(truth), dtype=bool)
    report: dict[str, Any] = {
        "images": len(truth),
        "patients": len(set(patients)),
        "accuracy": share(right, every),
        "frontal_or_lateral": None,
        "pa_or_ap": None,
        "views": {
            name: {
                "images": int((truth == k).sum()),
                "recall": share(right, truth == k),
                "precision": share(right, said == k),
            }
            for k, name in enumerate(views)
        },
        "confusion": {
            name: {other: int(((truth == k) & (said == j)).sum()) for j, other in enumerate(views)}
            for k, name in enumerate(views)
        },
    }
    if "LATERAL" in views:
        lateral = list(views).index("LATERAL")
        report["frontal_or_lateral"] = share((chances[:, lateral] > 0.5) == (truth == lateral), every)
    if {"PA", "AP"} <= set(views):  # which of the two, for frontal images, whatever is left for lateral
        pa, ap = list(views).index("PA"), list(views).index("AP")
        report["pa_or_ap"] = share((chances[:, ap] > chances[:, pa]) == (truth == ap), (truth == pa) | (truth == ap))
    bins = reliability(right.astype(np.float64), confidence)
    report["ece"] = bins.error
    report["reliability"] = [
        {"confidence": float(mean), "right": float(part), "images": int(count)}
        for mean, part, count in zip(bins.probability, bins.positive, bins.entries)
    ]
    return report


def view_lines(report: dict[str, Any]) -> list[str]:
    """The report for a person."""
    lines = [f"judged on {report['images']:,} images of {report['patients']:,} patients it never saw"]
    for key, words in (
        ("accuracy", "which view"),
        ("frontal_or_lateral", "frontal or lateral"),
        ("pa_or_ap", "PA or AP, of frontal ones"),
    ):
        if report[key]:
            lines.append(f"{words:<26} right in {_told(report[key])}")
    names = list(report["confusion"])
    lines.append("")
    lines.append(f"{'is, called':<12}" + "".join(f"{name:>9}" for name in names) + "   recall")
    for name, row in report["confusion"].items():
        recall = report["views"][name]["recall"]
        lines.append(
            f"{name:<12}" + "".join(f"{row[other]:>9,}" for other in names) + f"   {_told(recall) if recall else '-'}"
        )
    lines.append(f"calibration error {report['ece']:.3f}")
    return lines


def _told(share: list[float]) -> str:
    value, low, high = (100 * each for each in share)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"
