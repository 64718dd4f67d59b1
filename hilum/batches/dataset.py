"""Studies as batches: which images a study has, in which order, and the arrays a model takes."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hilum.batches.context import StudyContext
from hilum.data.context import Wanted
from hilum.data.images import none_readable
from hilum.data.views import first_views
from hilum.tables import VIEWS, Level, Uncertain, labels_of

NOTHING = Wanted()


@dataclass(frozen=True)
class Batch:
    """B studies of up to V views.

    images uint8 (B, V, 1, H, W); present bool (B, V); view int8 (B, V): 0 unknown, 1 PA, 2 AP, 3 LATERAL;
    demographics float32 (B, 4): age in decades, age known, sex (F 0, M 1), sex known;
    labels float32 (B, F), NaN = unknown; study_id: B ids (image ids where a sample is one image);
    features float16 (B, V, C, h, w): what a frozen backbone made of the images, which are None then;
    weights float32 (B, F) of the entries of labels, 0 or more; None = all 1;
    prior bool (B, V): which of the present images are of the patient's study before; years float32 (B,): since then;
    indication float32 (B, D): the request as a vector; told bool (B,): whether there is one; None where nobody asked.
    """

    images: Tensor | None
    present: Tensor
    view: Tensor
    demographics: Tensor
    labels: Tensor
    study_id: list[str]
    features: Tensor | None = None
    weights: Tensor | None = None
    prior: Tensor | None = None
    years: Tensor | None = None
    indication: Tensor | None = None
    told: Tensor | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch on a device."""
        moved: dict[str, Any] = {
            name: part.to(device, non_blocking=True) for name, part in vars(self).items() if isinstance(part, Tensor)
        }
        return replace(self, **moved)


class Images(Protocol):
    """Where decoded images come from: a cache, or files decoded on the fly."""

    def rows(self, image_ids: Sequence[str]) -> np.ndarray: ...

    def images(self, rows: np.ndarray) -> np.ndarray: ...

    def marks(self, rows: np.ndarray) -> list[str]:
        """A mark of the content of each row: another picture has another mark."""


class Features(Protocol):
    """Where cached feature maps come from: `versions` of each image, of which version 0 is the image as it is."""

    versions: int

    def maps(self, places: np.ndarray, version: np.ndarray) -> np.ndarray: ...


