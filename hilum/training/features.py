"""Features of a frozen backbone, computed once for a stage: whether to, of which versions, and the computing.

What a map is depends on the backbone's weights, the pixel spec, the precision and the image alone (where views have
backbones of their own, on its view too); of an augmented one also on the augmentation, the seed, the version's number and
the sample (a study with its images) that it is drawn for; under a test-time transform also on that, as every epoch ends
with predictions of the validation studies under these.
Neither batches nor interruptions matter: samples are walked in one order, and shards hold whole batches of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from hilum.batches.augment import AUGMENTS, Augment, to_float
from hilum.batches.dataset import Studies
from hilum.builders import choose
from hilum.data.features import LARGEST, FeatureCache, Versions, digest, key_of, write_facts
from hilum.data.shards import alone, drop_lost
from hilum.errors import InputError
from hilum.inference.tta import IDENTITY, Transform, facts_of, transforms
from hilum.models.classifier import Classifier
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.recipe import PredictSpec, Stage
from hilum.training.loop import number_from

VERSIONS = 4  # augmented ones, where the recipe does not say
VERIFIED = 2 << 30  # bytes of features that are checked against their checksums before a stage: a second or two
_IMAGES = 32  # that are encoded at once, at least

Change = Callable[[Tensor, str], Tensor]  # images uint8 (n, 1, H, W) of a sample, and its id -> float in [0, 1]


@dataclass(frozen=True)
class Part:
    """A sample of studies[which], and which of its images (by place) are still to be computed."""

    which: int
    studies: Studies
    index: int
    places: np.ndarray


@dataclass
class Version:
    """One version of a stage's images: its folder, and the identity of every image of the studies it is made for."""

    change: Change
    facts: dict[str, Any]
    cache: FeatureCache
    studies: list[Studies]
    identities: list[list[str]]  # of each of the studies, by place

    def rows(self, which: int) -> np.ndarray:
        """int64 (images,): where the maps of studies[which] are, -1 where they are still to be computed."""
        return self.cache.rows(self.identities[which])

    @property
    def missing(self) -> int:
        return sum(int((self.rows(which) < 0).sum()) for which in range(len(self.studies)))

    def parts(self) -> list[Part]:
        """What is still to be computed, in the order in which it is computed."""
        found = []
        for which, studies in enumerate(self.studies):
            absent = self.rows(which) < 0
            for index in range(len(studies)):
                places = studies.places(index)
                if absent[places].any():
                    found.append(Part(which, studies, index, places[absent[places]]))
        return found

    def lines(self, part: Part) -> list[tuple[str, str]]:
        """Identity and image_id of the images of a part."""
        names, images = self.identities[part.which], part.studies.image_ids
        return [(names[place], images[place]) for place in part.places.tolist()]


class StageFeatures:
    """The cached features of one stage: what is there in the folder `base`, what is missing, and the computing of it."""

    def __init__(
        self,
        stage: Stage,
        model: Classifier,
        fabric: Fabric,
        train: Studies,
        valid: Studies,
        base: Path,
        spec: PixelSpec,
        predict: PredictSpec | None = None,
    ):
        self.model, self.fabric, self.train, self.valid, self.base = model, fabric, train, valid, base
        self.seed, self.augment = stage.train.seed, _build_augment(stage)
        model.backbone.to(fabric.device).eval()
        blank = torch.zeros(1, 1, spec.size, spec.size, device=fabric.device)
        shape = self._encode(blank).shape[1:]
        facts = {
            "backbone": {key: model.architecture["backbone"][key] for key in ("name", "options")},
            "weights": weights_digest(model.backbone),
            "timm": installed("timm"),
            "pixels": spec.as_dict(),
            "precision": str(fabric.strategy.precision.precision),
            "shape": list(shape),
        }
        plain = [_of_images(one, by_view=model.backbone.routes) for one in (train, valid)]
        self.plain = self._version(_unchanged, facts, [train, valid], plain)
        self.augmented: list[Version] = []
        self.transformed: dict[str, Version] = {}
        for number in range(1, 1 + augmented_versions(stage)):
            drawn = {"augment": _augment_page(stage), "seed": self.seed, "version": number}
            version = self._version(self._draw(number), facts | drawn, [train], [_of_samples(train, plain[0])])
            self.augmented.append(version)
        predict = predict or PredictSpec()
        for name, transform in transforms(predict.tta).items():
            if name != IDENTITY:
                here = facts | facts_of(name, predict)
                self.transformed[name] = self._version(_under(transform, predict.seed), here, [valid], plain[1:])

    @property
    def versions(self) -> list[Version]:
        """All of them, in the order in which they are computed."""
        return [self.plain, *self.augmented, *self.transformed.values()]

    def _version(
        self, change: Change, facts: dict[str, Any], studies: list[Studies], names: list[list[str]]
    ) -> Version:
        cache = FeatureCache(self.base / key_of(facts), tuple(facts["shape"]))
        return Version(change, facts, cache, studies, names)

    @property
    def bytes(self) -> int:
        """Bytes of all that the stage needs."""
        return sum(len(names) for version in self.versions for names in version.identities) * self._each

    @property
    def bytes_missing(self) -> int:
        """Bytes of what is still to be computed."""
        return sum(version.missing for version in self.versions) * self._each

    @property
    def _each(self) -> int:
        return self.plain.cache.bytes_each

    def keep(self, count: int) -> None:
        """Leave out all augmented versions but the first `count`, which are the same however many follow."""
        del self.augmented[count:]

    def compute(self, progress: Progress = silent) -> int:
        """Compute what is missing, and hand back how many maps that were. A killed build loses one shard at most.

        Raises InputError for shards that are damaged, and for features beyond the range of float16.
        """
        computed = 0
        for number, version in enumerate(self.versions, start=1):
            if self.bytes <= VERIFIED:
                version.cache.verify()
            if version.missing:
                computed += self._fill(version, f"features {number}/{len(self.versions)}", progress)
        return computed

    def studies(self) -> tuple[Studies, Studies]:
        """The stage's studies for training and validation, whose batches carry features."""
        shown = [self.plain, *self.augmented]
        train = Versions([version.cache for version in shown], np.stack([version.rows(0) for version in shown]))
        valid = Versions([self.plain.cache], self.plain.rows(1)[None])
        changed = {name: Versions([one.cache], one.rows(0)[None]) for name, one in self.transformed.items()}
        return self.train.with_features(train), self.valid.with_features(valid, changed)

    def _fill(self, version: Version, label: str, progress: Progress) -> int:
        folder, shape = version.cache.folder, version.cache.shape
        write_facts(folder, version.facts)
        with alone(folder):  # of several processes one computes, and the others find it done
            version.cache = FeatureCache(folder, shape)
            drop_lost(folder, version.cache)
            batches, count = _batches(version.parts()), version.missing
            shelf = version.cache.shelf(count)
            try:
                for batch in progress(batches, total=len(batches), label=label, unit="batches"):
                    pixels = torch.cat([self._pixels(version.change, part) for part in batch])
                    maps = to_half(self._encode(pixels, _views(batch).to(self.fabric.device)))
                    shelf.add([line for part in batch for line in version.lines(part)], maps)
            except KeyboardInterrupt:
                shelf.close()  # what is computed is kept
                raise
            shelf.close()
        version.cache = FeatureCache(folder, shape)
        return count

    def _pixels(self, change: Change, part: Part) -> Tensor:
        """float (n, 1, H, W) in [0, 1]: the wanted images of a sample, changed together with its others."""
        studies, places = part.studies, part.studies.places(part.index)
        images = torch.from_numpy(studies.source.images(studies.rows[places]))[:, None].to(self.fabric.device)
        return change(images, studies.ids[part.index])[np.isin(places, part.places)]

    def _draw(self, number: int) -> Change:
        """The number-th augmentation of a sample: all its images alike."""

        def change(images: Tensor, sample: str) -> Tensor:
            draw = number_from(self.seed, number, int(digest(sample)[:16], 16), 4)
            return self.augment(images[None], torch.Generator(self.fabric.device).manual_seed(draw))[0]

        return change

    @torch.inference_mode()
    def _encode(self, pixels: Tensor, view: Tensor | None = None) -> Tensor:
        with self.fabric.autocast():
            return self.model.encode(pixels, view)


