"""The two contracts: the study table (one row per image) and the predictions table; schema, checks, reading and writing."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from hilum.atomic import atomic_path
from hilum.errors import InputError, from_os_error, nearest

Level = Literal["study", "image"]

REQUIRED = ("study_id", "patient_id", "image_id", "path", "view", "source")
VIEWS = ("unknown", "PA", "AP", "LATERAL")  # the position is the code of a view in a batch
SPLITS = ("train", "valid", "test")
SYNTHETIC = "synthetic"  # the source of images that a generator made: they train, and are never validated or tested on
SEXES = ("F", "M")

# Every Int8 column is a finding and nothing else is Int8; these are all the other columns a study table may have.
COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "study_id": pl.String,
    "patient_id": pl.String,  # null where patients are unknown, which a report then says
    "image_id": pl.String,
    "path": pl.String,  # absolute
    "view": pl.String,
    "view_raw": pl.String,  # the source's own code
    "source": pl.String,
    "split": pl.String,
    "study_date": pl.Date,
    "age": pl.Float32,  # years
    "sex": pl.String,
    "device": pl.String,  # acquisition device
    "indication": pl.String,  # of the study: why it was asked for, in the words of the request
}


def finding_names(table: pl.DataFrame) -> list[str]:
    """The findings of a study table: its Int8 columns, in order."""
    return [name for name, dtype in table.schema.items() if dtype == pl.Int8]


def check_studies(table: pl.DataFrame, where: str | Path = "study table") -> pl.DataFrame:
    """The table with its columns in the contract's order and types, or InputError naming the first fault."""
    if missing := [name for name in REQUIRED if name not in table.columns]:
        raise InputError(
            f"the table lacks the column {missing[0]!r}", where=where, do=f"it needs {', '.join(REQUIRED)}"
        )
    findings = finding_names(table)
    if strange := [name for name in table.columns if name not in COLUMNS and name not in findings]:
        raise InputError(
            f"column {strange[0]!r} is neither a known column nor a finding (Int8)",
            where=where,
            do="store findings as Int8 with 1, 0, -1 (uncertain) or null (not labelled), and leave other columns out",
        )
    for name, dtype in COLUMNS.items():
        if name in table.columns and table.schema[name] != dtype:
            if name.endswith("_id"):
                advice = "ids are strings: read the source as text (39-digit ids merge patients when read as numbers)"
            else:
                advice = f"store it as {dtype}"
            raise InputError(f"column {name!r} is {table.schema[name]}, not {dtype}", where=where, do=advice)
    if table.is_empty():
        raise InputError(
            "the table has no rows", where=where, do="check the folder and the label file it was made from"
        )
    for name in REQUIRED:
        if name != "patient_id" and table[name].null_count():
            raise InputError(
                f"column {name!r} has {table[name].null_count()} empty entries",
                where=where,
                do="fill them at the source",
            )
    if 0 < table["patient_id"].null_count() < table.height:
        raise InputError(
            f"patient_id is empty in {table['patient_id'].null_count()} of {table.height} rows",
            where=where,
            do="give every row its patient, or leave all of them out with --patients unknown",
        )
    for name, allowed in (("view", VIEWS), ("split", SPLITS), ("sex", SEXES)):
        if name in table.columns:
            wrong = table[name].drop_nulls().filter(~table[name].drop_nulls().is_in(allowed))
            if wrong.len():
                raise InputError(
                    f"column {name!r} holds {wrong[0]!r}", where=where, do=f"it may hold {', '.join(allowed)}"
                )
    for name in findings:
        values = table[name].drop_nulls()
        if values.len() and not values.is_between(-1, 1).all():
            raise InputError(
                f"finding {name!r} holds values other than 1, 0, -1 and null", where=where, do="map them first"
            )
    if table["image_id"].n_unique() < table.height:
        twice = table["image_id"].filter(table["image_id"].is_duplicated())[0]
        raise InputError(
            f"image {twice!r} stands in the table more than once", where=where, do="keep one row per image"
        )
    if not table["patient_id"].null_count():
        owners = table.group_by("study_id").agg(pl.col("patient_id").n_unique().alias("n")).filter(pl.col("n") > 1)
        if owners.height:
            raise InputError(
                f"study {owners['study_id'][0]!r} belongs to several patients", where=where, do="correct the ids"
            )
    return table.select([name for name in COLUMNS if name in table.columns] + findings)


