"""Reading one image file: the first bytes say what it is, its decoder does the rest."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hilum.errors import UnreadableImage, from_os_error
from hilum.pixels.header import DICOM, JPEG, PNG, kind_of, read_header
from hilum.pixels.raster import Grey, decode_raster
from hilum.pixels.render import Square, render
from hilum.pixels.spec import PixelSpec

__all__ = ["DECODERS", "PIXEL_LIMIT", "image_size", "read_image", "read_pixels", "render"]

PIXEL_LIMIT = 100_000_000
_START = 1 << 16  # bytes read to know kind and size; what a JPEG says of itself may run longer

# The kinds of file that are read: (data, at_least=, pixel_limit=) -> (H, W). A new kind is one line here.
DECODERS: dict[str, Callable[..., Grey]] = {PNG: decode_raster, JPEG: decode_raster}


def read_image(path: str | Path, *, at_least: int | None = None, pixel_limit: int = PIXEL_LIMIT) -> Grey:
    """One image file as a grey picture (H, W), uint8, or uint16 where the file has 16 bits; upright, bright = dense.

    at_least: the pixels both sides must keep; lets a large JPEG be decoded at a fraction of its size.
    pixel_limit: a file whose header says more pixels is refused before anything is decoded.
    Raises UnreadableImage with path, reason and remedy.
    """
    with _told(path), Path(path).open("rb") as file:
        data = file.read(_START)
        kind = _known(data)
        if kind == PNG:
            read_header(data, pixel_limit=pixel_limit, whole=False)  # before a huge file is read
        data += file.read()
        return DECODERS[kind](data, at_least=at_least, pixel_limit=pixel_limit)


def read_pixels(path: str | Path, spec: PixelSpec) -> Square:
    """One image file as uint8 (size, size) after a pixel spec. Raises UnreadableImage."""
    return render(read_image(path, at_least=spec.size), spec)


def image_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels as stored, from the header of a PNG or JPEG alone. Raises UnreadableImage."""
    with _told(path), Path(path).open("rb") as file:
        data = file.read(_START)
        if _known(data) == JPEG:
            data += file.read()  # a thumbnail or a profile may come before the size
        header = read_header(data, whole=False)
        return header.width, header.height


def _known(start: bytes) -> str:
    """The kind of a file that begins so, if there is a decoder for it."""
    kind = kind_of(start)
    if kind in DECODERS:
        return kind
    if not start:
        raise UnreadableImage("the file is empty", do="copy or download the file again")
    if kind is None:
        raise UnreadableImage("this is not an image file (its first bytes show no known kind)", do="leave it out")
    if kind == DICOM:
        raise UnreadableImage("DICOM files are not read yet", do="convert it to PNG, windowed, first")
    raise UnreadableImage(f"this is a {kind} file, which is not read", do="convert it to PNG")


@contextmanager
def _told(path: str | Path) -> Iterator[None]:
    """Whatever fails inside is told as an UnreadableImage that names the file."""
    try:
        yield
    except UnreadableImage as error:
        raise UnreadableImage(error.what, where=path, do=error.do) from error.__cause__
    except OSError as error:
        told = from_os_error(error, path)
        raise UnreadableImage(told.what, where=path, do=told.do) from error
