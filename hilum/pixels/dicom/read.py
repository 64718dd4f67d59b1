"""A DICOM chest X-ray as one grey picture: uint8, upright, bright = dense, with a record of every choice. Or a refusal with a code.

The order is fixed: header, then what may be read at all, then the size of the compressed data, then pixels; stored bits, padding,
modality, VOI, [0, 1], MONOCHROME1 inverted once, padding black, upright, square pixels. See docs/reference/dicom.md for the rules.
"""

from hilum.pixels.codes import refused
from hilum.pixels.dicom.admission import FILE_LIMIT, SECONDARY_CAPTURE, check_kind, layout_of, stored_size
from hilum.pixels.dicom.codecs import TRANSFER_SYNTAXES, Layout, Stored, decode_samples
from hilum.pixels.dicom.elements import MAX_ELEMENTS, PIXEL_DATA, Elements
from hilum.pixels.dicom.grey_attributes import grey_scale_of
from hilum.pixels.dicom.grey_scale import GreyScale, grey_table
from hilum.pixels.dicom.header import DicomHeader, elements_of, read_dicom_header
from hilum.pixels.dicom.picture import (
    ASPECTS,
    counts_of,
    grey_of_colour,
    index_of,
    looked_up,
    padding_of,
    polarity_is_doubtful,
)
from hilum.pixels.dicom.provenance import Grey8, Provenance, Rendered
from hilum.pixels.dicom.tags import Tag
from hilum.pixels.dicom.views import known_code, view_of

__all__ = ["DicomHeader", "decode_dicom", "dicom_size", "read_dicom", "read_dicom_header", "stored_samples"]

_USUAL_ORIENTATIONS = {("L", "F"), ("R", "F"), ("A", "F"), ("P", "F")}


def read_dicom(data: bytes, *, pixel_limit: int | None = None, at_least: int | None = None) -> Rendered:
    """The picture in a DICOM file, and how it came out.

    data: the whole file. pixel_limit: most pixels, where less than 40 million. at_least: taken for the sake of one signature
    for all decoders; LUTs and padding need every pixel, so nothing is decoded at a fraction.
    Raises UnreadableImage with a code of hilum.pixels.codes.REFUSALS. Neither its words nor the provenance quote the file.
    """
    if len(data) > FILE_LIMIT:
        raise refused("file-too-large", f"{len(data) / 1e6:,.0f} MB, read are up to {FILE_LIMIT / 1e6:,.0f}")
    elements = elements_of(data)
    check_kind(elements)
    layout = layout_of(elements, pixel_limit)
    stored = stored_samples(elements, layout)
    warnings = [*stored.warnings]

    if layout.samples == 3:  # LUTs, windows and padding are for greys (PS3.3 C.11.2)
        stored = Stored(grey_of_colour(stored.samples, layout.photometric), 8, signed=False)
        scale, padding = GreyScale(8), None
    else:
        scale, doubts = grey_scale_of(elements, stored.bits, signed=stored.signed)
        warnings += doubts
        padding = _padding(elements, signed=layout.signed)
    index = index_of(stored)
    mask = padding_of(index, stored, *padding) if padding else None
    if mask is not None and not mask.any():
        padding = mask = None
        warnings.append("padding-ignored")
    table, voi = grey_table(scale, counts_of(index, stored.bits, mask))
    warnings += [code for code in voi.warnings if not (layout.samples == 3 and code == "no-voi")]

    view, view_raw = view_of(elements)
    orientation = tuple(elements.texts(Tag.PATIENT_ORIENTATION))
    flipped = orientation == ("R", "F") and view != "LATERAL"
    aspect = _aspect(elements, warnings)
    image = looked_up(index, table, mask, aspect)
    if flipped:
        image = image[:, ::-1].copy()
    lossy = elements.text(Tag.LOSSY_IMAGE_COMPRESSION) == "01" or TRANSFER_SYNTAXES[elements.syntax].lossy
    warnings += _doubts(elements, orientation, lossy=lossy)
    if polarity_is_doubtful(image):
        warnings.append("polarity-doubtful")

    explanations = elements.texts(Tag.WINDOW_EXPLANATION)
    return Rendered(
        image,
        Provenance(
            transfer_syntax=elements.syntax,
            decoder=TRANSFER_SYNTAXES[elements.syntax].decoder,
            sop_class=elements.text(Tag.SOP_CLASS_UID) or "",
            photometric=layout.photometric,
            bits_stored=stored.bits,
            signed=stored.signed,
            rows=layout.rows,
            columns=layout.columns,
            voi=voi.kind,
            voi_index=voi.index,
            voi_explanations=len(explanations),
            windows=len(scale.windows),
            luts=int(Tag.VOI_LUT_SEQUENCE in elements),
            window_function=voi.window.function if voi.window else None,
            window_center=voi.window.center if voi.window else None,
            window_width=voi.window.width if voi.window else None,
            inverted=scale.inverted,
            padding=padding[0] if padding else None,
            flipped=flipped,
            aspect=aspect,
            lossy=lossy,
            view=view,
            view_raw=known_code(view_raw),
            warnings=tuple(sorted(set(warnings))),
        ),
    )


