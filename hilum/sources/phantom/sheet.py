"""The contact sheet: every finding plain and subtle, frontal and lateral. `python -m hilum.sources.phantom.sheet OUT.png [FINDING ...]`."""

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.atomic import atomic_path
from hilum.sources.phantom.patients import PLACES, Image, Lesion, Study
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.prevalence import FINDINGS, NO_FINDING
from hilum.sources.phantom.streams import stream


def specimen(finding: str | None, clarity: float, *, seed: int = 0, patient: int = 0, mimic: str = "") -> Study:
    """A study with one finding (or none) and two images, PA and lateral; shown on both."""
    rng = stream(seed, "specimen", patient, finding or "")
    lesions: tuple[Lesion, ...] = ()
    if finding is not None:
        where = tuple(float(v) for v in rng.random(PLACES))
        side = -1 if rng.random() < 0.5 else 1
        lesions = (Lesion(finding, mimic, clarity, side, where, True, True, (seed, patient, 0)),)
    nothing = np.zeros(len(FINDINGS))
    return Study(
        seed=seed, patient=patient, number=0, age=58.0, sex="FM"[patient % 2], day=date(2015, 1, 1),
        images=(Image("PA", "PA", "PA"), Image("LATERAL", "LATERAL", "LATERAL")), lesions=lesions,
        truth=np.array([name == finding for name in FINDINGS]), clarity=nothing,
        mimic=np.zeros(len(FINDINGS), np.int8), decoy="",
    )  # fmt: skip


def sheet(findings: Sequence[str] = FINDINGS, *, size: int = 112, columns: int = 4, seed: int = 5) -> NDArray[np.uint8]:
    """A grey picture of all findings; each cell is plain frontal and lateral, then subtle frontal, with its name above.

    Drawn at twice the `size` and rounded to 64 grey levels, so that the file is small.
    """
    cells = []
    for k, name in enumerate(findings):
        lesion = None if name == NO_FINDING else name
        plain, subtle = (specimen(lesion, clarity, seed=seed, patient=k) for clarity in (0.9, 0.15))
        images = [draw(study, view, 2 * size)[0] for study, view in ((plain, 0), (plain, 1), (subtle, 0))]
        small = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) & 0xFC for image in images]
        head = np.zeros((16, 3 * size), np.uint8)
        cv2.putText(head, name, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 255, 1, cv2.LINE_AA)
        cells.append(np.vstack([head, np.hstack(small)]))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[k : k + columns]) for k in range(0, len(cells), columns)]
    return np.asarray(np.vstack(rows), np.uint8)


def write_sheet(path: Path, findings: Sequence[str] = FINDINGS) -> None:
    """Draw the sheet of these findings into a PNG."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet(findings), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


if __name__ == "__main__":
    write_sheet(Path(sys.argv[1] if len(sys.argv) > 1 else "phantom.png"), sys.argv[2:] or FINDINGS)
