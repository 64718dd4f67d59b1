"""PadChest (Bustos et al., Medical Image Analysis 2020; BIMCV; research use, agreement needed) with its own labels or those of CXR-LT 2026.

160,868 PNGs of 16 bits of 67,625 patients, labels from reports. Read are, gzipped or not, beneath the folder:

    cxr-lt-2026   CXRLT_2026_training.csv      ImageID, StudyDate_DICOM, PatientID and 30 findings, 0 or 1
                  CXRLT_2026_TEST_ALL_TASK*.csv   the same three columns; the findings' names and cells are blank: not labelled
                  Removal.csv                  images that may not be trained on
    padchest      PADCHEST_chest_x_ray_images_labels_160K*.csv   facts of every image, and a list of terms as its labels

Ids have 39 digits and are text: read as numbers they are rounded, and patients merge. A study of CXR-LT 2026 is a patient's
day; PadChest itself names its studies. Where its own table lies beside the challenge's, views, ages and sexes come from it.
Of the term lists the findings of the set `padchest` are read (`padchest_terms`); a finding that a list does not say is
absent, unless the report says "unchanged": then it is not labelled. Images marked EXCLUDE are left out.
"""

from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.progress import Progress, silent
from hilum.sources.imported import Imported, level_of
from hilum.sources.label_columns import alias_notes, label_columns
from hilum.sources.matching import with_files
from hilum.sources.padchest_terms import OPEN, SILENT, TERMS, VOID
from hilum.sources.reading import (
    OLDEST,
    column_of,
    file_content,
    files_beneath,
    is_image_name,
    refuse_rounded,
    sexes,
    text_table,
    views,
)
from hilum.tables import finding_names

Release = Literal["cxr-lt-2026", "padchest"]

_2026 = FINDING_SETS["cxr-lt-2026-task1"]
_KEYS = ("ImageID", "StudyDate_DICOM", "PatientID")
_FILES = {
    "train": "CXRLT_2026_training.csv",
    "test": "CXRLT_2026_TEST_ALL_TASK*.csv",
    "removal": "Removal.csv",
    "own": "PADCHEST_chest_x_ray_images_labels_160K*.csv",
}


def import_padchest(root: Path, progress: Progress = silent, *, release: Release | None = None) -> Imported:
    """The images present beneath `root`, with their labels. No image is opened.

    release: whose labels: cxr-lt-2026 or padchest; None = the only ones beneath `root`.
    Raises InputError where no label table or those of both are there, where an id was rounded, and where no image is.
    """
    root = root.resolve()
    files = files_beneath(root)
    tables = {part: _tables(files, name) for part, name in _FILES.items()}
    there: dict[Release, bool] = {
        "cxr-lt-2026": bool(tables["train"] + tables["test"]),
        "padchest": bool(tables["own"]),
    }
    found = [each for each, held in there.items() if held and release in (None, each)]
    if len(found) != 1:
        names = ", ".join(name for part, name in _FILES.items() if part != "removal")
        what = "the labels of both cxr-lt-2026 and padchest are" if found else "there is no label table"
        do = f"put one of {names} beneath it" if not found else "choose: --release cxr-lt-2026, or --release padchest"
        raise InputError(what + " here", where=root, do=do)
    if found[0] == "cxr-lt-2026":
        listed, notes = _challenge(tables)
    else:
        listed, notes = _own(_table(tables["own"][0]), tables["own"][0])
    listed, removed = _without_removed(listed, tables["removal"])
    where = (tables["own"] if found[0] == "padchest" else tables["train"] or tables["test"])[0]
    images = [path for path in files if is_image_name(path)]
    studies, present = with_files(listed, listed["cell"].to_list(), images, root, where)
    studies = studies.drop("cell")
    if lost := [name for name in ("split", "age", "sex", "device", "view_raw") if _empty(studies, name)]:
        studies = studies.drop(lost)
    level = level_of(studies)
    return Imported(
        studies=studies,
        label_level=level,
        notes=[
            f"Labels of {found[0]}; {len(finding_names(studies))} findings.",
            *present,
            *notes,
            *removed,
            *(["Images of one study are labelled apart: the table is labelled by image."] if level == "image" else []),
        ],
    )