class Studies:
    """The studies of a table, ready to be drawn as batches.

    images: a cache (hilum.data.cache); images it does not hold (unreadable ones) are left out, and a study without any
        readable image is left out with them and listed in `without_images`.
    rows, image_ids, view: of every image that is held, sample by sample: its row in `images`, its id, its view's code.
    views: most views of a study in a batch; in training drawn at random, else the first of each kind (frontal, lateral,
        other), then as many more as there is room for, in the order PA, AP, LATERAL, unknown, then image id, which is
        also their order in the batch. `crowded` counts the studies that have more.
    level: study, or image: then every image is a sample of its own with its study's labels.
    ids, studies, patients, labels: of each sample: its study's or image's id, its study, its patient, (N, F) with NaN =
        unknown. weights: (N, F) of the labels' entries where pseudo labels stand among them (`with_pseudo`), else None.
    context: what is wanted besides: then up to `views` images of the patient's study before (within this table) follow a
        sample's own, and never its labels; they are not among `places`.
    features: cached ones, or None; changed: of the images under test-time transforms, by the transform's name.
    """

    def __init__(
        self,
        table: pl.DataFrame,
        images: Images,
        findings: Sequence[str],
        *,
        views: int = 4,
        level: Level = "study",
        uncertain: Uncertain = "ignore",
        context: Wanted = NOTHING,
    ):
        self.source, self.findings, self.views, self.level = images, list(findings), views, level
        order = pl.col("view").replace_strict({name: i for i, name in enumerate(("PA", "AP", "LATERAL", "unknown"))})
        key = "study_id" if level == "study" else "image_id"
        table = table.with_columns(__row=pl.Series(images.rows(table["image_id"].to_list()), dtype=pl.Int64))
        readable = table.filter(pl.col("__row") >= 0)
        all_ids = table[key].unique(maintain_order=True)
        self.without_images: list[str] = all_ids.filter(~all_ids.is_in(readable[key].unique().implode())).to_list()
        if readable.is_empty():
            raise none_readable(images, table)
        code = pl.col("view").replace_strict({name: i for i, name in enumerate(VIEWS)}, return_dtype=pl.Int8)
        ordered = readable.with_columns(__code=code, __order=order).sort("__order", "image_id")
        grouped = ordered.group_by(__key=key, maintain_order=True).agg("__row", "__code", "image_id")
        labels = labels_of(readable, findings, level=level, uncertain=uncertain)
        place = {study: i for i, study in enumerate(grouped["__key"].to_list())}
        at = [place[study] for study in labels.ids]
        self.ids, self.patients, self.labels = labels.ids, labels.patients, labels.values
        owner = dict(zip(readable[key].to_list(), readable["study_id"].to_list()))
        self.studies: list[str] = [owner[name] for name in self.ids]
        self.weights: np.ndarray | None = None
        self._given = self.labels
        lengths = grouped["__row"].list.len().to_numpy().astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        self._start, self._length = starts[:-1][at], lengths[at]
        self.crowded = int((self._length > views).sum())
        self.rows = grouped["__row"].explode().to_numpy()
        self.image_ids: list[str] = grouped["image_id"].explode().to_list()
        self.view = grouped["__code"].explode().to_numpy().astype(np.int8)
        self.demographics = _demographics(readable, key)
        self.context = StudyContext(context, readable, self.studies, self.image_ids)
        self.features: Features | None = None
        self.changed: Mapping[str, Features] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """(F,) positives (soft labels count by their value) and (F,) known entries of the table; pseudo labels do not count."""
        known = ~np.isnan(self._given)
        return np.where(known, self._given, 0.0).sum(axis=0, dtype=np.float64), known.sum(axis=0)

    def positives(self) -> np.ndarray:
        """bool (N, F): what the table calls positive, of soft labels those of one half and more; unknown is not."""
        return np.asarray(self._given >= 0.5)

    def targets(self, indices: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Labels (B, F) of these samples and, where there are any, their weights."""
        weights = None if self.weights is None else torch.from_numpy(self.weights[indices])
        return torch.from_numpy(self.labels[indices]), weights

    def batch(self, indices: np.ndarray, generator: np.random.Generator | None = None) -> Batch:
        """The batch of these studies.

        generator: draws the views of a study that has too many, and the version of its cached features; without it the
            first views of each kind are taken, and the images as they are.
        """
        own = [self._choose(self.places(int(index)), generator) for index in indices]
        before = [self._choose(self.context.before(int(index)), generator) for index in indices]
        chosen = [np.concatenate(pair) for pair in zip(own, before)]
        width = max(len(places) for places in chosen)
        present = np.zeros((len(indices), width), dtype=bool)
        view = np.zeros((len(indices), width), dtype=np.int8)
        for i, places in enumerate(chosen):
            present[i, : len(places)] = True
            view[i, : len(places)] = self.view[places]
        places = np.concatenate(chosen)
        images, features = None, None
        if self.features is None:
            images = _laid(self.source.images(self.rows[places])[:, None], present)
        else:
            drawn = (
                generator.integers(self.features.versions, size=len(chosen))
                if generator
                else np.zeros(len(chosen), int)
            )
            features = _laid(self.features.maps(places, np.repeat(drawn, present.sum(axis=1))), present)
        labels, weights = self.targets(indices)
        return Batch(
            images=images,
            features=features,
            present=torch.from_numpy(present),
            view=torch.from_numpy(view),
            demographics=torch.from_numpy(self.demographics[indices]),
            labels=labels,
            weights=weights,
            study_id=[self.ids[index] for index in indices],
            **self.context.parts(indices, present, [len(places) for places in own]),
        )

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All studies, batch by batch, in their own order."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))

    def places(self, index: int) -> np.ndarray:
        """Where in `rows` and `image_ids` the images of a sample stand, however many they are."""
        return np.arange(self._start[index], self._start[index] + self._length[index])

    def with_features(self, features: Features | None, changed: Mapping[str, Features] | None = None) -> "Studies":
        """The same studies, whose batches carry cached features instead of images; with None they carry images again."""
        twin = copy.copy(self)
        twin.features, twin.changed = features, changed or {}
        return twin

    def with_pseudo(self, labels: np.ndarray, weights: np.ndarray) -> "Studies":
        """The same studies with pseudo labels (N, F), NaN = none, where the table's are unknown; weights (N, F) are theirs.

        A known entry stays as it is, at weight 1, and the counts stay those of the table.
        """
        twin = copy.copy(self)
        laid = np.isnan(self.labels) & ~np.isnan(labels)
        twin.labels = np.where(laid, labels, self.labels).astype(np.float32)
        twin.weights = np.where(laid, weights, 1.0).astype(np.float32)
        return twin

    def _choose(self, places: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
        if len(places) <= self.views:
            return places
        if generator is None:
            return places[first_views([VIEWS[code] for code in self.view[places]], self.views)]
        return np.sort(generator.choice(places, self.views, replace=False))


def _laid(arrays: np.ndarray, present: np.ndarray) -> Tensor:
    """Arrays (N, ...) of the present images, in row order, laid out as (B, V, ...) with zeros for absent views."""
    laid = np.zeros((*present.shape, *arrays.shape[1:]), dtype=arrays.dtype)
    laid[present] = arrays
    return torch.from_numpy(laid)


def _demographics(table: pl.DataFrame, key: str) -> np.ndarray:
    """float32 (rows, 4) of the first image of each study, unknown as 0 with its flag 0."""
    age = pl.col("age").cast(pl.Float32) if "age" in table.columns else pl.lit(None, dtype=pl.Float32)
    sex = pl.col("sex") if "sex" in table.columns else pl.lit(None, dtype=pl.String)
    rows = table.group_by(key, maintain_order=True).agg(age.first().alias("age"), sex.first().alias("sex"))
    columns = [
        rows["age"].fill_null(0) / 10,
        rows["age"].is_not_null().cast(pl.Float32),
        (rows["sex"] == "M").fill_null(False).cast(pl.Float32),
        rows["sex"].is_not_null().cast(pl.Float32),
    ]
    return np.stack([column.to_numpy() for column in columns], axis=1).astype(np.float32)
