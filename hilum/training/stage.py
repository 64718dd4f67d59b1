"""One stage of a run: its model built and given its first weights, its loss and augmentation chosen, its loop run."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from hilum.batches.augment import AUGMENTS
from hilum.batches.dataset import Studies
from hilum.builders import choose
from hilum.bundle import read_bundle, read_weights
from hilum.errors import InputError
from hilum.inference.torch_engine import pick_device
from hilum.models.classifier import PARTS, Classifier, build_classifier, head_channels
from hilum.models.positions import resample_positions
from hilum.models.weights import LoadReport, load_weights
from hilum.progress import Progress, silent
from hilum.recipe import Recipe, Stage
from hilum.training.feature_choice import choose_features
from hilum.training.inputs import Material
from hilum.training.loop import Row, is_finished, number_from
from hilum.training.lora import add_lora
from hilum.training.losses import Loss, build_loss
from hilum.training.precision import choose_precision
from hilum.training.pseudo import lay_pseudo
from hilum.training.run_folder import RunFolder
from hilum.training.simclr import OBJECTIVES
from hilum.training.tau import TauLoop
from hilum.training.trackers import TRACKERS


def train_stage(
    stage: Stage,
    recipe: Recipe,
    material: Material,
    folder: RunFolder,
    earlier: Mapping[str, Classifier],
    rows: list[Row],
    *,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Classifier:
    """Train one stage (or go on with it, where the folder has its checkpoint) and hand back its best model.

    earlier: the models of the stages before; rows: the run's log so far, to which this stage's lines are added.
    """
    train, valid = material.part("train", stage), material.part("valid", stage)
    loss = _loss(stage, train)
    begun = folder.stage_facts().get(stage.name, {}).get("pseudo")
    train, pseudo = lay_pseudo(stage, train, material, before=begun, say=say)
    device = pick_device(stage.train.device)
    precision, why = choose_precision(stage.train.precision, device)
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", "1"))  # set by torchrun
    fabric = Fabric(accelerator=device.type, devices=stage.train.devices, num_nodes=nodes, precision=precision)  # type: ignore[arg-type]
    fabric.launch()
    with torch.random.fork_rng([]):  # the random start is the seed's, and the world's generator stays where it was
        torch.manual_seed(number_from(stage.train.seed, 0))
        model = build_classifier(stage.model, material.findings, recipe.cache.size)
    if model.labels is not None:
        say(f"labels    {model.labels}; the vocabulary is {model.vocabulary}")
    if stage.init:
        say(f"init      from {stage.init}: {_start_from(stage, model, earlier)}")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    with torch.random.fork_rng([]):
        torch.manual_seed(number_from(stage.train.seed, 7))
        add_in = add_lora(model.backbone, stage.lora) if stage.lora else None
    heads = " by view" if stage.model.heads == "by_view" else ""
    parts = f"{stage.model.backbone.name} + {stage.model.fusion.name} + {stage.model.head.name}{heads}"
    say(f"device    {device} in {precision}: {why}")
    say(f"model     {parts}: {parameters:,} parameters{', frozen: ' + ', '.join(stage.freeze) if stage.freeze else ''}")
    if stage.lora:
        learnt = sum(part.numel() for part in model.backbone.parameters() if part.requires_grad)
        say(f"lora      of rank {stage.lora.rank}: {learnt:,} parameters of the backbone are trained")
    if overlap := material.overlap(model.backbone.data):
        say(f"overlap   {overlap}")
    say(f"stage     {stage.name}: {len(train):,} {stage.train.level} samples of {len(set(train.patients)):,} patients")
    say(f"          validated on {len(valid):,} studies of {len(set(valid.patients)):,} other patients")
    if crowded := train.crowded + valid.crowded:
        drawn = "in training these are drawn each time, else one of each kind is taken (frontal, lateral, other), then on in order"
        say(f"views     {crowded:,} studies have more than {stage.train.views} images: {drawn}")
    without = int(np.isnan(train.labels).all(axis=1).sum())
    if without and stage.objective.name == "labels":
        say(
            f"labels    {without:,} of the samples have none: they teach nothing here, `hilum pseudo` may give them some"
        )
    before = folder.stage_facts().get(stage.name, {}).get("features")
    if stage.tau is not None or is_finished(folder.stage(stage.name)):
        cached = before  # nothing is left to be trained on them
    else:
        train, valid, cached = choose_features(
            stage, model, fabric, train, valid, base=material.images.folder / "features", spec=material.images.spec,
            predict=recipe.predict, before=before, progress=progress, say=say,
        )  # fmt: skip
    if fabric.is_global_zero:
        facts = {
            "device": str(device),
            "precision": precision,
            "precision_reason": why,
            "seed": stage.train.seed,
            "parameters": parameters,
            "train": {"samples": len(train), "patients": len(set(train.patients))},
            "valid": {"studies": len(valid), "patients": len(set(valid.patients))},
            "without_images": train.without_images + valid.without_images,
            "features": cached,
            "pseudo": pseudo,
        }
        folder.write_manifest(stage.name, facts)
    names = recipe.trackers if fabric.is_global_zero else []
    trackers = [choose("tracker", TRACKERS, name)(folder.path, stage.name) for name in names]
    earlier_rows = list(rows)

    def on_row(own: list[Row]) -> None:
        if fabric.is_global_zero:
            folder.write_log([*earlier_rows, *own])
            for tracker in trackers:
                tracker.log(own[-1])
            say(_line(own[-1], stage.train.epochs))

    augment = choose("augment", AUGMENTS, stage.augment.name)(**stage.augment.options)
    learn = stage.objective.build("objective", OBJECTIVES)
    kind = learn if stage.tau is None else partial(TauLoop, stage.tau)
    loop = kind(
        fabric, stage.name, stage.train, model, list(stage.freeze), loss, augment, train, valid,
        folder.stage(stage.name), predict=recipe.predict, on_row=on_row, progress=progress,
    )  # fmt: skip
    if stage.train.sampler.name != "shuffle" and stage.tau is None:
        say(f"sampler   {stage.train.sampler.name}: {loop.steps * loop.batch:,} samples an epoch")
    if stage.train.mix.name != "none" and stage.tau is None:
        say(f"mix       {stage.train.mix.name} of {'images' if train.features is None else 'cached features'}")
    rows += (own := loop.run(resume=True))
    if stage.tau is not None:
        say(f"tau       {own[loop.at.best_epoch]['tau']:g}, the best of {len(own)} by {stage.train.select}")
    if add_in:
        add_in()
    for tracker in trackers:
        tracker.close()
    return model


def _loss(stage: Stage, train: Studies) -> Loss:
    counts, known = train.counts()
    counted = torch.from_numpy(counts), torch.from_numpy(known)
    return build_loss(stage.loss.name, *counted, findings=train.findings, **stage.loss.options)


def _start_from(stage: Stage, model: Classifier, earlier: Mapping[str, Classifier]) -> LoadReport:
    """Load what this stage shares with the one (or the bundle) it starts from; shared parts must fit key by key."""
    if source := earlier.get(stage.init or ""):
        weights, architecture, findings = dict(source.state_dict()), source.architecture, list(source.findings)
    else:
        bundle = read_bundle(stage.init or "")
        weights = {key: torch.from_numpy(value) for key, value in read_weights(bundle).items()}
        architecture, findings = bundle.architecture, bundle.findings
    shared = [part for part in PARTS if _same(part, architecture, model.architecture)]
    if findings != list(model.findings):  # the head's last layer answers other questions
        shared = [part for part in shared if part == "backbone" or (part == "fusion" and not model.fusion.per_finding)]
    shared = [part for part in shared if part not in stage.fresh]
    if not shared:
        raise InputError(
            f"stage {stage.name}: no part is like one in {stage.init}", do="start from one with the same backbone"
        )
    return load_weights(model, resample_positions(weights, model), parts=tuple(shared), where=str(stage.init))


def _same(part: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if part == "backbone":  # the facts may differ (of which weights they are), the network may not
        return (one[part]["name"], one[part]["options"]) == (other[part]["name"], other[part]["options"])
    if one.get("heads", "shared") != other.get("heads", "shared"):
        return False  # one head or two: other parts under the same words
    if part == "head" and (head_channels(one), one.get("demographics"), one.get("labels")) != (
        head_channels(other),
        other.get("demographics"),
        other.get("labels"),
    ):
        return False  # alike in words, but they are handed other tokens, or other vectors of their labels
    return bool(one[part] == other[part])


def _line(row: Row, epochs: int) -> str:
    begin = f"tau {row['tau']:g}" if "tau" in row else f"epoch {row['epoch']:>3}/{epochs}  loss {row['train_loss']:.4f}"
    named = {"valid_loss": "valid loss", "valid_map": "mAP", "valid_auroc": "AUROC"}
    named["valid_balanced_accuracy"] = "balanced accuracy"
    judged = "  ".join(f"{word} {row[key]:.4f}" for key, word in named.items() if key in row)
    return f"{begin}  {judged}  {row['seconds']:.0f} s"
