"""Uploaded files as pictures: decoded apart, rendered for the model and for the eye, with all that was found out about each."""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from hilum.errors import UnreadableImage
from hilum.pixels.header import DICOM, kind_of, read_header
from hilum.pixels.isolated.decoder import Decoder
from hilum.pixels.raster import Grey
from hilum.pixels.render import Square, render, to_eight_bits
from hilum.pixels.spec import PixelSpec
from hilum.serving.problems import Problem, of_image
from hilum.tables import VIEWS

SHOWN = 1024  # pixels of the longest side of a picture that is sent back
_SALT = secrets.token_hex(16)  # digests of patients mean nothing outside this process


@dataclass(frozen=True)
class Picture:
    """One file of a study.

    square: uint8 (S, S), as the model sees it. width, height: in pixels, upright. view: a name of VIEWS; view_source: given,
    header or unknown. decoder: what decoded it. warnings: codes of hilum.pixels.codes.WARNINGS, and `copy` and `not-read` of
    this file. owner: digests of whose it is. shown: uint8 (h, w) to look at, where that was asked for.
    """

    index: int
    square: Square
    width: int
    height: int
    view: str
    view_source: str
    sha256: str
    decoder: str
    warnings: tuple[str, ...]
    owner: dict[str, str]
    shown: Grey | None = None

    def told(self) -> dict[str, Any]:
        """Plain values for the answer."""
        names = ("view", "view_source", "width", "height", "sha256", "decoder")
        told: dict[str, Any] = {"file_index": self.index} | {name: getattr(self, name) for name in names}
        told["warnings"] = list(self.warnings)
        if self.shown is not None:
            told["png"] = base64.b64encode(png(self.shown)).decode("ascii")
        return told


def picture_of(
    data: bytes, index: int, decoder: Decoder, spec: PixelSpec, *, view: str | None = None, show: bool = False
) -> Picture:
    """One file decoded and rendered; it is read as `hilum predict` reads it. view: what the sender says it is.

    Raises Problem where it cannot be read, MachineError where no decoder process can be started.
    """
    try:
        decoded = decoder.decode(data, at_least=spec.size, salt=_SALT)
        whole = decoded.image
        if show and min(whole.shape) < SHOWN and kind_of(data[:256]) != DICOM:  # a JPEG may have been decoded smaller
            whole = decoder.decode(data, at_least=SHOWN).image
        width, height = _size(data, decoded.image, decoded.provenance)
    except UnreadableImage as error:
        raise of_image(error, index) from None
    said = decoded.provenance.get("view", "unknown")
    source = "given" if view not in (None, "unknown") else "header" if said != "unknown" else "unknown"
    return Picture(
        index=index,
        square=render(decoded.image, spec),
        width=width,
        height=height,
        view=view if source == "given" and view else said,
        view_source=source,
        sha256=hashlib.sha256(data).hexdigest(),
        decoder=decoded.provenance.get("decoder", "hilum raster"),
        warnings=tuple(decoded.provenance.get("warnings", ())),
        owner=decoded.owner,
        shown=_shown(whole) if show else None,
    )


def _size(data: bytes, image: Grey, provenance: dict[str, Any]) -> tuple[int, int]:
    """(width, height) of the upright picture; a JPEG may be decoded at a fraction of it."""
    if provenance:
        return image.shape[1], image.shape[0]
    header = read_header(data)
    sides = (header.width, header.height)
    return sides if header.orientation < 5 else sides[::-1]


def _shown(image: Grey) -> Grey:
    eight = to_eight_bits(image)
    scale = SHOWN / max(eight.shape)
    if scale >= 1:
        return eight
    size = max(1, round(eight.shape[1] * scale)), max(1, round(eight.shape[0] * scale))
    return np.asarray(cv2.resize(eight, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def png(image: Grey) -> bytes:
    """A grey picture as PNG, made anew: nothing of the file that came is in it."""
    return bytes(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes())


def check_one_study(pictures: Sequence[Picture]) -> None:
    """Raise Problem where the files name several patients or studies; files that name none fit to any."""
    for what in ("patient", "study"):
        named = [(one.owner[what], one.index) for one in pictures if what in one.owner]
        other = next((index for digest, index in named if digest != named[0][0]), None)
        if other is not None:
            raise Problem("mixed-study", f"The files name several {_PLURAL[what]}.", file_index=other)


_PLURAL = {"patient": "patients", "study": "studies"}


def reading_order(pictures: Sequence[Picture]) -> list[Picture]:
    """The pictures as the model reads them: PA, AP, LATERAL, unknown, then as they came; a copy of another is left out."""
    first = {one.sha256: one.index for one in reversed(pictures)}
    return sorted(
        (one for one in pictures if first[one.sha256] == one.index), key=lambda one: (_ORDER[one.view], one.index)
    )


_ORDER = {name: place for place, name in enumerate((*VIEWS[1:], VIEWS[0]))}
