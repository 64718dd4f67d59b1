"""VinDr-CXR as released by VinBigData (Nguyen et al., Scientific Data 2022; Kaggle 2020; research use, agreement needed).

15,000 PA images for training, each read by three of 17 radiologists, who drew boxes of 14 findings; patients are not told.
`train.csv` has a row per box: image_id, class_name, class_id, rad_id, x_min, y_min, x_max, y_max; a reader who saw nothing
has a row "No finding" without a box. Here the readers of an image vote: by default a finding is present where more than
half of them drew it. "Nodule/Mass" is one finding of theirs and stays one: nobody said which of the two it was.
Images may be the DICOM files or copies as PNG or JPEG; boxes are in pixels of the DICOM file, and go to a copy where
`train_meta.csv` (image_id, dim0 = rows, dim1 = columns) tells the size of the original.
"""

from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import InputError, nearest
from hilum.findings import FINDING_SETS, canonical
from hilum.progress import Progress, silent
from hilum.sources.copies import Sizes, largest_copies, size_of
from hilum.sources.imported import Imported
from hilum.sources.label_columns import alias_notes
from hilum.sources.reading import (
    DICOM_SUFFIXES,
    IMAGE_SUFFIXES,
    column_of,
    file_content,
    files_beneath,
    text_table,
)

FINDINGS = FINDING_SETS["vindr"]
_NOTHING = "No Finding"
_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_DISPUTED = {"zero": 0, "uncertain": -1, "null": None}


def import_vindr(
    root: Path,
    patients: Literal["known", "unknown"] = "known",
    progress: Progress = silent,
    *,
    agree: int | None = None,
    disputed: Literal["zero", "uncertain", "null"] = "zero",
) -> Imported:
    """The images present beneath `root`, with one vote of their readers per finding. No image is decoded.

    patients: only unknown is true of this data, and has to be said.
    agree:    how many readers make a finding present; None = more than half of the image's readers.
    disputed: what a finding becomes that some readers drew, and too few: zero, uncertain (-1) or null.
    Raises InputError where train.csv is missing or unlike its release, and where no image is there.
    """
    if patients == "known":
        raise InputError("VinDr-CXR does not say who its patients are", do="say --patients unknown")
    if agree is not None and agree < 1:
        raise InputError(f"agree is {agree}", do="choose 1 or more readers")
    root = root.resolve()
    file = _table(root, "train.csv")
    if file is None:
        raise InputError("there is no train.csv or train.csv.gz", where=root, do="put it beside the folder of images")
    boxes, names = _boxes(file)
    readers = boxes.group_by("image_id", maintain_order=True).agg(readers=pl.col("rad_id").n_unique())
    most = max(readers["readers"].to_list())
    if agree is not None and agree > most:
        raise InputError(f"no image has {agree} readers", where=file, do=f"choose 1 to {most}")
    files = [path for path in files_beneath(root) if path.suffix.lower() in (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)]
    originals = {path.stem for path in files if path.suffix.lower() in DICOM_SUFFIXES}
    chosen = [path for path in files if path.suffix.lower() in DICOM_SUFFIXES or path.stem not in originals]
    paths, sizes, copies = largest_copies(chosen, progress)
    voted, counts = _voted(boxes, readers, agree, disputed)
    studies = voted.filter(pl.col("image_id").is_in(list(paths))).select(
        study_id="image_id",
        patient_id=pl.lit(None, dtype=pl.String),
        image_id="image_id",
        path=pl.col("image_id").replace_strict(paths, default=None, return_dtype=pl.String),
        view=pl.lit("PA"),  # the release is of PA images alone
        source=pl.lit("vindr"),
        **{name: name for name in FINDINGS},
    )
    if studies.is_empty():
        raise InputError(
            f"none of the {readers.height:,} images that {file.name} lists is here",
            where=root,
            do="give the folder that holds train/ with files such as ID.dicom or ID.png",
        )
    regions, region_note = _regions(root, boxes, studies, sizes, progress)
    seen = ", ".join(f"{n:,} by {count}" for count, n in readers["readers"].value_counts().sort("readers").iter_rows())
    return Imported(
        studies=studies,
        label_level="image",
        regions=regions,
        notes=[
            f"{studies.height:,} of the {readers.height:,} images listed in {file.name} are present; read {seen} readers.",
            counts,
            *alias_notes(names),
            *copies,
            region_note,
        ],
    )


def _table(root: Path, name: str) -> Path | None:
    found = [root / (name + ending) for ending in ("", ".gz") if (root / (name + ending)).is_file()]
    return found[0] if found else None


