"""Position embeddings at another image size: what a network learnt on one grid of patches, brought to another."""

from collections.abc import Mapping
from math import isqrt

from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

_NAMES = ("pos_embed", "positional_embedding", "position_embeddings")
_MOST_PREFIX = 8  # class and register tokens before those of patches


def resample_positions(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The weights, with every table of learned positions (..., T, D) brought to the size that `model` has under that key.

    Images are squares: a table is t prefix tokens and a square of patches, the smallest t that makes squares of both sizes.
    Bicubic with antialiasing (timm). Tables of the right size, and those that no t fits, stay as they are.
    """
    wanted = {key: value.shape for key, value in model.state_dict().items() if key.endswith(_NAMES)}
    resampled = dict(weights)
    for key, shape in wanted.items():
        given = weights.get(key)
        if given is None or given.shape == shape or given.shape[-1] != shape[-1]:
            continue
        tokens, goal = given.shape[-2], shape[-2]
        prefix = next((t for t in range(_MOST_PREFIX) if _square(tokens - t) and _square(goal - t)), None)
        if prefix is not None:
            side = isqrt(goal - prefix)
            table = given.reshape(1, tokens, -1)
            resampled[key] = resample_abs_pos_embed(table, [side, side], num_prefix_tokens=prefix).reshape(shape)
    return resampled


def _square(count: int) -> bool:
    return count > 0 and isqrt(count) ** 2 == count
