"""The loop: one stage of training on Lightning Fabric, resumable bit for bit.

What a step does depends on (seed, epoch, step) alone: the order of samples, the partners they are mixed with, the views
drawn, the augmentation and the dropout each have a generator made from these numbers. So a run that was killed goes on as
if nothing had happened.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from hilum.batches.augment import Augment
from hilum.batches.dataset import Batch, Studies
from hilum.batches.mixing import MIXES, Pairs, mixed
from hilum.batches.sampling import SAMPLERS, epoch_length, epoch_order
from hilum.errors import HilumError, InputError
from hilum.evaluation.metrics import auroc, average_precision
from hilum.evaluation.single_label import balanced_accuracy, exactly_one
from hilum.inference.torch_engine import logits_of
from hilum.inference.tta import tta_logits
from hilum.models.classifier import Classifier
from hilum.progress import Progress, silent
from hilum.recipe import PredictSpec, TrainSpec
from hilum.training.average import MovingAverage
from hilum.training.checkpoint import load_checkpoint, load_facts, optimizer_tensors, restore_optimizer, save_checkpoint
from hilum.training.losses import Loss
from hilum.training.optim import OPTIMIZERS, build_optimizer
from hilum.training.schedule import SCHEDULES, learning_rate

Row = dict[str, float | int | str]


@dataclass
class Position:
    """Where a stage is: all that a checkpoint holds besides tensors. Rows are the log's lines so far."""

    epoch: int = 0
    step: int = 0  # within the epoch
    loss_sum: float = 0.0
    seconds: float = 0.0  # of the current epoch, before an interruption
    best: float | None = None
    best_epoch: int = -1
    finished: bool = False
    rows: list[Row] = field(default_factory=list)


