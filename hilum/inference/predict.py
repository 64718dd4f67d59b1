"""From a bundle and studies to a predictions table."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from hilum.atomic import refuse_replacing
from hilum.batches.dataset import Images, Studies
from hilum.bundle import Bundle, read_bundle
from hilum.data.cache import build_cache
from hilum.data.context import wanted_by
from hilum.data.seen import seen_by_backbone
from hilum.errors import InputError
from hilum.inference.engines import open_engine
from hilum.inference.given import StudiesOrFiles, paths_of, studies_of
from hilum.inference.open_vocabulary import asked_about
from hilum.inference.torch_engine import AsClassifier, classifier_of, pick_device
from hilum.inference.tta import chosen_by, tta_logits, used
from hilum.models.classifier import Classifier
from hilum.models.context import Context
from hilum.operating_points import calibrated_logits, is_calibrated
from hilum.progress import Progress, silent
from hilum.tables import Level, Predictions, studies_metadata, write_predictions


class Model:
    """A loaded bundle: `.findings`, `.predict(table or files)`, `.logits(images, present, view)`."""

    def __init__(self, bundle: Bundle, classifier: Classifier | AsClassifier, device: torch.device):
        self.bundle, self.classifier, self.device = bundle, classifier.to(device).eval(), device
        self.findings = list(bundle.findings)
        self.context = wanted_by(bundle.architecture["fusion"])  # what it reads of a study besides its images
        self.unreadable = pl.DataFrame()  # image_id, path, reason of the last prediction
        self.tta: dict[str, Any] = {}  # of the last prediction: transforms and space, empty without
        self.crowded = 0  # studies of the last prediction with more images than the model reads: the first were taken
        self.overlap: str | None = None  # a sentence, where the backbone's weights had seen that data set before
        self.scored = self.findings  # what the last prediction was about

    @property
    def zero_shot(self) -> list[str]:
        """The findings of the last prediction that it was not trained on."""
        return [name for name in self.scored if name not in self.findings]

    @torch.inference_mode()
    def logits(
        self,
        images: Tensor,
        present: Tensor,
        view: Tensor,
        demographics: Tensor | None = None,
        context: Context | None = None,
    ) -> Tensor:
        """Logits (B, F): images float (B, V, 1, H, W) in [0, 1], present bool (B, V), view int8 (B, V)."""
        parts = images, present, view, demographics, *(context or ())
        moved = [None if part is None else part.to(self.device) for part in parts]
        answer: Tensor = self.classifier(*moved[:4], Context(*moved[4:]))
        return answer

    def predict(
        self,
        studies: StudiesOrFiles,
        *,
        one_study: bool = False,
        cache: str | Path | None = None,
        level: Level = "study",
        batch_size: int = 64,
        tta: str | Sequence[str] | None = None,
        tta_space: str | None = None,
        tta_seed: int | None = None,
        findings: Sequence[str] | None = None,
        text_model: str | None = None,
        progress: Progress = silent,
    ) -> pl.DataFrame:
        """study_id, patient_id (and image_id at image level), then one Float32 probability per finding.

        studies: a study table (path or frame), or image files and folders: DICOM files by the study that their headers
            name, every other file a study of its own; with `one_study` all of them are views of one.
        cache: a cache folder to use and keep; without it one is made in a temporary place and removed.
        tta: test-time transforms (`hilum.inference.tta.TTA`), averaged in the space probability or logit; by default what
            the bundle's recipe says, with "none" none. `.tta` says afterwards what was used.
        findings: score these, in this order, instead of those it was trained on; for bundles of an open vocabulary.
            `.zero_shot` says afterwards which it was not trained on: these have no calibration and no threshold.
        text_model: the folder of the bundle's text encoder, where a finding is named that the bundle has no vector of.
        Images that cannot be read are left out and listed in `.unreadable`; a study of nothing else has no row.
        """
        table = studies_of(studies, one_study=one_study)
        # a wrong name is told before anything is decoded
        chosen_by(self.bundle.predict, tta, tta_space, tta_seed)
        classifier = self.asked(findings, text_model)
        spec = self.bundle.pixels
        with tempfile.TemporaryDirectory(prefix="hilum-") as temporary:
            images = build_cache(table, cache or temporary, **spec.as_dict(), progress=progress)
            wanted = images.unreadable.filter(pl.col("image_id").is_in(table["image_id"].implode()))
            self.unreadable = wanted
            return self.predict_cached(
                table, images, level=level, batch_size=batch_size,
                tta=tta, tta_space=tta_space, tta_seed=tta_seed, classifier=classifier, progress=progress,
            )  # fmt: skip

    def predict_cached(
        self,
        table: pl.DataFrame,
        images: Images,
        *,
        level: Level = "study",
        batch_size: int = 64,
        tta: str | Sequence[str] | None = None,
        tta_space: str | None = None,
        tta_seed: int | None = None,
        classifier: Classifier | AsClassifier | None = None,
        progress: Progress = silent,
    ) -> pl.DataFrame:
        """The same from images that are decoded already. classifier: what `asked` hands back, by default the bundle's own."""
        asked = classifier or self.classifier
        samples = Studies(table, images, [], views=self.bundle.views, level=level, context=self.context)
        self.crowded = samples.crowded
        self.overlap = seen_by_backbone(self.bundle.backbone_data, table["source"].unique().sort())
        spec = chosen_by(self.bundle.predict, tta, tta_space, tta_seed)
        self.tta = used(spec)
        self.scored = list(asked.findings)
        logits = tta_logits(asked, samples, spec, batch_size=batch_size, device=self.device, progress=progress)
        mapped = calibrated_logits(logits, asked.findings, self.bundle.operating_points)
        return probabilities(mapped, samples, table, asked.findings)

    def asked(self, findings: Sequence[str] | None, text_model: str | None = None) -> Classifier | AsClassifier:
        """The classifier asked about these findings (see `predict`); None: about those it was trained on."""
        if findings is None:
            return self.classifier
        names, vectors = asked_about(self.bundle, findings, text_model)
        return self.classifier.asked(names, torch.from_numpy(vectors).to(self.device))


