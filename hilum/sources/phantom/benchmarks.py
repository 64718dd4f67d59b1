"""The named benchmarks: fixed cohorts of the phantom, so that figures from different hands can be held side by side.

Patients of train, valid and test are never shared; a test patient comes once. Of the training studies those of the first
patients stay labelled in the semi-supervised form, and all others lose their labels.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from hilum.sources.phantom.patients import Study, first_studies
from hilum.sources.phantom.worlds import WORLDS, World

_CXR_LT_2023 = WORLDS["cxr-lt-2023"]


@dataclass(frozen=True)
class Benchmark:
    """A cohort: studies for training and validation (all of a patient), and test patients with `most` studies at most (None = all).

    size: pixels that it is drawn at.   labelled: training studies that keep their labels in the semi-supervised form.
    """

    world: World
    size: int
    train: int
    valid: int
    test: int
    labelled: int
    seed: int = 6
    most: int | None = 1


def raised_tail(world: World, low: float = 0.0060, high: float = 0.0095, but: Collection[str] = ()) -> World:
    """The world with its tail findings' prevalences evenly from `low` to `high`, in their order; `but` are left as they are."""
    tail = sorted(
        (world.prevalence[name], name) for name, tier in world.tiers.items() if tier == "tail" and name not in but
    )
    spread = zip((name for _, name in tail), np.linspace(low, high, len(tail)).tolist(), strict=True)
    return world.changed(f"{world.name}-raised-tail", prevalence=dict(spread))


# Published prevalences would leave the small test set with 40 positives of the rarest finding: its tail is raised. The seed
# is one with which every finding of the small form has, by its mined training labels, the tier of its prevalence.
BENCHMARKS = {
    "phantom-26-small": Benchmark(
        raised_tail(_CXR_LT_2023).changed("phantom-26-small"),
        size=128, train=8_000, valid=4_000, test=20_000, labelled=2_000,
    ),
    "phantom-26-large": Benchmark(
        _CXR_LT_2023.changed("phantom-26-large"),
        size=256, train=80_000, valid=10_000, test=60_000, labelled=20_000,
    ),
}  # fmt: skip


def cohort(benchmark: Benchmark) -> dict[str, list[Study]]:
    """The studies of train, valid and test."""
    studies, start = {}, 0
    for split, number in (("train", benchmark.train), ("valid", benchmark.valid), ("test", benchmark.test)):
        most = benchmark.most if split == "test" else None
        studies[split] = list(first_studies(benchmark.seed, number, benchmark.world, start=start, most=most))
        start = studies[split][-1].patient + 1
    return studies


def keep_labels(train: list[Study], labelled: int) -> set[str]:
    """The ids of the training studies that keep their labels: those of the first patients, about `labelled` of them."""
    last = train[labelled - 1].patient
    return {study.study_id for study in train if study.patient <= last}
