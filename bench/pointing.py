"""Do heat maps point at the finding? The pointing game, and deletion and insertion, for every method on one bundle.

    python bench/pointing.py BUNDLE STUDIES.parquet REGIONS.parquet --cache CACHE [--name phantom] [--quick]

Images of the split `test` that have a box for a finding (regions in pixels of the image file), up to 8 for each finding,
every image read alone. A hit is a map whose highest point lies in a box of its finding. Beside the methods stand two that see no
model: the middle of the image, and any point (the share of the image that boxes cover). Intervals are Wilson's at 95 %.
Areas under the deletion curve (lower is better) and the insertion curve (higher) are means over the same maps; `chance` is
a map of noise. The row goes into results/pointing.json beside those of other names.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from loader import cpu_seconds, one_core
from result import FOLDER, save

from hilum.data.cache import build_cache
from hilum.evaluation.proportion import proportion
from hilum.inference.engines import Engine, open_engine
from hilum.inference.explain import explain, methods_of
from hilum.inference.faithfulness import curves, hit
from hilum.inference.predict import load
from hilum.inference.zones import onto_image, peak_of
from hilum.pixels.read import image_size
from hilum.pixels.spec import PixelSpec
from hilum.tables import VIEWS, read_studies

EACH = 8  # images of a finding


class Shown(NamedTuple):
    """One positive image of a finding: its pixels (S, S) uint8, size of the file, view, boxes in its pixels, patient."""

    finding: int
    pixels: np.ndarray
    size: tuple[int, int]
    view: int
    boxes: list[tuple[float, float, float, float]]
    patient: str


def positives(
    table: pl.DataFrame, regions: pl.DataFrame, findings: list[str], cache: Any, each: int
) -> Iterator[Shown]:
    """Up to `each` images of every finding, spread over the table."""
    for place, name in enumerate(findings):
        boxes = regions.filter(pl.col("finding") == name)
        rows = table.join(boxes.select("image_id").unique(), on="image_id", how="semi", maintain_order="left")
        if rows.is_empty():
            continue
        chosen = np.unique(np.linspace(0, rows.height - 1, min(each, rows.height)).round().astype(int))
        for row in rows[chosen].iter_rows(named=True):
            own = boxes.filter(pl.col("image_id") == row["image_id"]).select("x0", "y0", "x1", "y1").rows()
            pixels = cache.images(cache.rows([row["image_id"]]))[0]
            yield Shown(place, pixels, image_size(row["path"]), VIEWS.index(row["view"]), own, row["patient_id"])


def judged(engine: Engine, spec: PixelSpec, images: list[Shown], method: str) -> dict[str, Any]:
    """The share of hits with its interval, and the mean areas; cpu seconds a map."""
    random, hits, areas = np.random.default_rng(0), [], []
    before = cpu_seconds()
    heats = [heat_of(engine, one, method, random) for one in images]
    seconds = (cpu_seconds() - before) / len(images)
    for one, heat in zip(images, heats):
        width, height = one.size
        x, y = (0.5, 0.5) if method == "middle" else peak_of(onto_image(heat, spec, (height, width)))
        hits.append(hit((x * width, y * height), one.boxes))
        if method != "middle":
            areas.append(curves(engine, one.pixels.astype(np.float32) / 255, one.view, one.finding, heat))
    deletion, insertion = np.mean(areas, axis=0).round(3).tolist() if areas else (None, None)
    share = proportion(hits, [one.patient for one in images])
    return {
        "method": method,
        "hits": share,
        "deletion": deletion,
        "insertion": insertion,
        "cpu_seconds": round(seconds, 3),
    }


def heat_of(engine: Engine, one: Shown, method: str, random: np.random.Generator) -> np.ndarray:
    if method in ("middle", "chance"):
        return random.random(one.pixels.shape).astype(np.float32)
    images = one.pixels[None, None].astype(np.float32) / 255
    return explain(engine, images, np.array([one.view], dtype=np.int8), None, [one.finding], method).maps[0, 0]


def covered(one: Shown) -> float:
    """The share of an image that the boxes of its finding cover."""
    width, height = one.size
    mask = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in one.boxes:
        mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    return float(mask.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("studies", type=Path)
    parser.add_argument("regions", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--name", default="phantom", help="of the row in results/pointing.json")
    parser.add_argument("--quick", action="store_true", help="two images a finding; writes no JSON")
    given = parser.parse_args()
    one_core()
    bundle = load(given.bundle, device="cpu").bundle
    engine, spec = open_engine(bundle, "torch"), bundle.pixels
    regions = pl.read_parquet(given.regions)
    table = read_studies(given.studies).filter(pl.col("split") == "test")
    table = table.join(regions.select("image_id").unique(), on="image_id", how="semi", maintain_order="left")
    cache = build_cache(table, given.cache, **spec.as_dict(), workers=1)
    images = list(positives(table, regions, bundle.findings, cache, 2 if given.quick else EACH))
    backbone, head = bundle.architecture["backbone"]["name"], bundle.architecture["head"]["name"]
    said = {"what": given.name, "backbone": backbone, "head": head, "pixels": spec.size, "images": len(images),
            "findings": len({one.finding for one in images}), "boxes_cover": round(float(np.mean([covered(one) for one in images])), 3)}  # fmt: skip
    print(said)
    rows = []
    for method in [*methods_of(engine), "chance", "middle"]:
        rows.append(judged(engine, spec, images, method))
        print(f"{method:<10} hits {rows[-1]['hits']}  deletion {rows[-1]['deletion']}  insertion {rows[-1]['insertion']}  "
              f"{rows[-1]['cpu_seconds']} s a map", flush=True)  # fmt: skip
    if not given.quick:
        write(said | {"methods": rows})


def write(row: dict[str, Any]) -> None:
    """Put the row into results/pointing.json beside those of other names."""
    path = FOLDER / "pointing.json"
    held = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = sorted([one for one in held if one["what"] != row["what"]] + [row], key=lambda one: one["what"])
    best = max(
        (one for one in row["methods"] if one["method"] not in ("chance", "middle")), key=lambda one: one["hits"][0]
    )
    save({
        "name": "pointing", "ours": best["hits"][0], "peer": row["boxes_cover"], "unit": f"share of maps that point into a box ({best['method']}), and of points that would",
        "ratio": round(best["hits"][0] / row["boxes_cover"], 2), "goal": "above what the middle of the image hits",
        "command": "python bench/pointing.py BUNDLE STUDIES REGIONS --cache CACHE --name NAME", "rows": rows,
    })  # fmt: skip


if __name__ == "__main__":
    main()
