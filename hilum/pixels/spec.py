"""The pixel spec: every choice that turns an image file into the square grey array a model sees. It travels in the bundle."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from hilum.errors import InputError, nearest

FITS = ("pad", "stretch", "crop")
TONES = ("as_is", "equalize_hist", "window")


@dataclass(frozen=True)
class PixelSpec:
    """How an image becomes uint8 (size, size), bright = dense.

    size: side in pixels.
    fit:  pad (whole image, black border), stretch (whole image, aspect lost) or crop (centre square).
    tone: the tone the training images had: as_is, equalize_hist (as MIMIC-CXR-JPG) or window (rendered from DICOM).
    """

    size: int
    fit: Literal["pad", "stretch", "crop"] = "pad"
    tone: Literal["as_is", "equalize_hist", "window"] = "as_is"

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 4096:
            raise InputError(f"image size {self.size} is out of range", do="choose 16 to 4096 pixels")
        if self.fit not in FITS:
            raise InputError(f"there is no fit {self.fit!r}", do=nearest(self.fit, FITS))
        if self.tone not in TONES:
            raise InputError(f"there is no tone {self.tone!r}", do=nearest(self.tone, TONES))

    def as_dict(self) -> dict[str, Any]:
        """The spec as plain values for JSON."""
        return asdict(self)
