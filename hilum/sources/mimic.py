"""MIMIC-CXR-JPG (Johnson et al. 2019; PhysioNet, credentialed access) with its own labels or those of CXR-LT.

377,110 JPGs of 227,835 studies of 65,379 patients. Labels belong to studies and are copied to their images. Read are,
gzipped or not:

    CXR-LT 2023   train.csv, development.csv, test.csv                               26 findings, 0 or 1
    CXR-LT 2024   labels.csv with a split column                                     45 findings, 0 or 1
                  train_labeled.csv, development_labeled_taskN.csv,
                  test_labeled_taskN.csv, N = 1, 2, 3                                40, 26 or 5 (40 in training)
    CheXpert      mimic-cxr-2.0.0-chexpert.csv, and NegBio ...-negbio.csv            14 findings, 1, 0, -1 or blank
    beside them   mimic-cxr-2.0.0-metadata.csv (needed by CheXpert and NegBio), ...-split.csv

Views: PA, AP and LATERAL are themselves and LL is LATERAL, also with words behind (PA LLD, AP AXIAL: how the patient lay
or the tube was tilted); XTABLE LATERAL is LATERAL. Obliques (LAO, RAO), SWIMMERS, anything else and blanks are unknown.
The source's code stays in view_raw. Study dates are shifted per patient by the release: only their distance means
something. An `s` before a study id is taken away, so that all files meet.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from hilum.errors import InputError, from_os_error
from hilum.progress import Progress, silent
from hilum.sources.imported import Imported
from hilum.sources.label_columns import Blank
from hilum.sources.mimic_labels import (
    OF_STUDIES,
    LabelFiles,
    choose_labels,
    ids,
    official,
    read_labels,
    split_names,
    tables_below,
)
from hilum.sources.reading import IMAGE_SUFFIXES, column_of, file_content, text_table, views
from hilum.tables import finding_names

_DEPTH = 6  # folders below files/; the release has three
_ENDING = r"(?i)\.(png|jpe?g)$"


def import_mimic(
    root: Path,
    progress: Progress = silent,
    *,
    labels: str | None = None,
    task: int | None = None,
    blank: Blank = "zero",
) -> Imported:
    """The images present beneath `root`/files, with their labels. No image is opened.

    labels: the folder or file of the labels, from here or from `root`; None = the only ones beneath `root`.
    task:   1, 2 or 3: which files of CXR-LT 2024.
    blank:  what a blank of CheXpert and NegBio (not mentioned) becomes: zero = absent, null = not labelled.

    Raises InputError where label files are missing, of several kinds or unlike their release, and where no image is.
    """
    root = root.resolve()
    where = _checked(root, labels, task, blank)
    tables = tables_below(root)
    given = tables if where is None else tables_below(where) if where.is_dir() else sorted(where.parent.glob("*.csv*"))
    chosen = choose_labels(given, root, where, task)
    metadata, split = (official(tables, what) or official(given, what) for what in ("metadata", "split"))
    if chosen.kind in OF_STUDIES:
        listed, notes = _of_studies(chosen, metadata, split, root, blank)
    else:
        listed, notes = _of_images(chosen, metadata, blank)
    present, missing = with_images(listed, root, progress)
    studies = studies_of(present)
    used = [path.name for path in sorted(chosen.paths)]
    return Imported(
        studies=studies,
        label_level="study",
        notes=[
            f"Labels of {chosen.kind}: {', '.join(used)}; {len(finding_names(studies))} findings.",
            f"{studies.height:,} of the {listed.height:,} listed images are present.",
            *missing,
            *notes,
            *counted(studies),
        ],
    )


def _checked(root: Path, labels: object, task: object, blank: object) -> Path | None:
    """The place of the labels, after a look at every option."""
    if task not in (None, 1, 2, 3):
        raise InputError(f"task is {task!r}", do="say 1, 2 or 3")
    if blank not in ("zero", "null"):
        raise InputError(f"blank is {blank!r}", do="say zero or null")
    if not (root / "files").is_dir():
        raise InputError(
            "there is no folder files/ in it", where=root, do="give the folder that holds files/p10/p10000032/..."
        )
    if labels is None:
        return None
    if not isinstance(labels, str):  # True: what a bare flag on the command line becomes
        raise InputError(f"--labels is {labels!r}", do="write --labels FOLDER, or --labels FILE")
    for place in (Path(labels), root / labels):
        if place.exists():
            return place.resolve()
    raise InputError("there are no labels at this place", where=labels, do="check the path after --labels")


def _of_images(chosen: LabelFiles, metadata: Path | None, blank: Blank) -> tuple[pl.DataFrame, list[str]]:
    """The listed images of CXR-LT with their labels; a finding that a file does not label is null in its rows."""
    parts = [read_labels(*file, kind=chosen.kind, blank=blank) for file in chosen.files]
    listed = pl.concat(parts, how="diagonal")
    _listed_once(listed, chosen.files[0][0].parent)
    if metadata is None:
        return listed, ["There is no metadata csv: no study dates."]
    dates = metadata_of(metadata).select("dicom_id", "study_date")
    return listed.join(dates, on="dicom_id", how="left", maintain_order="left"), []


def _of_studies(
    chosen: LabelFiles, metadata: Path | None, split: Path | None, root: Path, blank: Blank
) -> tuple[pl.DataFrame, list[str]]:
    """The images of the metadata with the labels of their studies; a study without a row is not labelled."""
    if metadata is None:
        raise InputError(
            f"{chosen.kind} labels name no images, and there is no mimic-cxr-2.0.0-metadata.csv or .csv.gz",
            where=root,
            do="put it beside the folder files/",
        )
    file = chosen.files[0][0]
    labels = read_labels(*chosen.files[0], kind=chosen.kind, blank=blank).drop("subject_id")
    if labels["study_id"].n_unique() < labels.height:
        twice = labels["study_id"].filter(labels["study_id"].is_duplicated())[0]
        raise InputError(f"study {twice!r} has several rows", where=file, do="keep one of them")
    listed = metadata_of(metadata)
    _listed_once(listed, metadata)
    unlabelled = listed.join(labels, on="study_id", how="anti")["study_id"].n_unique()
    listed = listed.join(labels, on="study_id", how="left", maintain_order="left")
    notes = [f"{unlabelled:,} listed studies have no row in {file.name}: not labelled."] if unlabelled else []
    notes.append(f"Blank labels (not mentioned) count as {'absent' if blank == 'zero' else 'not labelled'}.")
    if split is None:
        return listed, [*notes, "There is no split csv: no split column."]
    table = text_table(file_content(split), split)
    sides = pl.DataFrame(
        {
            "dicom_id": column_of(table, ["dicom_id"], split),
            "split": split_names(column_of(table, ["split"], split), split),
        }
    ).unique("dicom_id", maintain_order=True)
    return listed.join(sides, on="dicom_id", how="left", maintain_order="left"), notes


def metadata_of(file: Path) -> pl.DataFrame:
    """dicom_id, subject_id, study_id, view_raw and study_date of every image of the release."""
    table = text_table(file_content(file), file)
    return pl.DataFrame(
        {
            "dicom_id": column_of(table, ["dicom_id"], file),
            "subject_id": ids(table, "subject_id", file),
            "study_id": ids(table, "study_id", file),
            "view_raw": column_of(table, ["ViewPosition"], file),
            "study_date": column_of(table, ["StudyDate"], file).str.to_date("%Y%m%d", strict=False),
        }
    )


def _listed_once(listed: pl.DataFrame, where: Path) -> None:
    twice = listed["dicom_id"].is_duplicated()
    if twice.any() or listed["dicom_id"].null_count():
        name = listed["dicom_id"].filter(twice | listed["dicom_id"].is_null())[0]
        raise InputError(
            f"image {name!r} is listed more than once" if name else "a row has no dicom_id",
            where=where,
            do="download the files again, and keep one row per image",
        )


def with_images(listed: pl.DataFrame, root: Path, progress: Progress) -> tuple[pl.DataFrame, list[str]]:
    """The listed images that are there, with the column `file`, and notes on the others."""
    if "path" not in listed.columns:
        patient, study = pl.col("subject_id"), pl.col("study_id")
        pattern = "files/p{}/p{}/s{}/{}.jpg"
        listed = listed.with_columns(path=pl.format(pattern, patient.str.slice(0, 2), patient, study, "dicom_id"))
    found = pl.Series("file", list(_images(root, progress)), dtype=pl.String).sort()
    files = pl.DataFrame({"file": found, "key": found.str.slice(len(str(root)) + 1).str.replace(_ENDING, "")})
    files = files.unique("key", keep="first", maintain_order=True)  # x.jpg before x.png
    key = pl.col("path").str.replace(r"^\./", "").str.replace(_ENDING, "")
    present = listed.with_columns(key=key).join(files, on="key", how="left", maintain_order="left")
    absent = present.filter(pl.col("file").is_null())
    if absent.height == listed.height:
        raise InputError(
            f"none of the {listed.height:,} listed images is here, such as {listed['path'][0]}",
            where=root,
            do="give the folder that these paths start from",
        )
    notes = []
    if absent.height:
        notes.append(f"{absent.height:,} images have no file and were left out, such as {absent['path'][0]}.")
    present = present.filter(pl.col("file").is_not_null())
    if spare := files.height - present.height:
        notes.append(f"{spare:,} image files are not listed and were left out.")
    return present, notes


def _images(root: Path, progress: Progress) -> Iterator[str]:
    """Every PNG and JPEG beneath `root`/files in one walk; links are followed, hidden entries are not."""
    groups = [str(root / "files")]
    for _ in range(2):  # down to the folders of patients, whose number is the length of the bar
        below: list[str] = []
        for folder in groups:
            yield from _listing(folder, below)
        groups = below
    for patient in progress(groups, total=len(groups), label="looking for images", unit="patients"):
        folders = [patient]
        for _ in range(_DEPTH - 2):
            below = []
            for folder in folders:
                yield from _listing(folder, below)
            folders = below


def _listing(folder: str, below: list[str]) -> Iterator[str]:
    """The images of one folder; its folders are added to `below`."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    below.append(entry.path)
                elif entry.name.lower().endswith(IMAGE_SUFFIXES):
                    yield entry.path
    except OSError as error:
        raise from_os_error(error, folder) from error


