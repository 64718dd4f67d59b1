"""How a picture came out of its DICOM file: every choice that was made, as codes and numbers; no value that could be the patient's."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

Grey8 = np.ndarray[Any, np.dtype[np.uint8]]  # (H, W)


@dataclass(frozen=True)
class Provenance:
    """The choices of `read_dicom`.

    transfer_syntax, sop_class: UIDs. decoder: package and version. bits_stored, signed: as decoded (see codestream-differs).
    rows, columns: as stored. voi: what was shown: lut, window, full range or percentiles; voi_index: which of several;
    voi_explanations: how many the header offers (their texts are free and not kept); windows, luts: how many there are.
    window_function, window_center, window_width: of the window used. inverted: MONOCHROME1. padding: the value (or lower end
    of the range) that was made black, or None. flipped: mirrored to the usual left-right. aspect: height over width of a
    stored pixel that was resampled to a square, or None. lossy: compressed with loss at some time.
    view: PA, AP, LATERAL or unknown; view_raw: the header's code where it is a known one.
    warnings: codes of hilum.pixels.codes.WARNINGS, each once, sorted.
    """

    transfer_syntax: str
    decoder: str
    sop_class: str
    photometric: str
    bits_stored: int
    signed: bool
    rows: int
    columns: int
    voi: str
    voi_index: int | None
    voi_explanations: int
    windows: int
    luts: int
    window_function: str | None
    window_center: float | None
    window_width: float | None
    inverted: bool
    padding: int | None
    flipped: bool
    aspect: float | None
    lossy: bool
    view: str
    view_raw: str | None
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"warnings": list(self.warnings)}


@dataclass(frozen=True)
class Rendered:
    """A picture as it is meant to be seen, (H, W) uint8, upright, bright = dense, and how it came about."""

    image: Grey8
    provenance: Provenance
