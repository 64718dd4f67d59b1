"""Preparing a data set: `hilum cache` at 1024 px from JPEGs of 2544 x 3056 px, against CheXFusion's way and a grey decode.

    python bench/prepare.py --data FOLDER_OF_CHESTXRAY14 [--quick]

The files are made as those of MIMIC-CXR-JPG are: grey, quality 95, about 1.5 to 2.5 MB. Real pictures (the originals of
1024 px) are enlarged to 2544 x 3056 and fine grain is laid over them, because a smooth picture decodes faster than a
radiograph. Nothing of them is kept. Every way starts from these files and ends with a picture of 1024 px on the disk:

- ours: `build_cache`, one worker (strict decode at half size, as the target allows; area resize; shard, checksum, index);
- CheXFusion (dataset/cxr_dataset.py): full decode to colour by libjpeg-turbo, Lanczos (OpenCV) to 1024 x 1024, JPEG written.
  Its decoder, jpeg4py, is a binding of libjpeg-turbo, as is simplejpeg, which stands in for it;
- the same with Pillow: open, convert to RGB, Lanczos, JPEG of quality 95 written;
- grey: OpenCV's IMREAD_GRAYSCALE, area resize to the same 1024 px as ours, raw pixels written.

One process, one thread, ways in turn, files warm in memory; seconds are those of the processor, the median of the rounds.
The last rows say how far the pixels of a decode at half size are from those of a full one, and, as a measure of that,
how far a full decode reduced by Lanczos is from one reduced by area.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import simplejpeg
from loader import cpu_seconds, one_core
from PIL import Image
from result import save

from hilum.data.cache import build_cache
from hilum.pixels.read import image_size, read_image, read_pixels
from hilum.pixels.render import render
from hilum.pixels.spec import PixelSpec

SIZE, WIDTH, HEIGHT, QUALITY, GRAIN = 1024, 2544, 3056, 95, 2.5  # GRAIN: grey levels (standard deviation) per pixel
SPEC = PixelSpec(size=SIZE)
GOAL = 3.0


def make(data: Path, folder: Path, count: int) -> pl.DataFrame:
    """`count` big JPEGs in `folder`, and their table."""
    originals = [path for path in sorted(data.rglob("*.png")) if image_size(path) == (SIZE, SIZE)][:count]
    if not originals:
        sys.exit(f"{data} holds no image of {SIZE} x {SIZE} px: the originals are needed.")
    rng = np.random.default_rng(0)
    paths = []
    for path in originals:
        large = cv2.resize(read_image(path), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        large += GRAIN * rng.standard_normal(large.shape, dtype=np.float32)
        paths.append(folder / f"{path.stem}.jpg")
        cv2.imwrite(
            str(paths[-1]), np.clip(np.rint(large), 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
        )
    return pl.DataFrame({"image_id": [path.stem for path in paths], "path": [str(path) for path in paths]})


def ours(table: pl.DataFrame, folder: Path) -> None:
    build_cache(table, folder, size=SIZE, workers=1)


def stretched(table: pl.DataFrame, folder: Path) -> None:
    build_cache(table, folder, size=SIZE, fit="stretch", workers=1)


def chexfusion(table: pl.DataFrame, folder: Path) -> None:
    for path in map(Path, table["path"]):
        image = simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
        image = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LANCZOS4)
        cv2.imwrite(str(folder / path.name), image)


def pillow(table: pl.DataFrame, folder: Path) -> None:
    for path in map(Path, table["path"]):
        with Image.open(path) as image:
            small = image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        small.save(folder / path.name, quality=QUALITY)


def grey(table: pl.DataFrame, folder: Path) -> None:
    for path in map(Path, table["path"]):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        scale = SIZE / max(image.shape)
        size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
        square = np.zeros((SIZE, SIZE), dtype=np.uint8)
        left, top = (SIZE - size[0]) // 2, (SIZE - size[1]) // 2
        square[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        square.tofile(folder / path.stem)


WAYS: dict[str, Callable[[pl.DataFrame, Path], None]] = {
    "hilum cache": ours, "CheXFusion: colour, Lanczos, JPEG": chexfusion,
    "the same with Pillow": pillow, "OpenCV: grey, area": grey, "hilum cache, stretched like CheXFusion": stretched,
}  # fmt: skip


def timed(way: Callable[[pl.DataFrame, Path], None], table: pl.DataFrame) -> tuple[float, float]:
    """CPU and clock seconds per image."""
    with tempfile.TemporaryDirectory() as folder:
        before, started = cpu_seconds(), time.perf_counter()
        way(table, Path(folder))
        used, passed = cpu_seconds() - before, time.perf_counter() - started
    return used / table.height, passed / table.height


def apart(table: pl.DataFrame) -> dict[str, np.ndarray]:
    """Grey levels (images, size, size) from a full decode and area resize: of our pixels, and of Lanczos from a full decode."""
    found: dict[str, list[np.ndarray]] = {"half decode, area (ours)": [], "full decode, Lanczos": []}
    for path in table["path"]:
        whole = read_image(path)
        full = render(whole, SPEC).astype(np.int16)
        width = round(whole.shape[1] * SIZE / whole.shape[0])
        left = (SIZE - width) // 2
        other = np.zeros_like(full)
        other[:, left : left + width] = cv2.resize(whole, (width, SIZE), interpolation=cv2.INTER_LANCZOS4)
        for name, pixels in zip(found, (read_pixels(path, SPEC), other)):
            found[name].append(np.abs(pixels - full))
    return {name: np.stack(differences) for name, differences in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ChestX-ray14 with original PNGs of 1024 px")
    parser.add_argument("--quick", action="store_true", help="4 images, one round; writes nothing")
    options = parser.parse_args()
    one_core()
    count, rounds = (4, 1) if options.quick else (32, 5)
    with tempfile.TemporaryDirectory() as folder:
        table = make(options.data, Path(folder), count)
        megabytes = np.array([Path(path).stat().st_size for path in table["path"]]) / 1e6
        seconds = np.array([[timed(way, table) for way in WAYS.values()] for _ in range(rounds)])
        differences = apart(table)
    cpu, clock = np.median(seconds, axis=0).T
    spread = [f"{low:.4f}-{high:.4f}" for low, high in zip(seconds[..., 0].min(0), seconds[..., 0].max(0))]
    rows = [
        {"what": name, "cpu": round(float(one), 4), "spread": between, "clock": round(float(wall), 4), "ratio": round(float(one / cpu[0]), 2)}
        for name, one, between, wall in zip(WAYS, cpu, spread, clock)
    ]  # fmt: skip
    facts = {
        "images, rounds": [table.height, rounds],
        "size of a file in MB: smallest, median, largest": [round(float(x), 2) for x in np.quantile(megabytes, (0, 0.5, 1))],
    }  # fmt: skip
    for name, found in differences.items():
        measured = found.mean(), np.quantile(found, 0.999), found.max(), (found > 2).mean()
        what = f"{name}, against full decode, area, in grey levels: mean, 99.9 %, largest, share above 2"
        facts[what] = [round(float(x), 4) for x in measured]
    print(f"{'seconds per image':<40}{'CPU':>9}{'spread':>17}{'clock':>9}{'ratio':>7}")
    for row in rows:
        print(f"{row['what']:<40}{row['cpu']:>9}{row['spread']:>17}{row['clock']:>9}{row['ratio']:>7}")
    for what, value in facts.items():
        print(f"{what}: {value}")
    print(f"{rows[1]['ratio']} times faster than CheXFusion's way; the goal is {GOAL}.")
    if not options.quick:
        result = {
            "name": "prepare",
            "ours": rows[0]["cpu"],
            "peer": rows[1]["cpu"],
            "unit": f"CPU seconds per image of {WIDTH} x {HEIGHT} px, one core",
            "ratio": rows[1]["ratio"],
            "goal": f">= {GOAL:g} times faster",
            "command": "python bench/prepare.py --data DATA",
            "rows": [*rows, *({"what": what, "value": value} for what, value in facts.items())],
        }
        save(result)


if __name__ == "__main__":
    main()
