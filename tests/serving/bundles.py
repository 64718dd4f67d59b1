"""Exported bundles for tests, each made once for all processes of a test run, and servers over them in processes of their own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import torch
from torch import nn

from hilum.bundle import Bundle, write_bundle
from hilum.inference.export import export
from hilum.label_file import FILE
from hilum.models.classifier import build_classifier
from hilum.operating_points import OperatingPoint
from hilum.pixels.spec import PixelSpec
from hilum.recipe import ModelSpec
from tests.small import FINDINGS

SIZE = 32
ATTENDING = ModelSpec(
    backbone={"name": "custom_cnn", "widths": [8, 12]},
    fusion={"name": "mean"},
    head={"name": "location_attention", "maps": "per_finding"},
    demographics={"name": "concat", "hidden": 4},
)
CHEXFUSION = ModelSpec(
    backbone={"name": "custom_cnn", "widths": [8, 16]},
    fusion={"name": "transformer", "layers": 1, "heads": 2, "hidden": 16, "dim": 16, "reduce": 1},
    head={"name": "ml_decoder", "dim": 16, "heads": 2, "hidden": 16},
)
OPEN = ModelSpec(
    backbone={"name": "custom_cnn", "widths": [8, 12]},
    fusion={"name": "mean"},
    head={"name": "label_query", "dim": 16, "heads": 2, "hidden": 16, "layers": 1},
)
BY_VIEW = ModelSpec(
    backbone={"name": "by_view", "frontal": {"name": "custom_cnn", "widths": [8, 12]}, "unknown": "mean"},
    fusion={"name": "weighted"},
    head={"name": "linear"},
    heads="by_view",
)


def write_small_bundle(spec: ModelSpec, folder: Path, tone: str = "equalize_hist") -> Bundle:
    """A bundle with random weights whose answers differ clearly from study to study, and a calibration."""
    torch.manual_seed(0)
    model = build_classifier(spec, FINDINGS, SIZE).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=1.2 * (parameter[0].numel()) ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.3)
    known = dict.fromkeys(FINDINGS, 1000)
    bundle = Bundle(
        list(FINDINGS), PixelSpec(SIZE, tone=tone), model.architecture, {"Edema": 200, "Mass": 50, "Hernia": 4}, known, ["test"],
        operating_points=[OperatingPoint("Edema", 0.4, "max F1", "validation", slope=1.2, intercept=-0.1),
                          OperatingPoint("Mass", 0.6, "max F1", "validation")],
        vocabulary=model.vocabulary,
    )  # fmt: skip
    labels = model.labels if model.vocabulary == "open" else None
    files = {FILE: labels.with_known(FINDINGS).to_bytes()} if labels else {}
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    return write_bundle(bundle, weights, folder, recipe="", card="", files=files)


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, filled by the first process that asks; others wait for it."""
    done, lock = folder.with_suffix(".done"), folder.with_suffix(".lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        until = time.monotonic() + 1200
        while not done.exists():
            assert time.monotonic() < until, "another process should have made it"
            time.sleep(0.2)
        return folder
    make(folder)
    done.touch()
    return folder


def exported(spec: ModelSpec) -> Callable[[Path], None]:
    """Makes a bundle with ONNX graphs."""

    def make(folder: Path) -> None:
        write_small_bundle(spec, folder)
        export(folder)

    return make


class Served:
    """`hilum serve` in a process of its own, on a port of loopback; its log lines are in `log`."""

    def __init__(self, bundle: Path, folder: Path, *options: str, prelude: str = ""):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}", folder / f"serve-{self.port}.log"
        arguments = ["serve", str(bundle), "--port", str(self.port), *options]
        code = f"import sys\n{prelude}\nfrom hilum.cli import main\nsys.argv = ['hilum', *{arguments!r}]\nmain()"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-c", code], stderr=log, stdout=log)

    def wait(self, seconds: float = 300) -> "Served":
        """Until it is ready."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=5).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"the server does not start:\n{self.log.read_text()}")

    def stop(self, seconds: float = 30) -> int:
        """End it as an operator does; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        finally:
            self.process.kill()

    def __enter__(self) -> "Served":
        return self.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()


def copied(bundle: Path, target: Path) -> Path:
    """A copy of a bundle, to be spoiled."""
    return Path(shutil.copytree(bundle, target))
