"""tau-normalisation: the head's last layer rescaled after training, nothing trained (Kang et al. 2020).

Rows of frequent findings grow longer than those of rare ones. A finding's row w becomes w / |w|^tau: tau 0 leaves all as
they are, tau 1 makes all of length 1. Biases stay (Kang et al. leave them out). A finding's studies keep their order, so
its AP and AUROC do not change (or hardly, where the probabilities of views are averaged); what changes is the order of
findings within a study, and the probabilities. So tau is chosen by balanced accuracy or by the loss on validation.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from hilum.errors import InputError
from hilum.models.demographics import Informed
from hilum.models.fusions.apart import HeadPair
from hilum.models.heads.linear import LinearHead
from hilum.models.heads.location_attention import LocationAttention
from hilum.models.heads.ml_decoder import MLDecoder
from hilum.models.heads.mlp import MLPHead
from hilum.recipe import Stage
from hilum.training.loop import StageLoop

# the weights of a head's last layer as a view (..., D): each row makes one finding's logit by a product, plus a bias
LAST_LAYERS: Mapping[type[nn.Module], Callable[[Any], Tensor]] = {
    LinearHead: lambda head: head.project.weight,
    LocationAttention: lambda head: head.project.weight,
    MLPHead: lambda head: head.layers[-1].weight[..., 0],
    MLDecoder: lambda head: head.weight.transpose(1, 2),
}
WITH_ROWS = ("linear", "location_attention", "mlp", "ml_decoder")  # their names in a recipe


def check_tau(stage: Stage) -> None:
    """Raise InputError for a stage whose tau cannot be applied or chosen; a stage without tau is fine."""
    if stage.tau is None:
        return
    if stage.init is None:
        raise InputError(f"stage {stage.name}: tau rescales a trained head", do="name the stage or bundle with `init`")
    if not stage.tau or not all(0 <= tau <= 10 for tau in stage.tau):
        raise InputError(f"stage {stage.name}: tau is {stage.tau}", do="give numbers from 0 to 10, such as [0, 0.5, 1]")
    if (head := stage.model.head.name) not in WITH_ROWS:
        advice = f"use one of {', '.join(WITH_ROWS)}"
        raise InputError(f"stage {stage.name}: {head} has no row of weights per finding", do=advice)
    if "head" in stage.freeze or "head" in stage.fresh:
        raise InputError(f"stage {stage.name}: tau changes a trained head", do="take head out of `freeze` and `fresh`")
    if len(stage.tau) > 1 and stage.train.select not in ("balanced_accuracy", "loss"):
        raise InputError(
            f"stage {stage.name}: tau does not change train.select={stage.train.select}, so that cannot choose one",
            do="set train.select to balanced_accuracy or loss, or give a single tau",
        )


def last_layers(head: nn.Module) -> list[Tensor]:
    """The last layers of a head, or of both where there is one by view; changing them in place changes the head."""
    head = head.head if isinstance(head, Informed) else head
    heads = [head.frontal, head.lateral] if isinstance(head, HeadPair) else [head]
    return [LAST_LAYERS[type(one)](one).detach() for one in heads]


def rescaled(weights: Tensor, tau: float) -> Tensor:
    """Rows w (..., D) as w / |w|^tau; a row of zeros stays."""
    length = weights.norm(dim=-1, keepdim=True)
    return weights / torch.where(length > 0, length, 1.0) ** tau


class TauLoop(StageLoop):
    """A stage whose epochs train nothing: each tries one tau on the validation studies, and the best is kept."""

    def __init__(self, taus: Sequence[float], *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.spec = replace(self.spec, epochs=len(taus), patience=0)
        self.average = None
        self.taus, self.layers = list(taus), last_layers(self.model.head)
        self.as_trained = [layer.clone() for layer in self.layers]

    def _epoch(self) -> None:
        started, tau = monotonic(), self.taus[self.at.epoch]
        for layer, weights in zip(self.layers, self.as_trained):
            layer.copy_(rescaled(weights, tau))
        row = {"stage": self.name, "epoch": self.at.epoch + 1, "tau": tau, **self._validate()}
        self._close({**row, "seconds": round(monotonic() - started, 2)})
