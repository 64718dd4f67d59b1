"""The trainings behind the rows of a table: each once, gone on with where it stopped, never done again."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from hilum.atomic import atomic_folder, ensure_folder, write_text
from hilum.data.cache import open_cache
from hilum.data.views import KINDS
from hilum.errors import InputError
from hilum.evaluation.ensemble import ensemble
from hilum.evaluation.joined import join
from hilum.evaluation.metrics import average_precision
from hilum.inference.calibrate import calibrate
from hilum.inference.predict import as_predictions, load
from hilum.inference.pseudo import pseudo
from hilum.inference.pseudo_rules import Rules
from hilum.models.views import GROUPS
from hilum.progress import Progress, silent
from hilum.recipe import PseudoSpec, Recipe, load_recipe
from hilum.reproductions import Row, System
from hilum.tables import Level, read_predictions, read_studies, write_predictions
from hilum.training.inputs import with_absolute_paths
from hilum.training.plan import check_recipe
from hilum.training.run import train

Say = Callable[[str], None]


@dataclass(frozen=True)
class Seeds:
    """How many trainings each row has: those from nothing, and those that start from one of these.

    The k-th of the latter starts from the k-th of the former, counted round.
    """

    first: int = 1
    later: int = 1

    def of(self, row: Row) -> int:
        """Trainings of a trained row."""
        return self.first if row.start is None else self.later


@dataclass(frozen=True)
class Runs:
    """The runs of one system in one folder: RUNS/ROW/seed-K, with the recipe of each in RUNS/recipes.

    recipe: name or path; overrides: on top of every row's; settle: makes the recipe fit the studies at hand; extra: a table
    of further training studies, for the rows that want some.
    """

    folder: Path
    system: System
    recipe: str
    overrides: Sequence[str]
    settle: Callable[[Recipe], Recipe]
    small: bool = False
    seeds: Seeds = Seeds()
    extra: Path | None = None
    progress: Progress = silent
    say: Say = lambda line: None

    def check(self) -> None:
        """Hold the recipe of every row against the builders, before the first is trained."""
        for row in self.system.rows.values():
            # what a row begins with is not there yet, so what it does with that is left out
            if row.stage is not None:
                nothing: dict[str, Any] = dict.fromkeys(("start", "frozen", "pseudo", "teacher", "upweight", "poor"))
                alone = replace(row, **nothing)
                plan = self.plan(alone, 0)
                check_recipe(replace(plan, stages=[replace(stage, fresh=[], tau=None) for stage in plan.stages]))

    def plan(self, row: Row, seed: int) -> Recipe:
        """The recipe of a trained row with its `seed`-th seed, which is counted from the recipe's own: one stage alone."""
        overrides = [*row.overrides, *(row.small if self.small else []), *self.overrides]
        recipe = self.settle(load_recipe(self.recipe, overrides))
        found = {stage.name: stage for stage in recipe.stages}
        if row.stage not in found:
            raise InputError(
                f"the recipe has no stage {row.stage!r}, which the row {row.name!r} trains",
                where=self.recipe,
                do="give a recipe with that stage",
            )
        stage = found[row.stage]
        start = None
        if row.start is not None:
            start = str(self.trained(self.system.rows[row.start], seed % self.seeds.first) / "bundle")
        if row.teacher is not None:
            run = self.trained(self.system.rows[row.teacher], seed % self.seeds.first)
            labels = taught(
                run, self.folder / "pseudo" / f"{row.folder}-seed-{seed}", row.pseudo == "hard", self.progress
            )
            stage = replace(stage, pseudo=PseudoSpec(str(labels.resolve())))
        if row.poor is not None:
            run = self.trained(self.system.rows[row.poor], seed % self.seeds.first)
            upweight = dict.fromkeys(poorest(run), row.upweight)
            stage = replace(stage, loss=replace(stage.loss, options=stage.loss.options | {"upweight": upweight}))
        if self.small and row.frozen is not None:
            start = str(self.trained(self.system.rows[row.frozen], seed % self.seeds.first) / "bundle")
            stage = replace(stage, freeze=["backbone"], fresh=["fusion", "head"])
        if row.extra and self.extra is not None:
            recipe = replace(recipe, studies=[str(recipe.studies), str(self.extra)])
        if row.tta is not None:
            recipe = replace(recipe, predict=replace(recipe.predict, tta=[]))
        stage = replace(stage, init=start, train=replace(stage.train, seed=stage.train.seed + seed))
        return replace(recipe, stages=[stage])

    def trained(self, row: Row, seed: int) -> Path:
        """The finished run of a trained row."""
        name = f"{row.folder}/seed-{seed}"
        return finished(
            self.plan(row, seed), self.folder / name, self.folder / "recipes" / f"{row.folder}-seed-{seed}.yaml",
            progress=self.progress, say=self.say,
        )  # fmt: skip

    def predictions(self, row: Row) -> list[Path]:
        """A file of predictions of the held-out patients for every training of the row."""
        rows = self.system.rows
        if row.same is not None:
            return self.predictions(rows[row.same])
        if row.ensemble is not None:
            return [self._together(row, seed) for seed in range(self.seeds.first)]
        if row.tta is not None:
            start = row if row.stage is not None else rows[str(row.start)]
            runs = [self.trained(start, seed) for seed in range(self.seeds.of(start))]
            return [self._asked(run, row.level, f"{row.folder}.parquet", row.tta) for run in runs]
        if row.average is None:
            runs = [self.trained(row, seed) for seed in range(self.seeds.of(row))]
            return [self._per_image(run) if row.level == "image" else held_out(run) for run in runs]
        start = rows[str(row.start)]
        return [self._averaged(row, start, seed) for seed in range(self.seeds.first)]

    def _per_image(self, run: Path) -> Path:
        """What the run's model says of each held-out image by itself, in the way of its recipe."""
        return self._asked(run, "image", "images.parquet")

    def _asked(self, run: Path, level: Level, name: str, tta: Sequence[str] | None = None) -> Path:
        """What the run's model says of held-out images or studies, with the transforms of its recipe or others."""
        file = run / f"predictions_{name}"
        if not file.exists():
            averaged = f", averaged over {', '.join(tta)}" if tta else ""
            self.say(f"asking    {run} about each {level} by itself{averaged}")
            said = read_predictions(held_out(run))
            table = read_studies(run / "studies.parquet").filter(pl.col("split") == said.split)
            images = open_cache(load_recipe(run / "recipe.yaml").cache.folder)
            model = load(run / "bundle")
            found = model.predict_cached(table, images, level=level, tta=tta, progress=self.progress)
            write_predictions(as_predictions(found, model.bundle, level, said.note, said.split, tta=model.tta), file)
        return file

    def _together(self, row: Row, seed: int) -> Path:
        """What the rows of an ensemble say together; which of them counts for a finding, their validation studies decide."""
        file, rows = self.folder / "predictions" / f"{row.folder}-seed-{seed}.parquet", self.system.rows
        members = [self.predictions(rows[name]) for name in row.of]
        if not file.exists():
            runs = [self._model(rows[name], seed) for name in row.of]
            fit: dict[str, Any] = {}
            if row.ensemble == "per-finding":
                valid = [run / "predictions_valid.parquet" for run in runs]
                fit = {"fit_on": valid, "studies": runs[0] / "studies.parquet"}
            ensure_folder(file.parent)
            ensemble([made[seed % len(made)] for made in members], file, method=row.ensemble or "mean", **fit)
        return file

    def _model(self, row: Row, seed: int) -> Path:
        """The run whose model answers for a row."""
        if row.stage is None:
            return self._model(self.system.rows[str(row.same or row.start)], seed)
        return self.trained(row, seed % self.seeds.of(row))

    def _averaged(self, row: Row, start: Row, seed: int) -> Path:
        """The weighted mean over each study's images of what is said of them, as a file."""
        file, run = self.folder / "predictions" / f"{row.folder}-seed-{seed}.parquet", self.trained(start, seed)
        said = read_predictions(self._per_image(run))
        views = read_studies(run / "studies.parquet").select("image_id", "view")
        table = weighted_average(said.table, views, dict((row.average or {}).items()))
        write_predictions(replace(said, table=table, level="study", thresholds={}), file)
        return file


