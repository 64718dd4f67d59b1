"""The plan: a recipe held against every builder before any data is opened."""

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hilum.batches.augment import AUGMENTS
from hilum.batches.mixing import MIXES
from hilum.batches.sampling import SAMPLERS
from hilum.builders import choose
from hilum.errors import InputError, nearest
from hilum.inference.fill_views import check_pixels
from hilum.inference.torch_engine import pick_device
from hilum.inference.tta import transforms
from hilum.models.classifier import check_model
from hilum.models.view_classifier import read_view_facts
from hilum.pixels.spec import PixelSpec
from hilum.recipe import Recipe, Stage
from hilum.training.lora import check_lora
from hilum.training.losses import check_loss
from hilum.training.optim import OPTIMIZERS
from hilum.training.precision import choose_precision
from hilum.training.schedule import SCHEDULES
from hilum.training.simclr import OBJECTIVES
from hilum.training.tau import check_tau
from hilum.training.trackers import TRACKERS

_OF_TRAINING: dict[str, Mapping[str, Callable[..., Any]]] = {
    "sampler": SAMPLERS, "mix": MIXES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES,
}  # fmt: skip
_LEAST = {
    "epochs": 1,
    "batch_size": 1,
    "accumulate": 1,
    "views": 1,
    "devices": 1,
    "seed": 0,
    "patience": 0,
    "clip": 0,
    "weight_decay": 0,
}


def check_recipe(recipe: Recipe) -> None:
    """Raise InputError for the first name, option or number in the recipe that cannot work."""
    earlier: list[str] = []
    spec = PixelSpec(recipe.cache.size, recipe.cache.fit, recipe.cache.tone)
    for stage in recipe.stages:
        _check_stage(stage, earlier)
        earlier.append(stage.name)
        if judge := stage.model.backbone.options.get("view_classifier"):
            check_pixels(spec, read_view_facts(judge).pixels, where=recipe.cache.folder)
    transforms(recipe.predict.tta)
    if recipe.stages and recipe.stages[-1].objective.name not in ("labels", "none"):
        raise InputError(
            f"the last stage learns {recipe.stages[-1].objective.name}, not the findings",
            do=f"add a stage with `init: {recipe.stages[-1].name}`",
        )
    for tracker in recipe.trackers:
        choose("tracker", TRACKERS, tracker)
    if not recipe.single_label and "softmax" in [stage.loss.name for stage in recipe.stages]:
        raise InputError(
            "loss softmax is for studies with exactly one finding", do="set single_label: true, or choose another loss"
        )
    split = recipe.split
    if not (0 < split.valid < 1 and 0 <= split.test < 1 and split.valid + split.test < 1):
        raise InputError(f"split: valid {split.valid} and test {split.test} leave nothing to train on", do="lower them")
    if split.folds is not None and not (split.folds >= 2 and 0 <= split.fold < split.folds):
        raise InputError(
            f"split: there is no fold {split.fold} of {split.folds}", do="folds count from 0; take at least 2"
        )
    if split.folds is not None and split.column is not None:
        raise InputError("split: both folds and column are given", do="choose one")


def _check_stage(stage: Stage, earlier: list[str]) -> None:
    check_model(stage.model)
    check_loss(stage.loss.name, stage.loss.options)
    stage.augment.build("augment", AUGMENTS)
    for kind, builders in _OF_TRAINING.items():
        getattr(stage.train, kind).build(kind, builders)
    if stage.train.mix.name != "none" and not (stage.train.level == "image" or stage.train.views == 1):
        raise InputError(
            f"stage {stage.name}: train.mix is {stage.train.mix.name}, and a sample has up to {stage.train.views} views",
            do="only single images are mixed: set train.level=image or train.views=1",
        )
    choose_precision(stage.train.precision, pick_device(stage.train.device))
    if stage.init is not None and stage.init not in earlier and not Path(stage.init).exists():
        raise InputError(
            f"stage {stage.name}: init {stage.init!r} is neither an earlier stage nor a bundle",
            do=nearest(stage.init, earlier),
        )
    if stage.fresh and stage.init is None:
        raise InputError(f"stage {stage.name}: without `init` every part is fresh", do="take `fresh` out")
    check_tau(stage)
    check_lora(stage)
    stage.objective.build("objective", OBJECTIVES)
    if stage.objective.name != "labels":
        odd = {"train.accumulate": stage.train.accumulate > 1, "train.mix": stage.train.mix.name != "none",
               "tau": stage.tau is not None, "lora": stage.lora is not None,
               "freeze": bool(stage.freeze) and stage.objective.name == "simclr"}  # fmt: skip
        if said := [name for name, given in odd.items() if given]:
            raise InputError(f"stage {stage.name}: {said[0]} does not go with {stage.objective.name}", do="take it out")
    for name, least in _LEAST.items():
        if not least <= getattr(stage.train, name) < math.inf:
            raise InputError(f"train.{name} is {getattr(stage.train, name)}", do=f"give at least {least}")
    shares = (("warmup", 0.0, 1.0), ("ema", 0.0, 0.99999), ("final_lr", 0.0, 1.0), ("layer_decay", 0.01, 1.0))
    for name, low, high in shares:
        if not low <= getattr(stage.train, name) <= high:
            raise InputError(f"train.{name} is {getattr(stage.train, name)}", do=f"give {low:g} to {high:g}")
    if stage.train.devices > 1 and "RANK" not in os.environ:
        count = stage.train.devices
        raise InputError(f"train.devices is {count}, and this is one process", do=f"start it by `torchrun --standalone --nproc-per-node {count} -m -- hilum.cli train` and the same words")  # fmt: skip
    if stage.train.feature_cache == "on" and "backbone" not in stage.freeze:
        raise InputError(
            f"stage {stage.name}: train.feature_cache is on, but the backbone is trained",
            do="write `freeze: backbone`, or leave feature_cache at auto",
        )
    if (stage.train.feature_versions or 0) < 0:
        raise InputError(f"train.feature_versions is {stage.train.feature_versions}", do="give at least 0")
    if stage.pseudo is not None:
        if not 0 <= stage.pseudo.weight < math.inf:
            raise InputError(f"pseudo.weight is {stage.pseudo.weight}", do="give 0 or more")
        if not Path(stage.pseudo.table).is_file():
            raise InputError(
                "there is no such table of pseudo labels", where=stage.pseudo.table, do="make it with `hilum pseudo`"
            )
    if not 0 < stage.train.lr < math.inf:
        raise InputError(f"train.lr is {stage.train.lr}", do="give a number above 0")
    if stage.train.accumulate > stage.train.batch_size:
        raise InputError(
            "train.accumulate is larger than train.batch_size", do="a batch is reached in that many parts: lower it"
        )
