"""Pooling of tokens, of which some may not be there: their mean, and weights that sum to one over the present ones."""

from torch import Tensor


def present_only(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Tokens (B, T, C) with zeros where the mask (B, T) says that none is, be it NaN: no weight times NaN is NaN."""
    return tokens if mask is None else tokens.masked_fill(~mask[..., None], 0.0)


def mean_token(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """(B, C): the mean over the tokens (B, T, C) that are there, zeros where none is."""
    if mask is None:
        return tokens.mean(dim=1)
    return present_only(tokens, mask).sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def softmax_over(scores: Tensor, mask: Tensor | None) -> Tensor:
    """(B, T, ...) float32: softmax of the scores (B, T, ...) over the tokens that are there, zeros for the others."""
    return only(scores, mask).float().softmax(dim=1)


def only(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores (B, T, ...) with minus infinity where no token is. A row without any keeps its scores, so nothing turns to NaN."""
    if mask is None:
        return scores
    gone = ~(mask | ~mask.any(dim=1, keepdim=True))
    return scores.masked_fill(gone.reshape(*gone.shape, *[1] * (scores.ndim - 2)), float("-inf"))
