"""Labels as vectors: every known finding's texts through a frozen encoder, averaged, centred and whitened, ready to travel."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hilum.builders import check_options
from hilum.descriptions import DESCRIPTIONS, description_of
from hilum.errors import InputError
from hilum.label_file import LabelVectors, placed, unit
from hilum.models.text import Encode, Pooling, check_text, encoder
from hilum.recipe import Choice

MINILM = Choice("minilm")
_SHRINK = 0.5  # how far the spread of the labels is drawn towards a round one before whitening; ours


@dataclass(frozen=True)
class LabelText:
    """How a finding becomes a vector: an encoder of `hilum.models.text.TEXTS`, and what it is asked.

    model:    a local folder or hub name instead of the entry's own, such as a finetuned copy. pooling: of its tokens.
    prompts:  texts with {name} and {description}; the vectors of several are averaged, each at length 1.
    against:  prompts of the contrary, whose mean is taken away: an image is then held against the difference of the two.
    centre:   take the mean of the training findings away from every vector: raw names lie close together.
    whiten:   besides, make the training findings spread alike in every direction, as far as so few can say.
    """

    name: str = "minilm"
    model: str | None = None
    pooling: Pooling | None = None
    prompts: tuple[str, ...] = ("{name}",)
    against: tuple[str, ...] = ()
    centre: bool = True
    whiten: bool = False

    def page(self) -> dict[str, Any]:
        """The choice as plain values for JSON, the pooling said, a folder by its last name alone."""
        known = check_text(self.name, self.model, self.pooling)
        told = self.model or known.model
        local = told is not None and Path(told).is_dir()
        return {
            "name": self.name,
            "model": Path(str(told)).name if local else told,
            "pooling": self.pooling or known.pooling,
            "prompts": list(self.prompts),
            **({"against": list(self.against)} if self.against else {}),
            "centre": self.centre,
            "whiten": self.whiten,
        }

    def encoder(self, *, fetch: bool = True) -> Encode:
        """findings or free texts -> raw vectors float32 (n, D), each text by itself. fetch: false asks no hub."""
        encode = encoder(self.name, self.model, self.pooling, fetch=fetch)

        def embed(findings: Sequence[str]) -> np.ndarray:
            for_it, against = (
                [unit(encode([text_of(prompt, one) for one in findings]).astype(np.float64)) for prompt in prompts]
                for prompts in (self.prompts, self.against)
            )
            mean: np.ndarray = np.mean(for_it, axis=0)
            return (mean - np.mean(against, axis=0) if against else mean).astype(np.float32)

        return embed


def label_text(
    *,
    model: str | None = None,
    pooling: Pooling | None = None,
    prompts: list[str] | None = None,
    against: list[str] | None = None,
    centre: bool = True,
    whiten: bool = False,
) -> dict[str, Any]:
    """The options of `model.labels`; see LabelText."""
    told: dict[str, Any] = {"model": model, "pooling": pooling, "centre": centre, "whiten": whiten}
    for word, texts in (("prompts", prompts), ("against", against)):
        given = [texts] if isinstance(texts, str) else texts
        if given is not None and not (given and all(isinstance(prompt, str) for prompt in given)):
            advice = 'give texts, such as ["{name}", "{name}: {description}"]'
            raise InputError(f"labels: {word} are {texts!r}", do=advice)
        told |= {} if given is None else {word: tuple(given)}
    return told


def check_labels(choice: Choice) -> LabelText:
    """How labels become vectors, as a recipe says it; nothing is loaded. Raises InputError for what cannot be."""
    check_text(choice.name, choice.options.get("model"), choice.options.get("pooling"))
    check_options("text encoder", choice.name, label_text, choice.options)
    text = LabelText(choice.name, **label_text(**choice.options))
    for prompt in (*text.prompts, *text.against):
        text_of(prompt, "Edema")
    return text


def text_of(prompt: str, finding: str) -> str:
    """The prompt with the finding in it. A name that nobody described stands in the description's place as well."""
    try:
        text = prompt.format(name=finding, description=description_of(finding))
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"labels: the prompt {prompt!r} cannot be filled", do="write {name} and {description}"
        ) from error
    if "{" not in prompt:
        raise InputError(f"labels: the prompt {prompt!r} names no finding", do="write {name} or {description} into it")
    return text


@dataclass(frozen=True)
class EmbeddedLabels(LabelVectors):
    """Vectors that were made here, with what embeds more of them."""

    source: LabelText

    def with_known(self, findings: Sequence[str]) -> "EmbeddedLabels":
        """The same of these training findings, with the vectors of every other finding that has a description."""
        return label_vectors(self.source, findings, DESCRIPTIONS)


def label_vectors(text: LabelText, findings: Sequence[str], also: Iterable[str] = ()) -> EmbeddedLabels:
    """The vectors of these training findings, and of others besides."""
    names = tuple(sorted({*findings, *also}))
    raw = _embedded(replace(text, centre=False, whiten=False), names)
    trained = [name in set(findings) for name in names]
    inside = raw[trained].astype(np.float64)  # in sorted order, so that their sum is always the same
    mean, turn = np.zeros(raw.shape[1], np.float32), None
    if text.centre and len(inside) > 1:
        mean = inside.mean(axis=0).astype(np.float32)
    if text.whiten and len(inside) > 1:
        turn = _whitening(inside - inside.mean(axis=0)).astype(np.float32)
    vectors = placed(raw, mean, turn)
    return EmbeddedLabels(
        names, vectors, mean, turn, text.page(), (closeness(inside), closeness(vectors[trained])), text
    )


def closeness(vectors: np.ndarray) -> float | None:
    """Mean cosine between two different rows of (n, D); null for fewer than two."""
    rows = unit(vectors.astype(np.float64))
    pairs = len(rows) * (len(rows) - 1)
    return float(((rows @ rows.T).sum() - (rows * rows).sum()) / pairs) if pairs else None


_KEPT: dict[tuple[LabelText, str], np.ndarray] = {}  # raw vectors: every stage of a run asks for the same


def _embedded(text: LabelText, names: Sequence[str]) -> np.ndarray:
    """Raw vectors (n, D); the encoder is loaded for those alone that were not asked for before."""
    if missing := [name for name in names if (text, name) not in _KEPT]:
        _KEPT.update(zip(((text, name) for name in missing), text.encoder()(missing)))
    return np.stack([_KEPT[text, name] for name in names])


def _whitening(centred: np.ndarray) -> np.ndarray:
    """(D, D) that makes the spread of rows (n, D) round, after drawing it half way to a round one: n is far below D."""
    spread = centred.T @ centred / len(centred)
    size = np.trace(spread) / len(spread)
    values, axes = np.linalg.eigh((1 - _SHRINK) * spread + _SHRINK * size * np.eye(len(spread)))
    turn: np.ndarray = (axes * np.sqrt(size / values)) @ axes.T
    return turn
