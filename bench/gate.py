"""The gate: how many held-out chests it refuses, and how many pictures that are none.

    python bench/gate.py BUNDLE STUDIES.parquet --cache CACHE [--other STUDIES.parquet] [--name phantom] [--quick]

BUNDLE is measured anew (its folder stays as it is) on up to 512 images each of the split train and valid of STUDIES; 600 images of the
split test are held-out chests. From these come films that are inverted, upside down, lying on their side, and mirrored, and darker or
brighter ones (gamma 1.5 and 1/1.5). 100 each of a drawn hand, slice of a CT, cat, and of photographs, noise and blanks are no
chests. --other: chests of another origin. Every picture is judged alone; intervals are Wilson's at 95 %, over patients where there are
any. The row goes into results/gate.json beside those of other names.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from loader import one_core
from result import FOLDER, save

sys.path.insert(0, str(Path(__file__).parent.parent))  # the pictures are drawn as those of the tests are

from hilum.batches.augment import to_float
from hilum.batches.dataset import Studies
from hilum.data.cache import build_cache
from hilum.evaluation.proportion import proportion
from hilum.inference.distribution import Distribution
from hilum.inference.gate import measure_distribution
from hilum.inference.predict import Model, load
from hilum.pixels.read import read_pixels
from hilum.tables import VIEWS, read_studies
from tests.inference.odd_pictures import ODD

HELD_OUT, DRAWN = 600, 100


def refused(model: Model, gate: Distribution, images: np.ndarray, view: np.ndarray) -> tuple[list[bool], list[str]]:
    """Whether each image (N, S, S) is refused, and the first reason of those that are."""
    out, reasons = [], []
    with torch.inference_mode():
        for start in range(0, len(images), 64):
            part = images[start : start + 64]
            pixels = to_float(torch.from_numpy(part[:, None].copy()))
            features = model.classifier.encode(pixels, torch.from_numpy(view[start : start + 64].copy())).numpy()
            for place in range(len(part)):
                told = gate.judge(part[place : place + 1], features[place : place + 1])
                out.append(not told.inside)
                reasons += told.reasons[:1]
    return out, reasons


def chests(
    path: Path, split: str | None, size: int, most: int, model: Model
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Up to `most` images (N, S, S) of a table, spread over it, their views and patients."""
    table = read_studies(path)
    table = table.filter(pl.col("split") == split) if split and "split" in table.columns else table
    rows = table[np.unique(np.linspace(0, table.height - 1, min(most, table.height)).round().astype(int))]
    images = np.stack([read_pixels(each, model.bundle.pixels) for each in rows["path"]])
    assert images.shape[1] == size
    return images, np.array([VIEWS.index(name) for name in rows["view"]], dtype=np.int8), rows["patient_id"].to_list()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("studies", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--other", type=Path, help="chests of another origin")
    parser.add_argument("--name", default="phantom", help="of the row in results/gate.json")
    parser.add_argument("--quick", action="store_true", help="a tenth of the pictures; writes no JSON")
    given = parser.parse_args()
    one_core()
    model, share = load(given.bundle, device="cpu"), 10 if given.quick else 1
    size = model.bundle.pixels.size
    table = read_studies(given.studies)
    table = table.filter(pl.col("split").is_in(["train", "valid"]))
    cache = build_cache(table, given.cache, **model.bundle.pixels.as_dict(), workers=1)
    sides = [Studies(table.filter(pl.col("split") == side), cache, []) for side in ("train", "valid")]
    gate = measure_distribution(model.classifier, *sides)
    images, view, patients = chests(given.studies, "test", size, HELD_OUT // share, model)
    unknown, random = np.zeros(DRAWN // share, dtype=np.int8), np.random.default_rng(0)
    kinds: list[tuple[str, np.ndarray, np.ndarray, list[str]]] = [
        ("held-out chests", images, view, patients),
        ("darker (gamma 1.5)", (255 * (images / 255) ** 1.5).astype(np.uint8), view, patients),
        ("brighter (gamma 1 / 1.5)", (255 * (images / 255) ** (1 / 1.5)).astype(np.uint8), view, patients),
        ("mirrored", images[:, :, ::-1], view, patients),
        ("upside down", images[:, ::-1], view, patients),
        ("on its side", np.rot90(images, axes=(1, 2)), view, patients),
        ("inverted", 255 - images, view, patients),
    ]
    if given.other:
        kinds.append(("chests of another origin", *chests(given.other, None, size, 300 // share, model)))
    for kind, draw in ODD.items():
        drawn = np.stack([draw(size, random) for _ in unknown])
        kinds.append((kind, drawn, unknown, [str(n) for n in range(len(unknown))]))
    rows: list[dict[str, Any]] = []
    for kind, pictures, views, owners in kinds:
        out, reasons = refused(model, gate, np.ascontiguousarray(pictures), views)
        rows.append({"kind": kind, "images": len(out), "refused": proportion(out, owners), "negative": sum("negative" in one for one in reasons)})  # fmt: skip
        value, low, high = rows[-1]["refused"]
        print(f"{kind:<28}{len(out):>5} images, refused {value:.3f} [{low:.3f}, {high:.3f}]", flush=True)
    said = {"what": given.name, "pixels": size, "made_of": gate.images, "held_out": gate.held_out, "quantile": gate.quantile, "kinds": rows}  # fmt: skip
    if not given.quick:
        write(said)


def write(row: dict[str, Any]) -> None:
    """Put the row into results/gate.json beside those of other names."""
    path = FOLDER / "gate.json"
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = sorted([one for one in held if one["what"] != row["what"]] + [row], key=lambda one: one["what"])
    refused_of = {one["kind"]: one["refused"][0] for one in row["kinds"]}
    odd = [refused_of[kind] for kind in [*ODD, "inverted"]]
    save({
        "name": "gate", "ours": round(min(odd), 3), "peer": refused_of["held-out chests"], "unit": "share refused: of the odd kind refused least, and of held-out chests",
        "ratio": None, "goal": "every odd kind 1, held-out chests about .01", "command": "python bench/gate.py BUNDLE STUDIES --cache CACHE --name NAME",
        "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
