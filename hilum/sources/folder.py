"""Your own images: a folder of PNG, JPEG and DICOM files, with a table (CSV, TSV or parquet) that names them, or without one.

A row of the table is an image, named by a path below the folder or by the file name alone, with its ending or without;
DICOM files also by their SOP instance UID, and all those of a study by its UID. What the table lacks, their headers say.
The columns of image, patient, study, view, age and sex are guessed from common names unless they are named; every other
column that holds nothing but 1, 0, -1 (uncertain) and blank (not labelled) is a finding. What was decided is told.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import InputError, from_os_error, nearest
from hilum.findings import canonical
from hilum.progress import Progress, silent
from hilum.sources.dicom_tree import read_tree
from hilum.sources.imported import Imported, level_of
from hilum.sources.matching import match_files
from hilum.sources.reading import (
    ages,
    file_content,
    files_beneath,
    is_image_name,
    own_views,
    refuse_rounded,
    sexes,
    text_table,
    trimmed,
    views,
    without_suffix,
)
from hilum.tables import COLUMNS

# Names that a column goes by elsewhere, letters and digits only, the most telling first.
GUESSES: dict[str, tuple[str, ...]] = {
    "image": (
        "dicomid", "imageid", "imageindex", "sopinstanceuid", "imagename", "image", "filename", "file", "imagepath",
        "filepath", "fpath", "path", "id",
    ),
    "patient": ("subjectid", "patientid", "patient", "subject", "subjid", "ptid"),
    "study": ("studyid", "studyinstanceuid", "studyuid", "study", "accessionnumber", "accession"),
    "view": ("viewposition", "view", "projection", "viewpos"),
    "age": ("age", "patientage", "ageyears"),
    "sex": ("sex", "patientsex", "gender", "patientgender"),
}  # fmt: skip
_TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
_VALUES = {"1": 1, "0": 0, "-1": -1, "1.0": 1, "0.0": 0, "-1.0": -1, "-0.0": 0}
_BLANKS = ("NA", "NaN", "nan", "None", "null")  # what R and Python write for a blank
_PATH = "path of the file"  # a column of our own beside those of the table


def import_folder(
    root: Path,
    patients: Literal["known", "unknown"] = "known",
    progress: Progress = silent,
    *,
    table: str | None = None,
    image_column: str | None = None,
    patient_column: str | None = None,
    study_column: str | None = None,
    view_column: str | None = None,
    age_column: str | None = None,
    sex_column: str | None = None,
    view_names: str | None = None,
) -> Imported:
    """The images beneath `root` and what a table and DICOM headers say of them. No image is decoded.

    patients: known asks for every image's patient, in a column or a header; unknown leaves patient_id empty.
    table:    the table's path, from here or from `root`; None = no labels; a PNG or JPEG is a study of its own.
    ..._column: the name of a column; None = guess it.
    view_names: what the view column's own words stand for, such as front=PA,side=LATERAL; other words are unknown views.

    Raises InputError for a folder without images, a column that is missing or was rounded by a spreadsheet, a file
    name that fits several files, a table that fits no file, and two DICOM files that differ under one UID.
    """
    root = root.resolve()
    named = {
        "image": image_column,
        "patient": patient_column,
        "study": study_column,
        "view": view_column,
        "age": age_column,
        "sex": sex_column,
    }
    columns_given = {f"{role}-column": name for role, name in named.items()}
    given: dict[str, object] = {"table": table, **columns_given, "view-names": view_names}
    for option, value in given.items():
        if value is True:  # what a bare flag on the command line becomes
            raise InputError(f"--{option} has no value", do=f"write --{option} NAME")
    stand_for = own_views(view_names) if view_names else {}
    if stand_for and table is None:
        raise InputError("--view-names explains a column, and there is no table", do="name one with --table")
    beneath = files_beneath(root)
    pictures = [path for path in beneath if is_image_name(path)]
    headers, header_notes = read_tree([path for path in beneath if not is_image_name(path)], root, progress)
    files = sorted([*pictures, *map(Path, headers["path"])])
    if not files:
        why = "; ".join(note.rstrip(".") for note in header_notes)
        raise InputError(
            "there is no PNG, JPEG or DICOM file to use in this folder or beneath it" + (f": {why}" if why else ""),
            where=root,
            do="give the folder that holds the images",
        )
    if table is None:
        studies, notes = _images_alone(root, pictures, headers, known=patients == "known")
        return Imported(studies, "study", notes=[*header_notes, *notes])
    file = _table_file(str(table), root)
    rows = _read(file)
    chosen = {role: str(name) for role, name in named.items() if name is not None}
    columns, notes = _columns(rows, chosen, file, by_study=not headers.is_empty())
    if patients == "known" and "patient" not in columns and headers.is_empty():
        raise InputError(
            "the table has no column that looks like a patient's id",
            where=file,
            do="name it with --patient-column, or say --patients unknown",
        )
    for role in ("image", "patient", "study"):
        if role in columns:
            refuse_rounded(rows[columns[role]], file)
    matched, match_notes = _with_files(rows, columns, root, files, file, headers)
    known = patients == "known"
    studies, study_notes = _studies(matched, columns, root, file, headers, known=known, stand_for=stand_for)
    return Imported(studies, level_of(studies), notes=[*header_notes, *notes, *match_notes, *study_notes])


def _images_alone(
    root: Path, pictures: list[Path], headers: pl.DataFrame, *, known: bool
) -> tuple[pl.DataFrame, list[str]]:
    """DICOM files by their headers; each other image is a study of its own. There are no labels."""
    tables = _tables_in(root)
    found = f" (tables in the folder: {', '.join(tables[:4])})" if tables else ""
    if known and headers.is_empty():
        raise InputError(
            "without a table nobody knows which patient an image shows",
            where=root,
            do=f"name a table with --table{found}, or say --patients unknown",
        )
    names = _image_ids(pictures, root)
    paths = [str(path) for path in pictures]
    alone = pl.DataFrame(
        {"path": paths, "image_id": names, "study_id": names, "view": ["unknown"] * len(names)},
        schema_overrides=dict.fromkeys(("path", "image_id", "study_id", "view"), pl.String),
    )
    studies = pl.concat([headers, alone], how="diagonal").with_columns(source=pl.lit("folder"))
    if known:
        _refuse_nameless(studies, root)
    else:
        studies = studies.with_columns(patient_id=pl.lit(None, dtype=pl.String))
    counted = [f"{len(pictures):,} images without a table{found}: each is a study of its own."] if pictures else []
    return _without_empty(studies), counted


def _refuse_nameless(studies: pl.DataFrame, root: Path) -> None:
    """Where some images have a patient and others none."""
    nameless = studies.filter(pl.col("patient_id").is_null())
    if nameless.height:
        example = Path(nameless["path"][0]).relative_to(root).as_posix()
        raise InputError(
            f"{nameless.height:,} of {studies.height:,} images name no patient, such as {example!r}: "
            "its header has no PatientID, or it is no DICOM file",
            where=root,
            do="name a table that has the patients with --table, or say --patients unknown",
        )


def _without_empty(studies: pl.DataFrame) -> pl.DataFrame:
    """Without what may be absent and nobody said."""
    optional = [name for name in ("view_raw", "study_date", "age", "sex", "device") if name in studies.columns]
    return studies.drop([name for name in optional if studies[name].null_count() == studies.height])


def _table_file(table: str, root: Path) -> Path:
    """The table's path: from here, else from the folder."""
    for path in (Path(table), root / table):
        if path.is_file():
            if not path.name.lower().endswith(_TABLES):
                raise InputError(
                    "this is no table that can be read", where=path, do=f"save it as one of {', '.join(_TABLES)}"
                )
            return path
    beside = _tables_in(root)
    raise InputError(
        "there is no such table, neither from here nor in the folder of the images",
        where=table,
        do=nearest(table, beside) if beside else "check the path",
    )