def studies_of(present: pl.DataFrame) -> pl.DataFrame:
    """The study table of listed images with their files."""
    optional = [name for name in ("split", "study_date") if name in present.columns]
    return present.select(
        "study_id",
        patient_id="subject_id",
        image_id="dicom_id",
        path="file",
        # A cross-table lateral is a lateral; `views` goes by the first word.
        view=pl.col("view_raw").str.replace(r"(?i)^XTABLE\s+", "").map_batches(views, return_dtype=pl.String),
        view_raw="view_raw",
        source=pl.lit("mimic"),
        **{name: name for name in (*optional, *finding_names(present))},
    )


def counted(studies: pl.DataFrame) -> list[str]:
    """Notes on splits, views, and studies whose images are labelled apart."""
    notes = []
    if "split" in studies.columns:
        count = dict(studies["split"].value_counts().iter_rows())
        unlisted = f", {count[None]:,} on no list" if None in count else ""
        sides = ", ".join(f"{count.get(side, 0):,} {side}" for side in ("train", "valid", "test"))
        notes.append(f"Official split: {sides}{unlisted}.")
    count = dict(studies["view"].value_counts().iter_rows())
    notes.append("Views: " + ", ".join(f"{n:,} {view}" for view, n in sorted(count.items())) + ".")
    kinds = studies.select("study_id", *finding_names(studies)).unique()
    apart = kinds["study_id"].is_duplicated()
    if apart.any():
        n = kinds["study_id"].filter(apart).n_unique()
        notes.append(f"{n:,} studies have images that are labelled apart; such a study shows what any of them shows.")
    return notes
