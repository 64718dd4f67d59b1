"""Does a heat map show what the model used? Deletion and insertion curves, and the pointing game."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from hilum.inference.engines import Engine

Array = NDArray[np.float32]
STEPS = 16  # of a curve


def curves(engine: Engine, image: Array, view: int, finding: int, heat: Array) -> tuple[float, float]:
    """Areas, 0 to 1, under the deletion and the insertion curve of a finding's probability (RISE: Petsiuk et al. 2018).

    image float32 (S, S) in [0, 1]; heat (S, S). Pixels change from the highest to the lowest of the map, a sixteenth at a
    time: deleted ones turn into the blurred image, inserted ones come back to it. A faithful map deletes low and inserts
    high. Equal heights go in the order of rows, so a map should not be flat.
    """
    blurred = cv2.GaussianBlur(image, (0, 0), image.shape[-1] / 12)
    order = np.argsort(-heat.ravel(), kind="stable")
    shares = np.arange(STEPS + 1) / STEPS
    chosen = [order[: round(share * order.size)] for share in shares]
    images = []
    for start, target in ((image, blurred), (blurred, image)):
        for places in chosen:
            changed = start.copy().ravel()
            changed[places] = target.ravel()[places]
            images.append(changed.reshape(image.shape))
    codes = np.full(len(images), view, dtype=np.int8)
    features = engine.encode(np.stack(images)[:, None], codes)
    logits = engine.read(features[:, None], np.ones((len(images), 1), bool), codes[:, None]).logits[:, finding]
    chances = (1 / (1 + np.exp(-logits.astype(np.float64)))).reshape(2, -1)
    deleted, inserted = (float(np.trapezoid(each, shares)) for each in chances)
    return deleted, inserted


def hit(peak: tuple[float, float], boxes: Sequence[tuple[float, float, float, float]], slack: float = 0.0) -> bool:
    """The pointing game (Zhang et al. 2018): does the peak (x, y) lie in a box x0, y0, x1, y1, or within `slack` of one?"""
    x, y = peak
    return any(x0 - slack <= x <= x1 + slack and y0 - slack <= y <= y1 + slack for x0, y0, x1, y1 in boxes)
