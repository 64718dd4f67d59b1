"""Speed: float32 batches (B, 1, 512, 512) from the cache, against torchxrayvision's dataset reading the same 1024 px PNGs.

    python bench/loader.py --data FOLDER_OF_CHESTXRAY14 [--quick]

One core, one thread, shuffled batches, files warm in memory. Both sides hand out images scaled to [-1024, 1024] with
their labels. Theirs is the documented way: NIH_Dataset with XRayCenterCrop and XRayResizer(512) in a DataLoader, every
image decoded in every epoch; their faster OpenCV engine is told too. Ours decodes once (which counts in the total), then
gathers uint8 and scales it into a new array. Epochs of both alternate and the medians of all batches count. Seconds are
those of the processor: a busy machine interrupts a batch that takes a second, and hardly ever one that takes milliseconds.
"""

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from result import save

SIZE, SIDE, IMAGES, EPOCHS = 512, 1024, 62, 10
GREY = 2048 / 255  # one grey level on the scale of [-1024, 1024]
Batch = tuple[Any, Any]  # images float32 (B, 1, SIZE, SIZE), labels float32 (B, 14)


def cpu_seconds() -> float:
    """Seconds of the processor that this process and its finished children have used."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def one_core() -> None:
    """Keep this process on one core and every library on one thread."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


class Ours:
    """The first `count` images of 1024 px, and their cache, built in `folder`."""

    def __init__(self, data: Path, folder: Path, count: int):
        from hilum.data.cache import build_cache
        from hilum.pixels.read import image_size
        from hilum.sources.nih import import_nih
        from hilum.tables import finding_names, labels_of

        studies = import_nih(data).studies
        originals = [path for path in studies["path"] if image_size(path) == (SIDE, SIDE)][:count]
        if not originals:
            sys.exit(f"{data} holds no image of {SIDE} x {SIDE} px: the originals are needed.")
        self.paths = [Path(path) for path in originals]
        self.studies = studies.filter(studies["path"].is_in(originals))
        self.ids = self.studies["image_id"].to_list()
        self.labels = labels_of(self.studies, finding_names(self.studies), level="image").values
        before = cpu_seconds()
        self.cache = build_cache(self.studies, folder, size=SIZE, workers=1)
        self.build_seconds = cpu_seconds() - before

    def batches(self, order: np.ndarray, size: int) -> Iterator[Batch]:
        import cv2
        import torch

        rows = self.cache.rows(self.ids)
        scaled = (np.arange(256, dtype=np.float32) * np.float32(GREY) - 1024).reshape(1, 256)
        # One pair of arrays for all batches: a fresh 32 MB array costs more in page faults than the work itself.
        held = np.empty((size, SIZE, SIZE), dtype=np.uint8)
        floats = np.empty((size, 1, SIZE, SIZE), dtype=np.float32)
        for start in range(0, len(order), size):
            chosen = order[start : start + size]
            grey = self.cache.images(rows[chosen], out=held[: len(chosen)])
            images = floats[: len(chosen)]
            cv2.LUT(grey.reshape(-1, SIZE), scaled, images.reshape(-1, SIZE))  # 256 levels: one look-up, one pass
            yield torch.from_numpy(images), torch.from_numpy(self.labels[chosen])


class Theirs:
    """NIH_Dataset over links to the same files in `folder`, its table cut to them."""

    def __init__(self, data: Path, folder: Path, ours: Ours, engine: str):
        import torchvision
        import torchxrayvision as xrv

        from hilum.sources.reading import file_content

        folder.mkdir()
        for path in ours.paths:
            (folder / path.name).symlink_to(path)
        names = {path.name for path in ours.paths}
        header, *lines = file_content(sorted(data.glob("Data_Entry_2017*.csv*"))[-1]).decode().splitlines()
        table = folder / "labels.csv"
        table.write_text("\n".join([header, *(line for line in lines if line.partition(",")[0] in names)]) + "\n")
        steps = [xrv.datasets.XRayCenterCrop(), xrv.datasets.XRayResizer(SIZE, engine=engine)]
        transform = torchvision.transforms.Compose(steps)
        self.dataset = xrv.datasets.NIH_Dataset(
            str(folder), csvpath=str(table), views=["PA", "AP"], unique_patients=False, transform=transform
        )
        place = {Path(name).stem: k for k, name in enumerate(self.dataset.csv["Image Index"])}
        self.place = [place[name] for name in ours.ids]

    def batches(self, order: np.ndarray, size: int) -> Iterator[Batch]:
        from torch.utils.data import DataLoader

        for batch in DataLoader(self.dataset, batch_size=size, sampler=[self.place[k] for k in order]):
            yield batch["img"], batch["lab"]


