"""What a run works on: the study tables that its recipe names, united and split, and the recipe's paths made fit to travel."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from hilum.batches.dataset import Studies
from hilum.data.cache import Cache
from hilum.data.context import wanted_by
from hilum.data.seen import seen_by_backbone
from hilum.data.splits import folds, hold_out
from hilum.errors import InputError, nearest
from hilum.findings import canonical, finding_set
from hilum.recipe import Choice, ModelSpec, Recipe, SplitSpec, Stage
from hilum.sources.imported import Imported
from hilum.sources.merge import placed, unite
from hilum.tables import SYNTHETIC, Level, Uncertain, finding_names, read_studies, studies_metadata


@dataclass(frozen=True)
class Material:
    """What every stage of a run works on: the split table, its decoded images, the findings in order."""

    table: pl.DataFrame
    images: Cache
    findings: list[str]
    uncertain: Uncertain
    note: str | None

    def part(self, split: str, stage: Stage) -> Studies:
        """The samples of a part; single images, where the stage trains on these, only in train."""
        return Studies(
            self.table.filter(pl.col("split") == split),
            self.images,
            self.findings,
            views=stage.train.views,
            level=stage.train.level if split == "train" else "study",
            uncertain=self.uncertain if split == "train" else "ignore",
            context=wanted_by(stage.model.fusion.page()),
        )

    def overlap(self, data: Sequence[str]) -> str | None:
        """A sentence where a backbone's weights were trained on data sets that this table is of; None where none is known."""
        return seen_by_backbone(data, self.table["source"].unique().sort())

    def has(self, split: str) -> bool:
        """Whether any study is in this part."""
        return bool((self.table["split"] == split).any())


@dataclass(frozen=True)
class StudyTable:
    """A study table with the facts of its file.

    kept: a sentence where its own test rows were kept out of the deal; united: what was decided where it is of several tables.
    """

    table: pl.DataFrame
    level: Level
    note: str | None
    kept: str | None = None
    united: Sequence[str] = ()


def split_studies(recipe: Recipe) -> StudyTable:
    """The tables that a recipe names as one, every row's split decided."""
    read = _read([recipe.studies] if isinstance(recipe.studies, str) else recipe.studies)
    table = read.studies
    if recipe.single_label:
        findings = list(finding_set(recipe.findings)) if recipe.findings else finding_names(table)
        table = _single_label(table, [name for name in findings if name in table.columns])
    return StudyTable(
        table=_split_real(table, recipe.split),
        level=read.label_level,
        note=read.note,
        kept=_kept(table, recipe.split),
        united=read.notes,
    )


def findings_of(recipe: Recipe, table: pl.DataFrame) -> list[str]:
    """What is trained: the findings that the recipe names, else all of the table. Raises InputError for one that it lacks."""
    there = finding_names(table)
    findings = there if recipe.findings is None else list(finding_set(recipe.findings))
    if not findings:
        raise InputError("no finding is named", do="name some, or leave `findings` out to train all of the table's")
    if absent := [name for name in findings if name not in there]:
        where = recipe.studies if isinstance(recipe.studies, str) else recipe.studies[0]
        advice = f"leave `findings` out, or choose findings it has: {nearest(absent[0], there)}"
        raise InputError(f"the study table has no finding {absent[0]!r}", where=where, do=advice)
    return findings


def _read(tables: Sequence[str]) -> Imported:
    """One table as it is, several as `merge` unites them; findings of the first stand first, where they stood in it."""
    if len(tables) == 1:
        path = placed(tables[0])[1]
        table, facts = read_studies(path), studies_metadata(path)
        return Imported(table, "image" if facts.get("label_level") == "image" else "study", note=facts.get("note"))
    read = unite(tables)
    first = [canonical(name) for name in finding_names(read_studies(placed(tables[0])[1]))]
    findings = finding_names(read.studies)
    ordered = [*(name for name in first if name in findings), *(name for name in findings if name not in first)]
    read.studies = read.studies.select(pl.exclude(findings), *ordered)
    return read


def _single_label(table: pl.DataFrame, findings: list[str]) -> pl.DataFrame:
    """The images with exactly one positive finding and no unknown or uncertain one."""
    known = [pl.col(name).is_in([0, 1]).fill_null(False) for name in findings]
    kept = table.filter(pl.all_horizontal(known), pl.sum_horizontal(*findings) == 1)
    if kept.is_empty():
        raise InputError("no image has exactly one finding and no unknown one", do="set single_label to false")
    return kept


def _split_real(table: pl.DataFrame, spec: SplitSpec) -> pl.DataFrame:
    """The split of the images that nobody generated; those that are synthetic train."""
    made = table.filter(pl.col("source") == SYNTHETIC)
    if made.is_empty():
        return _split(table, spec)
    if made.height == table.height:
        advice = "add a table of real ones to `studies`"
        raise InputError("all images are synthetic, and nothing is left to validate on", do=advice)
    real = _split(table.filter(pl.col("source") != SYNTHETIC), spec)
    return pl.concat([real, made.with_columns(split=pl.lit("train"))], how="diagonal")


