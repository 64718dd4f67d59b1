"""The run folder: what a training writes, where, and that it never overwrites another run."""

import csv
import io
import json
import platform
import shutil
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hilum import __version__
from hilum.atomic import ensure_folder, write_text
from hilum.errors import InputError, MachineError
from hilum.recipe import Recipe, load_recipe
from hilum.tables import write_studies
from hilum.training.curves import Row, draw_curves
from hilum.training.inputs import StudyTable


class RunFolder:
    """RUN/: recipe.yaml, manifest.json, studies.parquet, log.csv, log.jsonl, curves.png, STAGE/checkpoints/, bundle/,
    predictions_{valid,test}.parquet, report/.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.recipe = self.path / "recipe.yaml"
        self.manifest = self.path / "manifest.json"
        self.studies = self.path / "studies.parquet"
        self.bundle = self.path / "bundle"
        self.report = self.path / "report"

    def begin(self, recipe: Recipe, studies: StudyTable) -> None:
        """Take the folder for a new run of these studies. Raises InputError where a run is there already or nothing can be written."""
        if self.path.exists() and any(self.path.iterdir()):
            advice = "go on with it by --resume, or choose another folder with --run"
            raise InputError(
                "this folder is not empty", where=self.path, do=advice if self.recipe.exists() else "choose another"
            )
        ensure_folder(self.path)
        write_studies(studies.table, self.studies, label_level=studies.level, note=studies.note)
        write_text(self.recipe, recipe.to_yaml())  # last: a folder with a recipe is a run that can be resumed

    def take_back(self) -> None:
        """Undo `begin` where nothing was trained yet, so that the corrected command finds the folder free."""
        if {file.name for file in self.path.iterdir()} <= {self.recipe.name, self.studies.name, self.manifest.name}:
            shutil.rmtree(self.path)

    def join(self, patience: float = 600.0) -> Recipe:
        """The recipe of the run that the first of several processes is about to begin in this folder."""
        deadline = time.monotonic() + patience
        while not self.recipe.is_file():
            if time.monotonic() > deadline:
                raise MachineError("the first process did not begin the run", where=self.path, do="look at its message")
            time.sleep(0.05)
        return load_recipe(self.recipe)

    def resume(self) -> Recipe:
        """The recipe of the run that is to go on. Raises InputError where there is none."""
        if not self.recipe.is_file():
            raise InputError("there is no run to resume", where=self.path, do="start it without --resume")
        ensure_folder(self.path)
        return load_recipe(self.recipe)

    def predictions(self, split: str) -> Path:
        return self.path / f"predictions_{split}.parquet"

    def stage(self, name: str) -> Path:
        return self.path / name

    def best(self, stage: str) -> Path:
        return self.stage(stage) / "checkpoints" / "best.safetensors"

    def write_log(self, rows: list[Row]) -> None:
        """Write all lines so far as CSV, JSONL and curves, each whole or not at all."""
        page = io.StringIO()
        writer = csv.DictWriter(page, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / "log.csv", page.getvalue())
        write_text(self.path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        draw_curves(rows, self.path / "curves.png")

    def write_manifest(self, stage: str, facts: dict[str, Any]) -> None:
        """Write what a stage was made with: device, precision and why, data and counts; and with which versions."""
        made = {
            "hilum": __version__,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
            "packages": {name: version(name) for name in ("torch", "timm", "lightning-fabric", "numpy", "polars")},
            "stages": {**self.stage_facts(), stage: facts},
        }
        write_text(self.manifest, json.dumps(made, indent=2) + "\n")

    def stage_facts(self) -> dict[str, dict[str, Any]]:
        """What the manifest says of each stage so far."""
        page = json.loads(self.manifest.read_text(encoding="utf-8")) if self.manifest.is_file() else {}
        stages: dict[str, dict[str, Any]] = page.get("stages", {})
        return stages


def fresh_run_folder(recipe_name: str, base: Path = Path("runs")) -> Path:
    """runs/NAME, or runs/NAME-2, -3, ... : the first that does not exist."""
    candidate, number = base / recipe_name, 2
    while candidate.exists():
        candidate, number = base / f"{recipe_name}-{number}", number + 1
    return candidate
