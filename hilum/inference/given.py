"""What a person may give to predict, as a study table: a table, or image files and folders of them."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from hilum.errors import InputError
from hilum.progress import silent
from hilum.sources.dicom_tree import is_dicom, read_tree
from hilum.tables import read_studies

StudiesOrFiles = str | Path | pl.DataFrame | Sequence[str | Path]
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")


def studies_of(studies: StudiesOrFiles, *, one_study: bool = False) -> pl.DataFrame:
    """A study table from what a person may give: a table, its path, or image files and folders of them.

    DICOM files are grouped by what their headers say (`hilum.sources.dicom_tree`); every other image, and a DICOM file that
    cannot be used, is a study of its own. one_study: all files are views of one study.
    Raises InputError where there is no image, and where the files of one study name several patients.
    """
    if is_table(studies):
        if one_study:
            raise InputError(
                "a study table says itself what its studies are", do="leave --one-study out, or give files"
            )
        return studies if isinstance(studies, pl.DataFrame) else read_studies(paths_of(studies)[0])
    table = _of_files(image_files(paths_of(studies)))
    if not one_study:
        return table
    if (names := table["patient_id"].drop_nulls().unique(maintain_order=True)).len() > 1:
        raise InputError(
            f"the files name {names.len()} patients, so they are not of one study",
            where=table.filter(pl.col("patient_id") == names[1])["path"][0],
            do="give the files of one patient, or leave --one-study out",
        )
    return table.with_columns(study_id=pl.lit(table["study_id"][0]), patient_id=pl.lit(names.first(), dtype=pl.String))


def is_table(studies: StudiesOrFiles) -> bool:
    """Whether this is a study table or its path, rather than image files."""
    return isinstance(studies, pl.DataFrame) or [file.suffix for file in paths_of(studies)] == [".parquet"]


def paths_of(studies: StudiesOrFiles) -> list[Path]:
    """The paths of what is given."""
    if isinstance(studies, pl.DataFrame):
        return []
    return [Path(studies)] if isinstance(studies, str | Path) else [Path(one) for one in studies]


def image_files(given: Sequence[Path]) -> list[Path]:
    """The image files among these and beneath folders of them; what is named is taken, whatever it is called."""
    if tables := [one for one in given if one.suffix == ".parquet"]:
        raise InputError(
            "a table stands beside other files", where=tables[0], do="give one study table, or images alone"
        )
    files = [file for one in given for file in ([one] if not one.is_dir() else sorted(one.rglob("*")))]
    kept = [
        file for file in files if file in given or file.suffix.lower() in IMAGE_SUFFIXES or _is_nameless_dicom(file)
    ]
    if not kept:
        raise InputError(
            "there is no image here",
            where=given[0] if given else None,
            do=f"name files that end in {', '.join(IMAGE_SUFFIXES)}",
        )
    if absent := [file for file in kept if not file.exists()]:
        raise InputError("no such file", where=absent[0], do="check the path")
    return list(dict.fromkeys(kept))


def _of_files(files: Sequence[Path]) -> pl.DataFrame:
    """A row per image: of a usable DICOM file by its header, copies of one left out; of any other by its path."""
    dicom = [file.resolve() for file in files if is_dicom(file)]
    headers, _ = (
        read_tree(dicom, Path(os.path.commonpath([file.parent for file in dicom])), silent) if dicom else (None, 0)
    )
    told = {} if headers is None else {row["path"]: row for row in headers.iter_rows(named=True)}
    held = {_content(Path(path)) for path in told} if len(told) < len(dicom) else set()
    rows = []
    for file in files:
        path = str(file.resolve())
        if path in told:
            rows.append(
                (*(told[path][name] for name in ("study_id", "patient_id", "image_id")), path, told[path]["view"])
            )
        elif not held or file.resolve() not in dicom or _content(file) not in held:  # no copy of another
            rows.append((str(file), None, str(file), path, "unknown"))
    names = ("study_id", "patient_id", "image_id", "path", "view")
    table = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return table.with_columns(source=pl.lit("files")).unique("path", maintain_order=True)


def _content(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _is_nameless_dicom(file: Path) -> bool:
    """Whether this is a DICOM file as archives write them: IM0001, or a UID with its dots."""
    return file.is_file() and file.name.upper() != "DICOMDIR" and is_dicom(file)