def timed(batches: Callable[[np.ndarray, int], Iterator[Batch]], order: np.ndarray, size: int) -> list[float]:
    """CPU seconds of each batch of an epoch."""
    seconds: list[float] = []
    walk = batches(order, size)
    while True:
        before = cpu_seconds()
        batch = next(walk, None)
        if batch is None:
            return seconds
        assert batch[0].shape == (size, 1, SIZE, SIZE)
        seconds.append(cpu_seconds() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="ChestX-ray14 with original PNGs of 1024 px")
    parser.add_argument("--quick", action="store_true", help="16 images and two epochs; writes nothing")
    options = parser.parse_args()
    one_core()
    try:
        import torchxrayvision
    except ImportError as error:
        sys.exit(f"torchxrayvision cannot be imported ({error}): install it with pip install 'hilum[bench]'.")
    count, epochs = (16, 2) if options.quick else (IMAGES, EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(options.data, Path(folder) / "cache", count)
        theirs = Theirs(options.data, Path(folder) / "skimage", ours, "skimage")
        faster = Theirs(options.data, Path(folder) / "cv2", ours, "cv2")
        size = len(ours.ids) // 2
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(ours.ids))[: 2 * size] for _ in range(epochs)]
        mine, peer, engine = [], [], []
        for order in orders:
            mine.append(timed(ours.batches, order, size))
            peer.append(timed(theirs.batches, order, size))
        for order in orders[:2]:
            engine.append(timed(faster.batches, order, size))
        pairs = zip(ours.batches(orders[0], size), theirs.batches(orders[0], size), strict=True)
        apart = np.concatenate([np.abs(a[0].numpy() - b[0].numpy()).ravel() for a, b in pairs]) / GREY
    per_batch, per_batch_peer, per_batch_cv2 = (float(np.median(each)) for each in (mine, peer, engine))
    total, total_peer = ours.build_seconds + float(np.sum(mine)), float(np.sum(peer))
    ratio = round(per_batch_peer / per_batch, 1)
    rows = [
        {"what": "CPU seconds per batch, median", "ours": round(per_batch, 5), "peer": round(per_batch_peer, 3), "ratio": ratio},
        {"what": "the same with XRayResizer(512, engine='cv2')", "peer": round(per_batch_cv2, 3), "ratio": round(per_batch_cv2 / per_batch, 1)},
        {"what": "CPU seconds to build the cache", "ours": round(ours.build_seconds, 2)},
        {"what": f"CPU seconds to the end of {epochs} epochs, the cache included", "ours": round(total, 2), "peer": round(total_peer, 2), "ratio": round(total_peer / total, 1)},
        {"what": "batches apart, grey levels of 255: mean, 99.9 %, largest", "ours": [round(float(x), 2) for x in (apart.mean(), np.quantile(apart, 0.999), apart.max())]},
        {"what": "images, images per batch", "ours": [len(ours.ids), size]},
        {"what": "torchxrayvision", "peer": torchxrayvision.__version__},
    ]  # fmt: skip
    result = {
        "name": "loader",
        "ours": round(per_batch, 5),
        "peer": round(per_batch_peer, 3),
        "unit": f"CPU seconds per float32 batch ({size}, 1, {SIZE}, {SIZE}), one core",
        "ratio": ratio,
        "goal": ">= 250 times faster per batch",
        "command": "python bench/loader.py --data DATA" + (" --quick" if options.quick else ""),
        "rows": rows,
    }
    print(f"{'':<62}{'ours':>20}{'torchxrayvision':>17}{'ratio':>8}")
    for row in rows:
        print(
            f"{row['what']:<62}"
            + "".join(f"{row.get(k, '')!s:>{w}}" for k, w in (("ours", 20), ("peer", 17), ("ratio", 8)))
        )
    print(f"{ratio} times faster per batch; the goal is {result['goal']}.")
    if not options.quick:
        save(result)


if __name__ == "__main__":
    main()