def finished(
    plan: Recipe, folder: Path, page: Path, *, progress: Progress = silent, say: Say = lambda line: None
) -> Path:
    """Train a recipe in a folder unless it is done there; go on where it was interrupted. The recipe is written to `page`.

    Raises InputError where the folder holds a run of another recipe.
    """
    begun = (folder / "recipe.yaml").exists()
    if begun and load_recipe(folder / "recipe.yaml") != with_absolute_paths(plan):
        raise InputError(
            "this run was made with another recipe", where=folder, do="give the options of then, or another folder for the runs"
        )  # fmt: skip
    if (folder / "report" / "report.html").exists():  # what a run writes last
        return folder
    write_text(page, plan.to_yaml())
    return train(None if begun else page, run=folder, resume=begun, progress=progress, say=say)


def taught(run: Path, folder: Path, hard: bool, progress: Progress = silent) -> Path:
    """Pseudo labels of a run's model for what its training studies leave unlabelled, as a table in a folder.

    Hard ones match each finding's prevalence; soft ones come from a copy of the model that is calibrated on the validation
    patients, so that the run itself stays as it was.
    """
    file = folder / "pseudo.parquet"
    if not file.exists():
        studies, cache = run / "studies.parquet", load_recipe(run / "recipe.yaml").cache.folder
        teacher = run / "bundle"
        if not hard:
            with atomic_folder(folder / "teacher") as copied:
                shutil.copytree(run / "bundle", copied, dirs_exist_ok=True)
            teacher = folder / "teacher"
            calibrate(teacher, studies, cache=cache, progress=progress)
        rules = Rules(match_prevalence=hard)
        pseudo(teacher, studies, file, rules=rules, teacher_studies=studies, cache=cache, progress=progress)
    return file