def load(
    bundle: str | Path,
    *,
    device: str = "auto",
    engine: str = "torch",
    expect: str | None = None,
    allow_partial: bool = False,
) -> Model:
    """Load a bundle, every file checked. `expect` pins its identity; weights must fit key by key unless `allow_partial`.

    engine: a name of `hilum.inference.engines.ENGINES`; what `hilum export` wrote runs on the CPU.
    """
    facts = read_bundle(bundle, expect=expect)
    if engine != "torch":
        if facts.architecture["fusion"].get("context"):
            raise InputError("this model reads more of a study than its images", do="use the engine torch")
        if device not in ("auto", "cpu"):
            raise InputError(f"the engine {engine} runs on the processor, not on {device}", do="leave the device out")
        return Model(facts, AsClassifier(open_engine(facts, engine), facts.findings), torch.device("cpu"))
    return Model(facts, classifier_of(facts, allow_partial=allow_partial), pick_device(device))


def predict(
    bundle: str | Path,
    studies: StudiesOrFiles,
    output: str | Path,
    *,
    one_study: bool = False,
    cache: str | Path | None = None,
    level: Level = "study",
    batch_size: int = 64,
    tta: str | Sequence[str] | None = None,
    tta_space: str | None = None,
    tta_seed: int | None = None,
    findings: Sequence[str] | None = None,
    text_model: str | None = None,
    device: str = "auto",
    engine: str = "torch",
    expect: str | None = None,
    progress: Progress = silent,
) -> Model:
    """Predict studies and write the predictions table; the model comes back with `.unreadable` filled in.

    Raises InputError where the output is one of the inputs.
    """
    refuse_replacing(output, bundle, *paths_of(studies))
    model = load(bundle, device=device, engine=engine, expect=expect)
    table = model.predict(
        studies, one_study=one_study, cache=cache, level=level, batch_size=batch_size,
        tta=tta, tta_space=tta_space, tta_seed=tta_seed, findings=findings, text_model=text_model, progress=progress,
    )  # fmt: skip
    note = (
        studies_metadata(studies).get("note")
        if isinstance(studies, str | Path) and Path(studies).suffix == ".parquet"
        else None
    )
    untrained = f"Scored by name, without training: {', '.join(model.zero_shot)}." if model.zero_shot else None
    notes = dict.fromkeys(filter(None, [note or model.bundle.note, untrained]))
    if model.overlap and not any(model.overlap in told for told in notes):
        notes[model.overlap] = None
    told = " ".join(notes) or None
    made = as_predictions(table, model.bundle, level, told, tta=model.tta)
    write_predictions(replace(made, zero_shot=model.zero_shot), output)
    return model


def as_predictions(
    table: pl.DataFrame,
    bundle: Bundle,
    level: Level,
    note: str | None,
    split: str | None = None,
    *,
    tta: Mapping[str, Any],
) -> Predictions:
    """A table of probabilities with the facts of the bundle that made it.

    split: the part that was held out from it; tta: what was averaged, of `hilum.inference.tta.used`.
    """
    return Predictions(
        table=table,
        level=level,
        bundle=bundle.identity,
        calibrated=is_calibrated(bundle.operating_points),
        positives=bundle.positives,
        known=bundle.known,
        thresholds={point.finding: point.threshold for point in bundle.operating_points},
        split=split,
        note=note,
        tta=dict(tta),
    )


def probabilities(logits: np.ndarray, samples: Studies, table: pl.DataFrame, findings: Sequence[str]) -> pl.DataFrame:
    """Logits (rows, F) of samples as a table: ids, then one probability per finding."""
    key = "study_id" if samples.level == "study" else "image_id"
    ids = ["study_id", "patient_id"] + (["image_id"] if key == "image_id" else [])
    owners = table.select(ids).unique(key, maintain_order=True)
    rows = pl.DataFrame({key: samples.ids}).join(owners, on=key, how="left", maintain_order="left").select(ids)
    chances = torch.from_numpy(logits).sigmoid().numpy()
    return rows.with_columns(pl.Series(name, chances[:, i], dtype=pl.Float32) for i, name in enumerate(findings))
