"""Operating points: per finding a calibration map and the probability above which it is called. A visible CSV."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from hilum.atomic import atomic_path
from hilum.errors import InputError


@dataclass(frozen=True)
class OperatingPoint:
    """What to do with a finding's probability.

    threshold: of the (mapped) probability, in [0, 1]; criterion: what chose it; chosen_on: on which data.
    slope, intercept: the calibration map p' = sigmoid(slope * logit(p) + intercept); 1 and 0 leave p as it is.
    """

    finding: str
    threshold: float
    criterion: str
    chosen_on: str
    slope: float = 1.0
    intercept: float = 0.0


_COLUMNS = [field.name for field in fields(OperatingPoint)]


def is_calibrated(points: Sequence[OperatingPoint]) -> bool:
    """Whether any of the maps changes a probability."""
    return any((point.slope, point.intercept) != (1.0, 0.0) for point in points)


def calibrated_logits(logits: np.ndarray, findings: Sequence[str], points: Sequence[OperatingPoint]) -> np.ndarray:
    """Logits (N, F) of these findings after their maps; a finding without a point keeps its own."""
    maps = {point.finding: (point.slope, point.intercept) for point in points}
    pairs = np.array([maps.get(name, (1.0, 0.0)) for name in findings], dtype=logits.dtype).reshape(-1, 2)
    mapped: np.ndarray = logits * pairs[:, 0] + pairs[:, 1]
    return mapped


def write_operating_points(points: Sequence[OperatingPoint], path: str | Path) -> None:
    """Write them as CSV, one row per finding."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(point) for point in points)


def read_operating_points(path: str | Path) -> list[OperatingPoint]:
    """Read the CSV back; columns are matched by name. Raises InputError for numbers that make no sense."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = []
    for number, row in enumerate(rows, start=2):
        place = f"{path}, line {number}"
        try:
            point = OperatingPoint(
                finding=row["finding"],
                threshold=float(row["threshold"]),
                criterion=row["criterion"],
                chosen_on=row["chosen_on"],
                slope=float(row.get("slope") or 1),  # a table without maps leaves probabilities as they are
                intercept=float(row.get("intercept") or 0),
            )
        except (KeyError, ValueError, TypeError) as error:
            raise InputError("this row cannot be read", where=place, do=f"give {', '.join(_COLUMNS)}") from error
        if not 0 <= point.threshold <= 1:
            raise InputError(f"threshold {point.threshold} is no probability", where=place, do="give 0 to 1")
        if not (point.slope > 0 and np.isfinite([point.slope, point.intercept]).all()):
            raise InputError(f"slope {point.slope} would turn the order round", where=place, do="give a number above 0")
        points.append(point)
    return points
