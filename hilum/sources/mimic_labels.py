"""The label files of MIMIC-CXR-JPG and CXR-LT: which of them lie in a folder, which were meant, and what they say."""

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import InputError, from_os_error
from hilum.findings import FINDING_SETS
from hilum.sources.label_columns import Blank, label_columns
from hilum.sources.reading import column_of, file_content, text_table

_2023 = FINDING_SETS["cxr-lt-2023"]
_TASKS = {task: FINDING_SETS[f"cxr-lt-2024-task{task}"] for task in (1, 2, 3)}
_CHEXPERT = FINDING_SETS["chexpert"]

# Kind -> name of a file (with or without .gz) -> its findings and its split. A folder holds a kind where it holds the
# first of its files. labels.csv has a split column; CheXpert and NegBio label studies and meet the official split csv.
KINDS: dict[str, dict[str, tuple[tuple[str, ...], str | None]]] = {
    "CXR-LT 2023": {
        "train.csv": (_2023, "train"),
        "development.csv": (_2023, "valid"),
        "test.csv": (_2023, "test"),
    },
    "CXR-LT 2024": {"labels.csv": ((*_TASKS[1], *_TASKS[3]), None)},
    **{
        f"CXR-LT 2024 task {task}": {
            "train_labeled.csv": (_TASKS[1], "train"),
            f"development_labeled_task{task}.csv": (findings, "valid"),
            f"test_labeled_task{task}.csv": (findings, "test"),
        }
        for task, findings in _TASKS.items()
    },
    "CheXpert": {"mimic-cxr-*-chexpert.csv": (_CHEXPERT, None)},
    "NegBio": {"mimic-cxr-*-negbio.csv": (_CHEXPERT, None)},
}
OF_STUDIES = ("CheXpert", "NegBio")  # one row per study: images, views and dates come from the metadata
SPLIT_NAMES = {
    "train": "train",
    "validate": "valid",
    "valid": "valid",
    "validation": "valid",
    "development": "valid",
    "dev": "valid",
    "test": "test",
}
_FACTS = (  # columns that are no labels
    "dicom_id", "subject_id", "study_id", "path", "fpath", "split", "ViewPosition", "ViewCodeSequence_CodeMeaning",
    "PerformedProcedureStepDescription", "Rows", "Columns", "StudyDate", "StudyTime",
    "ProcedureCodeSequence_CodeMeaning", "PatientOrientationCodeSequence_CodeMeaning",
)  # fmt: skip
_DEPTH = 3  # folders below the one that is searched for tables


@dataclass(frozen=True)
class LabelFiles:
    """Label files that belong together: their kind, and of each file its path, findings and split."""

    kind: str
    files: tuple[tuple[Path, tuple[str, ...], str | None], ...]

    @property
    def paths(self) -> set[Path]:
        return {path for path, _, _ in self.files}


def tables_below(root: Path) -> list[Path]:
    """Every .csv and .csv.gz beneath a folder, sorted, at most three folders down; the image folder is not entered."""

    def refuse(error: OSError) -> None:
        raise from_os_error(error, error.filename or root) from error

    found: list[Path] = []
    for folder, below, names in os.walk(root, onerror=refuse):
        deep = len(Path(folder).relative_to(root).parts) >= _DEPTH
        below[:] = [] if deep else sorted(name for name in below if name != "files" and not name.startswith("."))
        found += [Path(folder, name) for name in sorted(names) if name.endswith((".csv", ".csv.gz"))]
    return found


def choose_labels(tables: list[Path], root: Path, labels: Path | None, task: int | None) -> LabelFiles:
    """The label files that are meant: those of the file `labels`, else the only kind among `tables`.

    tables: what `tables_below` found in `labels`, or in `root` where `labels` is None.
    task:   1, 2 or 3: of CXR-LT 2024 the files of this task.
    Raises InputError, naming every choice, where none or several are there.
    """
    if labels is not None and labels.is_file():
        if task is not None:
            raise InputError("--task chooses among the files of a folder", where=labels, do="leave --task out")
        return _named(labels)
    found = [each for folder in sorted({table.parent for table in tables}) for each in _kinds(tables, folder)]
    if task is not None:
        found = [each for each in found if each.kind == f"CXR-LT 2024 task {task}"]
    where = labels or root
    if labels is not None:  # a folder that is named comes before those further down
        found = [each for each in found if each.files[0][0].parent == labels] or found
    if not found:
        kinds = [f"CXR-LT 2024 task {task}"] if task is not None else list(KINDS)
        names = "; ".join(f"{kind}: {', '.join(KINDS[kind])}" for kind in kinds)
        raise InputError(
            f"there are no label files{f' of {kinds[0]}' if task is not None else ''} here",
            where=where,
            do=f"name their folder with --labels; they are called {names}",
        )
    if len(found) > 1:
        choices = "; ".join(f"{_choice(each)} for {each.kind}" for each in found)
        raise InputError(
            f"there are several sets of label files: {', '.join(each.kind for each in found)}",
            where=where,
            do=f"choose one: {choices}",
        )
    return found[0]