def _tables(files: list[Path], name: str) -> list[Path]:
    return [path for path in files if path.match(name) or path.match(f"{name}.gz")]


def _table(file: Path) -> pl.DataFrame:
    """A label table as text, its images named and its long ids whole."""
    table = text_table(file_content(file), file)
    for name in ("PatientID", "StudyID"):
        if name in table.columns:
            refuse_rounded(table[name], file)
    column_of(table, ["PatientID"], file)
    if column_of(table, ["ImageID"], file).null_count():
        raise InputError("a row has no ImageID", where=file, do="download the file again")
    return table


def _empty(studies: pl.DataFrame, name: str) -> bool:
    return name in studies.columns and studies[name].null_count() == studies.height


def _challenge(tables: dict[str, list[Path]]) -> tuple[pl.DataFrame, list[str]]:
    """The images of CXR-LT 2026: those of training with their labels, those of the tests without."""
    parts, notes = [], []
    for file in tables["train"][:1]:
        table = _table(file)
        labels = label_columns(table, _2026, file, of="CXR-LT 2026", facts=_KEYS)
        parts.append(_named(table, file, "train").with_columns(**labels))
        notes += alias_notes([name for name in table.columns if name not in _KEYS])
    parts += [_named(_table(file), file, "test") for file in tables["test"]]
    listed = pl.concat(parts, how="diagonal")
    if not tables["train"]:
        listed = listed.with_columns(pl.lit(None, dtype=pl.Int8).alias(name) for name in _2026)
    tested = listed.filter(pl.col("split") == "test")["image_id"].unique()
    trained = listed.filter(pl.col("split") == "train")["image_id"]
    if (twice := trained.filter(trained.is_duplicated() | trained.is_in(tested.implode()))).len():
        raise InputError(
            f"image {twice[0]!r} is listed more than once",
            where=(tables["train"] or tables["test"])[0],
            do="download the files again, and keep one row per image",
        )
    listed = listed.unique("image_id", keep="first", maintain_order=True)  # both tasks name some test images
    notes.append(
        f"Listed for training {trained.len():,}, for the tests {tested.len():,}; test images are not labelled."
    )
    if not tables["own"]:
        return listed, [*notes, "Views, ages and sexes are unknown: PadChest's own table is not here."]
    facts = _facts(_table(tables["own"][0]), tables["own"][0]).unique("image_id", keep="first")
    facts = facts.select("image_id", "view_raw", "view", "age", "sex", "device")
    return listed.drop("view").join(facts, on="image_id", how="left", maintain_order="left").with_columns(
        pl.col("view").fill_null("unknown")
    ), notes  # fmt: skip


def _named(table: pl.DataFrame, file: Path, split: str) -> pl.DataFrame:
    """Ids and date of each row of a table of CXR-LT 2026; a study is a patient's day, without a date an image."""
    image, patient = table["ImageID"], column_of(table, ["PatientID"], file)
    if patient.null_count():
        raise InputError("a row has no PatientID", where=file, do="download the file again")
    day = column_of(table, ["StudyDate_DICOM"], file).str.replace_all(r"\D", "")
    return pl.DataFrame({"cell": image, "patient_id": patient, "day": day}).select(
        study_id=pl.format("{}_{}", "patient_id", pl.coalesce("day", "cell")),
        patient_id="patient_id",
        image_id=_stem(pl.col("cell")),
        view=pl.lit("unknown"),
        source=pl.lit("padchest"),
        split=pl.lit(split),
        study_date=pl.col("day").str.to_date("%Y%m%d", strict=False),
        cell="cell",
    )


def _stem(cell: pl.Expr) -> pl.Expr:
    return cell.str.replace(r"(?i)\.(png|jpe?g)$", "")


