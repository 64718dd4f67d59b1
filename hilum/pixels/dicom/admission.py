"""Which DICOM files are read at all: decided by the header, before a pixel is decoded."""

from pydicom.uid import UID_dictionary

from hilum.pixels.codes import refused
from hilum.pixels.dicom.codecs import TRANSFER_SYNTAXES, Layout
from hilum.pixels.dicom.elements import PIXEL_DATA, Elements
from hilum.pixels.dicom.tags import Tag

FILE_LIMIT = 64_000_000  # bytes
PIXEL_LIMIT = 40_000_000
SMALLEST, LARGEST = 64, 8192  # pixels a side

CR, DX, DX_PROCESSING, SECONDARY_CAPTURE = (
    f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("1", "1.1", "1.1.1", "7")
)  # storage classes
SOP_CLASSES = {CR: "CR", DX: "DX for presentation", SECONDARY_CAPTURE: "secondary capture"}

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_GREYS = ("MONOCHROME1", "MONOCHROME2")


def check_kind(elements: Elements) -> None:
    """Raise UnreadableImage unless the object is a chest X-ray for viewing, of one frame, in a syntax that is read."""
    sop_class = elements.text(Tag.SOP_CLASS_UID) or ""
    if sop_class == DX_PROCESSING or elements.text(Tag.PRESENTATION_INTENT_TYPE) == "FOR PROCESSING":
        raise refused("for-processing-image")
    if sop_class not in SOP_CLASSES:
        raise refused("unsupported-sop-class", UID_dictionary[sop_class][0] if sop_class in UID_dictionary else "")
    if elements.syntax not in TRANSFER_SYNTAXES:
        known = UID_dictionary.get(elements.syntax)
        raise refused("unsupported-transfer-syntax", known[0] if known else "")
    if PIXEL_DATA not in elements:
        raise refused("no-pixels")
    count = elements.number(Tag.NUMBER_OF_FRAMES)
    if elements.text(Tag.NUMBER_OF_FRAMES) and (count is None or count > 1):
        raise refused("multi-frame", "" if count is None else f"{count:,.0f} frames")


def check_size(rows: int, columns: int, pixel_limit: int | None = None) -> None:
    """Raise UnreadableImage where a side or the number of pixels is out of range."""
    size = f"{columns:,} x {rows:,} pixels"
    if min(rows, columns) < SMALLEST:
        raise refused("too-small", f"{size}, less than {SMALLEST} a side")
    most = min(PIXEL_LIMIT, pixel_limit or PIXEL_LIMIT)
    if max(rows, columns) > LARGEST or rows * columns > most:
        raise refused("too-many-pixels", f"{size}; read are up to {LARGEST:,} a side and {most / 1e6:,.1f} million")


def layout_of(elements: Elements, pixel_limit: int | None = None) -> Layout:
    """How the pixels are stored. Raises UnreadableImage where the header says what is not read or cannot be."""
    rows, columns = stored_size(elements)
    check_size(rows, columns, pixel_limit)
    samples = elements.integer(Tag.SAMPLES_PER_PIXEL)
    photometric = elements.text(Tag.PHOTOMETRIC_INTERPRETATION) or ""
    allocated, stored = elements.integer(Tag.BITS_ALLOCATED) or 0, elements.integer(Tag.BITS_STORED) or 0
    high = elements.integer(Tag.HIGH_BIT)
    if photometric == "PALETTE COLOR" or (photometric in COLOURS and allocated != 8):
        raise refused("colour-image")
    if (samples, photometric) not in {*((1, grey) for grey in _GREYS), *((3, colour) for colour in COLOURS)}:
        raise refused("broken-header", "samples per pixel do not fit the photometric interpretation")
    if allocated not in (8, 16) or not 1 <= stored <= allocated or (high is not None and high != stored - 1):
        raise refused("undecodable", f"{stored} bits in {allocated}, the highest being bit {high}")
    return Layout(
        rows=rows,
        columns=columns,
        samples=3 if photometric in COLOURS else 1,
        allocated=allocated,
        stored=stored,
        signed=elements.integer(Tag.PIXEL_REPRESENTATION) == 1,
        photometric=photometric,
        planar=1 if elements.integer(Tag.PLANAR_CONFIGURATION) == 1 else 0,
        vr="OB" if elements.found[PIXEL_DATA].vr == b"OB" else "OW",
    )


def stored_size(elements: Elements) -> tuple[int, int]:
    """(rows, columns). Raises UnreadableImage (broken-header) where the header does not say."""
    rows, columns = elements.integer(Tag.ROWS), elements.integer(Tag.COLUMNS)
    if rows is None or columns is None:
        raise refused("broken-header", "it does not say how large the picture is")
    return rows, columns
