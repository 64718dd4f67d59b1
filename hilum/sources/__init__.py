"""Public data sets as study tables: one file, one data set; `import_studies` reads one and writes its tables."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import polars as pl

from hilum.atomic import atomic_path, ensure_folder
from hilum.builders import check_options, listed
from hilum.errors import InputError
from hilum.progress import Progress, silent
from hilum.sources.folder import import_folder
from hilum.sources.imported import Imported
from hilum.sources.mimic import import_mimic
from hilum.sources.nih import import_nih
from hilum.sources.phantom import import_phantom
from hilum.tables import write_studies

# Each takes the folder first; its own options are its keyword-only parameters.
SOURCES: dict[str, Callable[..., Imported]] = {
    "folder": import_folder,
    "mimic": import_mimic,
    "nih": import_nih,
    "phantom": import_phantom,
}
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
    output:   a folder (studies.parquet, truth.parquet and regions.parquet in it), or X.parquet (then
              X.truth.parquet and X.regions.parquet beside it).
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
    table, truth, regions = _outputs(Path(output))
    extra: dict[str, Any] = {"patients": patients} if "patients" in inspect.signature(build).parameters else {}
    imported = build(table.parent if root is None else Path(root), progress=progress, **extra, **options)
    if patients == "unknown":
        _forget_patients(imported)
    for name, stale in ((truth, imported.truth is None), (regions, imported.regions is None)):
        if stale and name.exists():
            imported.notes.append(f"{name} is of an earlier import and does not belong to this one: remove it.")
    if imported.truth is not None:
        write_studies(imported.truth, truth, label_level=imported.label_level, note=imported.note)
    if imported.regions is not None:
        with atomic_path(regions) as temporary:
            imported.regions.write_parquet(temporary, metadata={"hilum": "regions"})
    write_studies(imported.studies, table, label_level=imported.label_level, note=imported.note)
    return table, imported


def _check_root(source: str, root: str | Path | None) -> None:
    if root is None:
        raise InputError(f"{source} needs the folder of the data", do=f"write: hilum import {source} FOLDER -o OUTPUT")
    if not Path(root).is_dir():
        what = "this is a file, not a folder" if Path(root).is_file() else "there is no such folder"
        raise InputError(what, where=root, do=f"give the folder that holds the data of {source}")


def _outputs(output: Path) -> tuple[Path, Path, Path]:
    """Paths of studies, truth and regions, their folder made and known to be writable."""
    if output.suffix != ".parquet":
        folder = ensure_folder(output)
        return folder / "studies.parquet", folder / "truth.parquet", folder / "regions.parquet"
    ensure_folder(output.parent)
    if output.is_dir():
        raise InputError("a folder has this name", where=output, do="choose another name for the table")
    return output, output.with_suffix(".truth.parquet"), output.with_suffix(".regions.parquet")


def _forget_patients(imported: Imported) -> None:
    nobody = pl.lit(None, dtype=pl.String).alias("patient_id")
    imported.studies = imported.studies.with_columns(nobody)
    if imported.truth is not None:
        imported.truth = imported.truth.with_columns(nobody)
    imported.notes.append("Patients are unknown: every study counts as a patient of its own, and a split may leak.")


__all__ = ["SOURCES", "Imported", "import_studies"]
