"""DICOM files beneath a folder, found by their first bytes: what their headers say as rows, and what was left out, counted.

A header names patient, study, view, age, sex, date and device, so a tree of DICOM files needs no table. No pixel is read.
"""

import filecmp
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl

from hilum.errors import InputError, UnreadableImage, from_os_error
from hilum.pixels.codes import REFUSALS
from hilum.pixels.dicom.header import DicomHeader, read_dicom_header
from hilum.pixels.header import DICOM, kind_of
from hilum.progress import Progress
from hilum.tables import COLUMNS

# What a header says, by the study table's names.
HEADER = {name: COLUMNS[name] for name in (
    "path", "image_id", "study_id", "patient_id", "view", "view_raw", "study_date", "age", "sex", "device"
)}  # fmt: skip
_THREADS = 8  # they overlap the waiting for a disk


def read_tree(files: Sequence[Path], root: Path, progress: Progress) -> tuple[pl.DataFrame, list[str]]:
    """The usable DICOM files among these as rows of HEADER, in order, and notes on them and on those left out.

    image_id is the SOP instance UID, study_id the study instance UID; where a header has none, the path from `root` stands
    for it. Files of other kinds and DICOMDIR are passed over. DICOM files that cannot be used are left out and counted by
    reason; of files that are equal byte by byte under one SOP instance UID the first is kept.
    Raises InputError where files of one SOP instance UID differ.
    """
    found = [path for path in files if path.name.upper() != "DICOMDIR" and path.is_file()]
    with ThreadPoolExecutor(_THREADS) as pool:
        answers = list(progress(pool.map(_header, found), total=len(found), label="reading headers"))
    refused = Counter(answer for answer in answers if isinstance(answer, str))
    headers = [(path, answer) for path, answer in zip(found, answers) if isinstance(answer, DicomHeader)]
    kept = _without_copies(headers, root)
    rows = pl.DataFrame([_row(path, header, root) for path, header in kept], schema=HEADER, orient="row")
    return rows, _notes(rows, len(headers) - len(kept), refused)


def is_dicom(path: Path) -> bool:
    """Whether a file is a DICOM file, by its first bytes. Raises InputError or MachineError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(132)) == DICOM
    except OSError as error:
        raise from_os_error(error, path) from error


def _header(path: Path) -> DicomHeader | str | None:
    """A file's header, the code of why it cannot be used, or None where it is no DICOM file."""
    if not is_dicom(path):
        return None
    try:
        header = read_dicom_header(path)
    except UnreadableImage as error:
        return error.code
    return header.problem or header


def _without_copies(headers: list[tuple[Path, DicomHeader]], root: Path) -> list[tuple[Path, DicomHeader]]:
    """The first file of each SOP instance UID, the others being equal to it."""
    kept: dict[str | Path, tuple[Path, DicomHeader]] = {}
    for path, header in headers:
        first, _ = kept.setdefault(header.sop_uid or path, (path, header))
        if first != path and not filecmp.cmp(first, path, shallow=False):
            names = " and ".join(repr(each.relative_to(root).as_posix()) for each in (first, path))
            raise InputError(f"{names} have one SOP instance UID and differ", where=root, do="keep one of them")
    return list(kept.values())


def _row(path: Path, header: DicomHeader, root: Path) -> tuple[object, ...]:
    name = path.relative_to(root).as_posix()
    ids = (str(path), header.sop_uid or name, header.study_uid or name, header.patient_id)
    return (*ids, header.view, header.view_raw, header.study_date, header.age, header.sex, header.device)


def _notes(rows: pl.DataFrame, copies: int, refused: Counter[str]) -> list[str]:
    notes = []
    if rows.height:
        studies, patients = rows["study_id"].n_unique(), rows["patient_id"].drop_nulls().n_unique()
        of = f"{_counted(studies, 'study', 'studies')} and {_counted(patients, 'patient')}"
        notes.append(f"{_counted(rows.height, 'DICOM file')} of {of}, by their headers.")
        if patients == 1 and studies > 1:
            notes.append(
                "All DICOM files that name a patient name the same one: if their patients were replaced by one name, "
                "give a table with the true ones, or say --patients unknown."
            )
    if copies:
        are, were = ("is a copy of another", "was") if copies == 1 else ("are copies of others", "were")
        notes.append(f"{_counted(copies, 'DICOM file')} {are}, byte by byte, and {were} left out.")
    for code, count in refused.most_common():
        were = "was" if count == 1 else "were"
        notes.append(f"{_counted(count, 'DICOM file')} {were} left out ({code}): {REFUSALS[code][0]}.")
    return notes


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"1 {one}" if count == 1 else f"{count:,} {many or one + 's'}"
