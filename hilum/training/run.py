"""A whole run: recipe in, run folder out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from lightning_fabric import Fabric

from hilum.batches.augment import AUGMENTS
from hilum.batches.dataset import Studies
from hilum.builders import choose
from hilum.bundle import Bundle, read_bundle, read_weights, write_bundle
from hilum.data.cache import Cache, build_cache
from hilum.errors import InputError
from hilum.evaluation.evaluate import evaluate
from hilum.evaluation.metrics import best_f1_threshold
from hilum.findings import finding_set
from hilum.inference.engines import pick_device, torch_logits
from hilum.inference.predict import as_predictions, probabilities
from hilum.models.classifier import Classifier, build_classifier, parameter_count
from hilum.models.weights import load_weights
from hilum.operating_points import OperatingPoint
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.recipe import Recipe, Stage, load_recipe
from hilum.tables import finding_names, read_studies, studies_metadata, write_predictions
from hilum.training.card import model_card
from hilum.training.checkpoint import load_checkpoint
from hilum.training.inputs import split_studies, with_absolute_paths, without_folders
from hilum.training.loop import Row, StageLoop, number_from
from hilum.training.losses import build_loss
from hilum.training.plan import check_recipe
from hilum.training.precision import choose_precision
from hilum.training.run_folder import RunFolder, fresh_run_folder
from hilum.training.trackers import TRACKERS

Say = Callable[[str], None]


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
    if recipe is None and not (resume and run):
        raise InputError("no recipe is named", do="name a recipe, or a run to go on with: --resume --run DIR")
    folder = RunFolder(run) if run else RunFolder(fresh_run_folder(Path(recipe or "").stem) if not resume else "")
    if resume:
        plan = folder.resume()
        if recipe is not None and with_absolute_paths(load_recipe(recipe, overrides)) != plan:
            raise InputError(
                "this recipe is not the one the run began with",
                where=folder.path,
                do="resume without changes, or start a new run",
            )
        check_recipe(plan)
    else:
        plan = with_absolute_paths(load_recipe(str(recipe), overrides))
        check_recipe(plan)
        folder.begin(plan, split_studies(plan))
    _Run(folder, plan, progress, say).go()
    return folder.path


class _Run:
    """The steps of a run in the order they happen; what is there already is not done again."""

    def __init__(self, folder: RunFolder, recipe: Recipe, progress: Progress, say: Say):
        self.folder, self.recipe, self.progress, self.say = folder, recipe, progress, say
        self.table = read_studies(folder.studies)
        self.note = studies_metadata(folder.studies).get("note")
        self.findings = list(finding_set(recipe.findings)) if recipe.findings else finding_names(self.table)
        if absent := [name for name in self.findings if name not in self.table.columns]:
            raise InputError(
                f"the study table has no finding {absent[0]!r}",
                where=recipe.studies[0],
                do="choose findings it has, or leave `findings` out",
            )
        self.device = pick_device(recipe.stages[0].train.device)

    def go(self) -> None:
        self.say(f"run       {self.folder.path}")
        images = self._cache()
        rows: list[Row] = []
        models: dict[str, Classifier] = {}
        for stage in self.recipe.stages:
            models[stage.name] = self._stage(stage, images, models, rows)
        last = self.recipe.stages[-1]
        bundle = self._bundle(last, models[last.name], images, rows)
        self._predict(bundle, last, models[last.name], images)

    def _cache(self) -> Cache:
        spec = self.recipe.cache
        images = build_cache(
            self.table, spec.folder, size=spec.size, fit=spec.fit, tone=spec.tone, progress=self.progress
        )
        absent = images.unreadable.filter(pl.col("image_id").is_in(self.table["image_id"].implode()))
        self.say(f"images    {self.table.height:,} at {spec.size} px in {spec.folder}")
        if absent.height:
            self.say(f"          {absent.height:,} cannot be read, first {absent['path'][0]}: {absent['reason'][0]}")
        return images

    def _of(self, split: str, stage: Stage, images: Cache) -> Studies:
        part = self.table.filter(pl.col("split") == split)
        return Studies(
            part,
            images,
            self.findings,
            views=stage.train.views,
            level=stage.train.level if split == "train" else "study",
            uncertain=self.recipe.uncertain,
        )

    def _stage(self, stage: Stage, images: Cache, models: dict[str, Classifier], rows: list[Row]) -> Classifier:
        train, valid = self._of("train", stage, images), self._of("valid", stage, images)
        precision, why = choose_precision(stage.train.precision, self.device)
        fabric = Fabric(accelerator=self.device.type, devices=stage.train.devices, precision=precision)  # type: ignore[arg-type]
        fabric.launch()
        with torch.random.fork_rng([]):
            torch.manual_seed(number_from(stage.train.seed, 0))
            model = build_classifier(stage.model, self.findings, self.recipe.cache.size)
        if stage.init:
            weights, parts = self._initial(stage, models, model)
            report = load_weights(model, weights, parts=parts, where=stage.init)
            self.say(f"init      from {stage.init}: {report}")
        counts, known = train.counts()
        loss = build_loss(stage.loss.name, torch.from_numpy(counts), torch.from_numpy(known), **stage.loss.options)
        augment = choose("augment", AUGMENTS, stage.augment.name)(**stage.augment.options)
        trackers = [choose("tracker", TRACKERS, name)(self.folder.path, stage.name) for name in self.recipe.trackers]
        before = list(rows)

        def on_row(stage_rows: list[Row]) -> None:
            if fabric.is_global_zero:
                self.folder.write_log([*before, *stage_rows])
                for tracker in trackers:
                    tracker.log(stage_rows[-1])
                self.say(_line(stage_rows[-1], stage.train.epochs))

        loop = StageLoop(
            fabric, stage.name, stage.train, model, list(stage.freeze), loss, augment, train, valid,
            self.folder.stage(stage.name), on_row=on_row, progress=self.progress,
        )  # fmt: skip
        everything, trained = parameter_count(model)
        patients = len(set(train.patients))
        self.say(f"device    {self.device} in {precision}: {why}")
        self.say(
            f"stage     {stage.name}: {len(train):,} {stage.train.level} samples of {patients:,} patients to train on, {len(valid):,} studies to validate"
        )
        self.say(
            f"model     {stage.model.backbone.name} + {stage.model.fusion.name} + {stage.model.head.name}: {everything:,} parameters, {trained:,} trained"
        )
        self._manifest(stage, precision, why, train, valid, everything, trained)
        rows += loop.run(resume=True)
        for tracker in trackers:
            tracker.close()
        return model

    def _initial(
        self, stage: Stage, models: dict[str, Classifier], model: Classifier
    ) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
        """Weights to start from, and which parts must fit key by key: those whose kind is the same on both sides."""
        if stage.init in models:
            source = models[stage.init]
            weights, architecture = dict(source.state_dict()), source.architecture
        else:
            bundle = read_bundle(stage.init or "")
            weights = {key: torch.from_numpy(value) for key, value in read_weights(bundle).items()}
            architecture = bundle.architecture
        same = tuple(part for part in ("backbone", "fusion", "head") if architecture[part] == model.architecture[part])
        if not same:
            raise InputError(
                f"stage {stage.name}: no part is like one in {stage.init}",
                do="start from a stage with the same backbone",
            )
        return weights, same

    def _manifest(
        self, stage: Stage, precision: str, why: str, train: Studies, valid: Studies, everything: int, trained: int
    ) -> None:
        facts = {
            "stage": stage.name, "device": str(self.device), "precision": precision, "precision_reason": why,
            "train": len(train), "train_patients": len(set(train.patients)), "valid": len(valid),
            "without_images": len(train.without_images) + len(valid.without_images),
            "parameters": everything, "trained_parameters": trained, "seed": stage.train.seed,
        }  # fmt: skip
        self.folder.write_manifest(facts)

    def _bundle(self, stage: Stage, model: Classifier, images: Cache, rows: list[Row]) -> Bundle:
        train, valid = self._of("train", stage, images), self._of("valid", stage, images)
        counts, known = train.counts()
        logits = torch_logits(model, valid, device=self.device, progress=self.progress, label="Predicting valid")
        thresholds = best_f1_threshold(valid.labels, torch.from_numpy(logits).sigmoid().numpy())
        points = [
            OperatingPoint(name, float(value), "max F1", "validation")
            for name, value in zip(self.findings, thresholds)
            if not np.isnan(value)
        ]
        bundle = Bundle(
            findings=self.findings,
            pixels=PixelSpec(self.recipe.cache.size, self.recipe.cache.fit, self.recipe.cache.tone),
            architecture=model.architecture,
            positives={name: round(float(value)) for name, value in zip(self.findings, counts)},
            known={name: int(value) for name, value in zip(self.findings, known)},
            sources=sorted(set(self.table["source"].to_list())),
            views=stage.train.views,
            licence=model.backbone.facts.licence,
            note=self.note,
            operating_points=points,
        )
        facts, _ = load_checkpoint(self.folder.stage(stage.name) / "checkpoints" / "best.safetensors")
        card = model_card(
            bundle, {key: value for key, value in facts.items() if key.startswith("valid_")}, stage.train.seed
        )
        weights = {key: value.detach().cpu().numpy() for key, value in model.state_dict().items()}
        return write_bundle(
            bundle, weights, self.folder.bundle, recipe=without_folders(self.recipe).to_yaml(), card=card
        )

    def _predict(self, bundle: Bundle, stage: Stage, model: Classifier, images: Cache) -> None:
        tested = "valid"
        for split in ("valid", "test"):
            part = self.table.filter(pl.col("split") == split)
            if part.is_empty():
                continue
            tested = split
            samples = self._of(split, stage, images)
            logits = torch_logits(
                model, samples, device=self.device, progress=self.progress, label=f"Predicting {split}"
            )
            table = probabilities(logits, samples, part, self.findings)
            write_predictions(as_predictions(table, bundle, "study", self.note), self.folder.predictions(split))
        evaluate([self.folder.predictions(tested)], self.folder.studies, self.folder.report, progress=self.progress)


def _line(row: Row, epochs: int) -> str:
    return (
        f"epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.4f}  valid loss {row['valid_loss']:.4f}  mAP {row['valid_map']:.4f}"
        f"  AUROC {row['valid_auroc']:.4f}  lr {row['lr']:.1e}  {row['seconds']:.0f} s"
    )
