"""Weights of findings by how often they occur: the rarer a finding, the more it counts."""

import math
from typing import Literal

import torch
from torch import Tensor

from hilum.errors import InputError

ClassWeights = Literal["none", "prevalence", "class_balanced", "inverse"]
WeighedTerms = Literal["positives", "both"]


def weights_of_terms(
    kind: ClassWeights, counts: Tensor, known: Tensor, *, beta: float, power: float, terms: WeighedTerms
) -> tuple[Tensor, Tensor]:
    """(F,) weights of the positive terms and (F,) of the negative terms; all 1 for `none`.

    counts, known: (F,) positives and labelled entries in training; n and pi = n / known below.
    kind:
        prevalence      e^(1 - pi) on positives and e^pi on negatives (CheXFusion, Kim 2023).
        class_balanced  (1 - beta) / (1 - beta^n), one over the effective number of positives (Cui et al. 2019).
        inverse         1 / pi (the re-weighting RW of Holste et al. 2022).
        The last two are scaled to sum to their number: as published for the first; the other was N / (C n) within a softmax,
        where the scale is no matter.
    power: the weights are raised to it, after the scaling.
    terms: class_balanced and inverse weigh `positives` alone, or `both` terms of a finding. Their sources have one class
        a sample and weigh the sample by it, so that no rare class is outweighed by the samples without it: in the
        multi-label form this is the weight of positives. On both terms a finding counts for more, but its
        positives do not count for more than its negatives.

    A finding without positives cannot be weighed by them: class_balanced and inverse leave it at 1, outside the scale.
    Raises InputError for a beta outside 0 <= beta < 1.
    """
    if not 0 <= beta < 1:
        raise InputError(f"the option beta of the loss is {beta}", do="give a number from 0 to below 1")
    prevalence = torch.where(known > 0, counts / known.clamp(min=1), 0.0)
    ones = torch.ones_like(prevalence)
    if kind == "none":
        return ones, ones
    if kind == "prevalence":
        return torch.exp(1 - prevalence) ** power, torch.exp(prevalence) ** power
    some = prevalence > 0
    if kind == "class_balanced":
        raw = (1 - beta) / -torch.expm1(counts * math.log(beta)) if beta else ones
    else:
        raw = 1 / prevalence
    raw = torch.where(some, raw, 0.0)
    weights = torch.where(some, raw / raw.sum() * some.sum(), 1.0) ** power
    return weights, weights if terms == "both" else ones
