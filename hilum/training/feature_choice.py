"""Whether a stage trains on cached features: decided once, said in the log, noted in the manifest, kept on resuming."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from hilum.batches.dataset import Studies
from hilum.data.features import check_room, free_bytes, told_bytes
from hilum.models.classifier import Classifier
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.recipe import Choice, PredictSpec, Recipe, Stage
from hilum.training.features import StageFeatures
from hilum.training.inputs import Material
from hilum.training.precision import choose_precision


@dataclass(frozen=True)
class FeatureFacts:
    """What the manifest says of a stage's feature cache.

    versions: augmented ones beside the images as they are; keys: the folder of each version; seconds: spent on computing.
    """

    used: bool
    reason: str
    versions: int = 0
    bytes: int = 0
    seconds: float = 0.0
    keys: tuple[str, ...] = ()


def choose_features(
    stage: Stage,
    model: Classifier,
    fabric: Fabric,
    train: Studies,
    valid: Studies,
    *,
    base: Path,
    spec: PixelSpec,
    predict: PredictSpec | None = None,
    before: Mapping[str, Any] | None = None,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Studies, Studies, dict[str, Any]]:
    """The stage's studies, with cached features where these are to be used, and the facts for the manifest.

    base: the folder of feature caches; predict: how validation studies are predicted; before: the facts of this stage
    when it began, where it is resumed: what was decided then holds, as the training would otherwise go on from other
    numbers.
    """
    if "backbone" not in stage.freeze or stage.train.feature_cache == "off":
        reason = "as the recipe says" if "backbone" in stage.freeze else "the backbone is trained"
        return train, valid, asdict(FeatureFacts(False, reason))
    features = StageFeatures(stage, model, fabric, train, valid, base, spec, predict)
    count, reason = fabric.broadcast(_decide(stage, features, before))
    if count is None:
        say(f"features  computed at every step: {reason}")
        return train, valid, asdict(FeatureFacts(False, reason))
    features.keep(count)
    images = len(train.image_ids)
    augmented = f" and {count} augmented version{'s' * (count > 1)} of the {images:,} in training" if count else ""
    if features.transformed:
        augmented += f", of the {len(valid.image_ids):,} in validation under {', '.join(features.transformed)}"
    say(
        f"features  of {images + len(valid.image_ids):,} images as they are{augmented}: {told_bytes(features.bytes)} in {base}"
    )
    say(f"          computed once, {told_bytes(features.bytes_missing)} of it now: {reason}")
    if fabric.world_size > 1 and features.bytes_missing:
        say(f"          by one of {fabric.world_size} processes; the others wait until it is done")
    started = time.monotonic()
    computed = features.compute(progress)
    seconds = time.monotonic() - started if computed else 0.0
    if computed:
        say(f"          {computed:,} feature maps in {seconds:,.0f} s")
    facts = FeatureFacts(
        used=True,
        reason=reason,
        versions=count,
        bytes=features.bytes,
        seconds=round(seconds + (before or {}).get("seconds", 0.0), 2),
        keys=tuple(version.cache.folder.name for version in features.versions),
    )
    return *features.studies(), asdict(facts)


def cached_samples(
    stage: Stage, recipe: Recipe, material: Material, model: Classifier, samples: Studies, progress: Progress = silent
) -> Studies:
    """Held-out studies with the features of the stage's frozen backbone, computed where another run has not done so.

    As exact as training on features is: they are rounded to float16. Raises MachineError where the disk has no room.
    """
    device = next(model.parameters()).device
    precision, _ = choose_precision(stage.train.precision, device)
    fabric = Fabric(accelerator=device.type, devices=1, precision=precision)  # type: ignore[arg-type]
    plain, train = replace(stage, augment=Choice("none")), material.part("train", stage)
    base, spec = material.images.folder / "features", material.images.spec
    features = StageFeatures(plain, model, fabric, train, samples, base, spec, recipe.predict)
    check_room(features.bytes_missing, base)
    features.compute(progress)
    return features.studies()[1]


def _decide(stage: Stage, features: StageFeatures, before: Mapping[str, Any] | None) -> tuple[int | None, str]:
    """How many augmented versions to use, None for no cached features at all, and why.

    Raises MachineError where the recipe wants them, or the stage began with them, and the disk is full.
    """
    if before is not None:
        if before["used"]:
            features.keep(before["versions"])
            check_room(features.bytes_missing, features.base)
        return before["versions"] if before["used"] else None, str(before["reason"])
    wanted, free = stage.train.feature_cache == "on", free_bytes(features.base)
    most, whole = len(features.augmented), features.bytes_missing
    # never down to none: that would be a training without augmentation
    counts = [most >> half for half in range(most.bit_length())] if stage.train.feature_versions is None else []
    for count in counts or [most]:
        features.keep(count)
        if features.bytes_missing <= (free if wanted else free / 2):
            why = f"the backbone is frozen, and they fit in half of the {told_bytes(free)} that are free"
            less = f"; {most} augmented versions would need {told_bytes(whole)}" if count < most else ""
            return count, ("as the recipe says" if wanted else why) + less
    need = features.bytes_missing
    if wanted:
        check_room(need, features.base)
    return None, f"{told_bytes(need)} of features are more than half of the {told_bytes(free)} that are free"