def _facts(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """What PadChest's own table says of each image, without labels."""
    date = column_of(table, ["StudyDate_DICOM"], file).str.replace_all(r"\D", "").str.to_date("%Y%m%d", strict=False)
    projection = column_of(table, ["Projection"], file)
    nothing = pl.Series([None] * table.height, dtype=pl.String)
    born, sex, device = (
        table[name] if name in table.columns else nothing
        for name in ("PatientBirth", "PatientSex_DICOM", "Manufacturer_DICOM")
    )
    years = (date.dt.year() - born.cast(pl.Float64, strict=False)).cast(pl.Float32)
    return pl.DataFrame(
        {
            "study_id": column_of(table, ["StudyID"], file),
            "patient_id": table["PatientID"],
            "image_id": table.select(_stem(pl.col("ImageID"))).to_series(),
            "view": views(projection),
            "view_raw": projection,
            "source": pl.repeat("padchest", table.height, eager=True),
            "study_date": date,
            "age": years.set((years < 0) | (years > OLDEST), None),
            "sex": sexes(sex),
            "device": device,
            "cell": table["ImageID"],
        }
    )


def _own(table: pl.DataFrame, file: Path) -> tuple[pl.DataFrame, list[str]]:
    """The images of PadChest's own table with the findings that their terms say."""
    terms = column_of(table, ["Labels"], file).str.extract_all(r"'[^']*'|\"[^\"]*\"")
    terms = terms.list.eval(pl.element().str.strip_chars("'\" ").str.to_lowercase())
    said = terms.list.eval(pl.element().filter(~pl.element().is_in(SILENT) & (pl.element() != ""))).list.len() > 0
    void = ~said.fill_null(False) | _any(terms, VOID)
    open_ = _any(terms, OPEN)
    rows = _facts(table, file).with_columns(void=void, open=open_).with_columns(
        pl.when(pl.col("void")).then(None)
        .when(_any(terms, TERMS[name])).then(pl.lit(1, dtype=pl.Int8))
        .when(pl.col("open")).then(None)
        .otherwise(pl.lit(0, dtype=pl.Int8)).alias(name)
        for name in FINDING_SETS["padchest"]
    )  # fmt: skip
    excluded = rows["view_raw"].str.to_uppercase() == "EXCLUDE"
    kept = rows.filter(~excluded.fill_null(False))
    nameless = kept.filter(pl.any_horizontal(pl.col("study_id", "patient_id").is_null()))
    kept = kept.filter(pl.all_horizontal(pl.col("study_id", "patient_id").is_not_null()))
    if kept["image_id"].is_duplicated().any():
        name = kept["image_id"].filter(kept["image_id"].is_duplicated())[0]
        raise InputError(f"image {name!r} is listed more than once", where=file, do="keep one row per image")
    counts = {
        "images have no labels": int(kept["void"].sum()),
        "more have reports that say unchanged: what they do not name is not labelled": int((kept["open"] & ~kept["void"]).sum()),
        "images are marked EXCLUDE and were left out": rows.height - kept.height - nameless.height,
        "images without study or patient were left out": nameless.height,
    }  # fmt: skip
    return kept.drop("void", "open"), [f"{count:,} {what}." for what, count in counts.items() if count]


def _any(terms: pl.Series, wanted: tuple[str, ...]) -> pl.Series:
    """Whether each list holds any of these terms; false for a blank."""
    return terms.list.eval(pl.element().is_in(wanted).any()).list.first().fill_null(False)


def _without_removed(listed: pl.DataFrame, files: list[Path]) -> tuple[pl.DataFrame, list[str]]:
    """Without the images of Removal.csv; test images stay."""
    if not files:
        return listed, []
    table = text_table(file_content(files[0]), files[0])
    named = column_of(table, ["ImageID"], files[0])
    gone = pl.col("cell").is_in(named.drop_nulls().implode())
    if "split" in listed.columns:
        gone &= pl.col("split") != "test"
    kept = listed.filter(~gone)
    return kept, [
        f"{listed.height - kept.height:,} images of {files[0].name} were left out; it lists {table.height:,}."
    ]
