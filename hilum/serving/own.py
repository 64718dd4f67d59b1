"""Findings of one's own: which names an open bundle can be asked about, and by which vectors. No sentence repeats what was asked."""

from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

import numpy as np

from hilum.bundle import Bundle
from hilum.errors import HilumError
from hilum.inference.engines import Array, Engine
from hilum.inference.vocabulary import carried_labels, known_as, like, misspelt
from hilum.serving.problems import Problem

MOST, LONGEST = 12, 100  # names at once, letters of a name


class Own(NamedTuple):
    """Findings asked about by name: the names, and float32 (K, D) of their labels; None where there are none."""

    names: tuple[str, ...] = ()
    vectors: Array | None = None


NOTHING = Own()


class Askable:
    """What a bundle answers for, trained on or not.

    names: those it was not trained on, of which it carries vectors; none where the vocabulary is closed. With the torch engine
    other words are embedded by the bundle's text encoder, where that is installed.
    """

    def __init__(self, bundle: Bundle, engine: Engine):
        self._trained, self._embeds = bundle.findings, hasattr(engine, "classifier")
        self._labels = None if engine.labels is None else carried_labels(bundle)
        carried = () if self._labels is None else self._labels.names
        self._known = [*self._trained, *(name for name in carried if name not in self._trained)]
        self.names = self._known[len(self._trained) :]

    def own(self, texts: Sequence[str]) -> Own:
        """The findings of a form's fields `findings`, names with commas between, less those that are answered for anyway.

        Raises Problem for a closed vocabulary, an unknown name, too many, or one too long.
        """
        given = [name for text in texts for name in map(str.strip, text.split(",")) if name]
        if given and self._labels is None:
            raise Problem("closed-vocabulary", "Leave the field findings out.")
        names = [name for name in self.spelt(given) if name not in self._trained]
        return self.placed(names) if names else NOTHING

    def spelt(self, given: Sequence[str]) -> list[str]:
        """These names as the bundle writes them, each once; words that it may embed stay as they are. Raises Problem."""
        if len(given) > MOST or any(len(name) > LONGEST for name in given):
            raise Problem("bad-field", f"Name up to {MOST} findings of up to {LONGEST} letters each.")
        names = []
        for place, text in enumerate(given):
            name = known_as(text, self._known)
            if name is None and (self._labels is None or not self._embeds or misspelt(text, self._known)):
                raise self._unknown(text, place)
            names.append(name or " ".join(text.split()))
        return list(dict.fromkeys(names))

    def placed(self, names: Sequence[str]) -> Own:
        """Names that `spelt` gave, with their vectors. Raises Problem where one cannot be embedded here."""
        assert self._labels is not None, "only an open vocabulary has vectors"
        strange = [place for place, name in enumerate(names) if name not in self._labels.names]
        if not strange:
            return Own(tuple(names), self._labels.of(names))
        try:
            made: Array = import_module("hilum.inference.open_vocabulary").vectors_for(
                self._labels, self._trained[0], names
            )
        except HilumError:
            raise self._unknown(names[strange[0]], strange[0]) from None
        return Own(tuple(names), np.asarray(made, dtype=np.float32))

    def _unknown(self, text: str, place: int) -> Problem:
        near = ", ".join(like(text, self._known))
        offer = f"the nearest that are: {near}" if near else "GET /api/v1/bundle lists those that are"
        return Problem("unknown-finding", f"Name {place + 1} is not known here; {offer}.")
