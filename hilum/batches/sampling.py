"""Samplers: how often an epoch shows each training sample, and the order in which it does.

A sampler says for each sample how many times an epoch is to draw it, on average: its share. `epoch_order` draws by these
shares in a way that depends on (seed, epoch) alone. A finding's positives are known labels of at least one half; unknown
entries and pseudo labels are not. Losses and tiers go on counting the table itself: a sampler changes what is seen, not
what is known of the findings' frequencies.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from hilum.errors import InputError

Sampler = Callable[[np.ndarray], np.ndarray]  # positives bool (N, F) -> shares float64 (N,), 0 or more


def shuffle() -> Sampler:
    """Every sample once."""
    return lambda positives: np.ones(len(positives))


def by_class(*, power: float, none: bool) -> Sampler:
    """As many draws as there are samples: a class, by n^power of its n samples, then one of them, each alike (Kang 2020).

    none: samples without any positive finding are one more class; else they are never drawn.
    """

    def shares(positives: np.ndarray) -> np.ndarray:
        members = _classes(positives, none=none)
        sizes = members.sum(axis=0)
        chance = sizes**power / (sizes**power).sum()
        return np.asarray(len(members) * (members @ (chance / sizes)))

    return shares


def repeat_factor(*, threshold: float = 0.01, cap: float = 10.0) -> Sampler:
    """Each sample max(1, sqrt(threshold / f)) times, f the frequency of its rarest finding, at most `cap` (LVIS, Gupta 2019)."""
    _above("repeat_factor", "threshold", threshold, 0)
    _above("repeat_factor", "cap", cap, 1)

    def shares(positives: np.ndarray) -> np.ndarray:
        rarest = _rarest(positives, positives.mean(axis=0))
        return np.asarray(np.sqrt(threshold / rarest).clip(1, cap))

    return shares


def _resample(name: str, quantile: float, least: float, cap: float) -> Sampler:
    """Each sample as often as its rarest class needs to reach a quantile of the class sizes: from `least` to `cap` times."""
    _above(name, "cap", cap, 1)

    def shares(positives: np.ndarray) -> np.ndarray:
        members = _classes(positives, none=True)
        sizes = members.sum(axis=0)
        return np.asarray((np.quantile(sizes, quantile) / _rarest(members, sizes)).clip(least, cap))

    return shares


def over(*, cap: float = 10.0) -> Sampler:
    """Rare classes are repeated until they are as large as the largest, at most `cap` times; nothing is left out."""
    return _resample("over", 1.0, 1.0, cap)


def under() -> Sampler:
    """Samples of classes above the median size alone are left out at random, down to that size; nothing is repeated."""
    return _resample("under", 0.5, 0.0, 1.0)


def mixed(*, cap: float = 10.0) -> Sampler:
    """Towards the median class size from both sides: rare classes repeated, at most `cap` times, common ones left out."""
    return _resample("mixed", 0.5, 0.0, cap)


SAMPLERS: dict[str, Callable[..., Sampler]] = {
    "shuffle": shuffle,
    "class_aware": partial(by_class, power=0.0, none=False),  # a finding uniformly (Shen 2016)
    "balanced": partial(by_class, power=0.0, none=True),
    "square_root": partial(by_class, power=0.5, none=True),
    "repeat_factor": repeat_factor,
    "over": over,
    "under": under,
    "mixed": mixed,
}


def epoch_order(shares: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The samples of an epoch in order, int64 (round(sum of shares),): they depend on (seed, epoch) alone.

    Drawn systematically: a sample of share s comes floor(s) or ceil(s) times, s times on average over epochs. With every
    share 1 it is a permutation.
    """
    generator = np.random.default_rng([seed, epoch, 0])
    order = generator.permutation(len(shares))
    if (shares == 1).all():
        return order
    count = epoch_length(shares)
    along = np.cumsum(shares[order])
    along *= count / along[-1]
    along[-1] = count  # not a rounding error less
    times = np.diff(np.floor(along + generator.random()), prepend=0).astype(np.int64)
    return generator.permutation(np.repeat(order, times))


def epoch_length(shares: np.ndarray) -> int:
    """Samples in an epoch, the same in every one; at least 1."""
    return max(1, round(float(shares.sum())))


def _classes(positives: np.ndarray, *, none: bool) -> np.ndarray:
    """float64 (N, K): whether a sample is of each class that has any, 1 or 0; with `none`, to be without a finding is one."""
    members = np.column_stack([positives, ~positives.any(axis=1)]) if none else positives
    members = members[:, members.any(axis=0)].astype(np.float64)
    if not members.shape[1]:
        raise InputError("no training study has a positive finding to be drawn by", do="set train.sampler=shuffle")
    return members


def _rarest(members: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """float64 (N,): the least size among each sample's classes, infinite where it has none."""
    return np.asarray(np.where(members > 0, sizes, np.inf).min(axis=1, initial=np.inf))


def _above(sampler: str, option: str, value: float, least: float) -> None:
    if not value >= least:
        raise InputError(f"train.sampler: option {option!r} of {sampler} is {value}", do=f"give at least {least:g}")