def poorest(run: Path) -> list[str]:
    """The quarter of findings (at least one) with the lowest AP on the run's validation studies, the worst first."""
    said = join([run / "predictions_valid.parquet"], run / "studies.parquet")
    part = said.parts[0]
    scored = {name: ap for name, ap in zip(said.findings, average_precision(part.labels, part.scores)) if ap == ap}
    return sorted(scored, key=lambda name: scored[name])[: math.ceil(len(scored) / 4)]


def held_out(run: Path) -> Path:
    """The run's predictions of patients that it never saw: of test studies, or where there are none of valid ones."""
    return next(file for split in ("test", "valid") if (file := run / f"predictions_{split}.parquet").exists())


def weighted_average(said: pl.DataFrame, views: pl.DataFrame, weights: Mapping[str, float]) -> pl.DataFrame:
    """Probabilities per image (a predictions table) as probabilities per study: means weighted by the view of each image.

    views: image_id, view. weights: of frontal (PA, AP), lateral and other views; a study's are made to sum to 1.
    """
    if set(weights) != set(GROUPS):
        raise InputError(f"weights are given for {', '.join(weights)}", do=f"give them for {', '.join(GROUPS)}")
    weight = pl.col("view").replace_strict({view: float(weights[name]) for view, name in KINDS.items()})
    findings = [name for name in said.columns if name not in ("study_id", "patient_id", "image_id")]
    weighed = said.join(views, on="image_id", how="left", maintain_order="left").with_columns(__weight=weight)
    mean = [
        ((pl.col(name).cast(pl.Float64) * pl.col("__weight")).sum() / pl.col("__weight").sum())
        .cast(pl.Float32).clip(0, 1).alias(name)
        for name in findings
    ]  # fmt: skip
    return weighed.group_by("study_id", maintain_order=True).agg(pl.col("patient_id").first(), *mean)
