"""The ONNX engine: a bundle's graphs on ONNX Runtime, without torch."""

from pathlib import Path
from typing import Any

import onnxruntime

from hilum.bundle import Bundle
from hilum.errors import InputError
from hilum.inference.engines import Array, Engine, Reading, Views, offered

FOLDER = "model.onnx"
ENCODE, READ = "encode.onnx", "read.onnx"

onnxruntime.disable_telemetry_events()  # builds for Windows would send some


class OnnxEngine(Engine):
    """Two graphs, each an ONNX file; fp32 on the CPU.

    They are handed over as bytes, so that a graph which points at other files (external data) finds none.
    """

    def __init__(self, encode: Path, read: Path, name: str = "onnx", threads: int = 0):
        self.name = name
        self._encoder, self._reader = _session(encode, threads), _session(read, threads)
        self.attends = len(self._reader.get_outputs()) > 1

    @classmethod
    def of(cls, bundle: Bundle) -> "OnnxEngine":
        """The engine of an exported bundle. Raises InputError where it has not been exported."""
        folder = offered(bundle, FOLDER, "fp32")
        return cls(folder / ENCODE, folder / READ)

    def _encode(self, images: Array, view: Views) -> Array:
        features: Array = _run(self._encoder, images=images, view=view)[0]
        return features

    def _answer(self, **inputs: Any) -> Reading:
        return Reading(*_run(self._reader, **inputs))


def _session(file: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads  # 0 = as many as there are cores
    options.log_severity_level = 4  # what goes wrong is raised; nothing is printed
    try:
        return onnxruntime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # a zoo of classes of its own
        raise InputError(
            "ONNX Runtime cannot read this graph", where=file, do="export the bundle anew with `hilum export`"
        ) from error


def _run(session: Any, **inputs: Any) -> list[Any]:
    wanted = {one.name for one in session.get_inputs()}  # a graph has only the inputs that matter to it
    answers: list[Any] = session.run(None, {name: value for name, value in inputs.items() if name in wanted})
    return answers