class StageLoop:
    """Trains one model on one pair of study sets.

    folder: where checkpoints/{last,best}.safetensors appear, without what is frozen and so known; on_row: called with each
    epoch's log line; predict: how validation studies are predicted.
    """

    forward_methods: tuple[str, ...] = ("read",)  # of cached features, through the wrapper that keeps processes in step

    def __init__(
        self,
        fabric: Fabric,
        name: str,
        spec: TrainSpec,
        model: Classifier,
        frozen: list[str],
        loss: Loss,
        augment: Augment,
        train: Studies,
        valid: Studies,
        folder: Path,
        *,
        predict: PredictSpec | None = None,
        on_row: Callable[[list[Row]], None] = lambda rows: None,
        progress: Progress = silent,
    ):
        self.fabric, self.name, self.spec, self.frozen = fabric, name, spec, frozen
        self.loss, self.augment, self.train, self.valid = loss.to(fabric.device), augment, train, valid
        self.folder, self.on_row, self.progress = folder, on_row, progress
        self.predict = predict or PredictSpec()
        for part in frozen:
            model.get_submodule(part).requires_grad_(False)
        self.model = model
        steps = spec.optimizer.build("optimizer", OPTIMIZERS)
        self.wrapped, self.optimizer = fabric.setup(
            model, build_optimizer(model, spec.lr, spec.weight_decay, steps, spec.layer_decay)
        )
        for method in self.forward_methods:
            self.wrapped.mark_forward_method(method)
        self.average = MovingAverage(model, spec.ema) if spec.ema else None
        if spec.select == "balanced_accuracy" and not exactly_one(valid.labels).any():
            raise InputError("no validation study has exactly one finding and none unknown", do="select by map instead")
        self.schedule = spec.schedule.build("schedule", SCHEDULES)
        self.shares = spec.sampler.build("sampler", SAMPLERS)(train.positives())
        self.mix = spec.mix.build("mix", MIXES)(train.positives())
        samples = epoch_length(self.shares)
        self.batch = min(spec.batch_size * fabric.world_size, samples)
        self.steps = samples // self.batch
        self.at = Position()

    @property
    def judged(self) -> Classifier:
        """The model that is validated and saved: the moving average where there is one."""
        return self.average.model if self.average else self.model  # type: ignore[return-value]

    def run(self, *, resume: bool = False) -> list[Row]:
        """Train to the end, put the best weights into the model, and hand back the log's lines."""
        if resume and self._last.exists():
            self._restore()
        while not self.at.finished:
            self._epoch()
        self.fabric.barrier()  # the first process writes, all read
        _, groups = load_checkpoint(self._best)
        self._load(self.model, groups["model"])
        return self.at.rows

    # -- one epoch, one step ------------------------------------------------------------------------------------------

    def _epoch(self) -> None:
        order = epoch_order(self.shares, self.spec.seed, self.at.epoch)
        started = saved = time.monotonic()
        self._to_train_mode()
        first = self.at.step
        for step in self.progress(range(first, self.steps), total=self.steps - first, label=self._label, unit="steps"):
            self.at.loss_sum += self._step(order, step)
            self.at.step = step + 1
            if time.monotonic() - saved > 60 * self.spec.checkpoint_minutes and self.at.step < self.steps:
                saved = time.monotonic()
                self._save(seconds=self.at.seconds + saved - started)
        self._close_epoch(self.at.seconds + time.monotonic() - started)

    def _step(self, order: np.ndarray, step: int) -> float:
        """One optimiser step; the mean loss of its samples."""
        done = self.at.epoch * self.steps + step
        lr = self.rate(done)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        mine = order[step * self.batch : (step + 1) * self.batch][self.fabric.global_rank :: self.fabric.world_size]
        pairs = self.mix(mine, np.random.default_rng([self.spec.seed, self.at.epoch, step, self.fabric.global_rank, 6]))
        parts = pairs.split(min(self.spec.accumulate, len(mine)))
        whole = float(self.loss.divisor(*pairs.targets(self.train))) or 1.0
        total = 0.0
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            with self.fabric.no_backward_sync(self.wrapped, enabled=not last):
                loss = self._loss(part, (self.at.epoch, step, number), whole)
                self.fabric.backward(loss)
            total += loss.item()
        if not math.isfinite(total):
            raise HilumError(
                f"the loss became {total}",
                where=f"stage {self.name}, epoch {self.at.epoch}, step {step}",
                do="lower train.lr",
            )
        if self.spec.clip:
            self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=self.spec.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.fabric.world_size > 1:
            total = float(self.fabric.all_reduce(total, reduce_op="mean"))  # type: ignore[arg-type]
        if self.average:
            self.average.update(self.model, done)
        return total

    def _loss(self, part: Pairs, key: tuple[int, int, int], whole: float) -> Tensor:
        """The part's share of the batch's loss, so that accumulated parts give what the whole batch would."""
        batch = self._drawn(part.samples, key, 1)
        if part.partners is not None and part.shares is not None:
            shares = torch.from_numpy(part.shares).to(self.fabric.device)
            batch = mixed(batch, self._drawn(part.partners, key, 4), shares)
        devices = [self.fabric.device] if self.fabric.device.type == "cuda" else []
        # dropout draws from torch's own generator: lend it a seed, then give it back
        with torch.random.fork_rng(devices), self.fabric.autocast():
            torch.manual_seed(number_from(self.spec.seed, *key, 3))
            logits = logits_of(self.wrapped, batch, batch.images)
        value: Tensor = self.loss(logits.float(), batch.labels, batch.weights)
        if self.loss.reduction == "mean":
            value = value * self.loss.divisor(batch.labels, batch.weights) / whole
        return value

    def _drawn(self, samples: np.ndarray, key: tuple[int, int, int], stream: int) -> Batch:
        """The batch of these samples, its images augmented: floats in [0, 1]."""
        seed = self.spec.seed
        batch: Batch = self.train.batch(samples, np.random.default_rng([seed, *key, stream])).to(self.fabric.device)
        generator = torch.Generator(self.fabric.device).manual_seed(number_from(seed, *key, stream + 1))
        return batch if batch.images is None else replace(batch, images=self.augment(batch.images, generator))

    def _to_train_mode(self) -> None:
        self.wrapped.train()
        for part in self.frozen:  # frozen means frozen: no dropout, no moving batch-norm statistics
            self.model.get_submodule(part).eval()

    # -- the end of an epoch ------------------------------------------------------------------------------------------

    def _close_epoch(self, seconds: float) -> None:
        done = (self.at.epoch + 1) * self.steps
        row: Row = {
            "stage": self.name,
            "epoch": self.at.epoch + 1,
            "step": done,
            "lr": self.rate(done - 1),
            "train_loss": self.at.loss_sum / self.steps,
            **self._validate(),
            "seconds": round(seconds, 2),
            "studies_per_second": round(self.steps * self.batch / seconds, 1),
        }
        self._close(row)

    def _close(self, row: Row) -> None:
        """Take an epoch's line into the log; keep the weights if they are the best so far; save where the stage is."""
        value = self._value(row)
        better = self.at.best is None or value > self.at.best
        if better:
            self.at.best, self.at.best_epoch = value, self.at.epoch
        self.at.rows.append(row)
        self.at.epoch, self.at.step, self.at.loss_sum, self.at.seconds = self.at.epoch + 1, 0, 0.0, 0.0
        waited = self.at.epoch - 1 - self.at.best_epoch
        self.at.finished = self.at.epoch >= self.spec.epochs or 0 < self.spec.patience <= waited
        if better and self.fabric.is_global_zero:
            save_checkpoint(self._best, {"epoch": self.at.epoch, **row}, model=self._trained(self.judged))
        self._save(seconds=0.0)
        self.on_row(self.at.rows)

    def _validate(self) -> Row:
        logits = tta_logits(
            self.judged,
            self.valid,
            self.predict,
            batch_size=2 * self.batch,
            device=self.fabric.device,
            autocast=self.fabric.autocast,
        )
        labels = self.valid.labels
        answers, truth = (torch.from_numpy(values).to(self.fabric.device) for values in (logits, labels))
        scores = torch.from_numpy(logits).sigmoid().numpy()
        row: Row = {
            "valid_loss": self.loss(answers, truth).item(),
            "valid_map": _mean(average_precision(labels, scores)),
            "valid_auroc": _mean(auroc(labels, scores)),
        }
        if self.spec.select == "balanced_accuracy":  # of logits: probabilities may round to the same
            row["valid_balanced_accuracy"] = balanced_accuracy(labels, logits)
        known = (~truth.isnan()).sum(dim=0)
        of_findings = (self.loss.elementwise(answers, truth).sum(dim=0) / known).tolist()
        return row | {
            f"valid_losses/{name}": loss for name, loss, count in zip(self.valid.findings, of_findings, known) if count
        }

    def rate(self, step: int) -> float:
        """The learning rate of optimiser step `step`, counted from 0 over the whole stage."""
        spec = self.spec
        values = [self._value(row) for row in self.at.rows]
        return learning_rate(
            step, spec.epochs * self.steps, peak=spec.lr, warmup=spec.warmup, final=spec.final_lr,
            schedule=self.schedule, values=values,
        )  # fmt: skip

    def _value(self, row: Row) -> float:
        """What a line of the log says of the validation studies: higher is better."""
        return -float(row["valid_loss"]) if self.spec.select == "loss" else float(row[f"valid_{self.spec.select}"])

    @property
    def _label(self) -> str:
        return f"{self.name} {self.at.epoch + 1}/{self.spec.epochs}"

    # -- checkpoints --------------------------------------------------------------------------------------------------

    @property
    def _last(self) -> Path:
        return self.folder / "checkpoints" / "last.safetensors"

    @property
    def _best(self) -> Path:
        return self.folder / "checkpoints" / "best.safetensors"

    def _save(self, seconds: float) -> None:
        if not self.fabric.is_global_zero:
            return
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        groups = {"model": self._trained(self.model), "optimizer": optimizer_tensors(inner)}
        if self.average:
            groups["average"] = self._trained(self.average.model)
        save_checkpoint(self._last, {**vars(self.at), "seconds": seconds}, **groups)

    def _restore(self) -> None:
        facts, groups = load_checkpoint(self._last)
        self.at = Position(**facts)
        self._load(self.model, groups["model"])
        restore_optimizer(getattr(self.optimizer, "optimizer", self.optimizer), groups.get("optimizer", {}))
        if self.average:
            self._load(self.average.model, groups["average"])

    def _trained(self, model: nn.Module) -> dict[str, Tensor]:
        """A model's tensors without those of frozen parts, which every start of the stage finds as they were."""
        frozen = tuple(f"{part}." for part in self.frozen)
        return {key: value for key, value in model.state_dict().items() if not key.startswith(frozen)}

    def _load(self, model: nn.Module, tensors: dict[str, Tensor]) -> None:
        """Put a checkpoint's tensors into a model, key by key; one of earlier days holds frozen parts as well."""
        state = model.state_dict()
        frozen = {key: state[key] for key in state.keys() - self._trained(model).keys()}
        model.load_state_dict(frozen | tensors)


def is_finished(folder: Path) -> bool:
    """Whether the stage of this folder has been trained to its end."""
    last = folder / "checkpoints" / "last.safetensors"
    return last.exists() and bool(load_facts(last)["finished"])


def number_from(*key: int) -> int:
    """A seed below 2^63 that depends on every number of the key."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _mean(values: np.ndarray) -> float:
    """The mean over the findings that can be scored; 0 where none can."""
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if len(scored) else 0.0
