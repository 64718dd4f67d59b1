"""Loading weights key by key: what matched, what is missing, what nobody expected. Refuses by default."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from hilum.errors import InputError


@dataclass
class LoadReport:
    """The keys of a load: matched; missing from the file; unexpected in it; there, but of another shape."""

    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    reshaped: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        kinds = (("missing", self.missing), ("unexpected", self.unexpected), ("of another shape", self.reshaped))
        faults = "".join(
            f"; {len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for kind, keys in kinds
            if keys
        )
        return f"{len(self.matched)} keys matched{faults}"


def load_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    allow_partial: bool = False,
    parts: tuple[str, ...] | None = None,
    where: str = "weights",
) -> LoadReport:
    """Copy weights into the model and report every key.

    parts: only keys of these parts (backbone, fusion, head) are looked at, such as what two stages share.
    Raises InputError unless every key matches, or allow_partial is set; the model is untouched then.
    """
    own = {key: value for key, value in model.state_dict().items() if parts is None or key.split(".")[0] in parts}
    given = {key: value for key, value in weights.items() if parts is None or key.split(".")[0] in parts}
    report = LoadReport(
        missing=[key for key in own if key not in given], unexpected=[key for key in given if key not in own]
    )
    for key in own.keys() & given.keys():
        (report.matched if own[key].shape == given[key].shape else report.reshaped).append(key)
    if not report.whole and not allow_partial:
        raise InputError(
            f"the weights do not fit the model: {report}", where=where, do="use the recipe they were trained with"
        )
    model.load_state_dict({key: given[key] for key in report.matched}, strict=False)
    return report