def write_studies(table: pl.DataFrame, path: str | Path, *, label_level: Level, note: str | None = None) -> None:
    """Check and write a study table; `note` (a sentence on the data, such as "phantom") goes into its metadata."""
    checked = check_studies(table, path)
    metadata = {"hilum": "studies", "label_level": label_level} | ({"note": note} if note else {})
    with atomic_path(path) as temporary:
        checked.write_parquet(temporary, metadata=metadata)


def read_studies(path: str | Path, *, root: str | Path | None = None) -> pl.DataFrame:
    """Read and check a study table; `root` re-bases relative paths and replaces the folder that all paths share."""
    table = check_studies(read_kind(path, "studies", "hilum import"), path)
    if root is not None:
        table = table.with_columns(
            path=pl.Series(_rebased(table["path"].to_list(), Path(root).resolve()), dtype=pl.String)
        )
    return table


def studies_metadata(path: str | Path) -> dict[str, str]:
    """The metadata of a study table: `label_level` (study|image) and perhaps `note`."""
    return pl.read_parquet_metadata(path)


def _rebased(paths: Sequence[str], root: Path) -> list[str]:
    shared = os.path.commonpath([Path(path).parent for path in paths])
    return [str(root / os.path.relpath(path, shared)) for path in paths]


Uncertain = Literal["ignore", "ones", "zeros", "smooth"]
_UNCERTAIN: dict[Uncertain, float] = {
    "ignore": float("nan"),
    "ones": 1.0,
    "zeros": 0.0,
    "smooth": 0.7,  # the middle of the label-smoothing range .55 to .85 of Pham et al. 2021
}


@dataclass(frozen=True)
class Labels:
    """One row per study (or per image), in order of first appearance.

    ids: study_id (or image_id) of each row; patients: its patient, or the study itself where patients are unknown;
    values: float32 (rows, findings), NaN = unknown; findings: the column names of `values`.
    """

    ids: list[str]
    patients: list[str]
    values: np.ndarray
    findings: list[str]


def labels_of(
    table: pl.DataFrame, findings: Sequence[str], *, level: Level = "study", uncertain: Uncertain = "ignore"
) -> Labels:
    """Labels of a study table as a matrix; a finding the table lacks is unknown throughout.

    Where the images of a study are labelled apart, the study shows what any of its images shows: 1 before -1 before 0.
    """
    key = "study_id" if level == "study" else "image_id"
    present = [name for name in findings if name in table.columns]
    ranked = [  # 1 > -1 > 0 > null, so that max decides
        pl.col(name).replace_strict({1: 2, -1: 1, 0: 0}, default=None, return_dtype=pl.Int8).max().alias(name)
        for name in present
    ]
    rows = table.group_by(key, maintain_order=True).agg(pl.col("patient_id").first().alias("__patient"), *ranked)
    meaning = {2: 1.0, 1: _UNCERTAIN[uncertain], 0: 0.0}
    values = np.full((rows.height, len(findings)), np.nan, dtype=np.float32)
    for column, name in enumerate(findings):
        if name in present:
            numbers = rows[name].replace_strict(meaning, default=None, return_dtype=pl.Float32)
            values[:, column] = numbers.fill_null(float("nan")).to_numpy()
    ids = rows[key].to_list()
    patients = [patient if patient is not None else own for patient, own in zip(rows["__patient"], ids)]
    return Labels(ids=ids, patients=patients, values=values, findings=list(findings))


@dataclass
class Predictions:
    """A predictions table with the facts that came with it.

    table:      study_id, patient_id?, image_id? then one Float32 probability per finding; one row per study or per image.
    level:      what a row is.
    bundle:     hash of the bundle that made them, or null.
    calibrated: whether the probabilities passed a calibration map.
    positives, known: training counts per finding, where the maker knew them (for tiers).
    thresholds: per finding, the probability chosen on validation, where there is one.
    split:      the part of a run's own split that the rows are (valid, test); null where the maker did not hold them out.
    note:       a sentence on the data or the model that every report repeats (for example that the images are a phantom).
    tta:        the test-time transforms that were averaged, and in which space; empty where there were none.
    ensemble:   the method, members (file, bundle) and weights per finding where several models were combined; else empty.
    zero_shot:  findings that the model was asked about by name and not trained on.
    """

    table: pl.DataFrame
    level: Level = "study"
    bundle: str | None = None
    calibrated: bool = False
    positives: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    thresholds: dict[str, float] = field(default_factory=dict)
    split: str | None = None
    note: str | None = None
    tta: dict[str, Any] = field(default_factory=dict)
    ensemble: dict[str, Any] = field(default_factory=dict)
    zero_shot: list[str] = field(default_factory=list)

    @property
    def findings(self) -> list[str]:
        return [name for name in self.table.columns if name not in ("study_id", "patient_id", "image_id")]


