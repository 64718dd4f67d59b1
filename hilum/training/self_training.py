"""Self-training in rounds: a teacher on what is labelled, then students that learn from their teacher's labels, too.

Noisy Student (Xie et al. 2020): the teacher reads plain images, each student is at least as large and learns under more
noise, and is the next teacher. All rounds share one split, so no teacher sees a patient that a student is judged on.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl

from hilum.atomic import ensure_folder
from hilum.bundle import read_bundle
from hilum.data.pseudo_table import PseudoLabels, lines_of, read_pseudo
from hilum.errors import InputError
from hilum.findings import finding_set
from hilum.inference.calibrate import calibrate
from hilum.inference.pseudo import pseudo
from hilum.inference.pseudo_rules import Rules, check_rules
from hilum.models.classifier import build_classifier
from hilum.progress import Progress, silent
from hilum.recipe import Choice, Recipe, load_recipe
from hilum.tables import finding_names, read_studies, write_studies
from hilum.training.inputs import split_studies, with_absolute_paths
from hilum.training.plan import check_recipe
from hilum.training.pseudo import content_of
from hilum.training.run import train
from hilum.training.run_folder import RunFolder

Say = Callable[[str], None]
Start = Literal["scratch", "continued"]
_SOFT = Rules()


def self_training(
    recipe: str | Path,
    overrides: Sequence[str] = (),
    *,
    folder: str | Path,
    rounds: int = 2,
    teacher: Sequence[str] = (),
    student: Sequence[str] = (),
    start: Start = "scratch",
    weight: float = 1.0,
    rules: Rules = _SOFT,
    seed: int = 0,
    progress: Progress = silent,
    say: Say = lambda line: None,
) -> Path:
    """Train a teacher and `rounds` students; the last student's run folder is handed back.

    recipe, overrides: of all rounds; teacher, student: overrides of the teacher alone, of every student alone.
    folder: where FOLDER/{studies,labelled}.parquet, teacher/, pseudo-1.parquet, student-1/, pseudo-2.parquet ... appear.
        What is there already is not done again, and an interrupted training is gone on with, as long as the options are
        those of then; only rounds may be added.
    start:  a student begins from scratch (as the recipe says), or continued: with its teacher's weights.
    weight: of pseudo labels in the loss; rules, seed: how they are chosen.
    Raises InputError before anything slow begins where the recipes or rules cannot work, and where a student is smaller
    than the teacher; and where the folder holds what other options made.
    """
    if rounds < 1:
        raise InputError(f"{rounds} rounds train no student", do="ask for one or more")
    if start not in ("scratch", "continued"):
        raise InputError(f"start is {start!r}", do="say scratch or continued")
    base, whole, labelled = Path(folder), Path(folder) / "studies.parquet", Path(folder) / "labelled.parquet"
    plans = [load_recipe(recipe, [*overrides, *more]) for more in (teacher, student)]
    for plan in plans:
        check_recipe(plan)
    check_rules(rules, _findings(plans[0]))
    sizes = [parameters(plan) for plan in plans]
    if sizes[1] < sizes[0]:
        raise InputError(
            f"the student has {sizes[1]:,} parameters, the teacher {sizes[0]:,}",
            do="make the student at least as large",
        )
    say(
        f"rounds    {rounds}, students {'continue from their teachers' if start == 'continued' else 'start from scratch'}"
    )
    say(
        f"          parameters: teacher {sizes[0]:,}, student {sizes[1]:,}; students' changes: {shlex.join(student) or 'none'}"
    )
    _write_tables(plans[0], whole, labelled)
    cache = plans[0].cache.folder
    shared = [*overrides, "split.column=split", "split.folds=null"]
    run = _trained(recipe, [*shared, *teacher, f"studies={labelled}"], base / "teacher", say, progress)
    for number in range(1, rounds + 1):
        table, after = base / f"pseudo-{number}.parquet", base / f"student-{number}"
        if table.exists():
            made = _same_labels(table, run, rules, seed)
        else:
            if not rules.match_prevalence:
                calibrate(run / "bundle", whole, cache=cache, seed=seed, progress=progress)
            made = pseudo(run / "bundle", whole, table, rules=rules, cache=cache, seed=seed, progress=progress)
        say(f"\nround {number}: {made.table.height:,} studies labelled by {run}\n{lines_of(made)}\n")
        more = [*shared, *student, f"studies={whole}", f"pseudo.table={table}", f"pseudo.weight={weight}"]
        if start == "continued":
            more.append(f"stages.{plans[1].stages[0].name}.init={run / 'bundle'}")
        run = _trained(recipe, more, after, say, progress)
    return run


def parameters(recipe: Recipe) -> int:
    """The parameters of a recipe's last model, built with random weights."""
    spec = recipe.stages[-1].model
    backbone = Choice(spec.backbone.name, {**spec.backbone.options, "pretrained": False})
    model = build_classifier(replace(spec, backbone=backbone), _findings(recipe), recipe.cache.size)
    return sum(parameter.numel() for parameter in model.parameters())


