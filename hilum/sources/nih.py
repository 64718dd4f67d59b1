"""NIH ChestX-ray14 (Wang et al., CVPR 2017; NIH Clinical Center; no restriction on use, name the provider).

112,120 frontal PNGs of 1024 px from 30,805 patients, 14 findings mined from reports; one image is one study. Read are
`Data_Entry_2017*.csv`, `train_val_list.txt`, `test_list.txt` and `BBox_List_2017.csv`, gzipped or not, and the images
beneath the folder, however they are nested. Releases differ in their header and in some labels, so the hash of the
label file is told. "No Finding" means that all 14 are absent.
"""

import hashlib
from collections import Counter
from pathlib import Path

import polars as pl

from hilum.errors import InputError, nearest
from hilum.findings import FINDING_SETS, canonical
from hilum.progress import Progress, silent
from hilum.sources.copies import Sizes, largest_copies, size_of
from hilum.sources.imported import Imported
from hilum.sources.label_columns import alias_notes
from hilum.sources.reading import (
    OLDEST,
    ages,
    column_of,
    file_content,
    image_files,
    sexes,
    text_table,
    views,
    without_suffix,
)

FINDINGS = FINDING_SETS["nih"]
BOX_SIDE = 1024  # pixels of the coordinates in BBox_List_2017.csv, whatever the size of the copy at hand
_BOX_NAMES = {"Infiltrate": "Infiltration"}  # the box list alone says so


def import_nih(root: Path, progress: Progress = silent) -> Imported:
    """The images of ChestX-ray14 present beneath `root`, with their labels. No image is decoded.

    Raises InputError where the label table is missing or unreadable, names an unknown label, or fits no image.
    """
    root = root.resolve()
    file = _label_file(root)
    content = file_content(file)
    table = text_table(content, file)
    listed = _labels(table, file)
    paths, sizes, copies = largest_copies(image_files(root), progress)
    studies = listed.filter(pl.col("image_id").is_in(list(paths))).with_columns(
        path=pl.col("image_id").replace_strict(paths, default=None, return_dtype=pl.String)
    )
    if studies.is_empty():
        raise InputError(
            f"none of the {listed.height:,} images that {file.name} lists is here",
            where=root,
            do="give the folder that holds images/ or images_001/ ... with files such as 00000001_000.png",
        )
    studies, split_note = _with_split(studies, root)
    regions, region_note = _regions(root, studies, sizes)
    return Imported(
        studies=studies,
        label_level="image",
        regions=regions,
        notes=[
            f"{studies.height:,} of the {listed.height:,} images listed in {file.name} are present.",
            f"SHA-256 of {file.name.removesuffix('.gz')}: {hashlib.sha256(content).hexdigest()}.",
            *alias_notes(sorted(_words(table["Finding Labels"]))),
            *copies,
            *_file_notes(paths, listed),
            *split_note,
            *region_note,
            *_age_note(studies),
        ],
    )


def listed_facts(root: Path) -> pl.DataFrame | None:
    """image_id, view, view_raw, age and sex of every image that the release's own table in `root` lists; None without one."""
    try:
        file = _label_file(root)
    except InputError:
        return None
    table = _labels(text_table(file_content(file), file), file)
    return table.select("image_id", "view", "view_raw", "age", "sex")


def _label_file(root: Path) -> Path:
    """The newest release in the folder: Data_Entry_2017_v2020 before Data_Entry_2017, plain before gzipped."""
    for pattern in ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "Data_Entry*.csv"):
        for ending in ("", ".gz"):
            if found := sorted(root.glob(pattern + ending)):
                return found[-1]
    raise InputError(
        "there is no Data_Entry_2017_v2020.csv, Data_Entry_2017.csv or either of them gzipped",
        where=root,
        do="put the label table of ChestX-ray14 beside its image folders",
    )


def _labels(table: pl.DataFrame, file: Path) -> pl.DataFrame:
    """The study table of every listed image, without paths."""
    patient = column_of(table, ["Patient ID"], file)
    labels = column_of(table, ["Finding Labels"], file)
    view = column_of(table, ["View Position"], file)
    image = column_of(table, ["Image Index"], file).map_elements(without_suffix, return_dtype=pl.String)
    names = {name: canonical(name.strip()) for name in _words(labels)}
    for name, ours in sorted(names.items()):
        if ours not in (*FINDINGS, "No Finding"):
            first = image.filter(labels.str.contains(name, literal=True).fill_null(False))[0]
            raise InputError(
                f"image {first!r} has the label {name!r}, which ChestX-ray14 does not know",
                where=file,
                do=f"correct it: {nearest(name, FINDINGS)}, or No Finding",
            )
    given = labels.str.split("|").list.eval(pl.element().replace(names))
    return pl.DataFrame(
        {
            "study_id": image,
            "patient_id": patient,
            "image_id": image,
            "view": views(view),
            "view_raw": view,
            "source": pl.repeat("nih", table.height, eager=True),
            "age": ages(column_of(table, ["Patient Age"], file)),
            "sex": sexes(column_of(table, ["Patient Sex", "Patient Gender"], file)),
            **{name: given.list.contains(name).cast(pl.Int8) for name in FINDINGS},
        }
    )


