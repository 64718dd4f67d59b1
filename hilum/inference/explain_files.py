"""Heat maps on files: a picture for each image and finding, and in words what it shows."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray

from hilum.atomic import atomic_folder
from hilum.bundle import read_bundle
from hilum.errors import InputError, nearest
from hilum.inference.averaging import averaging_of
from hilum.inference.engines import Array, Engine, Views, as_floats, open_engine
from hilum.inference.explain import explain
from hilum.inference.given import StudiesOrFiles, studies_of
from hilum.inference.zones import Map, onto_image, peak_of, words_of
from hilum.operating_points import calibrated_logits
from hilum.pixels.raster import Grey
from hilum.pixels.read import read_image
from hilum.pixels.render import render, to_eight_bits
from hilum.progress import Progress, silent
from hilum.tables import VIEWS

SIDE = 1024  # pixels of the longer side of a picture, at most
OPACITY = 0.5
_ORDER = ("PA", "AP", "LATERAL", "unknown")


def explain_files(
    bundle: str | Path,
    studies: StudiesOrFiles,
    findings: Sequence[str],
    output: str | Path,
    *,
    one_study: bool = False,
    method: str | None = None,
    engine: str = "torch",
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Write `output`/NNN-FINDING.png, an image with its heat map, for each, and maps.json; what that holds comes back.

    maps.json: of each picture its file, study_id, image_id, view, finding, the study's calibrated probability (with the bundle's
    test-time transforms, as `predict` has it), method, words and peak (x, y) in 0 to 1. Pictures show patients: keep them where the images are kept. method: a name of
    `hilum.inference.explain.METHODS`. Raises InputError for a finding or method that the model has not, UnreadableImage.
    """
    facts = read_bundle(bundle)
    if not findings:
        raise InputError("no finding is named", do="name one with --finding")
    if unknown := [name for name in findings if name not in facts.findings]:
        raise InputError(f"the model has no finding {unknown[0]!r}", do=nearest(unknown[0], facts.findings))
    if (target := Path(output)).exists() and not (target / "maps.json").is_file():
        raise InputError("this folder is there already, and not made by explain", where=target, do="name a new one")
    table, runs = studies_of(studies, one_study=one_study), open_engine(facts, engine)
    averaging = averaging_of(facts, runs)
    wanted = [facts.findings.index(name) for name in findings]
    place = pl.col("view").replace_strict({view: n for n, view in enumerate(_ORDER)})
    parts = table.sort(place, "image_id", maintain_order=True).partition_by("study_id", maintain_order=True)
    told: list[dict[str, Any]] = []
    with atomic_folder(output) as folder:
        for part in progress(parts, total=len(parts), label="Explaining", unit="studies"):
            rows = part.head(facts.views).to_dicts()
            whole = [read_image(row["path"]) for row in rows]
            squares = np.stack([render(image, facts.pixels) for image in whole])
            images = as_floats(squares[:, None])
            view = np.array([VIEWS.index(row["view"]) for row in rows], dtype=np.int8)
            person = _demographics(rows[0])
            logits = averaging.of(partial(_logits, runs, view, person), squares[:, None])
            chances = 1 / (1 + np.exp(-calibrated_logits(logits, facts.findings, facts.operating_points)[0]))
            made = explain(runs, images, view, person, wanted, method)
            for finding, column, heats in zip(findings, wanted, made.maps):
                for row, image, heat in zip(rows, whole, heats):
                    laid = onto_image(heat, facts.pixels, (image.shape[0], image.shape[1]))
                    name = f"{len(told) + 1:03d}-{''.join(c if c.isalnum() else '-' for c in finding)}.png"
                    (folder / name).write_bytes(cv2.imencode(".png", overlaid(image, laid))[1].tobytes())
                    told.append({
                        "file": name, "study_id": row["study_id"], "image_id": row["image_id"], "view": row["view"],
                        "finding": finding, "probability": float(chances[column]), "method": made.method,
                        "words": words_of(laid, row["view"]), "peak": list(peak_of(laid)),
                    })  # fmt: skip
        (folder / "maps.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return told


def overlaid(image: Grey, heat: Map) -> NDArray[np.uint8]:
    """uint8 (h, w, 3) BGR: an image (H, W), at most SIDE long, under a map of its aspect in magma; what is low is see-through."""
    scale = min(1.0, SIDE / max(image.shape))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    grey = np.asarray(cv2.resize(to_eight_bits(image), size, interpolation=cv2.INTER_AREA), dtype=np.float32)
    smooth = np.clip(cv2.resize(heat, size, interpolation=cv2.INTER_LINEAR), 0, 1)
    colours = cv2.applyColorMap(np.round(255 * smooth).astype(np.uint8), cv2.COLORMAP_MAGMA)
    share = OPACITY * np.clip(1.6 * smooth, 0, 1)[..., None]
    return np.asarray(np.round(grey[..., None] * (1 - share) + colours * share), dtype=np.uint8)


def _logits(engine: Engine, view: Views, person: Array, images: Array) -> Array:
    """Logits (1, F) of one study of images (V, 1, S, S)."""
    return engine.logits(images[None], np.ones((1, len(view)), bool), view[None], person[None])


def _demographics(row: dict[str, Any]) -> NDArray[np.float32]:
    """float32 (4,) as a Batch has it, of the first image of a study."""
    age, sex = row.get("age"), row.get("sex")
    return np.array([(age or 0) / 10, age is not None, sex == "M", sex is not None], dtype=np.float32)
