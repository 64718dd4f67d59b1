"""A whole run: recipe in, run folder out."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl

from hilum.data.cache import build_cache
from hilum.errors import InputError
from hilum.models.classifier import Classifier
from hilum.progress import Progress, silent
from hilum.recipe import Recipe, load_recipe
from hilum.tables import read_studies, studies_metadata
from hilum.training.finish import ask, report, save_bundle
from hilum.training.inputs import Material, findings_of, split_studies, with_absolute_paths
from hilum.training.loop import Row
from hilum.training.plan import check_recipe
from hilum.training.run_folder import RunFolder, fresh_run_folder
from hilum.training.stage import train_stage

Say = Callable[[str], None]
_VERIFIED = 2 << 30  # bytes of cache that are checked against their checksums before a run: a second or two
RANK = int(os.environ.get("RANK", "0"))  # set by torchrun; only the first process writes


def train(
    recipe: str | Path | None,
    overrides: Sequence[str] = (),
    *,
    run: str | Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
    say: Say = lambda line: None,
) -> Path:
    """Train as a recipe says; the run folder is handed back.

    recipe: a path or a bare name (with resume it may be None: the run's own recipe counts). run: by default runs/NAME.
    say: takes one line at a time on what is being done. Never overwrites a run; `resume` goes on with one.
    """
    folder, plan = _begin(recipe, overrides, run, resume, say)
    if RANK:
        say, progress = (lambda line: None), silent
    say(f"run       {folder.path}")
    rows: list[Row] = []
    models: dict[str, Classifier] = {}
    try:
        material = _material(folder, plan, progress, say)
        for stage in plan.stages:
            models[stage.name] = train_stage(stage, plan, material, folder, models, rows, progress=progress, say=say)
    except InputError:
        if not (resume or RANK):
            folder.take_back()
        raise
    if RANK:
        return folder.path
    last = plan.stages[-1]
    said = ask(last, plan, material, models[last.name], progress)
    bundle = save_bundle(last, plan, material, folder, models[last.name], said["valid"])
    report(bundle, plan, material, folder, said, progress)
    return folder.path


def _begin(
    recipe: str | Path | None, overrides: Sequence[str], run: str | Path | None, resume: bool, say: Say
) -> tuple[RunFolder, Recipe]:
    """The folder and the recipe: of a run to go on with, of a new one, or of the one the first process begins."""
    if run is None and (resume or "RANK" in os.environ):
        raise InputError("the run's folder is not named", do="name it with --run")
    if resume:
        folder = RunFolder(str(run))
        plan = folder.resume()
        if recipe is not None and with_absolute_paths(load_recipe(recipe, overrides)) != plan:
            advice = "resume it without naming a recipe, or start a new run"
            raise InputError("this recipe is not the one the run began with", where=folder.path, do=advice)
        check_recipe(plan)
        return folder, plan
    if RANK:
        folder = RunFolder(str(run))
        return folder, folder.join()
    if recipe is None:
        raise InputError("no recipe is named", do="see `hilum recipes`")
    folder = RunFolder(run or fresh_run_folder(Path(recipe).stem))
    plan = with_absolute_paths(load_recipe(recipe, overrides))
    check_recipe(plan)
    studies = split_studies(plan)
    findings_of(plan, studies.table)
    folder.begin(plan, studies)
    for told in studies.united:
        say(f"studies   {told}")
    if studies.kept:
        say(f"split     {studies.kept}")
    return folder, plan


def _material(folder: RunFolder, recipe: Recipe, progress: Progress, say: Say) -> Material:
    """The run's studies with their images decoded."""
    table = read_studies(folder.studies)
    findings = findings_of(recipe, table)
    spec = recipe.cache
    images = build_cache(table, spec.folder, size=spec.size, fit=spec.fit, tone=spec.tone, progress=progress)
    if images.bytes <= _VERIFIED:
        images.verify()
    say(f"images    {table.height:,} at {spec.size} px in {spec.folder}")
    unread = images.unreadable.filter(pl.col("image_id").is_in(table["image_id"].implode()))
    if unread.height:
        say(f"          {unread.height:,} cannot be read, first {unread['path'][0]}: {unread['reason'][0]}")
    note = studies_metadata(folder.studies).get("note")
    return Material(table=table, images=images, findings=findings, uncertain=recipe.uncertain, note=note)
