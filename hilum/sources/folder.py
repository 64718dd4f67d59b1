"""Your own images: a folder of PNG and JPEG files, with a table (CSV, TSV or parquet) that names them, or without one.

A row of the table is an image, named by a path below the folder or by the file name alone, with its ending or without.
The columns of image, patient, study, view, age and sex are guessed from common names unless they are named; every other
column that holds nothing but 1, 0, -1 (uncertain) and blank (not labelled) is a finding. What was decided is told.
"""

from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Literal

import polars as pl

from hilum.errors import InputError, from_os_error, nearest
from hilum.findings import canonical
from hilum.progress import Progress, silent
from hilum.sources.imported import Imported
from hilum.sources.reading import ages, file_content, image_files, sexes, text_table, trimmed, views, without_suffix
from hilum.tables import COLUMNS, finding_names

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
_ROUNDED = r"^(\d\.\d+[eE]\+?\d+|\d+[eE]\+\d+)$"  # 3.24e+38; a hexadecimal 12e5 is none


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
) -> Imported:
    """The images beneath `root` and what a table says of them. No image is decoded.

    patients: known asks for a patient column; unknown leaves patient_id empty.
    table:    the table's path, from here or from `root`; None = every image is a study of its own, without labels.
    ..._column: the name of a column; None = guess it.

    Raises InputError for a folder without images, a column that is missing or was rounded by a spreadsheet, a file
    name that fits several files, and a table that fits no file.
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
    given: dict[str, object] = {"table": table, **{f"{role}-column": name for role, name in named.items()}}
    for option, value in given.items():
        if value is True:  # what a bare flag on the command line becomes
            raise InputError(f"--{option} has no value", do=f"write --{option} NAME")
    files = image_files(root)
    if not files:
        raise InputError(
            "there is no PNG or JPEG file in this folder or beneath it",
            where=root,
            do="give the folder that holds the images (DICOM files must be exported as PNG first)",
        )
    if table is None:
        return _images_alone(root, files, patients)
    file = _table_file(str(table), root)
    rows = _read(file)
    columns, notes = _columns(rows, {role: str(name) for role, name in named.items() if name is not None}, file)
    if patients == "known" and "patient" not in columns:
        raise InputError(
            "the table has no column that looks like a patient's id",
            where=file,
            do="name it with --patient-column, or say --patients unknown",
        )
    for role in ("image", "patient", "study"):
        if role in columns:
            _refuse_rounded(rows[columns[role]], file)
    matched, match_notes = _with_files(rows, columns["image"], root, files, file)
    studies, study_notes = _studies(matched, columns, root, file, known=patients == "known")
    return Imported(studies, _label_level(studies), notes=[*notes, *match_notes, *study_notes])


def _images_alone(root: Path, files: list[Path], patients: str) -> Imported:
    """Each image is a study; there are neither labels nor patients."""
    tables = _tables_in(root)
    found = f"; {tables[0]} lies there: name it with --table {tables[0]}" if tables else ""
    if patients == "known":
        raise InputError(
            "without a table nobody knows which patient an image shows",
            where=root,
            do=f"name a table with --table, or say --patients unknown{found}",
        )
    names = _image_ids(files, root)
    studies = pl.DataFrame(
        {
            "study_id": names,
            "patient_id": pl.Series([None] * len(files), dtype=pl.String),
            "image_id": names,
            "path": [str(path) for path in files],
            "view": ["unknown"] * len(files),
            "source": ["folder"] * len(files),
        }
    )
    return Imported(
        studies, "study", notes=[f"{len(files):,} images without a table: each is a study of its own{found}."]
    )


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
        separator = "\t" if ".tsv" in file.name.lower() else ","
        rows = text_table(file_content(file), file, separator=separator)
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
        rows = trimmed(
            flat.with_columns(pl.col(pl.Boolean).cast(pl.Int8)).with_columns(pl.all().cast(pl.String, strict=False))
        )
    if rows.is_empty():
        raise InputError("the table has no rows", where=file, do="check the file")
    return rows


def _columns(rows: pl.DataFrame, named: dict[str, str], file: Path) -> tuple[dict[str, str], list[str]]:
    """Which column plays which role, and one note on what was guessed."""
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
    if "image" not in columns:
        raise InputError(
            f"no column looks like a file name among {', '.join(map(repr, rows.columns[:12]))}",
            where=file,
            do="name it with --image-column",
        )
    return columns, [f"Columns guessed by their names: {', '.join(guessed)}."] if guessed else []


def _refuse_rounded(ids: pl.Series, file: Path) -> None:
    rounded = ids.drop_nulls().filter(ids.drop_nulls().str.contains(_ROUNDED))
    if rounded.len():
        raise InputError(
            f"column {ids.name!r} holds {rounded[0]}, a long id that was rounded when it was read as a number",
            where=file,
            do="make the table again with this column as text: rounded ids merge patients",
        )


def _with_files(
    rows: pl.DataFrame, column: str, root: Path, files: list[Path], table: Path
) -> tuple[pl.DataFrame, list[str]]:
    """The rows that have a file, its path in the column "path" (unless it is another's), and notes on the rest."""
    by_stem: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in files:
        by_stem[without_suffix(path.name)].append(PurePosixPath(path.relative_to(root).as_posix()))
    values = rows[column].to_list()
    chosen = [None if value is None else _match(value, by_stem, root, table) for value in values]
    if not any(chosen):
        example = next((value for value in values if value is not None), "blank")
        raise InputError(
            f"no row fits any of the {len(files):,} image files: column {column!r} says {example!r}, "
            f"a file is {files[0].relative_to(root).as_posix()!r}",
            where=table,
            do="name the right column with --image-column, or give the folder that the paths start from",
        )
    twice = [path for path, count in Counter(chosen).items() if path is not None and count > 1]
    if twice:
        raise InputError(
            f"{chosen.count(twice[0])} rows name the image {twice[0].as_posix()!r}",
            where=table,
            do="keep one row per image",
        )
    notes = [f"{len(chosen) - chosen.count(None):,} of {rows.height:,} rows of {table.name} have an image."]
    if None in chosen:
        missing = values[chosen.index(None)]
        notes.append(f"{chosen.count(None):,} rows have no file and were left out, such as {missing!r}.")
    without = sorted({PurePosixPath(path.relative_to(root).as_posix()) for path in files} - set(chosen) - {None})
    if without:
        notes.append(f"{len(without):,} files have no row and were left out, such as {without[0].as_posix()!r}.")
    paths = pl.Series("__path", [None if path is None else str(root / path) for path in chosen], dtype=pl.String)
    return rows.with_columns(paths).filter(pl.col("__path").is_not_null()), notes


def _match(value: str, by_stem: dict[str, list[PurePosixPath]], root: Path, table: Path) -> PurePosixPath | None:
    """The file that a cell means: its path from `root` ends in what the cell says. A folder in the cell must agree."""
    said = PurePosixPath(value.replace("\\", "/").removeprefix("./"))
    parts = tuple(part for part in said.parts if part != "/")
    if not parts:
        return None
    stem, own = without_suffix(parts[-1]), root.parts[1:]
    # A cell may begin with folders that `root` ends in ("files/p10/..." under .../files), or be absolute.
    starts = [0, *(k for k in range(min(len(own), len(parts) - 1), 0, -1) if parts[:k] == own[-k:])]
    for start in starts:
        folders = parts[start:-1]
        fitting = [path for path in by_stem.get(stem, []) if not folders or path.parts[:-1][-len(folders) :] == folders]
        exact = [path for path in fitting if path.name == parts[-1]] or fitting
        exact = [path for path in exact if path.parts[:-1] == folders] or exact if folders else exact
        if len(exact) > 1:
            raise InputError(
                f"{value!r} fits {len(exact):,} files, such as {exact[0].as_posix()!r} and {exact[1].as_posix()!r}",
                where=table,
                do="name a column with paths from the folder by --image-column, or import one folder at a time",
            )
        if exact:
            return exact[0]
    return None


def _studies(
    rows: pl.DataFrame, columns: dict[str, str], root: Path, file: Path, *, known: bool
) -> tuple[pl.DataFrame, list[str]]:
    """The study table of rows that have a file, and notes on studies, findings and what was left out."""
    images = pl.Series(_image_ids([Path(path) for path in rows["__path"]], root), dtype=pl.String)
    findings, left_out = _findings(rows, set(columns.values()), file)
    notes = [f"{len(findings)} findings: {', '.join(findings)}." if findings else "No column holds findings."]
    if left_out:
        notes.append(f"Columns left out: {', '.join(left_out)}.")
    patient = rows[columns["patient"]] if known else pl.Series([None] * rows.height, dtype=pl.String)
    if "study" not in columns:
        study = images
        notes.append("There is no study column: each image is a study of its own.")
    else:
        study = rows[columns["study"]]
        pairs = pl.DataFrame({"study": study, "patient": patient}).unique()
        if known and pairs["study"].n_unique() < pairs.height:
            study = pl.select(pl.concat_str([patient, study], separator="/")).to_series()
            notes.append("Study ids repeat from patient to patient, so they are written PATIENT/STUDY.")
    raw_view = rows[columns["view"]] if "view" in columns else pl.Series([None] * rows.height, dtype=pl.String)
    data = {
        "study_id": study,
        "patient_id": patient,
        "image_id": images,
        "path": rows["__path"],
        "view": views(raw_view),
        "view_raw": raw_view,
        "source": pl.repeat("folder", rows.height, eager=True),
    }
    for role, parse in (("age", ages), ("sex", sexes)):
        if role in columns:
            given = rows[columns[role]]
            data[role] = parse(given)
            if lost := data[role].null_count() - given.null_count():
                notes.append(f"{lost:,} entries of {given.name!r} cannot be read as {role} and count as unknown.")
    return pl.DataFrame({**data, **findings}), notes


def _findings(rows: pl.DataFrame, taken: set[str], file: Path) -> tuple[dict[str, pl.Series], list[str]]:
    """The finding columns as Int8 under our names, and the names of the columns that are none."""
    findings: dict[str, pl.Series] = {}
    left_out = []
    for name in rows.columns:
        if name in taken or name == "__path" or not name:
            continue
        values = rows[name].drop_nulls()
        if not values.len() or not values.is_in(list(_VALUES)).all() or name in COLUMNS:
            left_out.append(name)
            continue
        ours = canonical(name)
        if ours in findings:
            raise InputError(f"two columns are the finding {ours!r}", where=file, do="keep one of them")
        findings[ours] = rows[name].replace_strict(_VALUES, default=None, return_dtype=pl.Int8)
    return findings, left_out


def _label_level(studies: pl.DataFrame) -> Literal["study", "image"]:
    """study, where the images of every study are labelled alike."""
    names = finding_names(studies)
    if not names:
        return "study"
    kinds = studies.group_by("study_id").agg(pl.col(names).n_unique()).select(pl.max_horizontal(names).max()).item()
    return "study" if kinds == 1 else "image"


def _image_ids(files: list[Path], root: Path) -> list[str]:
    """The file names without ending where these tell all images apart, else the paths from `root` without ending."""
    names = [without_suffix(path.name) for path in files]
    if len(set(names)) == len(names):
        return names
    paths = [without_suffix(path.relative_to(root).as_posix()) for path in files]
    if len(set(paths)) == len(paths):
        return paths
    return [path.relative_to(root).as_posix() for path in files]  # a.png beside a.jpg
