"""The trainings of bench/systems.py, each once: heads on the cached features of one backbone, and whole networks.

All rows of a table take equally many steps of equally many samples: where a sampler makes epochs longer, or images are
samples instead of studies, there are fewer epochs.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from lightning_fabric import Fabric
from system_rows import HEAD_RATE, RATE, Entry

from hilum.atomic import ensure_folder, write_text
from hilum.batches.dataset import Studies
from hilum.batches.sampling import SAMPLERS, epoch_length
from hilum.bundle import read_bundle
from hilum.data.cache import build_cache
from hilum.errors import InputError
from hilum.evaluation.ensemble import ensemble
from hilum.evaluation.gating import apply_rules
from hilum.inference.predict import load, probabilities
from hilum.inference.torch_engine import pick_device
from hilum.inference.tta import tta_logits
from hilum.progress import shown
from hilum.recipe import Choice, PredictSpec, Recipe, Stage, load_recipe
from hilum.reproductions.runs import finished
from hilum.tables import Predictions, finding_names, labels_of, read_studies, studies_metadata, write_predictions
from hilum.training.features import StageFeatures
from hilum.training.inputs import Material, split_studies, with_absolute_paths
from hilum.training.precision import choose_precision
from hilum.training.run_folder import RunFolder
from hilum.training.stage import train_stage

Files = dict[str, list[Path]]  # row -> predictions of the test studies, a file for each training or fold
# what every row of a table has alike, whatever its recipe says
ON_FEATURES = (
    "augment={name: none}", f"train.lr={HEAD_RATE}", "train.batch_size=128", "train.ema=0.98",
)  # fmt: skip
ALIKE = (
    "cache.size=64", "cache.fit=pad", f"train.lr={RATE}", "train.batch_size=32", "train.accumulate=1", "train.optimizer=adamw",
    "train.weight_decay=0.05", "train.schedule=cosine", "train.final_lr=0.01", "train.warmup=0.05", "train.clip=1.0",
    "train.ema=0.98", "train.patience=0",
)  # fmt: skip


@dataclass(frozen=True)
class Data:
    """A study table with a split, the table that judges it, and where its decoded images are."""

    studies: Path
    truth: Path
    cache: Path


# -- recipes ----------------------------------------------------------------------------------------------------------


def head_recipe(entry: Entry, data: Data, bundle: Path | None, seed: int, epochs: int) -> Recipe:
    """Table (a): a row's one or two stages on the frozen backbone of a bundle (None: not trained yet, from nothing)."""
    frozen = [f"init={bundle}", "fresh=[fusion, head]"] if bundle else []
    given = [*frozen, "freeze=[backbone]", *ON_FEATURES, f"train.seed={seed}", *entry.overrides]
    plan = load_recipe("phantom_small", given)
    stages = plan.stages
    if entry.then is not None:
        later = load_recipe("phantom_small", [*given, *entry.then]).stages[0]
        stages = [*stages, replace(later, name="then", init=stages[0].name, fresh=[])]
    cache = replace(plan.cache, folder=str(data.cache))
    if bundle is not None:  # its backbone, at its size
        made = read_bundle(bundle)
        network = Choice(made.architecture["backbone"]["name"], made.architecture["backbone"]["options"])
        stages = [replace(one, model=replace(one.model, backbone=network)) for one in stages]
        cache = replace(cache, **made.pixels.as_dict())
    plan = replace(plan, studies=str(data.studies), cache=cache, findings=None, stages=stages)
    return _levelled(plan, entry, epochs, "study")