def _choice(found: LabelFiles) -> str:
    """The option that chooses these label files."""
    path = found.files[0][0]
    if "task" in found.kind:
        return f"--labels {path.parent} --task {found.kind[-1]}"
    return f"--labels {path if len(KINDS[found.kind]) == 1 else path.parent}"


def _named(file: Path) -> LabelFiles:
    """A single label file, known by its name."""
    for kind, files in KINDS.items():
        for pattern, (findings, split) in files.items():
            if fnmatch(file.name.removesuffix(".gz"), pattern):
                return LabelFiles(kind, ((file, findings, split),))
    names = ", ".join(sorted({pattern for files in KINDS.values() for pattern in files}))
    raise InputError("a label file of this name is not known", where=file, do=f"give it its official name: {names}")


def _kinds(tables: list[Path], folder: Path) -> list[LabelFiles]:
    """The kinds of label files in a folder; what holds no file of its own beside another kind's is left out."""
    beside = [table for table in tables if table.parent == folder]
    kinds: list[LabelFiles] = []
    for kind, files in KINDS.items():
        first_of = {pattern: _first(beside, pattern) for pattern in files}
        if first_of[next(iter(files))] is not None:
            kinds.append(
                LabelFiles(kind, tuple((path, *files[name]) for name, path in first_of.items() if path is not None))
            )
    return [
        each
        for k, each in enumerate(kinds)
        if not any(each.paths < other.paths for other in kinds)
        and not any(each.paths == other.paths for other in kinds[:k])
    ]


def _first(tables: list[Path], pattern: str) -> Path | None:
    """The newest table of this name, plain before gzipped."""
    for ending in ("", ".gz"):
        if found := [table for table in tables if fnmatch(table.name, pattern + ending)]:
            return found[-1]
    return None


def official(tables: list[Path], what: Literal["metadata", "split"]) -> Path | None:
    """The metadata or split csv of MIMIC-CXR-JPG."""
    return _first(tables, f"mimic-cxr-*-{what}.csv")


def ids(table: pl.DataFrame, name: str, file: Path) -> pl.Series:
    """An id column as digits: the s of a study and the p of a patient are taken away. Raises InputError for others."""
    column = column_of(table, [name], file).str.replace(r"^[sSpP]", "")
    fits = column.str.contains(r"^\d+$").fill_null(False)
    if not fits.all():
        row = int((~fits).arg_max() or 0)
        raise InputError(
            f"{name} of row {row + 1:,} is {table[name][row] or 'blank'!r}, not a whole number",
            where=file,
            do="download the file again; a spreadsheet may have changed it",
        )
    return column.rename(name)


def read_labels(file: Path, findings: tuple[str, ...], split: str | None, *, kind: str, blank: Blank) -> pl.DataFrame:
    """subject_id and study_id, dicom_id, view_raw, path (as listed) and split where the file has them, then its labels.

    Labels are Int8. In CheXpert and NegBio files a blank is 0 (not mentioned) or null, as `blank` says; a blank in a
    CXR-LT file is null. Raises InputError naming a label column that is missing or unknown, and a value that is none.
    """
    table = text_table(file_content(file), file)
    of_studies = kind in OF_STUDIES
    numbers = label_columns(table, findings, file, of=kind, facts=_FACTS, uncertain=of_studies)
    data = {name: ids(table, name, file) for name in ("subject_id", "study_id")}
    if not of_studies:
        data["dicom_id"] = column_of(table, ["dicom_id"], file)
        data["view_raw"] = column_of(table, ["ViewPosition"], file)
        if listed := [name for name in ("path", "fpath") if name in table.columns]:
            data["path"] = table[listed[0]]
        named = pl.repeat(split, table.height, eager=True)
        data["split"] = named if split else split_names(column_of(table, ["split"], file), file)
    if of_studies and blank == "zero":
        numbers = {name: column.fill_null(0) for name, column in numbers.items()}
    return pl.DataFrame({**data, **numbers})


def split_names(raw: pl.Series, file: Path) -> pl.Series:
    """train, valid or test of a split column; null stays. Raises InputError for any other word."""
    names = raw.str.to_lowercase().replace_strict(SPLIT_NAMES, default=None, return_dtype=pl.String)
    if names.null_count() > raw.null_count():
        wrong = raw.filter(names.is_null() & raw.is_not_null())[0]
        raise InputError(f"the split column holds {wrong!r}", where=file, do=f"write {', '.join(SPLIT_NAMES)}")
    return names
