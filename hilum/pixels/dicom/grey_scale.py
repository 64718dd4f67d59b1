"""From stored values to grey, as a table: modality LUT or rescale, VOI LUT or window, [0, 1], MONOCHROME1 inverted once.

A picture of up to 16 bits has at most 65,536 different values, so each step is worked out once per value in float64, and the
picture is one look-up. The order is that of DICOM PS3.4 N.2; the formulas are those of PS3.3 C.11.1 and C.11.2.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Table = np.ndarray[Any, np.dtype[np.float64]]  # one entry per stored value, smallest first
Counts = np.ndarray[Any, np.dtype[np.int64]]  # how many pixels have each stored value

SATURATED = 0.95  # share of pixels that may be black or white before a LUT is taken for broken
PERCENTILES = (0.005, 0.995)  # of the pixels, where the header does not say what to show
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True)
class Lut:
    """A look-up table: the value that maps to its first entry, its entries, and their depth in bits."""

    first: int
    entries: np.ndarray[Any, np.dtype[np.uint16]]
    bits: int

    def __call__(self, values: Table) -> Table:
        """Values outside are mapped as the nearest inside."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return np.asarray(self.entries[places.astype(np.int64)], dtype=np.float64)

    @property
    def top(self) -> int:
        """The largest output that its depth allows. Not that of the pixels: the two have nothing to do with each other."""
        return (1 << self.bits) - 1


@dataclass(frozen=True)
class Window:
    """A VOI window: centre and width in units after the modality step."""

    center: float
    width: float
    function: str = "LINEAR"

    @property
    def valid(self) -> bool:
        return self.width >= 1 if self.function == "LINEAR" else self.width > 0

    def __call__(self, values: Table) -> Table:
        """[0, 1]."""
        centre, width = self.center, self.width
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700))))
        if self.function == "LINEAR_EXACT":
            return np.clip((values - centre) / width + 0.5, 0, 1)
        if width == 1:
            return (values > centre - 0.5).astype(np.float64)
        return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


@dataclass(frozen=True)
class GreyScale:
    """What a header says about greys.

    bits, signed: of the stored values. inverted: MONOCHROME1, the smallest value is white.
    modality: a LUT, else slope and intercept. voi_lut wins over windows; of the windows the first valid one is used.
    """

    bits: int
    signed: bool = False
    inverted: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    modality: Lut | None = None
    voi_lut: Lut | None = None
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class Voi:
    """What was chosen to show: kind, and of a window which one; `warnings` are codes of hilum.pixels.codes.WARNINGS."""

    kind: Literal["lut", "window", "full range", "percentiles"]
    index: int | None = None
    window: Window | None = None
    warnings: tuple[str, ...] = ()


def grey_table(scale: GreyScale, counts: Counts) -> tuple[Table, Voi]:
    """The grey in [0, 1] (0 black, bright = dense) of each stored value, and what was chosen.

    counts: (2^bits,) pixels per stored value, padding left out, smallest value first (so signed values start at -2^(bits-1)).
    """
    lowest = -(1 << (scale.bits - 1)) if scale.signed else 0
    stored = np.arange(lowest, lowest + (1 << scale.bits), dtype=np.float64)
    values = scale.modality(stored) if scale.modality else scale.slope * stored + scale.intercept
    grey, voi = _voi(scale, values, counts)
    return (1 - grey if scale.inverted else grey), voi


def _voi(scale: GreyScale, values: Table, counts: Counts) -> tuple[Table, Voi]:
    warnings: list[str] = []
    if scale.voi_lut:
        grey = np.clip(scale.voi_lut(values) / scale.voi_lut.top, 0, 1)
        if _saturated(grey, counts) <= SATURATED:
            return grey, Voi("lut", 0)
        warnings.append("voi-lut-saturates")
    if any(not window.valid for window in scale.windows):
        warnings.append("window-invalid")
    for index, window in enumerate(scale.windows):
        if window.valid:
            grey = window(values)
            warnings += ["window-saturates"] if _saturated(grey, counts) > SATURATED else []
            return grey, Voi("window", index, window, tuple(warnings))
    warnings.append("no-voi")
    low, high, kind = float(values.min()), float(values.max()), "full range"
    if scale.bits > 8:
        shown = _percentiles(values, counts)
        if shown[0] < shown[1]:
            (low, high), kind = shown, "percentiles"
    grey = np.clip((values - low) / (high - low), 0, 1) if high > low else np.zeros_like(values)
    return grey, Voi("full range" if kind == "full range" else "percentiles", warnings=tuple(warnings))


def _saturated(grey: Table, counts: Counts) -> float:
    """The share of pixels that are black or white."""
    ends = counts[(grey <= 0) | (grey >= 1)].sum()
    return float(ends / max(counts.sum(), 1))


def _percentiles(values: Table, counts: Counts) -> tuple[float, float]:
    """The smallest values that PERCENTILES of the pixels do not exceed."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    low, high = (int(np.searchsorted(reached, share * reached[-1])) for share in PERCENTILES)
    return float(values[order[low]]), float(values[order[min(high, len(order) - 1)]])
