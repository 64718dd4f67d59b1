"""The learning rate of every step: a rise, then a schedule by name."""

import math
from collections.abc import Callable, Sequence

from hilum.errors import InputError

# how far along 0 .. 1 after the rise, the end as a part of the peak, each epoch's validation value -> part of the peak
Schedule = Callable[[float, float, Sequence[float]], float]


def cosine() -> Schedule:
    """Half a cosine, from the peak to `final_lr` times the peak."""
    return lambda along, final, values: final + (1 - final) * 0.5 * (1 + math.cos(math.pi * along))


def constant() -> Schedule:
    """The peak to the end; `final_lr` plays no part."""
    return lambda along, final, values: 1.0


def plateau(*, factor: float = 0.1, patience: int = 2) -> Schedule:
    """The peak, times `factor` whenever more than `patience` epochs in a row brought no better validation value.

    Never below `final_lr` times the peak. The epochs are counted anew after each fall, as torch's ReduceLROnPlateau does
    with threshold 0. The values are those of `train.select`; they stand in the log, so there is no state to save.
    """
    if not (0 < factor < 1 and patience >= 0):
        advice = "give a factor between 0 and 1 and a patience of 0 or more"
        raise InputError(f"train.schedule: plateau with factor {factor} and patience {patience}", do=advice)

    def part(along: float, final: float, values: Sequence[float]) -> float:
        best, waited, rate = -math.inf, 0, 1.0
        for value in values:
            best, waited = (value, 0) if value > best else (best, waited + 1)
            if waited > patience:
                rate, waited = rate * factor, 0
        return max(rate, final)

    return part


SCHEDULES: dict[str, Callable[..., Schedule]] = {"cosine": cosine, "constant": constant, "plateau": plateau}
_COSINE = cosine()


def learning_rate(
    step: int,
    total: int,
    *,
    peak: float,
    warmup: float,
    final: float,
    schedule: Schedule = _COSINE,
    values: Sequence[float] = (),
) -> float:
    """The learning rate of step 0 .. total - 1: a linear rise over the first `warmup` share, then the schedule.

    The first step after the rise has `peak`; with a cosine the last step of all has exactly `final * peak`.
    values: each finished epoch's validation value, higher is better.
    """
    rising = round(warmup * total)
    if step < rising:
        return peak * (step + 1) / (rising + 1)
    along = (step - rising) / max(1, total - 1 - rising)
    return peak * schedule(min(1.0, along), final, values)
