"""Reading one image file: the first bytes say what it is, its decoder does the rest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hilum.errors import UnreadableImage, from_os_error
from hilum.pixels.header import DICOM, JPEG, PNG, read_header, readable_kind
from hilum.pixels.isolated.decoder import BYTES, own_decoder
from hilum.pixels.raster import Grey, decode_raster
from hilum.pixels.render import Square, render
from hilum.pixels.spec import PixelSpec

__all__ = ["DECODERS", "PIXEL_LIMIT", "image_size", "read_image", "read_pixels", "render"]

PIXEL_LIMIT = 100_000_000
_START = 1 << 16  # bytes read to know kind and size; what a JPEG says of itself may run longer


def decode_isolated(data: bytes, *, at_least: int | None = None, pixel_limit: int = PIXEL_LIMIT) -> Grey:
    """The picture in a file by this thread's own decoder process."""
    return own_decoder().decode(data, at_least=at_least, pixel_limit=pixel_limit).image


# The kinds of file that are read: (data, at_least=, pixel_limit=) -> (H, W). A new kind is one line here. DICOM's codecs
# crash, so they run apart; those of PNG and JPEG were seen to be sturdy.
DECODERS: dict[str, Callable[..., Grey]] = {PNG: decode_raster, JPEG: decode_raster, DICOM: decode_isolated}


def read_image(path: str | Path, *, at_least: int | None = None, pixel_limit: int = PIXEL_LIMIT) -> Grey:
    """One image file as a grey picture (H, W), uint8, or uint16 where the file has 16 bits; upright, bright = dense.

    A DICOM file is decoded in a process of its own, one per thread, that lives as long as the thread.
    at_least: the pixels both sides must keep; lets a large JPEG be decoded at a fraction of its size.
    pixel_limit: a file whose header says more pixels is refused before anything is decoded.
    Raises UnreadableImage with path, reason and remedy; MachineError where no process can be started.
    """
    with _told(path), Path(path).open("rb") as file:
        data = file.read(_START)
        kind = readable_kind(data)
        if kind == PNG:
            read_header(data, pixel_limit=pixel_limit, whole=False)  # before a huge file is read
        data += file.read(BYTES) if kind == DICOM else file.read()  # what is larger is refused
        return DECODERS[kind](data, at_least=at_least, pixel_limit=pixel_limit)


def read_pixels(path: str | Path, spec: PixelSpec) -> Square:
    """One image file as uint8 (size, size) after a pixel spec. Raises UnreadableImage."""
    return render(read_image(path, at_least=spec.size), spec)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels as stored, from the header alone. Raises UnreadableImage."""
    with _told(path), Path(path).open("rb") as file:
        data = file.read(_START)
        kind = readable_kind(data)
        if kind != PNG:
            data += file.read(BYTES)  # a thumbnail, a profile or private elements may come before the size
        if kind == DICOM:
            from hilum.pixels.dicom.read import (
                dicom_size,  # its packages take a while to import, and only the child decodes
            )

            return dicom_size(data)
        header = read_header(data, whole=False)
        return header.width, header.height


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """Whatever fails inside is told as an UnreadableImage that names the file."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(error.what, where=path, do=error.do, code=error.code) from error.__cause__
    except OSError as error:
        told = from_os_error(error, path)
        raise UnreadableImage(told.what, where=path, do=told.do) from error