def whole_recipe(entry: Entry, data: Data, seed: int, epochs: int, fold: int | None = None, folds: int = 5) -> Recipe:
    """Table (b): a row's recipe at 64 px, optimised as all are. fold: of the deal by patient; None: the table's split."""
    plan = load_recipe(entry.recipe, [*ALIKE, f"train.seed={seed}", *entry.overrides])
    if len(plan.stages) == 1 or entry.steps < 1:
        plan = replace(plan, stages=[replace(one, train=replace(one.train, level="image")) for one in plan.stages])
    cache = replace(plan.cache, folder=str(data.cache))
    dealt: dict[str, Any] = (
        {"folds": None, "column": "split"} if fold is None else {"folds": folds, "fold": fold, "column": None}
    )
    split = replace(plan.split, **dealt, valid=0.15, seed=0)
    plan = replace(plan, studies=str(data.studies), findings=None, split=split, cache=cache)
    return _levelled(plan, entry, epochs, "image")


def _levelled(plan: Recipe, entry: Entry, epochs: int, level: Any) -> Recipe:
    """The plan with so many epochs that a stage takes the steps of `epochs` plain ones at that level; of two, their shares."""
    table = split_studies(plan).table.filter(pl.col("split") == "train")
    findings = finding_names(table)
    plain = len(labels_of(table, findings, level=level).ids)
    shares = [entry.steps, 1 - entry.steps] if entry.steps < 1 else [1.0] * len(plan.stages)

    def levelled(stage: Stage, share: float) -> Stage:
        positives = labels_of(table, findings, level=stage.train.level).values >= 0.5
        drawn = epoch_length(stage.train.sampler.build("sampler", SAMPLERS)(positives))
        return replace(stage, train=replace(stage.train, epochs=max(1, round(share * epochs * plain / drawn))))

    return replace(plan, stages=[levelled(stage, share) for stage, share in zip(plan.stages, shares)])


# -- table (a) --------------------------------------------------------------------------------------------------------


class _Folder(RunFolder):
    """A run folder without curves: drawing them takes longer than an epoch on cached features."""

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        names = list(dict.fromkeys(key for row in rows for key in row))
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
        write_text(self.path / "log.csv", "\n".join(lines) + "\n")


class Heads:
    """Trains heads on the cached features of one bundle's backbone, and predicts from these."""

    def __init__(self, data: Data, bundle: Path, folder: Path, epochs: int):
        self.data, self.bundle, self.folder, self.epochs = data, bundle, folder, epochs
        self._material: Material | None = None
        self._studies: dict[str, Studies] = {}

    def predicted(self, entry: Entry, seed: int, splits: Sequence[str] = ("valid", "test")) -> Path:
        """The run folder of a trained row, with predictions_SPLIT.parquet; made unless it is there."""
        run = self.folder / entry.folder / f"seed-{seed}"
        plan = head_recipe(entry, self.data, self.bundle, seed, self.epochs)
        page = run / "recipe.yaml"
        if page.exists() and load_recipe(page) != with_absolute_paths(plan):
            raise InputError("this row was made with other options", where=run, do="give those, or another folder")
        if all((run / f"predictions_{split}.parquet").exists() for split in splits):
            return run
        ensure_folder(run)
        write_text(page, with_absolute_paths(plan).to_yaml())
        print(f"{entry.name}, seed {seed}", flush=True)
        material, rows, models = self.material, [], {}
        for stage in plan.stages:
            models[stage.name] = train_stage(stage, plan, material, _Folder(run), models, rows)
        train = material.part("train", plan.stages[-1])
        counts, known = (dict(zip(material.findings, column.tolist())) for column in train.counts())
        for split in splits:
            studies = self._with_features(split, plan.stages[-1])
            logits = tta_logits(models[plan.stages[-1].name], studies, PredictSpec(), batch_size=512)
            made = Predictions(
                probabilities(logits, studies, material.table, material.findings), split=split, note=material.note,
                positives={name: round(count) for name, count in counts.items()}, known=known,
            )  # fmt: skip
            write_predictions(made, run / f"predictions_{split}.parquet")
        return run

    @property
    def material(self) -> Material:
        """The studies with their decoded images."""
        if self._material is None:
            spec = read_bundle(self.bundle).pixels
            table = read_studies(self.data.studies)
            images = build_cache(table, self.data.cache, **spec.as_dict(), progress=shown)
            note = studies_metadata(self.data.studies).get("note")
            self._material = Material(table, images, finding_names(table), "ignore", note)
        return self._material

    def _with_features(self, split: str, stage: Stage) -> Studies:
        """The studies of a part with the features of their images as they are: the same for every row."""
        if split not in self._studies:
            model, own = load(self.bundle).classifier, self.material.part(split, stage)
            device = pick_device(stage.train.device)
            precision, _ = choose_precision(stage.train.precision, device)
            fabric = Fabric(accelerator=device.type, devices=1, precision=precision)  # type: ignore[arg-type]
            train = self.material.part("train", stage)
            base, spec = self.material.images.folder / "features", self.material.images.spec
            features = StageFeatures(stage, model, fabric, train, own, base, spec)
            features.compute(shown)
            self._studies[split] = features.studies()[1]
        return self._studies[split]


