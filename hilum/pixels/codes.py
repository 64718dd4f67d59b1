"""The closed lists of what is said about a DICOM file: why it is refused, and what to be careful about where it is read.

Nothing here ever quotes the file: a header holds the patient's name in places where nobody expects it.
"""

from hilum.errors import UnreadableImage

_COPY = "copy or export the file again"
_PICTURE = "give one chest X-ray of the kinds CR, DX (for presentation) or secondary capture"

# code -> what is wrong, what to do
REFUSALS: dict[str, tuple[str, str]] = {
    "no-meta-header": ("this is no DICOM file with a meta header (DICM at byte 128, then the transfer syntax)", _COPY),
    "broken-header": ("the DICOM header is broken", _COPY),
    "header-too-complex": ("the DICOM header has far too many or too deeply nested elements", _COPY),
    "unsupported-transfer-syntax": ("the pixels are stored in a way that is not read", "export as Explicit VR Little Endian"),
    "unsupported-sop-class": ("this kind of DICOM object is not read", _PICTURE),
    "for-processing-image": ("this image is raw (for processing), not made for viewing", "export it for presentation"),
    "multi-frame": ("this file holds several frames", "export one frame per file"),
    "colour-image": ("this picture is in colour", "give the grey original"),
    "too-many-pixels": ("the picture is too large", "check the file; a chest X-ray is smaller"),
    "too-small": ("the picture is too small", "give the original, not a thumbnail"),
    "file-too-large": ("the file is too large", "check the file; one chest X-ray is smaller"),
    "no-pixels": ("the file holds no picture", "give the image file of the study"),
    "undecodable": ("the pixels cannot be decoded", _COPY),
}  # fmt: skip

# code -> what the reader of an answer should know
WARNINGS: dict[str, str] = {
    "secondary-capture": "a secondary capture: a picture of a picture, perhaps with burned-in text and changed greys",
    "burned-in": "the header says that text is burned into the pixels",
    "derived": "derived from another image, perhaps with structures suppressed or marks added",
    "lossy": "lossy compression was used at some time",
    "possibly-truncated": "the compressed data end without their end marker: the lower part may be missing",
    "codestream-differs": "the compressed data contradict the header: they were believed on depth, the header on sign",
    "lut-shape-conflict": "the presentation LUT shape contradicts the photometric interpretation, which was believed",
    "polarity-doubtful": "the surroundings are denser than the middle: the picture may be inverted",
    "rescale-invalid": "the rescale slope or intercept, or the modality LUT, makes no sense and was not used",
    "voi-lut-invalid": "the VOI LUT does not fit its descriptor and was not used",
    "voi-lut-saturates": "the VOI LUT makes more than 95 % of the picture black or white and was not used",
    "window-invalid": "a window without a valid width was not used",
    "window-saturates": "the window makes more than 95 % of the picture black or white",
    "voi-function-unknown": "the window's function is unknown; it was taken as LINEAR",
    "no-voi": "the header names neither VOI LUT nor window: greys were chosen by rule",
    "padding-ignored": "the padding value does not touch the border and was not treated as padding",
    "aspect-invalid": "the pixel spacing makes no sense; pixels were taken as square",
    "orientation-unusual": "the patient's orientation is not the usual one; the picture was not turned",
}


def refused(code: str, detail: str = "") -> UnreadableImage:
    """The error of a refusal. detail: numbers of the picture or words of ours, never a text from the file."""
    what, do = REFUSALS[code]
    return UnreadableImage(f"{what}: {detail}" if detail else what, do=do, code=code)
