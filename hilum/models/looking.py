"""Where a model looks: its answer together with the attention of its head, laid out by view."""

from torch import Tensor, nn

from hilum.models.classifier import Classifier
from hilum.models.demographics import Informed
from hilum.models.fusions.apart import Apart
from hilum.models.fusions.concat import ConcatFusion
from hilum.models.fusions.transformer import TransformerFusion
from hilum.models.fusions.weighted import WeightedFusion


def has_attention(model: Classifier) -> bool:
    """Whether the head weighs positions, and the fusion leaves it positions to weigh."""
    blind = isinstance(model.fusion, Apart) or (
        isinstance(model.fusion, ConcatFusion) and model.fusion.grid is not None
    )
    return not blind and hasattr(_bare(model.head), "attention")


class Looking(nn.Module):
    """read(features (B, V, C, h, w), present, view, demographics) -> logits (B, F), attention (B, F, V, h', w').

    The same weights and logits as `model.read`. Attention is float32, 0 for absent views; h' and w' are h and w over what
    a transformer reduces them by. Where a fusion averages the views' maps before the head reads them, all views of a study
    have the same attention; where the head reads each view by itself, it sums to 1 in each.
    """

    def __init__(self, model: Classifier):
        super().__init__()
        self.noting = _Noting(_bare(model.head))
        head = Informed(self.noting, model.head.beside) if isinstance(model.head, Informed) else self.noting
        self.model = Classifier(model.backbone, model.fusion, head, model.findings, model.architecture)

    def forward(
        self, features: Tensor, present: Tensor, view: Tensor, demographics: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        logits = self.model.read(features, present, view, demographics)
        weights = self.noting.weights
        height, width = features.shape[-2:]
        fusion = self.model.fusion
        if isinstance(fusion, TransformerFusion):  # tokens of all views, then what is known besides
            step = fusion.reduce.stride[0]
            height, width = (height - 1) // step + 1, (width - 1) // step + 1
            own = weights[:, :, : present.shape[1] * height * width]
            maps = own.reshape(*own.shape[:2], present.shape[1], height, width)
        elif isinstance(fusion, WeightedFusion) and fusion.of != "feature":  # each view by itself
            maps = weights.reshape(*present.shape, -1, height, width).transpose(1, 2)
        else:
            maps = weights.reshape(*weights.shape[:2], 1, height, width).expand(-1, -1, present.shape[1], -1, -1)
        return logits, maps.float() * present[:, None, :, None, None]


class _Noting(nn.Module):
    """A head that keeps the attention of its last call."""

    weights: Tensor

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        self.weights = self.head.attention(tokens, mask)  # type: ignore[operator]
        logits: Tensor = self.head(tokens, mask)
        return logits


def _bare(head: nn.Module) -> nn.Module:
    return head.head if isinstance(head, Informed) else head
