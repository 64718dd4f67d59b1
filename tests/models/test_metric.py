"""One space for images and labels: logits are cosines, the vocabulary is open, and an image-text model answers to prompts."""

import pytest
import torch

from hilum.errors import InputError
from hilum.models.classifier import build_classifier
from hilum.models.heads.metric import metric
from hilum.recipe import ModelSpec
from tests.small import FINDINGS


@torch.no_grad()
def test_a_logit_is_a_scaled_cosine():
    torch.manual_seed(0)
    head, tokens, mask = (
        metric(6, 3, dim=0, scale=20.0, projection="none"),
        torch.randn(4, 5, 6),
        torch.rand(4, 5) < 0.7,
    )
    mask[:, 0] = True
    vectors = torch.randn(3, 6)
    head.queries.know(vectors)
    image = torch.stack([row[there].mean(dim=0) for row, there in zip(tokens, mask)])
    expected = 20 * torch.cosine_similarity(image[:, None], vectors[None], dim=-1)
    torch.testing.assert_close(head(tokens, mask), expected, atol=1e-5, rtol=1e-5)
    assert head.open
    head.queries.know(torch.cat([vectors, torch.randn(2, 6)]))
    torch.testing.assert_close(head(tokens, mask)[:, :3], expected, atol=1e-5, rtol=1e-5)


def test_sides_that_do_not_fit():
    with pytest.raises(InputError, match="one image-text model"):
        metric(6, 3, dim=0, projection="none").queries.know(torch.randn(3, 7))
    with pytest.raises(InputError, match="scale above 0"):
        metric(6, 3, scale=0.0)


def test_its_classifier_is_open_and_learns_to_bring_an_image_to_its_label():
    torch.manual_seed(0)
    spec = ModelSpec(backbone={"name": "test_resnet"}, head={"name": "metric", "dim": 16})
    model = build_classifier(spec, FINDINGS, 32)
    assert model.vocabulary == "open"
    assert "labels" in model.architecture
    tokens, goal = torch.randn(3, 1, model.backbone.channels), torch.eye(3)
    steps = torch.optim.Adam(model.head.parameters(), lr=0.03)
    for _ in range(60):
        steps.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model.head(tokens), goal).backward()
        steps.step()
    assert model.head(tokens).argmax(dim=1).tolist() == [0, 1, 2]
