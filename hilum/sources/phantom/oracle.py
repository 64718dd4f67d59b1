"""What the pictures hold: the detectability of each drawn finding, and the scores of an observer who knows where to look.

For a signal known exactly on a known background the best observer sees d' = the signal over the noise, both in grey
levels and summed in squares over pixels and images (ICRU Report 54). Signal is the picture with the finding less the same
picture without; noise is what varies from pixel to pixel in the latter, fine anatomy and quantum mottle together. His score is d' plus
standard normal noise: an upper bound that no method reaches, and a check that the truth is in the pictures at all.
"""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.sources.phantom.patients import Lesion, Study
from hilum.sources.phantom.picture import draw
from hilum.sources.phantom.prevalence import BOTH_VIEWS, DECOYS, NO_FINDING
from hilum.sources.phantom.streams import stream
from hilum.sources.phantom.worlds import World

_FINE, _WIDE = 1 / 128, 6 / 128  # of the side: what is finer counts as noise, averaged over this much around


def detectability(study: Study, number: int, size: int) -> dict[str, float]:
    """d' of each finding, and of each mimic of one, on image `number` of a study drawn at `size` pixels."""
    lateral = study.images[number].drawn == "LATERAL"
    whole = draw(study, number, size)[0].astype(np.float32)
    seen = {}
    for lesion in study.lesions:
        if (lesion.lateral if lateral else lesion.frontal) and lesion.finding not in DECOYS:
            others = tuple(other for other in study.lesions if other is not lesion)
            without = draw(replace(study, lesions=others), number, size)[0].astype(np.float32)
            seen[lesion.finding] = float(np.sqrt(np.sum(np.square((whole - without) / _noise(without)))))
    return seen


def _noise(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Local standard deviation of the fine structure, in grey levels, at least that of rounding."""
    size = picture.shape[0]
    fine = picture - cv2.GaussianBlur(picture, (0, 0), max(_FINE * size, 0.6))
    return np.asarray(np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), _WIDE * size) + np.float32(1 / 12)), np.float32)


def oracle_scores(studies: Sequence[Study], world: World, size: int) -> NDArray[np.float64]:
    """The observer's scores (studies, F), higher = present; for No Finding the strongest other score, negated."""
    scores = np.zeros((len(studies), len(world.findings)))
    for row, study in enumerate(studies):
        per_image = [detectability(study, number, size) for number in range(len(study.images))]
        for lesion in study.lesions:
            if lesion.finding not in DECOYS:
                scores[row, world.findings.index(lesion.finding)] = _of_study(lesion, study, per_image)
        for kind, implied in world.stands_for.items():
            for other in implied:
                scores[row, other] = max(scores[row, other], scores[row, kind] * study.truth[kind])
        scores[row] += stream(study.seed, "oracle", study.patient, study.number).standard_normal(len(world.findings))
    diseases = [name not in (NO_FINDING, "Support Devices") for name in world.findings]
    scores[:, world.findings.index(NO_FINDING)] = -scores[:, diseases].max(axis=1)
    return scores


def _of_study(lesion: Lesion, study: Study, per_image: Sequence[dict[str, float]]) -> float:
    """All images together; where the finding needs both views, what either view misses refutes it."""
    squares = {True: [0.0], False: [0.0]}
    for image, seen in zip(study.images, per_image, strict=True):
        squares[image.drawn == "LATERAL"].append(seen.get(lesion.finding, 0.0) ** 2)
    frontal, lateral = sum(squares[False]), sum(squares[True])
    if lesion.finding in BOTH_VIEWS and len(squares[True]) > 1:
        return float(np.sqrt(2 * min(frontal, lateral)))
    return float(np.sqrt(frontal + lateral))
