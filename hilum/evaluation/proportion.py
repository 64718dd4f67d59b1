"""The interval of a proportion over clustered entries: images of one patient are not as many witnesses as of many."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]
_Z = 1.959963984540054  # of 95 %


def proportion(hits: ArrayLike, patients: Sequence[str]) -> list[float] | None:
    """[share, low, high] of `hits` bool (N,), with Wilson's interval at the effective sample size; None without entries.

    The effective size is N over the design effect, the variance of the share over patients to that of N independent
    entries, at least 1 (Dean and Pagano 2015). Where nothing varies it is unknown, and patients are counted instead:
    so no interval has length 0, not even that of a share of 1.
    """
    hit = np.asarray(hits, dtype=np.float64)
    if not len(hit):
        return None
    share = float(hit.mean())
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    count, size = int(owner.max()) + 1, float(len(hit))
    if 0 < share < 1 and count > 1:
        off = np.bincount(owner, weights=hit - share)
        variance = count / (count - 1) * float(off @ off) / size**2
        size = max(1.0, size / max(1.0, variance * size / (share * (1 - share))))
    else:
        size = float(count)
    low, high = wilson(share, size)
    return [share, low, high]


def wilson(share: float, size: float) -> tuple[float, float]:
    """Wilson's 95 % interval (1927) of a share of `size` entries."""
    square = _Z**2 / size
    middle = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * math.sqrt(share * (1 - share) / size + square / (4 * size))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding never parts them
