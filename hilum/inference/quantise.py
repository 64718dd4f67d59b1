"""int8: an ONNX graph whose convolutions and products run on whole numbers, their ranges taken from images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

_AT_ONCE = 8


class _Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: np.ndarray, view: np.ndarray):
        self._batches = self._in_batches(images, view)

    @staticmethod
    def _in_batches(images: np.ndarray, view: np.ndarray) -> Iterator[dict[str, Any]]:
        for k in range(0, len(images), _AT_ONCE):
            yield {"images": images[k : k + _AT_ONCE], "view": view[k : k + _AT_ONCE]}

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def quantised(source: Path, target: Path, calibration: tuple[np.ndarray, np.ndarray]) -> None:
    """Write `target`, the graph of `source` (encode) in int8: weights per channel, activations per tensor and asymmetric.

    calibration: images float32 (N, 1, S, S) and views int8 (N,); an activation's range is from the least to the greatest seen.
    """
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(target), _Images(*calibration), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax,
        op_types_to_quantize=["Conv", "Gemm", "MatMul"],
    )  # fmt: skip
