"""What a batch carries besides the images of its studies: those of the study before, and the words of the request."""

from collections.abc import Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hilum.data.context import Wanted, indications, priors


class StudyContext:
    """The context of samples, as far as it is wanted; of a study before come the images and never the labels.

    table: the rows whose images are held. studies: the study of each sample (N). image_ids: of every image that is held,
    those of a study in the order of views.
    """

    def __init__(self, wanted: Wanted, table: pl.DataFrame, studies: Sequence[str], image_ids: Sequence[str]):
        self.wanted, self._before = wanted, [np.zeros(0, np.int64)] * len(studies)
        self._years = np.zeros(len(studies), np.float32)
        if wanted.prior:
            owner = dict(zip(table["image_id"].to_list(), table["study_id"].to_list()))
            places: dict[str, list[int]] = {}
            for place, image in enumerate(image_ids):
                places.setdefault(owner[image], []).append(place)
            found = {study: (prior, years) for study, prior, years in priors(table).iter_rows()}
            for sample, study in enumerate(studies):
                if study in found:
                    prior, self._years[sample] = found[study]
                    self._before[sample] = np.array(places[prior], np.int64)
        if wanted.text:
            told, vectors = indications(table, wanted.text)
            row = {study: number for number, study in enumerate(told)}
            self._row = np.array([row.get(study, -1) for study in studies])  # -1: nothing was said
            self._vectors = np.concatenate([vectors, np.zeros((1, wanted.text.width), np.float32)])

    def before(self, index: int) -> np.ndarray:
        """Where in `image_ids` the images of the study before a sample's stand; none where there is none, or none wanted."""
        return self._before[index]

    def parts(self, indices: np.ndarray, present: np.ndarray, own: Sequence[int]) -> dict[str, Tensor]:
        """The fields of a Batch that say it: of these samples, present (B, V), whose first images (own: how many) are theirs."""
        parts: dict[str, np.ndarray] = {}
        if self.wanted.prior:
            parts["prior"] = present & (np.arange(present.shape[1]) >= np.array(own)[:, None])
            parts["years"] = self._years[indices]
        if self.wanted.text:
            row = self._row[indices]
            parts["told"], parts["indication"] = row >= 0, self._vectors[row]
        return {name: torch.from_numpy(part) for name, part in parts.items()}
