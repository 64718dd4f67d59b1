"""The transformer over all views: every position of every view attends to every other (CheXFusion, Kim 2023)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hilum.builders import listed
from hilum.data.context import Part
from hilum.data.text import TEXTS
from hilum.errors import InputError
from hilum.models.attention import Attention
from hilum.models.context import Context, ContextTokens
from hilum.models.fusions.fusion import EarlyFusion, Fusion
from hilum.models.views import cleared, counted
from hilum.tables import VIEWS

Norm = Literal["post", "pre"]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward over tokens (B, T, D); norm after each (Vaswani et al. 2017) or before each."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float, norm: Norm):
        super().__init__()
        self.attend = Attention(dim, heads, dropout)
        self.expand, self.contract = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.dropout, self.pre = nn.Dropout(dropout), norm == "pre"

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.pre:
            normed = self.norms[0](tokens)
            tokens = tokens + self.dropout(self.attend(normed, normed, mask))
            return tokens + self._feed(self.norms[1](tokens))
        tokens = self.norms[0](tokens + self.dropout(self.attend(tokens, tokens, mask)))
        result: Tensor = self.norms[1](tokens + self._feed(tokens))
        return result

    def _feed(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.dropout(self.contract(self.dropout(F.relu(self.expand(tokens)))))
        return result


class TransformerFusion(EarlyFusion):
    """tokens (B, V*h'*w' + T, D) of all views, mask bool alike; h' and w' are h and w over `reduce`, rounded up, and T is
    the number of tokens that `told` adds: what is known besides the images attends and is attended to like them.

    by_slot: each view is marked by its place among the present ones instead of by its type; logits then depend on the
        order of views, and views beyond the last slot share it.
    """

    def __init__(
        self,
        channels: int,
        dim: int,
        layers: int,
        heads: int,
        hidden: int,
        dropout: float,
        reduce: int,
        slots: int | None,
        norm: Norm,
        told: ContextTokens | None = None,
    ):
        super().__init__(dim)
        self.told = told
        self.by_slot = slots is not None
        self.reduce = nn.Conv2d(channels, dim, kernel_size=3, stride=reduce, padding=1)
        self.mark = nn.Embedding(slots or len(VIEWS), dim)
        self.layers = nn.ModuleList(EncoderLayer(dim, heads, hidden, dropout, norm) for _ in range(layers))
        self.norm = nn.LayerNorm(dim) if norm == "pre" else nn.Identity()

    def forward(
        self, head: nn.Module, features: Tensor, present: Tensor, view: Tensor, context: Context | None = None
    ) -> Tensor:
        logits: Tensor = head(*self.tokens(features, present, view, context))
        return logits

    def tokens(
        self, features: Tensor, present: Tensor, view: Tensor, context: Context | None = None
    ) -> tuple[Tensor, Tensor]:
        here, context = counted(present), context or Context()
        maps = self.reduce(cleared(features, present).flatten(0, 1))
        positions = sine_positions(maps.shape[-2], maps.shape[-1], self.channels, maps.device)
        marks = self.mark(self._codes(here, view, context))  # (B, V, D)
        earlier = None if self.told is None else self.told.marks(context)
        marks = (marks if earlier is None else marks + earlier)[:, :, None]
        tokens = maps.flatten(2).transpose(1, 2).unflatten(0, present.shape) + positions.to(maps.dtype) + marks
        mask = here[:, :, None].expand(-1, -1, len(positions)).flatten(1)
        tokens = tokens.flatten(1, 2)
        if self.told is not None and (known := self.told(context)):
            tokens, mask = torch.cat([tokens, known[0]], dim=1), torch.cat([mask, known[1]], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return self.norm(tokens), mask

    def _codes(self, here: Tensor, view: Tensor, context: Context) -> Tensor:
        if not self.by_slot:
            return view.long()
        own = context.own(here)
        places = own.cumsum(dim=1)
        if context.prior is not None:  # the study before has slots of its own
            places = torch.where(own, places, (here & ~own).cumsum(dim=1))
        return (places - 1).clamp(min=0, max=self.mark.num_embeddings - 1)


def sine_positions(height: int, width: int, channels: int, device: torch.device | str = "cpu") -> Tensor:
    """(height*width, channels) float32: sines and cosines of the row in the first half of the channels, of the column in
    the second, each at channels/4 wavelengths from 2 pi to 10,000 times 2 pi (Vaswani et al. 2017, in two dimensions).
    """
    quarter = channels // 4
    scale = 10_000.0 ** (-torch.arange(quarter, device=device) / quarter)
    rows, columns = (torch.arange(side, device=device)[:, None] * scale for side in (height, width))
    row, column = (torch.cat([angle.sin(), angle.cos()], dim=1) for angle in (rows, columns))
    both = [row[:, None].expand(-1, width, -1), column[None].expand(height, -1, -1)]
    return torch.cat(both, dim=-1).flatten(0, 1)


def transformer(
    channels: int,
    findings: int,
    *,
    layers: int = 2,
    dim: int | None = None,
    heads: int = 8,
    hidden: int = 2048,
    dropout: float = 0.1,
    reduce: int = 2,
    embed: Literal["type", "slot"] = "type",
    slots: int = 4,
    norm: Literal["post", "pre"] = "post",
    context: list[Part] | None = None,
    text: str = "hashed_words",
) -> Fusion:
    """A transformer encoder over the positions of all views, and over what is known besides them.

    dim: of its tokens, by default the backbone's channels. reduce: stride of the 3 x 3 convolution that comes first.
    embed: mark each view by its type (unknown, PA, AP, LATERAL), or by its slot, the first `slots` places in the order
    of views. norm: after each part, as published, or before.
    context: what it reads besides: the images of the patient's study before, the indication, age and sex. text: how an
    indication becomes a vector, a name of hilum.data.text.TEXTS.
    """
    dim = channels if dim is None else dim
    if min(dim, heads, hidden, reduce, slots) < 1 or layers < 0:
        raise InputError(
            "fusion transformer: a number is too small", do="give dim, heads, hidden, reduce and slots of at least 1"
        )
    if dim % 4 or dim % heads:
        raise InputError(
            f"fusion transformer: dim {dim} is not a multiple of 4 and of heads {heads}", do="change one of them"
        )
    slots_or_types = slots if embed == "slot" else None
    width = listed("text encoder", TEXTS, text).width
    told = ContextTokens(context, dim, width) if context else None
    fusion = TransformerFusion(channels, dim, layers, heads, hidden, dropout, reduce, slots_or_types, norm, told)
    fusion.context = tuple(context or ())
    return fusion
