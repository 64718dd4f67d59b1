"""An open bundle asked about findings it was not trained on: by name, or in words of one's own, through its labels' vectors."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from hilum.bundle import Bundle
from hilum.errors import HilumError, InputError
from hilum.inference.vocabulary import carried_labels, chosen
from hilum.label_file import LabelVectors
from hilum.models.label_vectors import LabelText
from hilum.models.text import Encode

_SAME = 0.999  # least cosine of a vector embedded again to the one in the bundle; another encoder's is far below


def asked_about(bundle: Bundle, findings: Sequence[str], text_model: str | None = None) -> tuple[list[str], np.ndarray]:
    """These findings as the bundle spells them, in this order, and the vectors float32 (F, D) to ask its model by.

    findings: names in any spelling that hilum knows, or words of one's own, which the bundle's text encoder embeds: then
    the package of the extra `text` is needed. text_model: the encoder's folder or hub name, where the bundle's own is not
    on this machine: what a bundle names is never fetched.
    Raises InputError for a closed bundle, a finding named twice, and a name that is nearly a known one.
    """
    labels = carried_labels(bundle)
    if labels is None:
        raise InputError(
            "the vocabulary of this bundle is closed: its findings cannot be chosen or added to",
            where=bundle.folder,
            do="leave findings out, or train with a head whose queries are text (recipe zero_shot)",
        )
    names = chosen(findings, [*bundle.findings, *labels.names])
    return names, vectors_for(labels, bundle.findings[0], names, text_model)


def vectors_for(labels: LabelVectors, witness: str, names: Sequence[str], text_model: str | None = None) -> np.ndarray:
    """float32 (F, D) of these names as a head reads them: those that the bundle carries, others embedded.

    witness: a finding that the bundle has, by which its encoder is known from others. Raises InputError as `asked_about`.
    """
    unknown = [name for name in names if name not in labels.names]
    rows = dict(zip(unknown, _embedded(labels, witness, unknown, text_model))) if unknown else {}
    return np.stack([rows[name] if name in rows else labels.of([name])[0] for name in names])


@lru_cache(maxsize=1)
def _encoder(source: LabelText, fetch: bool) -> Encode:
    return source.encoder(fetch=fetch)


def _embedded(vectors: LabelVectors, witness: str, findings: Sequence[str], model: str | None) -> np.ndarray:
    """Vectors (n, D) of findings that the bundle has none of; `witness` is one that it has, which tells the encoder's kind."""
    told = vectors.text
    prompts, against = tuple(told["prompts"]), tuple(told.get("against", ()))
    source = LabelText(told["name"], model or told["model"], told["pooling"], prompts, against)
    try:
        raw = _encoder(source, model is not None)([witness, *findings])  # what a bundle names is never fetched
    except HilumError as error:
        raise InputError(
            f"{findings[0]!r} is none of the {len(vectors.names)} labels that this bundle carries, and its text encoder"
            f" {told['name']} cannot be asked ({error.what})",
            do="install hilum[text] and name the encoder's folder with --text-model, or choose a known finding",
        ) from error
    embedded = vectors.placed(raw) if raw.shape[1] == len(vectors.mean) else None
    if embedded is None or _cosine(embedded[0], vectors.of([witness])[0]) < _SAME:
        raise InputError(
            f"this is not the text encoder that the bundle's labels were embedded with ({told['name']}, {told['model']})",
            where=model,
            do="name the folder of that one",
        )
    return embedded[1:]


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 1.0  # a label that is the mean of all has no direction