def _tables_in(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name.lower().endswith(_TABLES))


def _read(file: Path) -> pl.DataFrame:
    """The table as text, whatever it was stored as; columns of lists are left out."""
    if not file.name.lower().endswith(".parquet"):
        content = file_content(file)
        header = content.partition(b"\n")[0].decode("utf-8", errors="replace")
        rows = text_table(content, file, separator=max(",;\t", key=header.count))
    else:
        try:
            stored = pl.read_parquet(file)
        except OSError as error:
            raise from_os_error(error, file) from error
        except pl.exceptions.PolarsError as error:
            raise InputError(
                "this is not a parquet file that can be read", where=file, do="write it again, or save it as CSV"
            ) from error
        flat = stored.select([name for name, dtype in stored.schema.items() if not dtype.is_nested()])
        plain = flat.with_columns(pl.col(pl.Boolean).cast(pl.Int8), pl.col(pl.Float32, pl.Float64).fill_nan(None))
        rows = trimmed(plain.with_columns(pl.all().cast(pl.String, strict=False)))
    if rows.is_empty():
        raise InputError("the table has no rows", where=file, do="check the file")
    if twice := [name for name in rows.columns if re.search(r"._duplicated_\d+$", name)]:  # what polars makes of it
        name = twice[0].rpartition("_duplicated_")[0]
        raise InputError(f"two columns are called {name!r}", where=file, do="rename or remove one")
    return rows


