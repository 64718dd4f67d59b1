"""An open bundle asked about findings it was not trained on: by name, or in words of one's own, through its labels' vectors."""

import difflib
from collections.abc import Sequence

import numpy as np
import torch

from hilum.bundle import Bundle
from hilum.errors import HilumError, InputError
from hilum.findings import canonical
from hilum.label_file import FILE, LabelVectors, read_label_vectors
from hilum.models.classifier import Classifier
from hilum.models.label_vectors import LabelText

_SAME = 0.999  # least cosine of a vector embedded again to the one in the bundle; another encoder's is far below
_NEAR = 0.85  # from this likeness on (difflib's ratio) an unknown name is taken for a known one misspelt


def asked_about(
    bundle: Bundle, classifier: Classifier, findings: Sequence[str], text_model: str | None = None
) -> Classifier:
    """The bundle's classifier asked about these findings, in this order; what it was trained on keeps its logits.

    findings: names in any spelling that hilum knows, or words of one's own, which the bundle's text encoder embeds: then
    the package of the extra `text` is needed. text_model: the encoder's folder, where the bundle's own cannot be had.
    Raises InputError for a closed bundle, a finding named twice, and a name that is nearly a known one.
    """
    if bundle.vocabulary != "open":
        raise InputError(
            "the vocabulary of this bundle is closed: its findings cannot be chosen or added to",
            where=bundle.folder,
            do="leave findings out, or train with a head whose queries are text (recipe zero_shot)",
        )
    vectors = read_label_vectors(bundle.weights_file.parent / FILE)
    names = chosen(findings, [*bundle.findings, *vectors.names])
    unknown = [name for name in names if name not in vectors.names]
    rows = dict(zip(unknown, _embedded(vectors, bundle.findings[0], unknown, text_model))) if unknown else {}
    stacked = np.stack([rows[name] if name in rows else vectors.of([name])[0] for name in names])
    return classifier.asked(names, torch.from_numpy(stacked).to(next(classifier.head.parameters()).device))


def chosen(findings: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names as `known` spells them, others as they are. Raises InputError for none, doubles, and what is nearly a known one."""
    folded = {name.casefold(): name for name in known}
    names = [folded.get(name.strip().casefold(), canonical(name)) for name in findings if name.strip()]
    if not names:
        raise InputError("no finding is named", do='name some, such as "Scoliosis, Bulla"')
    if doubles := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{doubles[0]!r} is named twice", do="name each finding once")
    for name in names:
        near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=_NEAR)
        if name not in known and near:
            raise InputError(f"there is no finding {name!r}", do=f"write {folded[near[0]]!r}, or choose other words")
    return names


def _embedded(vectors: LabelVectors, witness: str, findings: Sequence[str], model: str | None) -> np.ndarray:
    """Vectors (n, D) of findings that the bundle has none of; `witness` is one that it has, which tells the encoder's kind."""
    told = vectors.text
    prompts, against = tuple(told["prompts"]), tuple(told.get("against", ()))
    source = LabelText(told["name"], model or told["model"], told["pooling"], prompts, against)
    try:
        raw = source.encoder()([witness, *findings])
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