def decode_dicom(data: bytes, *, at_least: int | None = None, pixel_limit: int | None = None) -> Grey8:
    """The picture in a DICOM file, (H, W) uint8; as `read_dicom`, without the record."""
    return read_dicom(data, pixel_limit=pixel_limit, at_least=at_least).image


def dicom_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as stored, from the header; the file's beginning will do. Raises UnreadableImage."""
    rows, columns = stored_size(elements_of(data))
    return columns, rows


def stored_samples(elements: Elements, layout: Layout) -> Stored:
    """The pixels as numbers, as they are stored. Raises UnreadableImage (undecodable, colour-image)."""
    element = elements.found[PIXEL_DATA]
    encapsulated = TRANSFER_SYNTAXES[elements.syntax].encapsulated
    if encapsulated != (element.length is None):
        raise refused("undecodable", "the pixel data are not stored as the transfer syntax says")
    if element.length is not None:
        data = elements.data[element.start : element.start + element.length]
        if len(data) < element.length:
            raise refused("undecodable", "the pixel data are cut off")
        return decode_samples(data, layout, elements.syntax)
    fragments = []  # one frame, in however many parts and whatever the offset tables say
    for fragment in elements.fragments():
        fragments.append(fragment)
        if len(fragments) > MAX_ELEMENTS:
            raise refused("undecodable", "far too many fragments")
    return decode_samples(b"".join(fragments), layout, elements.syntax)


def _padding(elements: Elements, *, signed: bool) -> tuple[int, int] | None:
    """The range of padding values, smallest first."""
    value = elements.integers(Tag.PIXEL_PADDING_VALUE, signed=signed)[:1]
    limit = elements.integers(Tag.PIXEL_PADDING_RANGE_LIMIT, signed=signed)[:1]
    return (min(value + limit), max(value + limit)) if value else None


def _aspect(elements: Elements, warnings: list[str]) -> float | None:
    """Height over width of a pixel, None where square or not to be believed. Row spacing stands first."""
    for tag in (Tag.PIXEL_SPACING, Tag.IMAGER_PIXEL_SPACING, Tag.PIXEL_ASPECT_RATIO):
        if not elements.texts(tag):
            continue
        height, width, *_ = [*elements.numbers(tag), None, None]
        if not height or not width or not ASPECTS[0] <= height / width <= ASPECTS[1]:
            warnings.append("aspect-invalid")
            return None
        return None if abs(height / width - 1) < 0.01 else height / width
    return None


def _doubts(elements: Elements, orientation: tuple[str, ...], *, lossy: bool) -> list[str]:
    """Codes of warnings for what the header says of the picture's history and position."""
    secondary = elements.text(Tag.SOP_CLASS_UID) == SECONDARY_CAPTURE
    told = {
        "secondary-capture": secondary,
        "burned-in": secondary or elements.text(Tag.BURNED_IN_ANNOTATION) == "YES",
        "derived": elements.texts(Tag.IMAGE_TYPE)[:2] == ["DERIVED", "SECONDARY"],
        "lossy": lossy,
        "orientation-unusual": bool(orientation) and orientation not in _USUAL_ORIENTATIONS,
    }
    return [code for code, holds in told.items() if holds]
