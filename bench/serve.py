"""How fast a bundle answers on a CPU, and how far from torch: torch eager, ONNX Runtime, OpenVINO in fp32, bf16 and int8; and the page.

    python bench/serve.py [--only densenet121] [--threads 2] [--work DIR] [--prepare] [--quick]

DenseNet-121 at 224 px and ConvNeXt-S at 384 px, random weights (their batch statistics taken from phantom images, their logits
of standard deviation 2), 26 findings, linear head. torch eager is how torchxrayvision serves: the model called on one image.
Rates are of studies of one image: one at a time, and eight together. The engines take turns, round after round, so that
other work on the machine falls on all of them. Graphs are made first and kept in --work (--prepare makes them and stops). int8 takes its ranges from 32 phantom images; whether it may be offered for a
trained bundle is decided by mAP (`hilum export --precision int8`), which random weights do not have.
The page's answer is POST /predict with images and POST /explain of one finding, one after the other, for a study of two
views as detectors make them: DICOM of 2500 x 2048 pixels, 12 bits.
"""

import argparse
import http.client
import itertools
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from result import save

sys.path.insert(0, str(Path(__file__).parent.parent))  # files and the server are made as those of the tests are

from hilum.bundle import Bundle, read_bundle, write_bundle
from hilum.findings import finding_set
from hilum.inference import onnx_engine
from hilum.inference.engines import Engine, as_floats
from hilum.inference.export import export
from hilum.inference.onnx_engine import OnnxEngine
from hilum.inference.openvino_engine import OpenVinoEngine, convert
from hilum.inference.quantise import quantised
from hilum.inference.self_test import largest_difference
from hilum.inference.torch_engine import TorchEngine
from hilum.models.classifier import Classifier, build_classifier
from hilum.pixels.spec import PixelSpec
from hilum.recipe import ModelSpec
from hilum.sources.phantom.patients import first_studies
from hilum.sources.phantom.picture import draw
from tests.pixels import dicom_files as d
from tests.serving.bundles import Served

MODELS = {"densenet121": 224, "convnext_small": 384}
FINDINGS = finding_set("cxr-lt-2023")
GOALS = {"speed": 4.0, "difference": 0.01, "page": 1.5}


def phantoms(count: int, size: int) -> np.ndarray:
    """uint8 (count, 1, size, size)."""
    studies = first_studies(0, count, most=1)
    drawn = [draw(study, 0, 256)[0] for study in studies]
    return np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in drawn])[:, None]


def model_of(name: str, size: int, images: np.ndarray) -> Classifier:
    """A network with random weights whose answers differ from image to image."""
    torch.manual_seed(0)
    spec = ModelSpec(backbone={"name": name}, fusion={"name": "mean"}, head={"name": "linear"})
    model = build_classifier(spec, FINDINGS, size)
    pixels = torch.from_numpy(as_floats(images))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # a plain mean over what follows
    present, view = torch.ones(len(pixels), 1, dtype=torch.bool), torch.ones(len(pixels), 1, dtype=torch.int8)
    with torch.no_grad():
        model.train()
        for part in pixels.split(8):
            model.encode(part)
        model.eval()
        project = model.head.project
        logits = model(pixels[:, None], present, view)
        spread = logits.std(dim=0)
        project.weight.mul_(2 / spread[:, None])
        logits = model(pixels[:, None], present, view)
        project.bias.sub_(logits.mean(dim=0))
    return model


def prepare(model: Classifier | None, size: int, images: np.ndarray, folder: Path) -> Path:
    """The bundle of a model with its graphs, and those that are only compared; made once."""
    if model is None:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    counts = dict.fromkeys(FINDINGS, 100)
    bundle = Bundle(list(FINDINGS), PixelSpec(size), model.architecture, counts, counts, ["phantom"])
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    write_bundle(bundle, weights, folder / "bundle", recipe="", card="")
    export(folder / "bundle")
    graphs = folder / "bundle" / onnx_engine.FOLDER
    encode, eight = graphs / onnx_engine.ENCODE, folder / "int8.onnx"
    quantised(encode, eight, (as_floats(images), np.ones(len(images), np.int8)))
    for source, target in ((encode, "encode.xml"), (graphs / onnx_engine.READ, "read.xml"), (eight, "int8.xml")):
        convert(source, folder / target)
    (folder / "done").touch()
    return folder


def engines_of(folder: Path, threads: int) -> dict[str, Engine]:
    graphs, reading = folder / "bundle" / onnx_engine.FOLDER, folder / "read.xml"
    return {
        "torch eager": TorchEngine.of(read_bundle(folder / "bundle")),
        "ONNX Runtime fp32": OnnxEngine(graphs / onnx_engine.ENCODE, graphs / onnx_engine.READ, threads=threads),
        "OpenVINO fp32": OpenVinoEngine(folder / "encode.xml", reading, threads=threads),
        "OpenVINO bf16": OpenVinoEngine(folder / "encode.xml", reading, precision="bf16", threads=threads),
        "OpenVINO int8": OpenVinoEngine(folder / "int8.xml", reading, threads=threads),
    }