def _columns(
    rows: pl.DataFrame, named: dict[str, str], file: Path, *, by_study: bool
) -> tuple[dict[str, str], list[str]]:
    """Which column plays which role, and one note on what was guessed. by_study: a study column may stand for the images."""
    for role, name in named.items():
        if name not in rows.columns:
            raise InputError(
                f"the table has no column {name!r} (--{role}-column)", where=file, do=nearest(name, rows.columns)
            )
    plain = {"".join(filter(str.isalnum, name.casefold())): name for name in reversed(rows.columns)}
    columns, guessed = dict(named), []
    for role, candidates in GUESSES.items():
        free = [plain[name] for name in candidates if name in plain and plain[name] not in columns.values()]
        if role not in columns and free:
            columns[role] = free[0]
            guessed.append(f"{role} = {free[0]!r}")
    if "image" not in columns and not (by_study and "study" in columns):
        raise InputError(
            f"no column looks like a file name among {', '.join(map(repr, rows.columns[:12]))}",
            where=file,
            do="name it with --image-column",
        )
    return columns, [f"Columns guessed by their names: {', '.join(guessed)}."] if guessed else []


def _with_files(
    rows: pl.DataFrame, columns: dict[str, str], root: Path, files: list[Path], table: Path, headers: pl.DataFrame
) -> tuple[pl.DataFrame, list[str]]:
    """The rows that have a file, its path in the column _PATH, and notes on the rest."""
    column = columns.get("image", columns.get("study", ""))
    cells = rows[column].to_list()
    by_uid = {uid: Path(path) for uid, path in headers.select("image_id", "path").iter_rows()}
    matched = match_files(cells, files, root, table) if "image" in columns else [None] * len(cells)
    chosen = [path or by_uid.get(cell or "") for path, cell in zip(matched, cells, strict=True)]
    if not any(chosen) and "study" in columns:
        column = columns["study"]
        of_study = headers.select(pl.col("study_id").alias(column), pl.col("path").alias(_PATH))
        rows = rows.join(of_study, on=column, how="left", maintain_order="left_right")
        cells, chosen = rows[column].to_list(), [path and Path(path) for path in rows[_PATH]]
    if not any(chosen):
        example = next((cell for cell in cells if cell is not None), "nothing")
        raise InputError(
            f"no row fits any of the {len(files):,} image files: column {column!r} says {example!r}, "
            f"a file is {files[0].relative_to(root).as_posix()!r}",
            where=table,
            do="name the right column with --image-column, or give the folder that the paths start from",
        )
    path, count = Counter(path for path in chosen if path is not None).most_common(1)[0]
    if count > 1:
        raise InputError(
            f"{count} rows name the image {path.relative_to(root).as_posix()!r}",
            where=table,
            do="keep one row per image",
        )
    missing = [cell or "a blank" for cell, path in zip(cells, chosen, strict=True) if path is None]
    notes = [f"{rows.height - len(missing):,} of {rows.height:,} rows of {table.name} have an image."]
    if missing:
        notes.append(f"{len(missing):,} rows have no file and were left out, such as {missing[0]!r}.")
    if spare := sorted(set(files) - set(chosen)):
        example = spare[0].relative_to(root).as_posix()
        notes.append(f"{len(spare):,} files have no row and were left out, such as {example!r}.")
    paths = pl.Series(_PATH, [None if path is None else str(path) for path in chosen], dtype=pl.String)
    return rows.with_columns(paths).filter(pl.col(_PATH).is_not_null()), notes