def head_files(entries: Sequence[Entry], heads: Heads, seeds: int) -> Files:
    """Every row of table (a) trained or combined."""
    return {
        one.name: [_row(one, {m: heads.predicted(_named(entries, m), seed) for m in one.members}, heads.data, heads.folder / one.folder / f"seed-{seed}")
                   if not one.trained else heads.predicted(one, seed) / "predictions_test.parquet" for seed in range(seeds)]
        for one in entries
    }  # fmt: skip


# -- table (b) --------------------------------------------------------------------------------------------------------


def whole_files(
    entries: Sequence[Entry], data: Data, folder: Path, epochs: int, *, seeds: int = 1, folds: int = 0
) -> Files:
    """Every row of table (b) trained or combined: on the table's split once per seed, or once on each of so many folds."""
    files: Files = {}
    for one in entries:
        files[one.name] = []
        for number in range(folds or seeds):
            name = f"fold-{number}" if folds else f"seed-{number}"
            runs = {
                row.name: _whole(row, data, folder, name, 0 if folds else number, epochs, number if folds else None, folds)
                for row in ([_named(entries, member) for member in one.members] if not one.trained else [one])
            }  # fmt: skip
            if one.trained:
                files[one.name].append(runs[one.name] / "predictions_test.parquet")
            else:
                studies = next(iter(runs.values())) / "studies.parquet"
                files[one.name].append(_row(one, runs, replace(data, studies=studies), folder / one.folder / name))
    return files


def _whole(
    entry: Entry, data: Data, folder: Path, name: str, seed: int, epochs: int, fold: int | None, folds: int
) -> Path:
    plan = whole_recipe(entry, data, seed, epochs, fold, folds)
    page = folder / "recipes" / f"{entry.folder}-{name}.yaml"
    return finished(plan, folder / entry.folder / name, page, progress=shown, say=print)


# -- rows that are not trained ----------------------------------------------------------------------------------------


def _row(entry: Entry, runs: dict[str, Path], data: Data, run: Path) -> Path:
    """Predictions combined of the members' runs, or changed by rules; what is learned is learned on validation labels."""
    made = run / "predictions_test.parquet"
    if made.exists():
        return made
    ensure_folder(run)
    test, valid = ([one / f"predictions_{split}.parquet" for one in runs.values()] for split in ("test", "valid"))
    if entry.rules is not None:
        given: Any = entry.rules
        fit = {"fit_on": valid[0], "studies": data.studies} if "normal" in given and "power" not in given else {}
        apply_rules(test[0], made, **given, **fit)
    else:
        method: Any = entry.join
        ensemble(test, made, method=method, fit_on=valid, studies=data.studies)
    return made


def _named(entries: Sequence[Entry], name: str) -> Entry:
    return next(one for one in entries if one.name == name)


def seconds(file: Path) -> float | None:
    """Training seconds of the run that made these predictions, by its log; None where nothing was trained."""
    log = file.parent / "log.csv"
    if not log.exists():
        return None
    with log.open(encoding="utf-8") as lines:
        return sum(float(row["seconds"] or 0) for row in csv.DictReader(lines))