def _boxes(file: Path) -> tuple[pl.DataFrame, list[str]]:
    """image_id, rad_id, finding and the corners of each row, and the file's own names. Raises InputError for others."""
    table = text_table(file_content(file), file)
    given = column_of(table, ["class_name"], file)
    names = given.unique(maintain_order=True).to_list()
    for name in names:
        if name is None or canonical(name) not in (*FINDINGS, _NOTHING):
            raise InputError(
                f"there are boxes of {name or 'a blank'!r}",
                where=file,
                do=f"correct it: {nearest(canonical(name or ''), FINDINGS)}, or No finding",
            )
    ours = {name: canonical(name) for name in names}
    boxes = pl.DataFrame(
        {
            "image_id": column_of(table, ["image_id"], file),
            "rad_id": column_of(table, ["rad_id"], file),
            "finding": given.replace_strict(ours, return_dtype=pl.String),
            **{name: column_of(table, [name], file).cast(pl.Float64, strict=False) for name in _CORNERS},
        }
    )
    if boxes.is_empty():
        raise InputError("the table has no rows", where=file, do="download the file again")
    if boxes["image_id"].null_count() or boxes["rad_id"].null_count():
        raise InputError("a row lacks its image or its reader", where=file, do="download the file again")
    return boxes, names


def _voted(
    boxes: pl.DataFrame, readers: pl.DataFrame, agree: int | None, disputed: Literal["zero", "uncertain", "null"]
) -> tuple[pl.DataFrame, str]:
    """image_id and the vote on every finding, and a sentence on how many were not unanimous."""
    drawn = boxes.group_by("image_id", "finding").agg(votes=pl.col("rad_id").n_unique())
    wide = drawn.pivot("finding", index="image_id", values="votes")
    absent = [pl.lit(0).alias(name) for name in FINDINGS if name not in wide.columns]
    votes = readers.join(wide, on="image_id", how="left", maintain_order="left").with_columns(*absent)
    votes = votes.with_columns(pl.col(FINDINGS).fill_null(0).cast(pl.Int64))
    needed = pl.lit(agree) if agree is not None else pl.col("readers") // 2 + 1
    split = votes.select(pl.sum_horizontal((pl.col(n) > 0) & (pl.col(n) < needed) for n in FINDINGS).sum()).item()
    won = votes.select(pl.sum_horizontal(pl.col(name) >= needed for name in FINDINGS).sum()).item()
    low = pl.lit(_DISPUTED[disputed], dtype=pl.Int8)
    voted = votes.select(
        "image_id",
        *(
            pl.when(pl.col(name) >= needed).then(pl.lit(1, dtype=pl.Int8))
            .when(pl.col(name) > 0).then(low).otherwise(pl.lit(0, dtype=pl.Int8)).alias(name)
            for name in FINDINGS
        ),
    )  # fmt: skip
    rule = "more than half of the readers" if agree is None else f"{agree} readers"
    meaning = {"zero": "absent", "uncertain": "uncertain", "null": "not labelled"}[disputed]
    return voted, f"{won:,} findings were drawn by {rule} and are present; {split:,} by fewer and count as {meaning}."


def _regions(
    root: Path, boxes: pl.DataFrame, studies: pl.DataFrame, sizes: Sizes, progress: Progress
) -> tuple[pl.DataFrame | None, str]:
    """All readers' boxes of the findings that are present, in pixels of the file at hand."""
    every = studies.unpivot(FINDINGS, index=["image_id", "path"], variable_name="finding")
    present = every.filter(pl.col("value") == 1)
    kept = boxes.drop_nulls(_CORNERS).join(present, on=["image_id", "finding"], maintain_order="left")
    meta = _table(root, "train_meta.csv")
    original: Sizes = {}
    if meta is not None:
        table = text_table(file_content(meta), meta)
        columns = (column_of(table, [name], meta).cast(pl.Int64, strict=False) for name in ("dim1", "dim0"))
        original = {name: (w, h) for name, w, h in zip(column_of(table, ["image_id"], meta), *columns) if w and h}
    scales: dict[str, tuple[float, float] | None] = {}
    pairs = kept.select("image_id", "path").unique(maintain_order=True).rows()
    for name, path in progress(pairs, total=len(pairs), label="sizes of images with boxes"):
        if Path(path).suffix.lower() in DICOM_SUFFIXES:
            scales[name] = (1.0, 1.0)
        elif name in original:
            own = sizes.get(name) or size_of(path)
            scales[name] = (own[0] / original[name][0], own[1] / original[name][1]) if min(own) else None
        else:
            scales[name] = None
    lost = sum(scale is None for scale in scales.values())
    placed = kept.filter(pl.col("image_id").is_in([name for name, scale in scales.items() if scale]))
    if placed.is_empty():
        return None, "No boxes: the copies' scale is not known without train_meta.csv, or no image has any."
    across, down = (
        pl.Series([(scales[name] or (0, 0))[k] for name in placed["image_id"]], dtype=pl.Float64) for k in (0, 1)
    )
    regions = placed.select(
        "image_id",
        "finding",
        x0=pl.col("x_min") * across,
        y0=pl.col("y_min") * down,
        x1=pl.col("x_max") * across,
        y1=pl.col("y_max") * down,
    ).filter(pl.col("x1") > pl.col("x0"), pl.col("y1") > pl.col("y0"))
    without = f"; {lost:,} images have none, for their scale is not known" if lost else ""
    return regions, f"{regions.height:,} boxes of findings that are present{without}."