def check_predictions(predictions: Predictions, where: str | Path = "predictions") -> Predictions:
    """Hand the predictions back, or raise InputError naming the first fault."""
    table, key = predictions.table, "image_id" if predictions.level == "image" else "study_id"
    if "study_id" not in table.columns or key not in table.columns:
        raise InputError(f"predictions at {predictions.level} level lack the column {key!r}", where=where, do="add it")
    for name in ("study_id", "patient_id", "image_id"):
        if name in table.columns and table[name].dtype != pl.String:
            raise InputError(f"{name} is {table[name].dtype}, not String", where=where, do="store ids as text")
    if table.is_empty() or not predictions.findings:
        what = "row" if table.is_empty() else "finding"
        raise InputError(f"there is no {what} in these predictions", where=where, do="make them with `hilum predict`")
    if table[key].n_unique() < table.height:
        raise InputError(
            f"{key} {table[key].filter(table[key].is_duplicated())[0]!r} has several rows", where=where, do="keep one"
        )
    for name in predictions.findings:
        column = table[name]
        if column.dtype != pl.Float32:
            raise InputError(
                f"finding {name!r} is {column.dtype}, not Float32", where=where, do="store probabilities as Float32"
            )
        if column.null_count() or not column.is_finite().all() or not column.is_between(0, 1).all():
            raise InputError(
                f"finding {name!r} holds values that are no probabilities", where=where, do="give numbers from 0 to 1"
            )
    return predictions


def write_predictions(predictions: Predictions, path: str | Path) -> None:
    """Check and write a predictions table; its facts go into the parquet metadata as JSON."""
    check_predictions(predictions, path)
    facts = {
        "bundle": predictions.bundle,
        "calibrated": predictions.calibrated,
        "positives": predictions.positives,
        "known": predictions.known,
        "thresholds": predictions.thresholds,
        "split": predictions.split,
        "note": predictions.note,
        "tta": predictions.tta,
        "ensemble": predictions.ensemble,
        "zero_shot": predictions.zero_shot,
    }
    metadata = {"hilum": "predictions", "level": predictions.level, "facts": json.dumps(facts)}
    with atomic_path(path) as temporary:
        predictions.table.write_parquet(temporary, metadata=metadata)


def read_predictions(path: str | Path) -> Predictions:
    """Read and check a predictions table. One made elsewhere counts as level `image` if it has image_id, else `study`."""
    table = read_kind(path, "predictions", "hilum predict")
    metadata: Mapping[str, str] = pl.read_parquet_metadata(path)
    level: Level = (
        "image" if metadata.get("level", "image" if "image_id" in table.columns else "study") == "image" else "study"
    )
    try:
        made = Predictions(table=table, level=level, **json.loads(metadata.get("facts", "{}")))
    except (TypeError, ValueError) as error:
        raise InputError(
            "what these predictions say of themselves cannot be read", where=path, do="make them again"
        ) from error
    return check_predictions(made, path)


def read_kind(path: str | Path, kind: str, maker: str) -> pl.DataFrame:
    """A parquet file of ours, or one that does not say of what kind it is. Raises InputError for what cannot be read."""
    try:
        table = pl.read_parquet(path)
        found = pl.read_parquet_metadata(path).get("hilum", kind)
    except FileNotFoundError as error:
        beside = [file.name for file in Path(path).parent.glob("*.parquet")] if Path(path).parent.is_dir() else []
        hint = f"; {nearest(Path(path).name, beside)}" if beside else ""
        raise InputError("no such file", where=path, do=f"make it with `{maker}`{hint}") from error
    except OSError as error:
        raise from_os_error(error, path) from error
    except pl.exceptions.PolarsError as error:
        raise InputError(
            "this is not a parquet file that can be read", where=path, do=f"make it with `{maker}`"
        ) from error
    if found != kind:
        raise InputError(f"this is a {found} table, not {kind}", where=path, do=f"give the table made by `{maker}`")
    return table
