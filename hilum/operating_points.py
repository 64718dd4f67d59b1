"""Operating points: per finding the probability above which it is called, and the criterion that chose it. A visible CSV."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hilum.atomic import atomic_path
from hilum.errors import InputError


@dataclass(frozen=True)
class OperatingPoint:
    """finding: its name; threshold: a probability in [0, 1]; criterion: what chose it; chosen_on: on which data."""

    finding: str
    threshold: float
    criterion: str
    chosen_on: str


_COLUMNS = [field.name for field in fields(OperatingPoint)]


def write_operating_points(points: Sequence[OperatingPoint], path: str | Path) -> None:
    """Write them as CSV, one row per finding."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(asdict(point) | {"threshold": repr(float(point.threshold))} for point in points)


def read_operating_points(path: str | Path) -> list[OperatingPoint]:
    """Read the CSV back; columns are matched by name. Raises InputError for a threshold that is no probability."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = []
    for number, row in enumerate(rows, start=2):
        try:
            point = OperatingPoint(row["finding"], float(row["threshold"]), row["criterion"], row["chosen_on"])
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(
                "this row cannot be read", where=f"{path}, line {number}", do=f"give {', '.join(_COLUMNS)}"
            ) from error
        if not 0 <= point.threshold <= 1:
            raise InputError(
                f"threshold {point.threshold} is no probability", where=f"{path}, line {number}", do="give 0 to 1"
            )
        points.append(point)
    return points
