"""What a DICOM header says about greys, as a GreyScale. What makes no sense is left out and told, never guessed at."""

from dataclasses import replace

import numpy as np

from hilum.pixels.dicom.elements import Elements
from hilum.pixels.dicom.grey_scale import FUNCTIONS, GreyScale, Lut, Window
from hilum.pixels.dicom.tags import Tag

_RESCALE = (Tag.RESCALE_SLOPE, Tag.RESCALE_INTERCEPT)
_LUT = (Tag.LUT_DESCRIPTOR, Tag.LUT_DATA)


def grey_scale_of(elements: Elements, bits: int, *, signed: bool) -> tuple[GreyScale, list[str]]:
    """The grey scale of a MONOCHROME picture and the codes of warnings.

    bits, signed: of the stored values as they were decoded.
    """
    inverted = elements.text(Tag.PHOTOMETRIC_INTERPRETATION) == "MONOCHROME1"
    warnings = []
    # INVERSE and MONOCHROME1 say the same thing twice: not a second inversion (PS3.3 C.11.6).
    shape = elements.text(Tag.PRESENTATION_LUT_SHAPE)
    if shape in ("IDENTITY", "INVERSE") and (shape == "INVERSE") != inverted:
        warnings.append("lut-shape-conflict")
    scale = _with_modality(GreyScale(bits, signed, inverted), elements, warnings)
    return _with_voi(scale, elements, warnings), warnings


def _with_modality(scale: GreyScale, elements: Elements, warnings: list[str]) -> GreyScale:
    if Tag.MODALITY_LUT_SEQUENCE in elements:
        lut = _lut(elements, Tag.MODALITY_LUT_SEQUENCE, signed=scale.signed)
        if lut:
            return replace(scale, modality=lut)
        warnings.append("rescale-invalid")
    slope, intercept = (elements.number(tag) for tag in _RESCALE)
    unread = [tag for tag in _RESCALE if elements.texts(tag) and elements.number(tag) is None]
    if unread or slope == 0:
        warnings.append("rescale-invalid")
        return scale
    return replace(scale, slope=1.0 if slope is None else slope, intercept=intercept or 0.0)


def _with_voi(scale: GreyScale, elements: Elements, warnings: list[str]) -> GreyScale:
    lut = None
    if Tag.VOI_LUT_SEQUENCE in elements:
        # Its first value is signed where the values that it maps can be negative (PS3.3 C.11.2.1.1).
        negative = scale.intercept < 0 or scale.slope < 0 or (scale.signed and not scale.modality)
        lut = _lut(elements, Tag.VOI_LUT_SEQUENCE, signed=negative)
        if lut is None:
            warnings.append("voi-lut-invalid")
    function = elements.text(Tag.VOI_LUT_FUNCTION) or "LINEAR"
    centers, widths = elements.numbers(Tag.WINDOW_CENTER), elements.numbers(Tag.WINDOW_WIDTH)
    if function not in FUNCTIONS:
        function = "LINEAR"
        warnings += ["voi-function-unknown"] if centers else []
    pairs = zip(centers, widths, strict=False)
    windows = (Window(c or 0.0, 0.0 if c is None or w is None else w, function) for c, w in pairs)
    return replace(scale, voi_lut=lut, windows=tuple(windows))


def _lut(elements: Elements, sequence: Tag, *, signed: bool) -> Lut | None:
    """The LUT of a sequence's first item, or None where its data do not fit its descriptor."""
    item = elements.first_item(sequence, _LUT)
    if item is None:
        return None
    descriptor, data = item.integers(Tag.LUT_DESCRIPTOR), item.raw(Tag.LUT_DATA)
    if len(descriptor) != 3 or data is None:
        return None
    if item.found[Tag.LUT_DESCRIPTOR].vr == b"SS":
        signed = True
    count, first, bits = (value & 0xFFFF for value in descriptor)
    count = count or 65_536  # what 16 bits cannot say
    first = first - 65_536 if signed and first > 32_767 else first
    if not 1 <= bits <= 16:
        return None
    order = ">u2" if item.big else "<u2"
    if len(data) == 2 * count:  # also how entries of 8 bits are often stored
        entries = np.frombuffer(data, dtype=order)
    elif bits <= 8 and len(data) in (count, count + 1):  # two entries a word
        packed = np.frombuffer(data[: count // 2 * 2], dtype=order).astype("<u2").tobytes() + data[count // 2 * 2 :]
        entries = np.frombuffer(packed, dtype=np.uint8)[:count]
    else:
        return None
    return Lut(first, entries.astype(np.uint16), bits)
