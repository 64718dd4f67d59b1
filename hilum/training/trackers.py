"""Trackers: where the log's lines go besides log.csv and log.jsonl. Optional, and local unless told otherwise."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hilum.errors import InputError

Row = dict[str, float | int | str]


class Tracker(Protocol):
    """Takes one line of the log per epoch."""

    def log(self, row: Row) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Scalars under RUN/tensorboard."""

    def __init__(self, run: Path, name: str):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError("the tracker tensorboard is not installed", do="pip install 'hilum[track]'") from error
        self.writer = SummaryWriter(str(run / "tensorboard"))  # type: ignore[no-untyped-call]

    def log(self, row: Row) -> None:
        for key, value in _numbers(row).items():
            self.writer.add_scalar(f"{row['stage']}/{key}", value, int(row["epoch"]))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self.writer.close()  # type: ignore[no-untyped-call]


class MLflow:
    """Metrics in the store that MLFLOW_TRACKING_URI names, by default RUN/mlflow; usage statistics are off."""

    def __init__(self, run: Path, name: str):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
        os.environ.setdefault("DO_NOT_TRACK", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise InputError("the tracker mlflow is not installed", do="pip install 'hilum[track]'") from error
        self.client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", (run / "mlflow").resolve().as_uri()))
        experiment = self.client.get_experiment_by_name("hilum")
        identity = experiment.experiment_id if experiment else self.client.create_experiment("hilum")
        self.run = self.client.create_run(identity, run_name=name).info.run_id

    def log(self, row: Row) -> None:
        for key, value in _numbers(row).items():
            name = re.sub(r"[^\w\-. :/]", "", f"{row['stage']}.{key}")  # what a name of theirs may hold
            self.client.log_metric(self.run, name, value, step=int(row["epoch"]))

    def close(self) -> None:
        self.client.set_terminated(self.run)


TRACKERS: dict[str, Callable[[Path, str], Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow}


def _numbers(row: Row) -> dict[str, float]:
    return {
        key: float(value) for key, value in row.items() if not isinstance(value, str) and key not in ("epoch", "step")
    }
