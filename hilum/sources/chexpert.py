"""CheXpert (Irvin et al., AAAI 2019; Stanford AIMI; research use, agreement needed).

224,316 JPGs of 65,240 patients, 14 findings mined from reports, labels of studies. Read are `train.csv`, `valid.csv` and
`test.csv` (or `test_labels.csv`), gzipped or not, and in the place of the first any file with the same columns, such as
`train_cheXbert.csv`: columns are found by name, and the order of cheXbert's differs. Patient and study stand in Path alone,
and so does the part: train, valid, test. 1, 0, -1 (uncertain), and blank where a report does not mention the finding.
The folder may be the full release, the small one, or its batches: a file is known by patient, study and name.
"""

from pathlib import Path

import polars as pl

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.progress import Progress, silent
from hilum.sources.imported import Imported
from hilum.sources.label_columns import Blank, label_columns
from hilum.sources.matching import with_files
from hilum.sources.reading import ages, column_of, file_content, image_files, sexes, text_table, views

FINDINGS = FINDING_SETS["chexpert"]
_FACTS = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
_PATH = r"(?:(train|valid|test)/)?(patient\d+)/(study\d+)/([^/]+)$"
_PARTS = (("train.csv",), ("valid.csv",), ("test.csv", "test_labels.csv"))  # of each the first name that is there


def import_chexpert(
    root: Path, progress: Progress = silent, *, labels: str | None = None, blank: Blank = "zero"
) -> Imported:
    """The images present beneath `root` with the labels of their studies. No image is opened.

    labels: a label file in the place of train.csv, from here or from `root`.
    blank:  what a blank (not mentioned) becomes: zero = absent, null = not labelled.
    Raises InputError where no label file is there, where one is unlike its release, and where no image is.
    """
    root = root.resolve()
    files = _label_files(root, labels)
    rows = pl.concat([_rows(file, blank) for file in files])
    if rows["image_id"].is_duplicated().any():
        name = rows["image_id"].filter(rows["image_id"].is_duplicated())[0]
        raise InputError(f"image {name!r} is listed more than once", where=files[0], do="keep one row per image")
    studies, notes = with_files(rows, rows["cell"].to_list(), image_files(root), root, files[0])
    used = ", ".join(file.name for file in files)
    unknown = int((studies["view"] == "unknown").sum())
    return Imported(
        studies=studies.drop("cell"),
        label_level="study",
        notes=[
            f"Labels: {used}; {len(FINDINGS)} findings.",
            *notes,
            f"Blank labels (not mentioned) count as {'absent' if blank == 'zero' else 'not labelled'}.",
            *([f"{unknown:,} images have no known view."] if unknown else []),
        ],
    )


def _label_files(root: Path, labels: str | None) -> list[Path]:
    """The file of each part that is there, in `root` or one folder down; `labels` stands for the first."""
    found = [_first(root, names) for names in _PARTS]
    if labels is not None:
        places = [place for place in (Path(str(labels)), root / str(labels)) if place.is_file()]
        if not places:
            raise InputError("there is no such label file", where=labels, do="check the path after --labels")
        found[0] = places[0].resolve()
    files = [file for file in found if file is not None]
    if not files:
        raise InputError(
            "there is no train.csv, valid.csv or test.csv, nor any of them gzipped",
            where=root,
            do="give the folder of the release, or name a label file with --labels",
        )
    return files


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    for name in (each + ending for each in names for ending in ("", ".gz")):
        if found := [*sorted(root.glob(name)), *sorted(root.glob(f"*/{name}"))]:
            return found[0]
    return None


def _rows(file: Path, blank: Blank) -> pl.DataFrame:
    """The study table of a label file, without paths; `cell` is the part of Path that every form of the release shares."""
    table = text_table(file_content(file), file)
    path = column_of(table, ["Path"], file)
    parts = path.str.replace_all(r"\\", "/").str.extract_groups(_PATH).struct.unnest()
    parts.columns = ["split", "patient_id", "study", "name"]
    if parts["patient_id"].null_count():
        wrong = path.filter(parts["patient_id"].is_null())[0]
        raise InputError(
            f"Path {wrong or 'blank'!r} names no patient and study",
            where=file,
            do="it ends like patient00001/study1/view1_frontal.jpg: download the file again",
        )
    numbers = label_columns(table, FINDINGS, file, of="CheXpert", facts=_FACTS, uncertain=True)
    if blank == "zero":
        numbers = {name: column.fill_null(0) for name, column in numbers.items()}
    view, raw = _views(table, parts["name"])
    study = parts["patient_id"] + "/" + parts["study"]
    nothing = pl.Series([None] * table.height, dtype=pl.String)
    return pl.DataFrame(
        {
            "study_id": study,
            "patient_id": parts["patient_id"],
            "image_id": study + "/" + parts["name"].str.replace(r"\.[A-Za-z]+$", ""),
            "view": view,
            "view_raw": raw,
            "source": pl.repeat("chexpert", table.height, eager=True),
            "split": parts["split"],
            "age": ages(table["Age"] if "Age" in table.columns else nothing),
            "sex": sexes(table["Sex"] if "Sex" in table.columns else nothing),
            "cell": study + "/" + parts["name"],
            **numbers,
        }
    )


def _views(table: pl.DataFrame, names: pl.Series) -> tuple[pl.Series, pl.Series]:
    """View and the source's code: Frontal or Lateral, and of frontal ones AP or PA; by the file's name where no column says it."""
    if "Frontal/Lateral" not in table.columns:
        side = names.str.to_lowercase().str.extract("(frontal|lateral)")
        return views(side), side
    side = table["Frontal/Lateral"]
    frontal = table["AP/PA"] if "AP/PA" in table.columns else pl.Series([None] * table.height, dtype=pl.String)
    lateral = side.str.to_lowercase() == "lateral"
    raw = side.zip_with(lateral.fill_null(False) | frontal.is_null(), frontal)
    return views(raw), raw
