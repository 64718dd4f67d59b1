"""The verb `reproduce`: the rows of a published system's tables trained on any studies, ours beside theirs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hilum.atomic import ensure_folder, write_text
from hilum.errors import InputError
from hilum.evaluation.evaluate import check_judging
from hilum.evaluation.joined import KEYS
from hilum.findings import FINDING_SETS, TIER_LISTS, finding_set
from hilum.progress import Progress, silent
from hilum.recipe import Recipe
from hilum.reproductions import Row, System, read_system
from hilum.reproductions.judged import judge_table
from hilum.reproductions.page import as_markdown, as_text
from hilum.reproductions.runs import Runs, Seeds
from hilum.tables import Level, finding_names, labels_of, read_studies

Say = Callable[[str], None]


def reproduce(
    system: str,
    studies: str | Path = "studies.parquet",
    overrides: Sequence[str] = (),
    *,
    truth: str | Path | None = None,
    extra: str | Path | None = None,
    cache: str | Path | None = None,
    runs: str | Path | None = None,
    seeds: int = 1,
    first_seeds: int | None = None,
    small: bool = False,
    tables: Sequence[str] = (),
    level: Level = "image",
    tiers: str | None = None,
    replicates: int = 1000,
    progress: Progress = silent,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Train what the tables of a system hold and is not trained yet, judge it, and hand back reproduction.json's content.

    studies:     any study table; its column `split` decides who is tested where it has one, else patients are dealt by the
                 recipe; findings that are not the recipe's are taken as they are.
    overrides:   dotted changes to every row's recipe, such as train.epochs=3.
    truth:       the table whose labels judge; by default those of the studies.
    extra:       a table of further training studies, all of them in `split` train, for the rows that take some; findings that
                 it does not label are unknown there.
    cache, runs: folders, by default runs/reproduce-SYSTEM and `cache` in it. What is done there is not done again.
    seeds:       trainings of each row; first_seeds: of the rows that start from nothing, by default as many. A second stage's
                 k-th training starts from the k-th of the first, counted round.
    small:       the laptop-sized form.
    tables:      names of the tables, by default all. level: what is scored. tiers: "rule" or a list, by default theirs where
                 the findings are theirs.
    Writes reproduction.json and reproduction.md into `runs`. Raises InputError as `train`, `compare` and the data do.
    """
    plan = read_system(system)
    if seeds < 1 or (first_seeds is not None and not 1 <= first_seeds <= seeds):
        raise InputError(f"{seeds} seeds with {first_seeds} first ones make no trainings", do="give 1 or more, first ones at most as many")  # fmt: skip
    if unknown := [name for name in tables if name not in {table.name for table in plan.tables}]:
        known = ", ".join(table.name for table in plan.tables)
        raise InputError(f"{plan.title} has no table {unknown[0]!r}", do=f"choose among {known}")
    folder = Path(runs or f"runs/reproduce-{system}{'-small' if small else ''}")
    studies, judge_by = Path(studies), Path(truth or studies)
    table_of_studies = read_studies(studies)
    wanted = [table for table in plan.tables if not tables or table.name in tables]
    work = Runs(
        folder=folder,
        system=plan,
        recipe=plan.small if small else plan.recipe,
        overrides=overrides,
        settle=_settler(studies, table_of_studies, Path(cache) if cache else folder / "cache", overrides),
        small=small,
        extra=_checked_extra(extra),
        seeds=Seeds(first=first_seeds or seeds, later=seeds),
        progress=progress,
        say=say,
    )
    _check_judging(table_of_studies, judge_by, level, tiers, replicates)
    work.check()
    ensure_folder(folder)
    findings = finding_names(read_studies(judge_by))
    scored_by = tiers or (plan.tiers if _theirs(plan.tiers, findings) else "rule")
    unlabelled = _unlabelled(table_of_studies)
    judged, skipped = [], []
    for table in wanted:
        files = {}
        for number, row in enumerate(table.rows, 1):
            say(f"row       {number} of {len(table.rows)} of {table.name}: {row.name}")
            if _wants_extra(row, plan) and extra is None:
                skipped.append(
                    f"{row.name}: not run, it learns from further studies; name a table of some with --extra."
                )
            elif row.pseudo and not unlabelled:
                skipped.append(
                    f"{row.name}: not run, self-training needs training studies that are not fully labelled."
                )
            else:
                files[row.name] = work.predictions(row)
        say(f"judging   {table.name}: {len(files)} rows, {replicates:,} draws of patients each")
        judged.append(
            judge_table(table, files, judge_by, level=level, tiers=scored_by, replicates=replicates, progress=progress)
        )
    content: dict[str, Any] = {
        "system": system,
        "title": plan.title,
        "source": plan.source,
        "judged": plan.judged,
        "ours": _ours(work, studies, judge_by, level),
        "remarks": plan.remarks,
        "recipe": work.recipe,
        "overrides": list(overrides),
        "seeds": {"first": work.seeds.first, "later": work.seeds.later},
        "skipped": skipped,
        "tables": judged,
    }  # fmt: skip
    content["files"] = {"page": str(folder / "reproduction.md"), "figures": str(folder / "reproduction.json")}
    write_text(folder / "reproduction.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    write_text(folder / "reproduction.md", as_markdown(content))
    return content


def _wants_extra(row: Row, system: System) -> bool:
    """Whether a row, or one that it is made of, learns from further studies."""
    return row.extra or any(_wants_extra(system.rows[name], system) for name in (*row.of, row.same, row.start) if name)


def _checked_extra(extra: str | Path | None) -> Path | None:
    """The table of further studies, all of which train. Raises InputError for one with others."""
    if extra is None:
        return None
    table = read_studies(extra)
    if "split" not in table.columns or (table["split"] != "train").any():
        raise InputError("further studies are for training alone", where=extra, do="write train into its column split")
    return Path(extra)


def _settler(studies: Path, table: pl.DataFrame, cache: Path, overrides: Sequence[str]) -> Callable[[Recipe], Recipe]:
    """What makes a recipe fit the studies at hand, where the overrides do not say it."""
    there = set(finding_names(table))
    said = {override.split("=")[0] for override in overrides}
    if misplaced := sorted(said & {"studies", "cache.folder"}):
        raise InputError(f"{misplaced[0]} is said twice", do="give it with --studies or --cache")

    def settle(recipe: Recipe) -> Recipe:
        lacking = recipe.findings is not None and not there.issuperset(finding_set(recipe.findings))
        findings = None if lacking and "findings" not in said else recipe.findings
        column = "split" if "split" in table.columns else None
        split = recipe.split if "split.column" in said else replace(recipe.split, column=column)
        placed = replace(recipe.cache, folder=str(cache))
        return replace(recipe, studies=str(studies), findings=findings, split=split, cache=placed)

    return settle


def _check_judging(table: pl.DataFrame, judge_by: Path, level: Level, tiers: str | None, replicates: int) -> None:
    """Raise InputError for what would stop the judging, before anything is trained."""
    check_judging(replicates, tiers or "rule")
    if "split" in table.columns:
        parts = table["split"].drop_nulls().unique().to_list()
        table = table.filter(pl.col("split") == ("test" if "test" in parts else "valid"))
    key = KEYS[level]
    if (lost := table.join(read_studies(judge_by), on=key, how="anti")).height:
        what = f"{lost.height:,} of {table.height:,} images to be judged are not in this table, first {key} {lost[key][0]!r}"
        raise InputError(what, where=judge_by, do="give the true labels of the same studies")


def _theirs(tiers: str, findings: Sequence[str]) -> bool:
    """Whether a published tier list speaks of these findings."""
    return tiers in TIER_LISTS and set(findings) == set(FINDING_SETS["cxr-lt-2023"])


def _unlabelled(table: pl.DataFrame) -> bool:
    """Whether any entry of the studies that may be trained on is unknown."""
    part = table.filter(pl.col("split") == "train") if "split" in table.columns else table
    return bool(np.isnan(labels_of(part, finding_names(part)).values).any())


def _ours(work: Runs, studies: Path, truth: Path, level: Level) -> str:
    """One clause on what our figures rest on."""
    by = f", judged by the labels of {truth.name}" if truth != studies else ""
    scored = "image (a study's score repeated for each of its images)" if level == "image" else "study"
    counted = f"{work.seeds.first} training{'s' if work.seeds.first > 1 else ''} of a first stage, {work.seeds.later} of a second"
    return f"recipe {work.recipe} on {studies.name}{by}, per {scored}; {counted}"


__all__ = ["as_text", "reproduce"]