def _studies(
    rows: pl.DataFrame,
    columns: dict[str, str],
    root: Path,
    file: Path,
    headers: pl.DataFrame,
    *,
    known: bool,
    stand_for: dict[str, str],
) -> tuple[pl.DataFrame, list[str]]:
    """The study table of rows that have a file, and notes on studies, findings and what was left out.

    A header's patient or study is taken only where the table has no such column: the ids of both may be of two systems.
    """
    said = rows.select(pl.col(_PATH).alias("path")).join(headers, on="path", how="left", maintain_order="left")
    nothing = pl.Series([None] * rows.height, dtype=pl.String)
    cells = {role: rows[columns[role]] if role in columns else nothing for role in GUESSES}
    images = said["image_id"].fill_null(
        pl.Series(_image_ids([Path(path) for path in rows[_PATH]], root), dtype=pl.String)
    )
    findings, left_out = _findings(rows, set(columns.values()), file)
    notes = [f"{len(findings)} findings: {', '.join(findings)}." if findings else "No column holds findings."]
    if left_out:
        notes.append(f"Columns left out: {', '.join(left_out)}.")
    patient = (cells["patient"] if "patient" in columns else said["patient_id"]) if known else nothing
    if "study" not in columns:
        study = said["study_id"].fill_null(images)
        if said["study_id"].null_count():
            notes.append("There is no study column: each image is a study of its own.")
    else:
        study = cells["study"]
        pairs = pl.DataFrame({"study": study, "patient": patient}).unique()
        if known and pairs["study"].n_unique() < pairs.height:
            study = pl.select(pl.concat_str([patient, study], separator="/")).to_series()
            notes.append("Study ids repeat from patient to patient, so they are written PATIENT/STUDY.")
    told, view_notes = _views(cells["view"], stand_for, file)
    notes += view_notes
    data = {
        "study_id": study,
        "patient_id": patient,
        "image_id": images,
        "path": rows[_PATH],
        "view": told.fill_null(said["view"]).fill_null("unknown"),
        "view_raw": cells["view"].fill_null(said["view_raw"]),
        "source": pl.repeat("folder", rows.height, eager=True),
        "study_date": said["study_date"],
        "device": said["device"],
    }
    for role, parse in (("age", ages), ("sex", sexes)):
        given = cells[role]
        read = parse(given)
        if lost := read.null_count() - given.null_count():
            notes.append(f"{lost:,} entries of {given.name!r} cannot be read as {role} and count as unknown.")
        data[role] = read.fill_null(said[role])
    studies = pl.DataFrame({**data, **findings})
    if known and "patient" not in columns:
        _refuse_nameless(studies, root)
    return _without_empty(studies), notes


def _views(raw: pl.Series, stand_for: dict[str, str], file: Path) -> tuple[pl.Series, list[str]]:
    """The view of each cell, null of a blank one, and a note on words that are no view."""
    words = raw.drop_nulls().unique(maintain_order=True)
    if lost := sorted(set(stand_for) - set(words.str.to_uppercase())):
        raise InputError(f"no row has the view {lost[0]!r} (--view-names)", where=file, do=nearest(lost[0], words))
    told = views(raw, stand_for)
    strange = raw.filter(raw.is_not_null() & (told == "unknown")).value_counts(sort=True)
    told = told.set(raw.is_null(), None)
    if strange.is_empty():
        return told, []
    counted = ", ".join(f"{word!r} ({count:,})" for word, count in strange.head(4).iter_rows())
    mend = "say what they stand for with --view-names, such as front=PA,side=LATERAL"
    return told, [f"Words for views that are not known, {counted}, count as unknown: {mend}."]


def _findings(rows: pl.DataFrame, taken: set[str], file: Path) -> tuple[dict[str, pl.Series], list[str]]:
    """The finding columns as Int8 under our names, and the names of the columns that are none."""
    findings: dict[str, pl.Series] = {}
    left_out = []
    for name in rows.columns:
        if name in taken or name == _PATH or not name or name.startswith("_duplicated_"):  # nameless columns
            continue
        column = rows[name].replace(_BLANKS, [None] * len(_BLANKS))
        values = column.drop_nulls()
        if not values.len() or not values.is_in(list(_VALUES)).all() or name in COLUMNS:
            left_out.append(name)
            continue
        ours = canonical(name)
        if ours in findings:
            raise InputError(f"two columns are the finding {ours!r}", where=file, do="keep one of them")
        findings[ours] = column.replace_strict(_VALUES, default=None, return_dtype=pl.Int8)
    return findings, left_out


def _image_ids(files: list[Path], root: Path) -> list[str]:
    """The file names without ending where these tell all images apart, else the paths from `root` without ending."""
    names = [without_suffix(path.name) for path in files]
    if len(set(names)) == len(names):
        return names
    paths = [without_suffix(path.relative_to(root).as_posix()) for path in files]
    if len(set(paths)) == len(paths):
        return paths
    return [path.relative_to(root).as_posix() for path in files]  # a.png beside a.jpg
