"""NIH-CXR-LT and MIMIC-CXR-LT (Holste et al. 2022 and 2023): label files upon the images of ChestX-ray14 and MIMIC-CXR-JPG.

    2022   nih-cxr-lt_single-label_{train,balanced-val,test,balanced-test}.csv, mimic-cxr-lt_...   one class an image
    2023   miccai2023_nih-cxr-lt_labels_{train,val,test}.csv, miccai2023_mimic-cxr-lt_...          several labels an image

20 and 19 findings, 1 or 0, gzipped or not, beneath the folder of the images or another. The balanced test of 2022 is a part
of its test. Images, patients and studies are those of the sources `nih` and `mimic` and carry their names, so that a
merge knows them again. "No Finding" means none of the other findings of these lists: five more than ChestX-ray14 has.
"""

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal

import polars as pl

from hilum.errors import InputError
from hilum.findings import FINDING_SETS
from hilum.progress import Progress, silent
from hilum.sources.copies import largest_copies
from hilum.sources.imported import Imported
from hilum.sources.label_columns import alias_notes, label_columns
from hilum.sources.mimic import counted, metadata_of, studies_of, with_images
from hilum.sources.mimic_labels import official, tables_below
from hilum.sources.nih import listed_facts
from hilum.sources.reading import column_of, file_content, image_files, text_table, without_suffix

Test = Literal["whole", "balanced"]

# Year -> name of a file -> its split; {} is nih or mimic.
_FILES: dict[int, dict[str, str]] = {
    2022: {
        "{}*-lt_single-label_train.csv": "train",
        "{}*-lt_single-label_balanced-val.csv": "valid",
        "{}*-lt_single-label_test.csv": "test",
    },
    2023: {f"miccai2023_{{}}*-lt_labels_{part}.csv": split for part, split in
           (("train", "train"), ("val", "valid"), ("test", "test"))},
}  # fmt: skip
_FACTS = ("id", "subj_id", "subject_id", "study_id", "dicom_id", "path", "fpath", "split", "ViewPosition")
_MIMIC_PATH = r"(files/p\d+/p(\d+)/s(\d+)/([^/.]+))(?:\.[A-Za-z]+)?$"


def import_nih_cxr_lt(
    root: Path, progress: Progress = silent, *, labels: str | None = None, year: int | None = None, test: Test = "whole"
) -> Imported:
    """The images of ChestX-ray14 beneath `root` that NIH-CXR-LT labels. No image is decoded.

    labels: the folder of the label files, from here or from `root`; None = beneath `root`.
    year:   2022 (one class an image) or 2023 (several labels); None = the only one that is there.
    test:   of 2022 the whole test, or its balanced part.
    Raises InputError where label files are missing, of two years or unlike their release, and where no image is there.
    """
    root = root.resolve()
    files = _files("nih", root, labels, year, test)
    rows, notes = _labels(files, "nih-cxr-lt")
    paths, _, copies = largest_copies(image_files(root), progress)
    name = pl.col("id").map_elements(without_suffix, return_dtype=pl.String)
    listed = rows.with_columns(image_id=name, path=name.replace_strict(paths, default=None, return_dtype=pl.String))
    _once(listed, files)
    patient = listed["image_id"].str.extract(r"^(\d+)_\d+$").str.strip_chars_start("0")
    if patient.null_count():
        wrong = listed["image_id"].filter(patient.is_null())[0]
        raise InputError(
            f"id {wrong or 'blank'!r} is no image of ChestX-ray14",
            where=next(iter(files)),
            do="it looks like 00000001_000.png: download the file again",
        )
    present = listed.with_columns(patient_id=patient).filter(pl.col("path").is_not_null())
    if present.is_empty():
        raise InputError(
            f"none of the {listed.height:,} listed images is here, such as {listed['id'][0]}",
            where=root,
            do="give the folder that holds images/ or images_001/ ... with files such as 00000001_000.png",
        )
    facts = listed_facts(root)
    told = [] if facts is not None else ["Views, ages and sexes are unknown: there is no Data_Entry_2017*.csv."]
    if facts is not None:
        present = present.join(facts, on="image_id", how="left", maintain_order="left")
    known = [column for column in ("view_raw", "age", "sex") if column in present.columns]
    studies = present.select(
        pl.col("image_id").alias("study_id"),
        "patient_id",
        "image_id",
        "path",
        (pl.col("view").fill_null("unknown") if facts is not None else pl.lit("unknown")).alias("view"),
        pl.lit("nih").alias("source"),
        "split",
        *known,
        *FINDING_SETS["nih-cxr-lt"],
    )
    here = [f"{studies.height:,} of the {listed.height:,} listed images are present."]
    return Imported(studies, "image", notes=[*notes, *here, *copies, *told, *_shares(studies)])


