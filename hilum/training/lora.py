"""LoRA: a backbone learns by small maps beside its frozen ones, which are added into them when the stage ends (Hu et al. 2022).

So a bundle holds plain weights, and neither it nor a stage that starts from this one knows of it. The maps are peft's.
"""

from collections.abc import Callable

from torch import nn

from hilum.errors import InputError
from hilum.models.hub import missing_extra
from hilum.recipe import LoraSpec, Stage


def check_lora(stage: Stage) -> None:
    """Raise InputError where maps of low rank do not go with the rest of a stage."""
    spec = stage.lora
    if spec is None:
        return
    if "backbone" in stage.freeze or stage.tau is not None or stage.model.backbone.name == "by_view":
        other = "a frozen backbone" if "backbone" in stage.freeze else "tau" if stage.tau else "backbones by view"
        raise InputError(f"stage {stage.name}: lora does not go with {other}", do="take one of them out")
    if spec.rank < 1 or spec.alpha <= 0 or not 0 <= spec.dropout < 1:
        told = f"rank {spec.rank}, alpha {spec.alpha}, dropout {spec.dropout}"
        raise InputError(f"lora: {told}", do="give a rank of at least 1, an alpha above 0, a dropout from 0 to below 1")


def add_lora(network: nn.Module, spec: LoraSpec) -> Callable[[], None]:
    """Freeze the network and lay a map of rank r beside each of its targets; hands back what adds them in for good.

    Beside the weight W of a linear map stands alpha / r * B A, of which B starts at zero: nothing changes before the first step.
    Raises InputError where peft is missing, or there is no target.
    """
    try:
        from peft import LoraConfig, LoraModel
    except ImportError as error:
        raise missing_extra("peft", error) from error
    targets = spec.targets or [name for name, part in network.named_modules() if isinstance(part, nn.Linear)]
    config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, lora_dropout=spec.dropout, target_modules=targets)
    try:
        tuner = LoraModel(network, config, "default")
    except ValueError as error:
        advice = "name endings of its layers in lora.targets, such as [qkv, fc1]; convolutions may be named, too"
        raise InputError("lora: the backbone has no such layers", do=advice) from error

    def add_in() -> None:
        tuner.merge_and_unload()
        network.requires_grad_(True)

    return add_in
