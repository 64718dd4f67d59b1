"""Public data sets as study tables: one file, one data set; `import_studies` reads one and writes its tables."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import polars as pl

from hilum.atomic import atomic_path, ensure_folder, refuse_replacing
from hilum.builders import check_options, listed
from hilum.errors import InputError
from hilum.progress import Progress, silent
from hilum.sources.chexpert import import_chexpert
from hilum.sources.folder import import_folder
from hilum.sources.imported import Imported
from hilum.sources.long_tail import import_mimic_cxr_lt, import_nih_cxr_lt
from hilum.sources.mimic import import_mimic
from hilum.sources.nih import import_nih
from hilum.sources.padchest import import_padchest
from hilum.sources.phantom import import_phantom
from hilum.sources.synthetic import import_synthetic
from hilum.sources.vindr import import_vindr
from hilum.tables import write_studies

# Each takes the folder first; its own options are its keyword-only parameters.
SOURCES: dict[str, Callable[..., Imported]] = {
    "chexpert": import_chexpert,
    "folder": import_folder,
    "mimic": import_mimic,
    "mimic-cxr-lt": import_mimic_cxr_lt,
    "nih": import_nih,
    "nih-cxr-lt": import_nih_cxr_lt,
    "padchest": import_padchest,
    "phantom": import_phantom,
    "synthetic": import_synthetic,
    "vindr": import_vindr,
}
_BESIDE = ("truth", "regions", "partly")  # further tables of Imported that are written where a source has them
_DRAWN = ("phantom",)  # makes its images beneath the output instead of finding them in a folder

Patients = Literal["known", "unknown"]


def import_studies(
    source: str,
    root: str | Path | None,
    output: str | Path,
    *,
    patients: Patients = "known",
    progress: Progress = silent,
    **options: Any,
) -> tuple[Path, Imported]:
    """Read a data set and write its study table; the path of the table and what was read are handed back.

    root:     the folder of the data; None for the phantom, which draws into the output folder.
    output:   a folder (studies.parquet in it, and what else the source knows: truth, regions, partly), or X.parquet (then
              X.truth.parquet and so on beside it).
    patients: unknown leaves patient_id empty, and every study counts as a patient of its own.
    options:  those of the source, see its keyword-only parameters.

    Raises InputError for an unknown source or option, a missing folder and an output that cannot be written, all
    before anything slow begins.
    """
    build = listed("source", SOURCES, source)
    check_options("source", source, build, options)
    if patients not in ("known", "unknown"):
        raise InputError(f"patients are {patients!r}", do="say known or unknown")
    if source in _DRAWN and root is not None:
        raise InputError(f"{source} reads no folder, {root} is one argument too many", do="name the output with -o")
    if source not in _DRAWN:
        _check_root(source, root)
    table, beside = _outputs(Path(output))
    refuse_replacing(table, *(value for value in options.values() if isinstance(value, str | Path)))
    extra: dict[str, Any] = {"patients": patients} if "patients" in inspect.signature(build).parameters else {}
    imported = build(table.parent if root is None else Path(root), progress=progress, **extra, **options)
    if patients == "unknown":
        _forget_patients(imported)
    for name, path in beside.items():
        made: pl.DataFrame | None = getattr(imported, name)
        if made is None:
            if path.exists():
                imported.notes.append(f"{path} is of an earlier import and does not belong to this one: remove it.")
        elif name == "regions":
            with atomic_path(path) as temporary:
                made.write_parquet(temporary, metadata={"hilum": "regions"})
        else:
            write_studies(made, path, label_level=imported.label_level, note=imported.note)
    write_studies(imported.studies, table, label_level=imported.label_level, note=imported.note)
    return table, imported


def _check_root(source: str, root: str | Path | None) -> None:
    if root is None:
        raise InputError(f"{source} needs the folder of the data", do=f"write: hilum import {source} FOLDER -o OUTPUT")
    if not Path(root).is_dir():
        what = "this is a file, not a folder" if Path(root).is_file() else "there is no such folder"
        raise InputError(what, where=root, do=f"give the folder that holds the data of {source}")


def _outputs(output: Path) -> tuple[Path, dict[str, Path]]:
    """Path of the study table, and those of the tables beside it, their folder made and known to be writable."""
    if output.suffix != ".parquet":
        folder = ensure_folder(output)
        return folder / "studies.parquet", {name: folder / f"{name}.parquet" for name in _BESIDE}
    ensure_folder(output.parent)
    if output.is_dir():
        raise InputError("a folder has this name", where=output, do="choose another name for the table")
    return output, {name: output.with_suffix(f".{name}.parquet") for name in _BESIDE}


def _forget_patients(imported: Imported) -> None:
    nobody = pl.lit(None, dtype=pl.String).alias("patient_id")
    imported.studies = imported.studies.with_columns(nobody)
    imported.truth, imported.partly = (
        None if table is None else table.with_columns(nobody) for table in (imported.truth, imported.partly)
    )
    imported.notes.append("Patients are unknown: every study counts as a patient of its own, and a split may leak.")


__all__ = ["SOURCES", "Imported", "import_studies"]
