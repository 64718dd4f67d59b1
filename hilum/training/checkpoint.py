"""Checkpoints: one safetensors file with its facts as JSON inside, replaced by one rename."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hilum.atomic import atomic_path
from hilum.errors import InputError


def save_checkpoint(path: Path, facts: dict[str, Any], **groups: dict[str, Tensor]) -> None:
    """Write groups of tensors (model, average, optimizer) and the facts, whole or not at all."""
    tensors = {
        f"{group}/{key}": value.detach().cpu().contiguous()
        for group, part in groups.items()
        for key, value in part.items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"facts": json.dumps(facts)})


def load_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
    """(facts, groups of tensors) of a checkpoint. Raises InputError where it cannot be read."""
    with _opened(path) as file:
        groups: dict[str, dict[str, Tensor]] = {}
        for name in file.keys():  # noqa: SIM118 (no mapping, has only keys())
            group, _, key = name.partition("/")
            groups.setdefault(group, {})[key] = file.get_tensor(name)
        return json.loads(file.metadata()["facts"]), groups


def load_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, its tensors left on the disk. Raises InputError where it cannot be read."""
    with _opened(path) as file:
        facts: dict[str, Any] = json.loads(file.metadata()["facts"])
        return facts


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "this checkpoint cannot be read", where=path, do="delete it and train again from the one before"
        ) from error


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as named tensors; hyper-parameters follow from the recipe and the step."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{key}": torch.as_tensor(value) for index, entry in state.items() for key, value in entry.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put named tensors back as the optimiser's state."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