def augmented_versions(stage: Stage) -> int:
    """How many augmented versions of a training image there are beside the image as it is."""
    if stage.augment.name == "none":
        return 0
    wish = stage.train.feature_versions
    return min(VERSIONS, stage.train.epochs) if wish is None else wish


def weights_digest(module: nn.Module) -> str:
    """The SHA-256 of everything a module computes with: parameters, batch-norm statistics, other buffers."""
    parts: list[str | bytes] = []
    for name, value in sorted([*module.named_parameters(), *module.named_buffers()]):
        content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        parts += [f"{name} {value.dtype} {tuple(value.shape)}", content]
    return digest(*parts)


def to_half(features: Tensor) -> np.ndarray:
    """Features rounded to float16. Raises InputError where one is not a number of its range."""
    largest = float(features.abs().max())
    if not largest <= LARGEST:
        raise InputError(
            f"a feature of the backbone is {largest}, which float16 cannot hold", do="set train.feature_cache=off"
        )
    return features.half().cpu().numpy()


def _unchanged(images: Tensor, sample: str) -> Tensor:
    return to_float(images)


def _under(transform: Transform, seed: int) -> Change:
    return lambda images, sample: transform(images, seed)


def _build_augment(stage: Stage) -> Augment:
    augment: Augment = choose("augment", AUGMENTS, stage.augment.name)(**stage.augment.options)
    return augment


def _augment_page(stage: Stage) -> dict[str, Any]:
    """The augmentation with every option said, so that another default is another key."""
    builder = choose("augment", AUGMENTS, stage.augment.name)
    return {"name": stage.augment.name, **(getattr(builder, "__kwdefaults__", None) or {}), **stage.augment.options}


def _of_images(studies: Studies, *, by_view: bool) -> list[str]:
    """The identity of each image, by place: its id, its content, and its view where the backbone goes by it."""
    marks = studies.source.marks(studies.rows)
    if not by_view:
        return [digest(*pair) for pair in zip(studies.image_ids, marks)]
    return [digest(*each) for each in zip(studies.image_ids, marks, map(str, studies.view.tolist()))]


def _views(batch: list[Part]) -> Tensor:
    """int8 (n,): the views of the images of a batch."""
    return torch.from_numpy(np.concatenate([part.studies.view[part.places] for part in batch]))


def _of_samples(studies: Studies, plain: list[str]) -> list[str]:
    """The identity of each image among the others of its sample: they share what is drawn, so they are known together."""
    named = [""] * len(plain)
    for index, sample in enumerate(studies.ids):
        places = studies.places(index).tolist()
        whole = digest(sample, *(plain[place] for place in places))
        for number, place in enumerate(places):
            named[place] = digest(whole, str(number))
    return named


def _batches(parts: list[Part]) -> list[list[Part]]:
    """Whole samples put together until there are enough images for one call of the backbone."""
    batches: list[list[Part]] = []
    room = 0
    for part in parts:
        if room <= 0:
            batches.append([])
            room = _IMAGES
        batches[-1].append(part)
        room -= len(part.places)
    return batches