def _words(labels: pl.Series) -> set[str]:
    return set(labels.str.split("|").explode().drop_nulls())


def _with_split(studies: pl.DataFrame, root: Path) -> tuple[pl.DataFrame, list[str]]:
    """The official split: test, and train for train_val_list (a run carves its validation out of train)."""
    split: dict[str, str] = {}
    for part, pattern in (("train", "train_val_list*.txt"), ("test", "test_list*.txt")):
        for file in [*sorted(root.glob(pattern)), *sorted(root.glob(pattern + ".gz"))][:1]:
            for name in file_content(file).decode("utf-8", errors="replace").split():
                if split.setdefault(without_suffix(name), part) != part:
                    raise InputError(
                        f"image {name!r} stands in both split lists", where=file, do="download the official lists again"
                    )
    if not split:
        return studies, ["There are no official split lists (train_val_list.txt, test_list.txt): no split column."]
    studies = studies.with_columns(split=pl.col("image_id").replace_strict(split, default=None, return_dtype=pl.String))
    count = Counter(studies["split"].to_list())
    unlisted = f", {count[None]:,} on neither list" if count[None] else ""
    return studies, [f"Official split: {count['train']:,} train (and validation), {count['test']:,} test{unlisted}."]


def _regions(root: Path, studies: pl.DataFrame, sizes: Sizes) -> tuple[pl.DataFrame | None, list[str]]:
    """The boxes of the images present, in pixels of the chosen copy."""
    files = [*sorted(root.glob("BBox_List*.csv")), *sorted(root.glob("BBox_List*.csv.gz"))]
    if not files:
        return None, []
    table = text_table(file_content(files[0]), files[0])
    if table.width < 6:  # the header's "Bbox [x,y,w,h]" is four fields, so columns go by position here
        raise InputError(f"{table.width} columns are too few for boxes", where=files[0], do="download it again")
    numbers = [table.to_series(k).cast(pl.Float64, strict=False) for k in range(2, 6)]
    if bad := [name for name in table.to_series(1).drop_nulls().unique() if _box_finding(name) not in FINDINGS]:
        raise InputError(
            f"there are boxes of {bad[0]!r}", where=files[0], do=f"correct it: {nearest(bad[0], FINDINGS)}"
        )
    boxes = pl.DataFrame(
        {
            "image_id": table.to_series(0).map_elements(without_suffix, return_dtype=pl.String),
            "finding": table.to_series(1).map_elements(_box_finding, return_dtype=pl.String),
            **dict(zip("xywh", numbers, strict=True)),
        }
    )
    if any(column.null_count() for column in boxes.iter_columns()):
        raise InputError("a box lacks a name or a number", where=files[0], do="download it again")
    present = studies.select("image_id", "path").join(boxes, on="image_id", maintain_order="right")
    side = [sizes.get(name) or size_of(path) for name, path in present.select("image_id", "path").iter_rows()]
    across, down = (pl.Series([each[k] / BOX_SIDE for each in side], dtype=pl.Float64) for k in (0, 1))
    regions = present.select(
        "image_id",
        "finding",
        x0=pl.col("x") * across,
        y0=pl.col("y") * down,
        x1=(pl.col("x") + pl.col("w")) * across,
        y1=(pl.col("y") + pl.col("h")) * down,
    ).filter(pl.col("x1") > pl.col("x0"))
    return regions, [f"{regions.height:,} of {boxes.height:,} boxes belong to images that are present."]


def _box_finding(name: str) -> str:
    return canonical(_BOX_NAMES.get(name, name))


def _file_notes(paths: dict[str, str], listed: pl.DataFrame) -> list[str]:
    strange = sorted(paths.keys() - set(listed["image_id"].to_list()))
    if not strange:
        return []
    return [f"{len(strange):,} image files are not in the table and were left out, such as {strange[0]}."]


def _age_note(studies: pl.DataFrame) -> list[str]:
    unknown = studies["age"].null_count()
    if not unknown:
        return []
    return [f"{unknown:,} ages are missing, unreadable or above {OLDEST} years and count as unknown."]
