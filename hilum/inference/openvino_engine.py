"""The OpenVINO engine: a bundle's graphs in fp32, bf16 or int8, without torch; and without a word to its makers."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hilum.bundle import Bundle
from hilum.errors import InputError
from hilum.inference.engines import Array, Engine, Reading, Views, offered


@contextmanager
def _without(name: str) -> Iterator[None]:
    """A package that cannot be imported inside."""
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before


# OpenVINO reports its use as soon as it is imported, where the package for that is there; without it it takes a stub.
with _without("openvino_telemetry"):
    import openvino

FOLDER = "model.openvino"
ENCODE, ENCODE_INT8, READ = "encode.xml", "encode-int8.xml", "read.xml"


class OpenVinoEngine(Engine):
    """Two graphs in OpenVINO's own format. precision: f32, or bf16 for what the processor does faster so.

    Reading stays in f32 whatever the precision: it is little work, and its softmax decides.
    """

    def __init__(self, encode: Path, read: Path, name: str = "openvino", precision: str = "f32", threads: int = 0):
        self.name = name
        self._encoder, self._reader = _compiled(encode, precision, threads), _compiled(read, "f32", threads)
        self.attends = len(self._reader.outputs) > 1

    @classmethod
    def of(cls, bundle: Bundle) -> "OpenVinoEngine":
        """The engine of an exported bundle in fp32. Raises InputError where it has not been exported so, as the two below."""
        folder = offered(bundle, FOLDER, "fp32")
        return cls(folder / ENCODE, folder / READ)

    @classmethod
    def in_bf16(cls, bundle: Bundle) -> "OpenVinoEngine":
        """The same graphs, encoding in bf16."""
        folder = offered(bundle, FOLDER, "bf16")
        return cls(folder / ENCODE, folder / READ, "openvino-bf16", "bf16")

    @classmethod
    def in_int8(cls, bundle: Bundle) -> "OpenVinoEngine":
        """Another encoding graph, quantised."""
        folder = offered(bundle, FOLDER, "int8")
        return cls(folder / ENCODE_INT8, folder / READ, "openvino-int8")

    def _encode(self, images: Array, view: Views) -> Array:
        features: Array = _run(self._encoder, images=images, view=view)[0]
        return features

    def _answer(self, **inputs: Any) -> Reading:
        return Reading(*_run(self._reader, **inputs))


def _compiled(file: Path, precision: str, threads: int) -> Any:
    """A graph ready to run."""
    wishes: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if threads:
        wishes["INFERENCE_NUM_THREADS"] = threads
    try:
        return openvino.Core().compile_model(file, "CPU", wishes)
    except RuntimeError as error:
        raise InputError(
            "OpenVINO cannot read this graph", where=file, do="export the bundle anew with `hilum export`"
        ) from error


def _run(graph: Any, **inputs: Any) -> list[Any]:
    wanted = {port.get_any_name() for port in graph.inputs}  # a graph has only the inputs that matter to it
    answers = graph({name: value for name, value in inputs.items() if name in wanted})
    return [answers[place].copy() for place in range(len(graph.outputs))]


def convert(source: Path, target: Path) -> None:
    """Write an ONNX graph as OpenVINO's .xml and .bin, weights in full precision."""
    openvino.save_model(openvino.Core().read_model(source), target, compress_to_fp16=False)
