"""A stage that trains nothing: a model that is ready (prompts on an image-text model) judged as it starts, so that it has a bundle."""

from dataclasses import replace
from time import monotonic
from typing import Any

from hilum.training.loop import StageLoop


class UntrainedLoop(StageLoop):
    """One look at the validation studies, and the weights kept as they are."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.spec = replace(self.spec, epochs=1, patience=0)
        self.average = None

    def _epoch(self) -> None:
        started = monotonic()
        row = {"stage": self.name, "epoch": 1, "step": 0, "lr": 0.0, "train_loss": 0.0, **self._validate()}
        self._close({**row, "seconds": round(monotonic() - started, 2)})
