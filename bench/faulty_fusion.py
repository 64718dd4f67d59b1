"""The transformer over views with the faults of its published code as switches: here to be measured, never to be used.

Run and seen in dongkyunk/CheXFusion at 6bbf469, model/layers.py (docs/why/fusion.md has the lines). With every switch off it
is hilum's own fusion, weight by weight.
"""

import torch
from torch import Tensor, nn

from hilum.models.context import Context
from hilum.models.fusions import Fusion
from hilum.models.fusions.transformer import TransformerFusion, sine_positions
from hilum.models.views import cleared, counted


class FaultyFusion(TransformerFusion):
    """across: attention runs over the studies of a batch, each place of the sequence by itself (`batch_first` unset).

    unmasked: the places of absent views, up to `slots`, hold a learned token that takes part in everything, head included.
    flat: the positions are the same in every row: the channel is taken for the row, and the column for the channel.
    """

    def __init__(self, channels: int, dim: int, *, across: bool, unmasked: bool, flat: bool, slots: int, **options):
        super().__init__(channels, dim, slots=None, norm="post", **options)
        self.across, self.flat, self.places = across, flat, slots if unmasked else 0
        self.padding = nn.Parameter(torch.randn(dim)) if unmasked else None

    def tokens(
        self, features: Tensor, present: Tensor, view: Tensor, context: Context | None = None
    ) -> tuple[Tensor, Tensor | None]:
        here = counted(present)
        maps = self.reduce(cleared(features, present).flatten(0, 1))
        height, width = maps.shape[-2:]
        lay = flat_positions if self.flat else sine_positions
        positions = lay(height, width, self.channels, maps.device).to(maps.dtype)
        tokens = maps.flatten(2).transpose(1, 2).unflatten(0, present.shape) + positions
        tokens = tokens + self.mark(self._codes(here, view, context or Context()))[:, :, None]
        if self.padding is None:
            mask = here[:, :, None].expand(-1, -1, len(positions)).flatten(1)
        else:
            tokens = torch.where(here[..., None, None], tokens, self.padding.to(tokens.dtype))
            more = max(0, self.places - tokens.shape[1])
            spare = self.padding.to(tokens.dtype).expand(len(tokens), more, len(positions), -1)
            tokens, mask = torch.cat([tokens, spare], dim=1), None
        tokens = tokens.flatten(1, 2)
        for layer in self.layers:
            tokens = _across(layer, tokens, mask) if self.across else layer(tokens, mask)
        return tokens, mask


def _across(layer: nn.Module, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """The layer over (T, B) instead of (B, T). A place that no study fills attends to all alike, and is masked later."""
    turned = None if mask is None else counted(mask.T)
    return layer(tokens.transpose(0, 1), turned).transpose(0, 1)


def flat_positions(height: int, width: int, channels: int, device: torch.device | str = "cpu") -> Tensor:
    """(height*width, channels): what a code for (rows, columns, channels) makes of maps whose channels come first.

    The row's sines and cosines are computed of the channel's number, at the wavelength that belongs to the column's number.
    """
    column = torch.arange(width, device=device)[:, None]
    angle = torch.arange(channels, device=device) * 10_000.0 ** (-(column // 2) * 4 / channels)
    code = torch.where(column % 2 == 0, angle.sin(), angle.cos())
    return code.repeat(height, 1)


def as_published(
    channels: int,
    findings: int,
    *,
    across: bool = False,
    unmasked: bool = False,
    flat: bool = False,
    layers: int = 2,
    heads: int = 8,
    hidden: int = 2048,
    dropout: float = 0.1,
    reduce: int = 2,
    slots: int = 4,
) -> Fusion:
    """`transformer` with faults; its own options mean the same, `slots` is the number of views that absent ones fill up to."""
    return FaultyFusion(
        channels, channels, across=across, unmasked=unmasked, flat=flat, slots=slots,
        layers=layers, heads=heads, hidden=hidden, dropout=dropout, reduce=reduce,
    )  # fmt: skip
