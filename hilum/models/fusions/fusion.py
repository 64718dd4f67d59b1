"""What every fusion is: how a head reads the several views of a study."""

from collections.abc import Sequence

from torch import Tensor, nn

from hilum.data.context import Part


class Fusion(nn.Module):
    """fusion(head, features (B, V, C, h, w), present bool (B, V), view int8 (B, V)) -> logits (B, F).

    channels: what the head is built with. The head takes tokens (N, T, channels) and a mask bool (N, T) or None, False
    where a token is not there. The head is handed in, not owned: early fusions ask it once per study, late ones once
    per view. What stands in the place of an absent view never matters, not even NaN; `present` alone says what is there.

    context: the parts of the Context that it reads, which it is handed as a fifth argument then. Images of the study before
    are present to a fusion that reads `prior`, and to no other.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.context: Sequence[Part] = ()
        self.per_finding = False  # whether its weights belong to findings, in their order

    def forward(self, head: nn.Module, features: Tensor, present: Tensor, view: Tensor) -> Tensor:
        raise NotImplementedError


class EarlyFusion(Fusion):
    """Makes one set of tokens of all views, which the head reads once."""

    def tokens(self, features: Tensor, present: Tensor, view: Tensor) -> tuple[Tensor, Tensor | None]:
        """Tokens (B, T, channels) and their mask bool (B, T), None where all are there. For subclasses."""
        raise NotImplementedError

    def forward(self, head: nn.Module, features: Tensor, present: Tensor, view: Tensor) -> Tensor:
        logits: Tensor = head(*self.tokens(features, present, view))
        return logits


def as_tokens(maps: Tensor) -> Tensor:
    """Maps (N, C, h, w) as tokens (N, h*w, C), row by row."""
    return maps.flatten(2).transpose(1, 2)
