"""What a study table needs of a DICOM file, from its header alone: ids, view, date, age, sex, device, and whether it can be read."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from hilum.errors import UnreadableImage, from_os_error
from hilum.pixels.codes import refused
from hilum.pixels.dicom.admission import FILE_LIMIT, check_kind, layout_of
from hilum.pixels.dicom.elements import CutShort, Elements, read_elements
from hilum.pixels.dicom.tags import WANTED, Tag
from hilum.pixels.dicom.views import view_of

_START = 1 << 18  # bytes read at first; nearly every header is shorter
_YEARS = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}  # how many are a year
_OLDEST = 120.0


@dataclass(frozen=True)
class DicomHeader:
    """The header of one image; None where it does not say, or says what makes no sense.

    view: PA, AP, LATERAL or unknown; view_raw: the header's own code. age: years. sex: F or M. device: manufacturer and model.
    problem: why `read_dicom` would refuse it (a code of hilum.pixels.codes.REFUSALS), as far as the header shows.
    """

    study_uid: str | None
    series_uid: str | None
    sop_uid: str | None
    patient_id: str | None
    view: str
    view_raw: str | None
    study_date: date | None
    age: float | None
    sex: str | None
    device: str | None
    rows: int | None
    columns: int | None
    problem: str | None


def read_dicom_header(source: bytes | str | Path) -> DicomHeader:
    """The header of a DICOM file; pixels are not read.

    source: a path, of which no more is read than the header needs; or the file, or its beginning up to the pixels.
    Raises UnreadableImage where this is no DICOM file or its header is broken.
    """
    elements = elements_of(source) if isinstance(source, bytes) else _elements_at(Path(source))
    view, view_raw = view_of(elements)
    studied = _date(elements.text(Tag.STUDY_DATE))
    return DicomHeader(
        study_uid=elements.text(Tag.STUDY_INSTANCE_UID),
        series_uid=elements.text(Tag.SERIES_INSTANCE_UID),
        sop_uid=elements.text(Tag.SOP_INSTANCE_UID),
        patient_id=elements.text(Tag.PATIENT_ID),
        view=view,
        view_raw=view_raw,
        study_date=studied,
        age=_age(elements.text(Tag.PATIENT_AGE), _date(elements.text(Tag.PATIENT_BIRTH_DATE)), studied),
        sex={"F": "F", "M": "M"}.get((elements.text(Tag.PATIENT_SEX) or "").upper()),
        device=_device(elements.text(Tag.MANUFACTURER), elements.text(Tag.MANUFACTURER_MODEL_NAME)),
        rows=elements.integer(Tag.ROWS),
        columns=elements.integer(Tag.COLUMNS),
        problem=_problem(elements),
    )


def elements_of(data: bytes) -> Elements:
    """The elements that are read of a DICOM file. Raises UnreadableImage where its header is broken or cut off."""
    try:
        return read_elements(data, WANTED)
    except CutShort:
        raise refused("broken-header", "it is cut off") from None


def _elements_at(path: Path) -> Elements:
    try:
        with path.open("rb") as file:
            start = file.read(_START)
            try:
                return read_elements(start, WANTED)
            except CutShort:
                return elements_of(start + file.read(FILE_LIMIT))
    except OSError as error:
        told = from_os_error(error, path)
        raise UnreadableImage(told.what, where=path, do=told.do) from error
    except UnreadableImage as error:
        raise UnreadableImage(error.what, where=path, do=error.do, code=error.code) from None


def _problem(elements: Elements) -> str | None:
    try:
        check_kind(elements)
        layout_of(elements)
    except UnreadableImage as error:
        return error.code
    return None


def _date(text: str | None) -> date | None:
    """A date as YYYYMMDD, or as YYYY.MM.DD in old files."""
    digits = re.fullmatch(r"(\d{4})[.]?(\d{2})[.]?(\d{2})", text or "", re.ASCII)
    try:
        return date(*map(int, digits.groups())) if digits else None
    except ValueError:
        return None


def _age(text: str | None, born: date | None, studied: date | None) -> float | None:
    """Years, of 057Y, 011M, 012W, 005D; else from birth to study."""
    said = re.fullmatch(r"(\d{1,3})([DWMY])", text or "", re.ASCII)
    years = None
    if said:
        years = int(said[1]) / _YEARS[said[2]]
    elif born and studied:
        years = (studied - born).days / _YEARS["D"]
    return round(years, 2) if years is not None and 0 <= years <= _OLDEST else None


def _device(manufacturer: str | None, model: str | None) -> str | None:
    words = [" ".join(part.split()) for part in (manufacturer, model) if part]
    if len(words) == 2 and words[1].casefold().startswith(words[0].casefold()):
        words = words[1:]
    return " ".join(words) or None