def import_mimic_cxr_lt(
    root: Path, progress: Progress = silent, *, labels: str | None = None, year: int | None = None, test: Test = "whole"
) -> Imported:
    """The images of MIMIC-CXR-JPG beneath `root`/files that MIMIC-CXR-LT labels; options as for NIH-CXR-LT.

    Views and dates come from mimic-cxr-2.0.0-metadata.csv, where it lies beneath `root`.
    """
    root = root.resolve()
    if not (root / "files").is_dir():
        raise InputError(
            "there is no folder files/ in it", where=root, do="give the folder that holds files/p10/p10000032/..."
        )
    files = _files("mimic", root, labels, year, test)
    rows, notes = _labels(files, "mimic-cxr-lt")
    parts = rows["path"].str.replace_all(r"\\", "/").str.extract_groups(_MIMIC_PATH).struct.unnest()
    parts.columns = ["path", "subject_id", "study_id", "dicom_id"]
    if parts["path"].null_count():
        wrong = rows["path"].filter(parts["path"].is_null())[0]
        raise InputError(
            f"path {wrong or 'blank'!r} is no image of MIMIC-CXR-JPG",
            where=next(iter(files)),
            do="it ends like files/p10/p10000032/s50414267/NAME.jpg: download the file again",
        )
    listed = pl.concat([parts, rows.drop("path")], how="horizontal")
    _once(listed.rename({"dicom_id": "image_id"}), files)
    metadata = official(tables_below(root), "metadata")
    if metadata is None:
        listed = listed.with_columns(view_raw=pl.lit(None, dtype=pl.String))
        notes.append("Views are unknown: there is no mimic-cxr-2.0.0-metadata.csv.")
    else:
        facts = metadata_of(metadata).select("dicom_id", "view_raw", "study_date")
        listed = listed.join(facts, on="dicom_id", how="left", maintain_order="left")
    present, missing = with_images(listed, root, progress)
    studies = studies_of(present)
    here = [f"{studies.height:,} of the {listed.height:,} listed images are present.", *missing]
    return Imported(studies, "study", notes=[*notes, *here, *counted(studies)])


def _files(which: str, root: Path, labels: str | None, year: int | None, test: Test) -> dict[Path, str]:
    """The label files that are meant, and the split of each."""
    if year not in (None, *_FILES):
        raise InputError(f"year is {year!r}", do="say 2022 or 2023")
    if year == 2023 and test == "balanced":
        raise InputError("the files of 2023 have no balanced test", do="leave --test out, or take --year 2022")
    where = root
    if labels is not None:
        places = [place for place in (Path(str(labels)), root / str(labels)) if place.is_dir()]
        if not places:
            raise InputError("there is no such folder of labels", where=labels, do="check the path after --labels")
        where = places[0].resolve()
    tables = tables_below(where)
    found: dict[int, dict[Path, str]] = {}
    for made, names in _FILES.items():
        wanted = {name.format(which): split for name, split in names.items()}
        if test == "balanced":
            wanted = {name.replace("_test", "_balanced-test"): split for name, split in wanted.items()}
        files = {table: split for name, split in wanted.items() if (table := _first(tables, name))}
        if files and year in (None, made):
            found[made] = files
    if not found:
        called = ", ".join(name.format(which) for names in _FILES.values() for name in names)
        raise InputError(
            "there are no label files here",
            where=where,
            do=f"name their folder with --labels; they are called {called}",
        )
    if len(found) > 1:
        raise InputError("there are label files of 2022 and of 2023", where=where, do="choose with --year 2022 or 2023")
    return next(iter(found.values()))


def _first(tables: list[Path], name: str) -> Path | None:
    fitting = [table for table in tables if fnmatch(table.name.removesuffix(".gz"), name)]
    return min(fitting, key=lambda table: (table.suffix == ".gz", str(table)), default=None)


def _labels(files: Mapping[Path, str], which: str) -> tuple[pl.DataFrame, list[str]]:
    """The rows of all files: id or path as listed, split, and the findings; notes on the files and on names."""
    column = "id" if which.startswith("nih") else "path"
    parts: list[pl.DataFrame] = []
    names: dict[str, None] = {}
    for file, split in files.items():
        table = text_table(file_content(file), file)
        numbers = label_columns(table, FINDING_SETS[which], file, of=which, facts=_FACTS)
        cells = column_of(table, [column, "fpath"] if column == "path" else [column], file)
        parts.append(pl.DataFrame({column: cells, "split": pl.repeat(split, table.height, eager=True), **numbers}))
        names |= dict.fromkeys(name for name in table.columns if name not in _FACTS)
    used = ", ".join(f"{file.name} ({split})" for file, split in files.items())
    told = f"Labels of {which}: {used}; {len(FINDING_SETS[which])} findings."
    return pl.concat(parts), [told, *alias_notes(names)]


def _once(listed: pl.DataFrame, files: Mapping[Path, str]) -> None:
    twice = listed["image_id"].filter(listed["image_id"].is_duplicated())
    if twice.len():
        raise InputError(
            f"image {twice[0]!r} is listed more than once",
            where=next(iter(files)).parent,
            do="download the files again, and keep one row per image",
        )


def _shares(studies: pl.DataFrame) -> list[str]:
    count = dict(studies["split"].value_counts().iter_rows())
    return ["Split: " + ", ".join(f"{count.get(side, 0):,} {side}" for side in ("train", "valid", "test")) + "."]
