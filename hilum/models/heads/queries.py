"""What a decoder asks the image tokens by: one query per finding, learned, random, or made of the vectors of the labels."""

from typing import Literal

import torch
from torch import Tensor, nn

from hilum.errors import InputError

Kind = Literal["learned", "fixed", "one_hot", "text"]
Projection = Literal["tuned", "frozen", "none"]


class LabelQueries(nn.Module):
    """() -> queries (F, dim): a projection of the vectors (F, D) of the findings' labels, which `know` hands in.

    The vectors are a buffer, so they travel with the weights. projection: tuned, or frozen: then the vectors themselves
    where D is dim, else a random map that is never trained. none: the vectors themselves, which have to fit.
    """

    vectors: Tensor | None

    def __init__(self, dim: int, projection: Projection):
        super().__init__()
        self.dim, self.projection = dim, projection
        self.project: nn.Module | None = None
        self.register_buffer("vectors", None)

    def know(self, vectors: Tensor) -> None:
        """Take the vectors (F, D) of the findings, in their order; later others, of the same width."""
        width = vectors.shape[1]
        if self.projection == "none" and width != self.dim:
            raise InputError(
                f"the vectors of the labels are {width} wide, the features {self.dim}",
                do="take the image tower and the text encoder of one image-text model",
            )
        if self.vectors is None:
            self.project = nn.Linear(width, self.dim) if self.projection == "tuned" else _Frozen(width, self.dim)
        elif width != self.vectors.shape[1]:
            raise InputError(
                f"the vectors are {width} wide, the head reads {self.vectors.shape[1]}", do="embed them alike"
            )
        self.vectors = vectors

    def forward(self) -> Tensor:
        assert self.project is not None, "the labels' vectors were not handed in"
        queries: Tensor = self.project(self.vectors)
        return queries


class _Frozen(nn.Module):
    """vectors (F, D) -> (F, dim): as they are where D is dim, else through a random map that keeps their size."""

    weight: Tensor | None

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.register_buffer("weight", None if width == dim else torch.randn(dim, width) * width**-0.5)

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors if self.weight is None else vectors @ self.weight.T


def queries_of(kind: Kind, count: int, dim: int, projection: Projection) -> nn.Parameter | LabelQueries:
    """`count` queries of width `dim`.

    learned: each for itself. fixed: random and never trained. one_hot: a row of zeros with a one, through the projection:
    what a label is without its meaning. text: of the labels' texts, through the projection, once the classifier hands
    their vectors in (`hilum.models.label_vectors`).
    """
    if kind in ("learned", "fixed"):
        return nn.Parameter(torch.randn(count, dim), requires_grad=kind == "learned")
    queries = LabelQueries(dim, projection)
    if kind == "one_hot":
        queries.know(torch.eye(count) * count**0.5)  # of length sqrt(D), as label vectors are
    return queries


def asked(queries: nn.Module | Tensor | None) -> Tensor:
    """The queries (F, dim) themselves."""
    assert queries is not None
    told: Tensor = queries() if isinstance(queries, nn.Module) else queries
    return told
