"""Heads by name: tokens (B, T, C), mask bool (B, T) or None -> logits (B, F). A new one is a file of its own and its line here.

The mask is False where a token is not there; what stands in its place never matters, not even NaN. None: all are there.
"""

from collections.abc import Callable

from torch import nn

from hilum.models.heads.csra import csra
from hilum.models.heads.label_lstm import label_lstm
from hilum.models.heads.label_query import label_query
from hilum.models.heads.linear import linear
from hilum.models.heads.location_attention import location_attention
from hilum.models.heads.metric import metric
from hilum.models.heads.ml_decoder import ml_decoder
from hilum.models.heads.mlp import mlp

HEADS: dict[str, Callable[..., nn.Module]] = {
    "linear": linear,
    "mlp": mlp,
    "location_attention": location_attention,
    "csra": csra,
    "label_lstm": label_lstm,
    "ml_decoder": ml_decoder,
    "label_query": label_query,
    "metric": metric,
}