def _findings(recipe: Recipe) -> list[str]:
    if recipe.findings:
        return list(finding_set(recipe.findings))
    return finding_names(split_studies(recipe).table)


def _write_tables(recipe: Recipe, whole: Path, labelled: Path) -> None:
    """The recipe's studies with their split, and the same without training studies that have no label at all."""
    studies = split_studies(recipe)
    table = studies.table
    if whole.exists():
        if not read_studies(whole).equals(table):
            raise _made_otherwise("these are not the studies, split as they are, of this recipe", whole)
        return
    findings = finding_names(table)
    known = pl.any_horizontal(pl.col(findings).is_in([0, 1])).any().over("study_id")
    part = table.filter((pl.col("split") != "train") | known)
    if not (part["split"] == "train").any():
        raise InputError("no training study has a label, so there is no teacher", where=recipe.studies[0])
    ensure_folder(whole.parent)
    write_studies(part, labelled, label_level=studies.level, note=studies.note)
    write_studies(table, whole, label_level=studies.level, note=studies.note)  # last: both are there where this is


def _trained(recipe: str | Path, overrides: Sequence[str], run: Path, say: Say, progress: Progress) -> Path:
    """The run, trained now, gone on with, or found whole; InputError where it is another recipe's, or of other labels."""
    plan, resume = with_absolute_paths(load_recipe(recipe, overrides)), (run / "recipe.yaml").is_file()
    if resume and load_recipe(run / "recipe.yaml") != plan:
        raise _made_otherwise("this run was made with another recipe", run)
    if (run / "report" / "metrics.json").is_file():
        tables = {stage.name: stage.pseudo.table for stage in plan.stages if stage.pseudo}
        facts = RunFolder(run).stage_facts()
        if any(facts[name]["pseudo"]["content"] != content_of(table) for name, table in tables.items()):
            raise _made_otherwise("this run was taught by other pseudo labels", run)
        return run
    return train(
        None if resume else recipe, () if resume else overrides, run=run, resume=resume, say=say, progress=progress
    )


def _same_labels(table: Path, run: Path, rules: Rules, seed: int) -> PseudoLabels:
    """The pseudo labels of a table, or InputError unless this run's model made them by these rules."""
    made, asked = read_pseudo(table), json.loads(json.dumps({**rules.page(), "seed": seed}))
    if {key: made.rule.get(key) for key in asked} != asked:
        raise _made_otherwise("these pseudo labels were chosen by other rules", table)
    if made.teacher != read_bundle(run / "bundle").identity:
        raise _made_otherwise("these pseudo labels are another teacher's", table)
    return made


def _made_otherwise(what: str, where: Path) -> InputError:
    return InputError(what, where=where, do="give the options of then, or another folder")
