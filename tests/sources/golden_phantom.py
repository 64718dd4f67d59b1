"""Sixteen stored phantom images that every machine must meet within one grey level. `python -m tests.sources.golden_phantom` draws them anew.

They are chosen from the first studies of the world of 45 findings so that together they show as many findings on as many
views as sixteen images can. Drawing them anew is right only when the drawing's version is raised.
"""

from pathlib import Path

import cv2
import numpy as np

from hilum.sources.phantom.patients import Study, first_studies, studies_of
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.worlds import WORLDS

FOLDER = Path(__file__).parent / "golden"
WORLD, SEED, SIZE, NUMBER = WORLDS["cxr-lt-2024"], 0, 128, 16


def drawn(name: str) -> np.ndarray:
    """The image of that id, uint8 (128, 128)."""
    patient, study, number = name.split("_")
    studies = list(studies_of(SEED, int(patient[1:]), WORLD))
    return draw(studies[int(study[1:]) - 1], int(number) - 1, SIZE)[0]


def shown(study: Study, number: int) -> set[tuple[str, bool]]:
    """(finding or decoy, lateral) of everything drawn on an image."""
    lateral = study.images[number].drawn == "LATERAL"
    return {(one.finding, lateral) for one in study.lesions if (one.lateral if lateral else one.frontal)}


def choose() -> list[str]:
    """Greedily the images that show most of what is not shown yet."""
    candidates = {
        study.image_id(number): shown(study, number)
        for study in first_studies(SEED, 4000, WORLD)
        for number in range(len(study.images))
    }
    chosen: list[str] = []
    seen: set[tuple[str, bool]] = set()
    for _ in range(NUMBER):
        best = max(candidates, key=lambda name: (len(candidates[name] - seen), name))
        chosen.append(best)
        seen |= candidates.pop(best)
    return chosen


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    for name in choose():
        cv2.imwrite(str(FOLDER / f"{name}.png"), drawn(name), [cv2.IMWRITE_PNG_COMPRESSION, 9])
