"""Findings of one's own: an open bundle asked in words it was not trained on. With the torch engine, which can ask anew."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from hilum.bundle import Bundle
from hilum.errors import HilumError
from hilum.inference.engines import Engine
from hilum.inference.self_test import sigmoid
from hilum.serving.problems import Problem

MOST, LONGEST = 12, 100  # names at once, letters of a name


def can_ask(bundle: Bundle, engine: Engine) -> bool:
    """Whether findings can be added by name."""
    return bundle.vocabulary == "open" and hasattr(engine, "classifier")


def names_of(text: str | None, bundle: Bundle) -> list[str]:
    """The names in a form's field, commas between, each once; those that the model answers for anyway are left out.

    Raises Problem for too many, or one too long.
    """
    known = {name.casefold() for name in bundle.findings}
    names = {name.casefold(): name for name in map(str.strip, (text or "").split(",")) if name}
    asked = [name for folded, name in names.items() if folded not in known]
    if len(asked) > MOST or any(len(name) > LONGEST for name in asked):
        raise Problem("bad-field", f"Name up to {MOST} findings of up to {LONGEST} letters each.")
    return asked


def asking(bundle: Bundle, engine: Engine, names: Sequence[str]) -> tuple[Engine, list[str]]:
    """An engine that answers for these names alone, and the names as it spells them. Raises Problem."""
    if not can_ask(bundle, engine):
        raise Problem("closed-vocabulary", "Leave the field findings out.")
    try:
        classifier = import_module("hilum.inference.open_vocabulary").asked_about(bundle, engine.classifier, names)  # type: ignore[attr-defined]
    except HilumError:
        raise Problem(
            "unknown-finding",
            "Check the spelling, or choose other words; new words need the text encoder on the server.",
        ) from None
    made: Engine = import_module("hilum.inference.torch_engine").TorchEngine(classifier)
    return made, list(classifier.findings)


def findings_of(
    engine: Engine, names: Sequence[str], images: Any, view: Any, person: Any, files: Sequence[int | None]
) -> list[dict[str, Any]]:
    """These findings as an answer has them: raw probabilities, without operating point, tier or training counts.

    images (V, 1, S, S), view (V,), person (4,) of one study as the model reads it; files: for each file sent, which of the V
    images it is, None where it was not read.
    """
    features = engine.encode(images, view)
    many = len(features)
    whole = engine.read(features[None], np.ones((1, many), bool), view[None], person[None]).logits[0]
    alone = engine.read(
        features[:, None], np.ones((many, 1), bool), view[:, None], np.repeat(person[None], many, axis=0)
    ).logits
    study, each = sigmoid(whole), sigmoid(alone)
    nothing = dict.fromkeys(("threshold", "positive", "tier", "training_positives", "training_known", "reliability"))
    return [
        {"name": name, "probability": float(study[place]), **nothing, "zero_shot": True,
         "views": [None if row is None else float(each[row, place]) for row in files]}
        for place, name in enumerate(names)
    ]  # fmt: skip
