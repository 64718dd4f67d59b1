"""The end of a run: thresholds from validation, the bundle, predictions of valid and test, the report."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch

from hilum.batches.dataset import Studies
from hilum.bundle import Bundle, write_bundle
from hilum.evaluation.evaluate import evaluate
from hilum.evaluation.metrics import best_f1_threshold
from hilum.evaluation.reliability import FILE as RELIABILITY
from hilum.evaluation.reliability import as_bytes, measure_reliability
from hilum.inference.gate import measure_distribution, put_distribution
from hilum.inference.predict import as_predictions, probabilities
from hilum.inference.tta import tta_logits, used
from hilum.label_file import FILE as LABELS
from hilum.models.classifier import Classifier
from hilum.operating_points import OperatingPoint
from hilum.pixels.spec import PixelSpec
from hilum.progress import Progress, silent
from hilum.recipe import Recipe, Stage
from hilum.tables import write_predictions
from hilum.training.card import model_card
from hilum.training.checkpoint import load_checkpoint
from hilum.training.feature_choice import cached_samples
from hilum.training.inputs import Material, without_folders
from hilum.training.run_folder import RunFolder

CHOSEN_ON = "Validation studies: the epoch and the thresholds were chosen on them, so this is no test result."


@dataclass(frozen=True)
class Said:
    """What the finished model says of the studies of a part: logits float32 (N, F)."""

    samples: Studies
    logits: np.ndarray


def ask(
    stage: Stage, recipe: Recipe, material: Material, model: Classifier, progress: Progress = silent
) -> dict[str, Said]:
    """The studies that were held out, by part (valid, and test where there is one), and what the model says of them."""
    device, said = next(model.parameters()).device, {}
    for split in ("valid", "test"):
        if material.has(split):
            samples = material.part(split, stage)
            if stage.train.feature_cache == "all" and "backbone" in stage.freeze:
                samples = cached_samples(stage, recipe, material, model, samples, progress)
            label = f"Predicting {split}"
            logits = tta_logits(model, samples, recipe.predict, device=device, progress=progress, label=label)
            said[split] = Said(samples, logits)
    return said


def save_bundle(
    stage: Stage, recipe: Recipe, material: Material, folder: RunFolder, model: Classifier, valid: Said
) -> Bundle:
    """Write RUN/bundle: the model with its training counts, its gate and, per finding, the threshold of best F1 on validation."""
    train = material.part("train", stage)
    counts, known = train.counts()
    scores = torch.from_numpy(valid.logits).sigmoid().numpy()
    thresholds = zip(material.findings, best_f1_threshold(valid.samples.labels, scores))
    bundle = Bundle(
        findings=material.findings,
        pixels=PixelSpec(recipe.cache.size, recipe.cache.fit, recipe.cache.tone),
        architecture=model.architecture,
        positives={name: round(float(value)) for name, value in zip(material.findings, counts)},
        known={name: int(value) for name, value in zip(material.findings, known)},
        sources=sorted(set(material.table["source"].to_list())),
        views=stage.train.views,
        predict=asdict(recipe.predict),
        vocabulary=model.vocabulary,
        licence=model.backbone.licence,
        note=" ".join(filter(None, (material.note, material.overlap(model.backbone.data)))) or None,
        operating_points=[
            OperatingPoint(name, float(value), "max F1", "validation")
            for name, value in thresholds
            if not np.isnan(value)
        ],
    )
    facts, _ = load_checkpoint(folder.best(stage.name))
    chosen = {key: value for key, value in facts.items() if key.startswith("valid_")}
    weights = {key: value.detach().cpu().numpy() for key, value in model.state_dict().items()}
    pseudo = {name: facts["pseudo"] for name, facts in folder.stage_facts().items() if facts.get("pseudo")}
    card = model_card(bundle, chosen, stage.train.seed, pseudo)
    opened = model.labels if model.vocabulary == "open" else None
    files = {LABELS: opened.with_known(material.findings).to_bytes()} if opened else {}
    chosen_at = {point.finding: point.threshold for point in bundle.operating_points}
    held_out = valid.samples.labels, scores, chosen_at, valid.samples.patients
    files[RELIABILITY] = as_bytes(measure_reliability(material.findings, *held_out, CHOSEN_ON))
    page = without_folders(recipe).to_yaml()
    write_bundle(bundle, weights, folder.bundle, recipe=page, card=card, files=files)
    return put_distribution(bundle, measure_distribution(model, train, valid.samples))


def report(
    bundle: Bundle,
    recipe: Recipe,
    material: Material,
    folder: RunFolder,
    said: Mapping[str, Said],
    progress: Progress = silent,
) -> None:
    """Write predictions_{valid,test}.parquet and the report: on test studies, or on valid ones where none are held out."""
    for split, one in said.items():
        table = probabilities(one.logits, one.samples, material.table, material.findings)
        notes = [bundle.note, CHOSEN_ON if split == "valid" else None]
        note = " ".join(filter(None, notes)) or None
        predictions = as_predictions(table, bundle, "study", note, split, tta=used(recipe.predict))
        write_predictions(predictions, folder.predictions(split))
    judged = folder.predictions("test" if "test" in said else "valid")
    evaluate([judged], folder.studies, folder.report, single_label=recipe.single_label, progress=progress)
