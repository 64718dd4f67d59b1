"""Contact sheets: every finding plain and subtle, frontal and lateral.

`python -m hilum.sources.phantom.sheet FOLDER` writes one PNG per entry of SHEETS, `... OUT.png FINDING ...` one of these findings.
"""

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.atomic import atomic_path, ensure_folder
from hilum.sources.phantom.patients import PLACES, Image, Lesion, Study
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.prevalence import DECOYS, DEVICES, FINDINGS, NO_FINDING
from hilum.sources.phantom.streams import stream

# Which findings stand on which sheet, together all that the phantom can draw.
SHEETS: dict[str, tuple[str, ...]] = {
    "airspace": (
        "Lung Opacity", "Consolidation", "Pneumonia", "Infiltration", "Edema", "Tuberculosis", "Lobar Atelectasis",
        "Atelectasis", "Fibrosis",
    ),
    "focal": ("Nodule", "Granuloma", "Mass", "Lung Lesion", "Round(ed) Atelectasis", "Infarction", "Hernia"),
    "pleura": (
        "Pleural Effusion", "Pleural Thickening", "Pleural Other", "Pneumothorax", "Hydropneumothorax", "Fissure",
        "Azygos Lobe",
    ),
    "heart-and-vessels": (
        "Cardiomegaly", "Cardiomyopathy", "Enlarged Cardiomediastinum", "Tortuous Aorta", "Calcification of the Aorta",
        "Pulmonary Hypertension", "Pulmonary Embolism", "Hilum", "Adenopathy",
    ),
    "bones": ("Fracture", "Rib Fracture", "Clavicle Fracture", "Kyphosis", "Scoliosis", "Osteopenia"),
    "air": ("Emphysema", "Bulla", "Pneumomediastinum", "Pneumoperitoneum", "Subcutaneous Emphysema"),
    "devices": (DEVICES, NO_FINDING),
    "decoys": DECOYS,
}  # fmt: skip


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


def sheet(findings: Sequence[str], *, size: int = 176, columns: int = 2, seed: int = 5) -> NDArray[np.uint8]:
    """A grey picture of these findings; each cell is frontal and lateral of a plain case, then of a subtle one, its name above.

    Drawn at twice the `size` and rounded to 64 grey levels, so that the file is small.
    """
    cells = []
    for k, name in enumerate(findings):
        lesion = None if name == NO_FINDING else name
        plain, subtle = (specimen(lesion, clarity, seed=seed, patient=k) for clarity in (0.9, 0.15))
        images = [draw(study, view, 2 * size)[0] for study in (plain, subtle) for view in (0, 1)]
        small = [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) & 0xFC for image in images]
        head = np.zeros((16, 4 * size), np.uint8)
        cv2.putText(head, name, (3, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, 255, 1, cv2.LINE_AA)
        cells.append(np.vstack([head, np.hstack(small)]))
    cells += [np.zeros_like(cells[0])] * (-len(cells) % columns)
    rows = [np.hstack(cells[k : k + columns]) for k in range(0, len(cells), columns)]
    return np.asarray(np.vstack(rows), np.uint8)


def write_sheet(path: Path, findings: Sequence[str]) -> None:
    """Draw the sheet of these findings into a PNG."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", sheet(findings), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


if __name__ == "__main__":
    place = Path(sys.argv[1])
    if sys.argv[2:]:
        write_sheet(place, sys.argv[2:])
    else:
        for region, shown in SHEETS.items():
            write_sheet(ensure_folder(place) / f"{region}.png", shown)
