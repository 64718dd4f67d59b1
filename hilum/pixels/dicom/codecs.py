"""Transfer syntaxes and the one decoder of each: stored pixels come out as the numbers that were put in.

Decoders differ by a grey level and fail differently, so each syntax has one, chosen among permissive packages that were seen to
be exact and sturdy. Sizes are checked before any of them runs.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import imagecodecs
import jpeg_ls
import numpy as np
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder

from hilum.errors import UnreadableImage
from hilum.pixels.codes import refused
from hilum.pixels.dicom.codestream import Codestream, check_rle, ends, jpeg2000_codestream, jpeg_codestream

Samples = np.ndarray[Any, np.dtype[Any]]  # (H, W) or (H, W, 3)

_BASELINE, _EXTENDED, _LOSSLESS, _JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7  # kinds of JPEG frame


@dataclass(frozen=True)
class Layout:
    """How pixels are stored (DICOM PS3.3 C.7.6.3): size, samples per pixel, bits per sample, sign, meaning of the samples."""

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    planar: int = 0
    vr: str = "OW"

    @property
    def native_length(self) -> int:
        """Bytes of the picture when it is not compressed."""
        return self.rows * self.columns * self.samples * self.allocated // 8


@dataclass(frozen=True)
class Stored:
    """Decoded samples: their values in the lowest `bits`, two's complement where signed."""

    samples: Samples
    bits: int
    signed: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Codec:
    """One transfer syntax. decode: (data, layout, syntax) -> Stored; package: who decodes; lossy: whether it always loses."""

    name: str
    package: str
    decode: Callable[[bytes, Layout, str], Stored]
    encapsulated: bool = True
    lossy: bool = False

    @property
    def decoder(self) -> str:
        """Name and version of the package that decodes."""
        return f"{self.package} {version(self.package)}"


def _native(data: bytes, layout: Layout, syntax: str) -> Stored:
    if len(data) < layout.native_length or len(data) > layout.native_length + 1:
        raise refused("undecodable", f"{len(data):,} bytes of pixels where the header says {layout.native_length:,}")
    return _as_stored(_by_pydicom(data, layout, syntax), layout)


