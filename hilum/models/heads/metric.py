"""One space for images and labels: a finding's logit is the cosine of the image and the vector of its label, scaled."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.errors import InputError
from hilum.models.heads.pooling import mean_token
from hilum.models.heads.queries import Kind, Projection, asked, queries_of


class Metric(nn.Module):
    """tokens (B, T, C), mask bool (B, T) or None -> logits (B, F) = e^s cos(image, label) + b.

    The image is the mean of its tokens, through a linear map where there is one; s and b are shared by all findings, so with
    the vectors of texts the vocabulary is open.
    """

    def __init__(self, channels: int, findings: int, dim: int, scale: float, queries: Kind, projection: Projection):
        super().__init__()
        self.project = nn.Linear(channels, dim) if dim else nn.Identity()
        self.queries = queries_of(queries, findings, dim or channels, projection)
        self.scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(0.0))
        self.open = queries == "text"

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        image = F.normalize(self.project(mean_token(tokens, mask)), dim=-1)
        label = F.normalize(asked(self.queries), dim=-1)
        return self.scale.exp() * image @ label.T + self.bias


def metric(
    channels: int,
    findings: int,
    *,
    dim: int = 256,
    scale: float = 10.0,
    queries: Kind = "text",
    projection: Projection = "tuned",
) -> nn.Module:
    """Cosines of images and labels in a space of `dim` dimensions (after Jin et al. 2023, who take BioBERT's vectors as labels).

    dim: 0 leaves the features as they are. scale: of the cosines, at first. queries, projection: see
    `hilum.models.heads.queries`. With dim 0 and projection none both sides stay as they come: an image-text model asked by prompts.
    """
    if dim < 0 or scale <= 0:
        raise InputError(f"head metric: dim {dim}, scale {scale}", do="give a dim of at least 0 and a scale above 0")
    return Metric(channels, findings, dim, scale, queries, projection)
