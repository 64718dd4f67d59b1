"""Near-duplicates in `hilum check`: how many altered copies of real radiographs it finds, and how often it cries wolf.

    python bench/near_duplicates.py --data FOLDER_OF_CHESTXRAY14 [--quick]

Every picture is altered in each way below, and stands in one table with its original and all other real pictures; found
is the share of pairs of original and copy that are named. The originals have 1024 px, or 256 px, where an alteration by
pixels weighs four times as much. `check` compares copies of 64 px, taken from the files or from a cache of 256 px.
False alarms are counted among distinct pictures, all under owners of their own: of different patients, and of the same
patient (follow-ups, the hardest there are, which `check` compares only where patients are unknown).

Speed and memory: 100,000 pictures drawn from a Gaussian model of the real ones (principal components), with 1,000 noisy,
brightened copies planted.
"""

import argparse
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from loader import cpu_seconds, one_core
from result import save

from hilum.data.duplicates import near_pairs, sketches
from hilum.pixels.read import read_image
from hilum.pixels.render import render
from hilum.pixels.spec import PixelSpec

SIDE, MANY, PLANTED = 64, 100_000, 1000
Picture = np.ndarray[Any, np.dtype[np.uint8]]


def jpeg(image: Picture, quality: int) -> Picture:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0))


def resized(image: Picture, scale: float) -> Picture:
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))


def toned(image: Picture, contrast: float, brightness: float = 0.0, gamma: float = 1.0) -> Picture:
    values = 255 * (image / 255.0) ** gamma
    return np.clip((values - 128) * contrast + 128 + brightness, 0, 255).astype(np.uint8)