def _rle(data: bytes, layout: Layout, syntax: str) -> Stored:
    check_rle(data, layout.samples * layout.allocated // 8, layout.rows * layout.columns)
    return _as_stored(_by_pydicom(encapsulate([data]), layout, syntax), layout)


def _by_pydicom(data: bytes, layout: Layout, syntax: str) -> Samples:
    """The bits as they are stored: signs and spare bits are seen to later, alike for all decoders."""
    samples, _ = get_decoder(syntax).as_array(
        data,
        raw=True,
        decoding_plugin="pydicom" if TRANSFER_SYNTAXES[syntax].encapsulated else "",  # else whatever is installed
        rows=layout.rows,
        columns=layout.columns,
        samples_per_pixel=layout.samples,
        bits_allocated=layout.allocated,
        bits_stored=layout.allocated,
        pixel_representation=0,
        photometric_interpretation="RGB" if layout.samples == 3 else "MONOCHROME2",
        planar_configuration=layout.planar,
        number_of_frames=1,
        pixel_keyword="PixelData",
        pixel_vr=layout.vr,
    )
    return np.asarray(samples)


def _jpeg(data: bytes, layout: Layout, syntax: str) -> Stored:
    stream = _fitting(jpeg_codestream(data, frozenset((_BASELINE, _EXTENDED))), layout)
    if stream.precision != 8:
        raise refused("undecodable", f"{stream.precision} bits in a transfer syntax of 8")
    image = Image.open(io.BytesIO(data), formats=("JPEG",))
    if layout.samples == 3:  # the components as they are stored: the DICOM header says what they mean
        image.tile = [tile._replace(args=("RGB", "RGB")) for tile in image.tile]
    return _as_stored(np.asarray(image), layout, stream)


def _jpeg_extended(data: bytes, layout: Layout, syntax: str) -> Stored:
    stream = _fitting(jpeg_codestream(data, frozenset((_BASELINE, _EXTENDED))), layout)
    if layout.samples != 1:
        raise refused("colour-image", "colour in this transfer syntax")
    return _as_stored(np.asarray(imagecodecs.jpeg_decode(data)), layout, stream)


def _jpeg_lossless(data: bytes, layout: Layout, syntax: str) -> Stored:
    stream = _fitting(jpeg_codestream(data, frozenset((_LOSSLESS,))), layout)
    space = "RGB" if layout.samples == 3 else None  # the components as they are stored
    return _as_stored(np.asarray(imagecodecs.jpeg_decode(data, colorspace=space, outcolorspace=space)), layout, stream)


def _jpeg_ls(data: bytes, layout: Layout, syntax: str) -> Stored:
    stream = _fitting(jpeg_codestream(data, frozenset((_JPEG_LS,))), layout)
    if not ends(data):  # the decoder would refuse too, but after half a minute
        raise refused("undecodable", "the compressed data are cut off")
    return _as_stored(np.asarray(jpeg_ls.decode(np.frombuffer(data, dtype=np.uint8))), layout, stream)


def _jpeg2000(data: bytes, layout: Layout, syntax: str) -> Stored:
    """The codestream says how many bits there are, the header what the highest means: encoders that are told the wrong sign
    keep the bits (pydicom's J2K_pixelrep_mismatch.dcm, a real CT, shows it).
    """
    stream = _fitting(jpeg2000_codestream(data), layout)
    if stream.precision > (16 if layout.samples == 1 else 8):
        raise refused("undecodable", f"{stream.precision} bits")
    values = np.asarray(Image.open(io.BytesIO(stream.data), formats=("JPEG2000",)))
    values = values >> (8 * values.dtype.itemsize - stream.precision)  # Pillow fills 8 or 16 bits from the top
    if stream.signed:  # and shifts signed values up to be positive
        values = values ^ (1 << (stream.precision - 1))
    differs = stream.precision != layout.stored or stream.signed != layout.signed
    fits = stream.precision > layout.stored and int(values.max()) < 1 << layout.stored
    warnings = ("codestream-differs",) if differs else ()
    return Stored(values, layout.stored if fits else stream.precision, layout.signed, (*warnings, *_cut(data)))


def _fitting(stream: Codestream, layout: Layout) -> Codestream:
    """The codestream, if its size is the header's."""
    if (stream.rows, stream.columns, stream.samples) != (layout.rows, layout.columns, layout.samples):
        raise refused(
            "undecodable",
            f"the compressed data say {stream.columns} x {stream.rows} x {stream.samples}, "
            f"the header {layout.columns} x {layout.rows} x {layout.samples}",
        )
    return stream


def _as_stored(samples: Samples, layout: Layout, stream: Codestream | None = None) -> Stored:
    shape = (layout.rows, layout.columns, *((3,) if layout.samples == 3 else ()))
    if samples.shape != shape or samples.dtype.kind != "u":
        raise refused("undecodable", "the decoder gave another shape than the header's")
    return Stored(samples, layout.stored, layout.signed, _cut(stream.data) if stream else ())


def _cut(data: bytes) -> tuple[str, ...]:
    return () if ends(data) else ("possibly-truncated",)


TRANSFER_SYNTAXES: dict[str, Codec] = {
    "1.2.840.10008.1.2": Codec("Implicit VR Little Endian", "pydicom", _native, encapsulated=False),
    "1.2.840.10008.1.2.1": Codec("Explicit VR Little Endian", "pydicom", _native, encapsulated=False),
    "1.2.840.10008.1.2.2": Codec("Explicit VR Big Endian", "pydicom", _native, encapsulated=False),
    "1.2.840.10008.1.2.5": Codec("RLE Lossless", "pydicom", _rle),
    "1.2.840.10008.1.2.4.50": Codec("JPEG Baseline", "pillow", _jpeg, lossy=True),
    "1.2.840.10008.1.2.4.51": Codec("JPEG Extended", "imagecodecs", _jpeg_extended, lossy=True),
    "1.2.840.10008.1.2.4.57": Codec("JPEG Lossless", "imagecodecs", _jpeg_lossless),
    "1.2.840.10008.1.2.4.70": Codec("JPEG Lossless SV1", "imagecodecs", _jpeg_lossless),
    "1.2.840.10008.1.2.4.80": Codec("JPEG-LS Lossless", "pyjpegls", _jpeg_ls),
    "1.2.840.10008.1.2.4.81": Codec("JPEG-LS Near-Lossless", "pyjpegls", _jpeg_ls, lossy=True),
    "1.2.840.10008.1.2.4.90": Codec("JPEG 2000 Lossless", "pillow", _jpeg2000),
    "1.2.840.10008.1.2.4.91": Codec("JPEG 2000", "pillow", _jpeg2000),
}


def decode_samples(data: bytes, layout: Layout, syntax: str) -> Stored:
    """The samples of one frame, (H, W) or (H, W, 3), unsigned storage.

    data: the pixel data element's value, fragments joined. Raises UnreadableImage (undecodable, colour-image).
    """
    try:
        return TRANSFER_SYNTAXES[syntax].decode(data, layout, syntax)
    except (UnreadableImage, MemoryError):
        raise
    except Exception:  # decoders raise whatever they like, and their words may quote the file
        raise refused("undecodable", f"{TRANSFER_SYNTAXES[syntax].name} data that the decoder refuses") from None