def _split(table: pl.DataFrame, spec: SplitSpec) -> pl.DataFrame:
    if spec.folds is not None or spec.column is None:
        return _dealt(table, spec)
    if spec.column not in table.columns:
        advice = "write split.column=null to split by patient"
        raise InputError(f"the study table has no column {spec.column!r} to split by", do=advice)
    table = table.with_columns(split=pl.col(spec.column)).filter(pl.col("split").is_not_null())
    if not (table["split"] == "train").any():
        raise InputError(
            f"no row of column {spec.column!r} says train", do="write split.column=null to split by patient"
        )
    if (table["split"] == "valid").any():
        return table
    carved = hold_out(table.filter(pl.col("split") == "train"), valid=spec.valid, test=0.0, seed=spec.seed)
    return pl.concat([carved, table.filter(pl.col("split") != "train")])


def _dealt(table: pl.DataFrame, spec: SplitSpec) -> pl.DataFrame:
    """By patient; but what the table itself calls test, as an official list does, is never trained on."""
    own = _own_test(table, spec)
    if not own.is_empty():
        who = pl.coalesce("patient_id", "study_id") if "patient_id" in table.columns else pl.col("study_id")
        table = table.join(own, on=who, how="anti", maintain_order="left")
        if table.is_empty():
            advice = "add a table of training studies to `studies`"
            raise InputError("every patient of the study table is in its own test part", do=advice)
    if spec.folds is not None:
        return folds(table, count=spec.folds, fold=spec.fold, valid=spec.valid, seed=spec.seed)
    if own.is_empty():
        return hold_out(table, valid=spec.valid, test=spec.test, seed=spec.seed)
    share = spec.valid / (1 - spec.test)  # training and validation keep their proportion
    return pl.concat([hold_out(table, valid=share, test=0.0, seed=spec.seed), own])


def _own_test(table: pl.DataFrame, spec: SplitSpec) -> pl.DataFrame:
    """The rows that the table calls test, where they are not the recipe's to deal; none where it names a column."""
    asked = spec.folds is not None or spec.column is None
    return table.filter(pl.col("split") == "test") if asked and "split" in table.columns else table.clear()


def _kept(table: pl.DataFrame, spec: SplitSpec) -> str | None:
    count = _own_test(table, spec).height
    if not count:
        return None
    told = f"{count:,} images are test by the table's own column split, and never trained on"
    return f"{told}; they are in no fold" if spec.folds is not None else f"{told}; validation is dealt among the others"


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with every path made absolute, so that the run can be gone on with from anywhere."""
    studies = [recipe.studies] if isinstance(recipe.studies, str) else recipe.studies
    stages = [
        replace(
            stage,
            init=str(Path(stage.init).resolve()) if stage.init and Path(stage.init).is_dir() else stage.init,
            model=_with_folders(stage.model, lambda path: str(path.resolve())),
            pseudo=stage.pseudo and replace(stage.pseudo, table=str(Path(stage.pseudo.table).resolve())),
        )
        for stage in recipe.stages
    ]
    cache = replace(recipe.cache, folder=str(Path(recipe.cache.folder).resolve()))
    return replace(
        recipe, studies=[_at(table, lambda path: str(path.resolve())) for table in studies], cache=cache, stages=stages
    )


def without_folders(recipe: Recipe) -> Recipe:
    """The recipe without the folders of this machine, for a bundle."""
    studies = [recipe.studies] if isinstance(recipe.studies, str) else recipe.studies
    stages = [
        replace(
            stage,
            init=stage.init and Path(stage.init).name,
            model=_with_folders(stage.model, lambda path: path.name),
            pseudo=stage.pseudo and replace(stage.pseudo, table=Path(stage.pseudo.table).name),
        )
        for stage in recipe.stages
    ]
    cache = replace(recipe.cache, folder=Path(recipe.cache.folder).name)
    return replace(
        recipe, studies=[_at(table, lambda path: path.name) for table in studies], cache=cache, stages=stages
    )


def _at(table: str, moved: Callable[[Path], str]) -> str:
    """TABLE or NAME=TABLE with the table put elsewhere."""
    name, path = placed(table)
    return "=".join([*([name] if name else []), moved(Path(path))])


def _with_folders(model: ModelSpec, moved: Callable[[Path], str]) -> ModelSpec:
    """The model with the folders it names put elsewhere: of backbones, of its view classifier, of its text encoder."""
    name, options = _backbone(model.backbone.name, model.backbone.options, moved)
    labels = model.labels
    if labels and labels.options.get("model"):
        labels = Choice(labels.name, {**labels.options, "model": _moved(labels.options["model"], moved)})
    return replace(model, backbone=Choice(name, options), labels=labels)


def _backbone(name: str, options: Mapping[str, Any], moved: Callable[[Path], str]) -> tuple[str, dict[str, Any]]:
    """A backbone's name and options, and those of the two that it may consist of, with their folders put elsewhere."""
    if name.startswith("local-dir:"):
        name = "local-dir:" + _moved(name.removeprefix("local-dir:"), moved)
    told = dict(options)
    for key in ("weights", "view_classifier"):
        if told.get(key):
            told[key] = _moved(told[key], moved)
    for side in ("frontal", "lateral"):
        if isinstance(part := told.get(side), str):
            told[side] = _backbone(part, {}, moved)[0]
        elif isinstance(part, Mapping) and "name" in part:
            own, rest = _backbone(str(part["name"]), part, moved)
            told[side] = {**rest, "name": own}
    return name, told


def _moved(named: str, moved: Callable[[Path], str]) -> str:
    """A folder or file put elsewhere; a name on a hub as it is."""
    path = Path(str(named)).expanduser()
    return moved(path) if path.is_absolute() or path.exists() else named