def moved(image: Picture, pixels: float = 0.0, degrees: float = 0.0) -> Picture:
    """Shifted to the right and down by so many pixels, or turned about the centre; black comes in."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    matrix[:, 2] += pixels
    return np.asarray(cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR))


def noisy(image: Picture, deviation: float) -> Picture:
    noise = np.random.default_rng(int(image[::7, ::7].sum())).normal(0, deviation, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


ALTERATIONS: dict[str, Callable[[Picture], Picture]] = {
    "JPEG, quality 75": lambda image: jpeg(image, 75),
    "JPEG, quality 95": lambda image: jpeg(image, 95),
    "resized by 0.5": lambda image: resized(image, 0.5),
    "resized by 0.75": lambda image: resized(image, 0.75),
    "resized by 0.97": lambda image: resized(image, 0.97),
    "brightness + 15": lambda image: toned(image, 1.0, 15),
    "contrast x 0.8": lambda image: toned(image, 0.8),
    "contrast x 1.2": lambda image: toned(image, 1.2),
    "gamma 0.8": lambda image: toned(image, 1.0, gamma=0.8),
    "histogram equalised": lambda image: np.asarray(cv2.equalizeHist(image)),
    "noise, 5 grey levels": lambda image: noisy(image, 5),
    "cropped by 1 pixel": lambda image: image[1:-1, 1:-1],
    "cropped by 2 pixels": lambda image: image[2:-2, 2:-2],
    "shifted by 1 pixel": lambda image: moved(image, 1),
    "shifted by 2 pixels": lambda image: moved(image, 2),
    "turned by 0.5 degrees": lambda image: moved(image, degrees=0.5),
}


def small(image: Picture, cache: int) -> Picture:
    """What `check` compares: 64 px, by way of a cache of `cache` px."""
    held = render(np.ascontiguousarray(image), PixelSpec(size=cache))
    return held if cache == SIDE else render(held, PixelSpec(size=SIDE))


def padded(image: Picture, width: int = 53) -> Picture:
    """A picture of 64 px narrowed to the shape of 2544 x 3056, between the black bars that make it square again."""
    square = np.zeros_like(image)
    left = (SIDE - width) // 2
    square[:, left : left + width] = cv2.resize(image, (width, SIDE), interpolation=cv2.INTER_AREA)
    return square


def model_of(pictures: Picture, count: int, components: int = 256, chunk: int = 2000) -> Picture:
    """`count` pictures from the Gaussian that has the mean and covariance of these (n, 64, 64), and noise for the rest."""
    rng = np.random.default_rng(0)
    flat = pictures.reshape(len(pictures), -1).astype(np.float32)
    mean = flat.mean(0)
    _, spread, axes = np.linalg.svd(flat - mean, full_matrices=False)
    basis = axes[:components] * (spread[:components, None] / np.sqrt(len(flat)))
    rest = float(np.sqrt((spread[components:] ** 2).sum() / len(flat) / flat.shape[1]))
    made = np.empty((count, SIDE, SIDE), dtype=np.uint8)
    for start in range(0, count, chunk):
        n = min(chunk, count - start)
        drawn = mean + rng.standard_normal((n, len(basis)), dtype=np.float32) @ basis
        drawn += rest * rng.standard_normal(drawn.shape, dtype=np.float32)
        made[start : start + n] = np.clip(np.rint(drawn), 0, 255).astype(np.uint8).reshape(n, SIDE, SIDE)
    return made


def recall(originals: dict[str, Picture], real: dict[str, Picture]) -> list[dict[str, Any]]:
    """A row per alteration: the share found by way of either cache, and pairs of unlike pictures that are named."""
    rows = []
    for what, alter in ALTERATIONS.items():
        row: dict[str, Any] = {"what": what}
        for cache in (64, 256):
            first = [small(image, cache) for image in originals.values()]
            second = [small(alter(image), cache) for image in originals.values()]
            others = [image for name, image in real.items() if name not in originals]
            table = np.stack([*first, *second, *others])
            found = near_pairs(table, [str(number) for number in range(len(table))]).tolist()
            n = len(first)
            twins = sum(b == a + n for a, b in found if a < n)
            unlike = {tuple(sorted((a % n if a < 2 * n else a, b % n if b < 2 * n else b))) for a, b in found}
            row[f"cache {cache}"] = round(twins / n, 4)
            row[f"unlike {cache}"] = sum(a != b for a, b in unlike)
        rows.append(row)
    return rows


def false_alarms(real: dict[str, Picture]) -> dict[str, float]:
    """Pairs of distinct real pictures: how many there are, how many are named, and how alike the most alike are."""
    patients = np.array([name.partition("_")[0] for name in real])
    pictures = np.stack(list(real.values()))
    named = near_pairs(pictures, list(real))
    first, second = np.triu_indices(len(real), 1)
    same = patients[first] == patients[second]
    flat = sketches(pictures).reshape(len(real), -1).astype(np.float32)
    correlation = np.corrcoef(flat)[first, second]
    equal = (pictures[named[:, 0]] == pictures[named[:, 1]]).all(axis=(1, 2))
    return {
        "pairs of different patients": int((~same).sum()),
        "named, of different patients": int((patients[named[:, 0]] != patients[named[:, 1]]).sum()),
        "highest correlation, of different patients": round(float(correlation[~same].max()), 4),
        "pairs of one patient": int(same.sum()),
        "named, of one patient": int((patients[named[:, 0]] == patients[named[:, 1]]).sum()),
        "of the named, equal in every pixel": int(equal.sum()),
        "highest correlation, of one patient, unless equal": round(float(correlation[same & (correlation < 1 - 1e-6)].max()), 4),
    }  # fmt: skip


def speed(real: dict[str, Picture], count: int, planted: int) -> dict[str, Any]:
    table = model_of(np.stack(list(real.values())), count)
    chosen = np.random.default_rng(1).permutation(count)[: 2 * planted].reshape(2, planted)
    for one, other in chosen.T:
        table[other] = noisy(toned(table[one], 0.9, 8), 2)
    owners = [str(number) for number in range(count)]
    before = cpu_seconds()
    found = {tuple(pair) for pair in near_pairs(table, owners).tolist()}
    used = cpu_seconds() - before
    tracemalloc.start()  # a pass of its own: counting takes time
    near_pairs(table, owners)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    wanted = {(int(min(pair)), int(max(pair))) for pair in chosen.T}
    return {
        "pictures": count, "CPU seconds": round(used, 1), "memory beside the pictures, MB": round(most / 2**20),
        "memory of the pictures, MB": round(table.nbytes / 2**20), "planted copies found": round(len(found & wanted) / planted, 4),
        "other pairs named": len(found - wanted),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="ChestX-ray14 with PNGs of 1024, 256 and 64 px")
    parser.add_argument("--quick", action="store_true", help="few pictures; writes nothing")
    options = parser.parse_args()
    one_core()
    folders = {side: options.data / f"images_{side:03d}" for side in (1024, 256, 64)}
    counts, many, planted = ((10, 20), 5000, 50) if options.quick else ((62, 300), MANY, PLANTED)
    real = {path.stem: small(read_image(path), SIDE) for path in sorted(folders[64].glob("*.png"))}
    rows: dict[str, list[dict[str, Any]]] = {}
    for side, count in zip((1024, 256), counts):
        files = sorted(folders[side].glob("*.png"))[:count]
        rows[f"{len(files)} originals of {side} px"] = recall({path.stem: read_image(path) for path in files}, real)
    alarms = {
        "square pictures": false_alarms(real),
        "narrowed to 2544 x 3056, padded": false_alarms({name: padded(image) for name, image in real.items()}),
    }
    fast = speed(real, many, planted)
    for source, told in rows.items():
        print(f"{source:<28}{'cache 64':>10}{'cache 256':>11}{'unlike pairs':>14}")
        for row in told:
            print(
                f"{row['what']:<28}{row['cache 64']:>10.3f}{row['cache 256']:>11.3f}{row['unlike 64'] + row['unlike 256']:>14}"
            )
    for title, facts in [*alarms.items(), ("speed", fast)]:
        print(f"{title}: " + "; ".join(f"{what} {value}" for what, value in facts.items()))
    if not options.quick:
        told = [row[cache] for row in next(iter(rows.values())) for cache in ("cache 64", "cache 256")]
        result = {
            "name": "near_duplicates",
            "ours": min(told),
            "peer": None,
            "unit": "share of altered copies found, the least of all alterations (originals of 1024 px)",
            "ratio": None,
            "goal": ">= 0.95, and no pair of different patients",
            "command": "python bench/near_duplicates.py --data DATA",
            "rows": [{"originals": source, "alterations": one} for source, one in rows.items()]
            + [{"false alarms": title, **facts} for title, facts in alarms.items()]
            + [{"speed": fast}],
        }
        save(result)


if __name__ == "__main__":
    main()
