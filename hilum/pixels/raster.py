"""PNG and JPEG bytes as one upright grey picture, or a refusal: never a picture that is partly black because its file is broken."""

from typing import Any

import cv2
import numpy as np
import simplejpeg

from hilum.pixels.header import JPEG, Header, damaged, read_header

Grey = np.ndarray[Any, np.dtype[Any]]  # (H, W) uint8 or uint16


def decode_raster(data: bytes, *, at_least: int | None = None, pixel_limit: int | None = None) -> Grey:
    """A PNG or JPEG file as (H, W), bright = dense as stored: uint16 for 16-bit PNG, else uint8 with 1, 2 and 4 bits spread to 0..255.

    Colour becomes luma; an alpha channel (or a palette's) is laid over black; transparency by key colour is ignored; CMYK
    is read where the file says (by Adobe's marker) that its inks are stored inverted. EXIF orientation is applied.
    at_least: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep this many pixels.
    Raises UnreadableImage where the file is not whole, is of another kind than said, or is larger than pixel_limit pixels.
    """
    header = read_header(data, pixel_limit=pixel_limit)
    image = _jpeg(data, header, at_least) if header.kind == JPEG else _png(data, header)
    return _upright(image, header.orientation)


def _jpeg(data: bytes, header: Header, at_least: int | None) -> Grey:
    """simplejpeg is strict: where the inside is damaged it says so, while OpenCV fills the rest with grey and succeeds."""
    kind = "CMYK" if header.channels == 4 else "GRAY"
    least = {"min_height": at_least, "min_width": at_least, "min_factor": 2} if at_least else {}
    try:
        image = np.asarray(simplejpeg.decode_jpeg(data, kind, strict=True, **least))
    except ValueError as error:
        raise damaged(f"the picture is damaged inside ({str(error).strip()})") from error
    if kind == "GRAY":
        return image[..., 0]
    inks = image.astype(np.float32)  # Adobe's inks are inverted: 255 is none
    colours = np.rint(inks[..., :3] * inks[..., 3:] / 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY))


def _png(data: bytes, header: Header) -> Grey:
    try:
        image = cv2.imdecode(np.frombuffer(_without(data, header.skip), dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise damaged("the decoder gives up on this file") from error
    if image is None:
        raise damaged("the compressed pixels are broken")
    return _grey(np.asarray(image))


def _grey(image: Grey) -> Grey:
    """(H, W) of (H, W), (H, W, 3) BGR or (H, W, 4) BGRA, by luma and over black; the depth is kept."""
    if image.ndim == 2:
        return image
    grey = np.asarray(cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY))
    if image.shape[2] == 3:
        return grey
    alpha, full = image[..., 3], np.iinfo(image.dtype).max
    if (alpha == full).all():
        return grey
    return np.rint(grey.astype(np.float32) * (alpha.astype(np.float32) / full)).astype(image.dtype)


def _upright(image: Grey, orientation: int) -> Grey:
    """The picture as it is meant to be seen. EXIF codes 5 to 8 swap the sides."""
    if orientation >= 5:
        image = image.T
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _without(data: bytes, ranges: tuple[tuple[int, int], ...]) -> bytes:
    if not ranges:
        return data
    starts, ends = [0, *(end for _, end in ranges)], [*(start for start, _ in ranges), len(data)]
    return b"".join(data[start:end] for start, end in zip(starts, ends, strict=True))