def measured(engines: dict[str, Engine], images: np.ndarray, rounds: int) -> dict[str, dict[str, Any]]:
    """By engine: rates of one and of eight at a time, quantiles of one, the largest difference to the first engine."""
    pixels = as_floats(images)[:, None]
    present, view = np.ones((len(pixels), 1), bool), np.ones((len(pixels), 1), np.int8)

    def seconds(engine: Engine, rows: slice) -> float:
        before = time.perf_counter()
        engine.logits(pixels[rows], present[rows], view[rows])
        return time.perf_counter() - before

    said = {name: engine.logits(pixels, present, view) for name, engine in engines.items()}  # and they are warm
    ones: dict[str, list[float]] = {name: [] for name in engines}
    eights: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds):
        for name, engine in engines.items():
            row = number % len(pixels)
            for _ in range(3):
                ones[name].append(seconds(engine, slice(row, row + 1)))
            if number % 3 == 0:
                eights[name].append(seconds(engine, slice(0, 8)) / 8)
    first = next(iter(said.values()))
    told = {}
    for name in engines:
        p50, p95, p99 = (float(x) for x in np.quantile(ones[name], (0.5, 0.95, 0.99)))
        told[name] = {
            "studies_per_second": round(1 / p50, 2), "eight_at_once": round(1 / statistics.median(eights[name]), 2),
            "milliseconds": [round(1000 * x, 1) for x in (p50, p95, p99)], "largest_difference": largest_difference(said[name], first),
        }  # fmt: skip
    return told


def native() -> list[bytes]:
    """Two views as detectors make them."""
    files = []
    for study, place in itertools.islice(((s, k) for s in first_studies(1, 9) for k in range(len(s.images))), 2):
        picture = cv2.resize(draw(study, place, 384)[0], (2048, 2500), interpolation=cv2.INTER_CUBIC)
        twelve = (picture.astype(np.float32) * 16 + np.random.default_rng(0).normal(0, 6, picture.shape)).clip(0, 4095)
        files.append(
            d.dicom(
                twelve.astype(np.uint16), bits=12, WindowCenter=2048, WindowWidth=4096, ViewPosition=("PA", "LL")[place]
            )
        )
    return files


def page(folder: Path, engine: str, rounds: int) -> dict[str, Any]:
    """Seconds of a two-view study over HTTP: the answer with its images, and a heat map on each."""
    parts = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n' + file + b"\r\n" for file in native()
    )
    more = {"predict": {"images": "true"}, "explain": {"finding": FINDINGS[0]}}
    bodies = {
        route: parts + "".join(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()).encode() + b"--x--\r\n"
        for route, fields in more.items()
    }  # fmt: skip
    both: list[float] = []
    with Served(folder / "bundle", folder, "--engine", engine) as served:
        line = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
        for _ in range(rounds + 1):
            before = time.perf_counter()
            for route, body in bodies.items():
                line.request("POST", f"/api/v1/{route}", body, {"Content-Type": "multipart/form-data; boundary=x"})
                answer = line.getresponse()
                told = json.loads(answer.read())
                assert answer.status == 200, told
            both.append(time.perf_counter() - before)
    p50, p95 = (round(float(x), 3) for x in np.quantile(both[1:], (0.5, 0.95)))
    return {"what": f"page answer of two views, {engine}", "p50": p50, "p95": p95, "rounds": rounds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, help="folder to keep the graphs in")
    parser.add_argument("--prepare", action="store_true", help="make the graphs, measure nothing")
    parser.add_argument("--quick", action="store_true", help="a tiny network, a few rounds, and no result is written")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    models = (
        {"test_resnet": 64} if options.quick else {name: size for name, size in MODELS.items() if options.only in name}
    )
    with tempfile.TemporaryDirectory() as temporary:
        work, folders = options.work or Path(temporary), {}
        for name, size in models.items():
            images = phantoms(32, size)
            model = None if (work / name / "done").exists() else model_of(name, size, images)
            folders[name] = prepare(model, size, images, work / name)
        if options.prepare:
            return
        rows = [row for name, size in models.items() for row in rows_of(name, size, folders[name], options)]
    if not options.quick and not options.only:
        bf16 = next(row for row in rows if row.get("engine") == "OpenVINO bf16" and row["model"] == "densenet121")
        eager_row = next(row for row in rows if row.get("engine") == "torch eager" and row["model"] == "densenet121")
        save({
            "name": "serve", "ours": bf16["studies_per_second"], "peer": eager_row["studies_per_second"],
            "unit": "studies per second, DenseNet-121 at 224 px, OpenVINO bf16 and torch eager", "ratio": bf16["times_eager"],
            "goal": f"{GOALS['speed']} times eager with |dp| <= {GOALS['difference']}; page p95 < {GOALS['page']} s",
            "command": "python bench/serve.py", "rows": rows, "processor": _processor(),
        })  # fmt: skip


def rows_of(name: str, size: int, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    told = measured(engines_of(folder, options.threads), phantoms(32, size), 3 if options.quick else 24)
    eager = told["torch eager"]["studies_per_second"]
    rows: list[dict[str, Any]] = []
    for engine, figures in told.items():
        times = round(figures["studies_per_second"] / eager, 2)
        rows.append({"model": name, "size": size, "engine": engine, **figures, "times_eager": times})
        print(
            f"{name:<16}{size:>4}  {engine:<20}{figures['studies_per_second']:>8} /s{times:>7} x{figures['eight_at_once']:>8} /s by eight"
            f"  ms {figures['milliseconds']}  |dp| {figures['largest_difference']:.2g}",
            flush=True,
        )
    if name != "convnext_small":
        rows.append({"model": name, "size": size, **page(folder, "onnx", 5 if options.quick else 40)})
        print(rows[-1], flush=True)
    return rows


def _processor() -> list[str]:
    """What the processor has for low precision."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    return sorted(flags & {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"})


if __name__ == "__main__":
    main()
