"""The answer to a study: pictures in, calibrated findings out with every fact that one needs to read them. No HTTP here.

`Answerer.study` is the whole way for one study. A server takes its steps apart: decode (elsewhere, side by side), `prepare`,
`ask` (several studies at once), `told`.
"""

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hilum import __version__
from hilum.bundle import Bundle, read_bundle, unlisted_files
from hilum.data.views import first_views
from hilum.errors import InputError
from hilum.evaluation.reliability import read_reliability
from hilum.findings import tiers_by_rule
from hilum.inference.averaging import averaged, averaging_of
from hilum.inference.distribution import Judged, read_distribution
from hilum.inference.engines import Array, Engine, as_floats, open_engine
from hilum.inference.explain import METHODS, explain
from hilum.inference.self_test import read_self_test, sigmoid
from hilum.inference.zones import as_png, onto_image, peak_of, words_of
from hilum.operating_points import calibrated_logits, is_calibrated
from hilum.pixels.isolated.decoder import Decoder
from hilum.serving.own import NOTHING, Askable, Own
from hilum.serving.pictures import Picture, check_one_study, picture_of, reading_order
from hilum.serving.problems import Problem
from hilum.serving.turns import InTurn, Turns
from hilum.tables import VIEWS

BANNER = "Research software, not for clinical use."
SELF_TEST_TOLERANCE = (
    1e-3  # of a probability, beyond what was measured when the engine was exported: processors round differently
)

Gate = Literal["flag", "refuse"]
_NO_FIELD = {"prior": "study before", "indication": "indication"}  # what some models read, and no form has


@dataclass(frozen=True)
class Person:
    """What is known of the patient: age in years, sex F or M; None = not known."""

    age: float | None = None
    sex: Literal["F", "M"] | None = None

    def numbers(self) -> Array:
        """float32 (4,): age in decades, age known, sex (F 0, M 1), sex known."""
        known = (self.age is not None, self.sex is not None)
        return np.array([(self.age or 0) / 10, known[0], self.sex == "M", known[1]], dtype=np.float32)


@dataclass(frozen=True)
class Prepared:
    """One study ready to be asked: its pictures, those that are read in the model's order, the person, and what else to find."""

    pictures: list[Picture]
    read: list[Picture]
    person: Person
    own: Own = NOTHING

    @property
    def images(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """uint8 (V, 1, S, S)."""
        return np.stack([one.square for one in self.read])[:, None]

    @property
    def view(self) -> np.ndarray[Any, np.dtype[np.int8]]:
        """int8 (V,)."""
        return np.array([VIEWS.index(one.view) for one in self.read], dtype=np.int8)


@dataclass(frozen=True)
class Asked:
    """What the model says of a study, of the bundle's findings and then of the study's own.

    study: probabilities float32 (F,); alone: (V, F), of each picture that was read by itself.
    """

    study: Array
    alone: Array
    judged: Judged | None


class Answerer:
    """A bundle that answers.

    bundle: a folder; expect: the identity it must have. engine: a name of `hilum.inference.engines.ENGINES`.
    Raises InputError where the bundle is damaged, holds files that it does not list, has not been exported to the engine, or
    averages over transforms that the engine cannot make. Several threads may ask it: the engine's calls take turns.
    """

    def __init__(self, bundle: str | Path, *, engine: str = "onnx", expect: str | None = None, gate: Gate = "flag"):
        self.bundle: Bundle = read_bundle(bundle, expect=expect)
        folder = self.bundle.weights_file.parent
        if strange := unlisted_files(folder):
            raise InputError(
                "this file is no part of the bundle, and nobody vouches for it",
                where=strange[0],
                do="move it elsewhere",
            )
        self.engine, self.gate, self._turns = open_engine(self.bundle, engine), gate, Turns()
        self.averaging = averaging_of(self.bundle, self.engine)
        self.askable = Askable(self.bundle, self.engine)
        self.distribution = read_distribution(folder)
        self._points = {point.finding: point for point in self.bundle.operating_points}
        self._reliability = read_reliability(folder)
        self._tiers = tiers_by_rule(self.bundle.positives, self.bundle.known)
        points = (folder / "operating_points.csv").read_bytes()
        context = self.bundle.architecture["fusion"].get("context") or ()
        self._never_told = [words for part, words in _NO_FIELD.items() if part in context]
        self.calibration = hashlib.sha256(points).hexdigest() if is_calibrated(self.bundle.operating_points) else None

    @property
    def model(self) -> dict[str, Any]:
        """Which model answers, as every answer says."""
        return {
            "identity": self.bundle.identity, "calibration": self.calibration, "hilum_version": __version__, "engine": self.engine.name,
            "note": self.bundle.note, "findings": len(self.bundle.findings), "vocabulary": self.bundle.vocabulary,
            "tta": self.averaging.told,
        }  # fmt: skip

    @property
    def facts(self) -> dict[str, Any]:
        """What is told of the bundle: everything but weights."""
        bundle = self.bundle
        return self.model | {
            "findings": [self._finding(name) for name in bundle.findings], "pixels": bundle.pixels.as_dict(), "views": bundle.views,
            "sources": bundle.sources, "licence": bundle.licence, "trained_with": bundle.hilum_version, "gate": self.gate,
            "distribution": self.distribution is not None, "methods": self.methods, "askable": self.askable.names, "research_only": BANNER,
        }  # fmt: skip

    @property
    def methods(self) -> list[str]:
        """The ways in which this engine can explain."""
        missing = {"attention": not self.engine.attends, "gradcam": not hasattr(self.engine, "classifier")}
        return [name for name in METHODS if not missing.get(name)]

    def self_test(self) -> float | None:
        """The largest difference of a probability to those stored in the bundle, None where it has no self-test."""
        test = read_self_test(self.bundle)
        return None if test is None else test.difference(self._in_turn())

    def passes(self) -> bool | None:
        """Whether the engine still gives the stored logits, as nearly as when it was exported; None where none are stored."""
        difference = self.self_test()
        return None if difference is None else difference <= self._measured() + SELF_TEST_TOLERANCE

    def _measured(self) -> float:
        kind, _, precision = self.engine.name.partition("-")
        place = self.bundle.weights_file.parent / f"model.{kind}" / "parity.json"
        told = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        measured: float = told.get(precision or "fp32", {}).get("self_test", {}).get("largest_difference", 0.0)
        return measured

    def study(
        self,
        files: Sequence[bytes],
        *,
        decoder: Decoder | None = None,
        view: Sequence[str] = (),
        person: Person = Person(),
        images: bool = False,
        findings: Sequence[str] = (),
    ) -> dict[str, Any]:
        """The answer to one study of these files (the contents); see docs/how-to/serve.md for what is in it.

        view: of each file, PA, AP, LATERAL or unknown. images: also the pictures, as base64 PNG.
        findings: names of others to look for, where the vocabulary is open. Raises Problem.
        """
        own = self.askable.own(findings)
        with nullcontext(decoder) if decoder else Decoder() as opened:
            pictures = [
                picture_of(data, index, opened, self.bundle.pixels, view=given, show=images)
                for index, (data, given) in enumerate(zip(files, [*view, *[None] * len(files)]))
            ]
        prepared = self.prepare(pictures, person, own)
        return self.told(prepared, self.ask([prepared])[0])

    def prepare(self, pictures: Sequence[Picture], person: Person, own: Own = NOTHING) -> Prepared:
        """The study of these pictures. Raises Problem where they are not of one."""
        check_one_study(pictures)
        ordered = reading_order(pictures)
        read = [ordered[place] for place in first_views([one.view for one in ordered], self.bundle.views)]
        return Prepared(list(pictures), read, person, own)

    def ask(self, studies: Sequence[Prepared]) -> list[Asked]:
        """What the model says of several studies at once, and of each of their pictures alone; each as if it were asked by itself."""
        images, view = np.concatenate([one.images for one in studies]), np.concatenate([one.view for one in studies])
        engine = self._in_turn()
        features = [engine.encode(transform(images), view) for transform in self.averaging.transforms.values()]
        starts = np.cumsum([0, *[len(one.read) for one in studies]])
        rows = [range(start, end) for start, end in pairwise(starts)]
        alone = [range(k, k + 1) for k in range(len(images))]
        people = [one.person.numbers() for one in studies]
        owners = [people[row] for row, span in enumerate(rows) for _ in span]
        logits = self._read(engine, features, view, [*rows, *alone], [*people, *owners])
        own = [self._read_own(engine, one, features, view, span) for one, span in zip(studies, rows)]
        chances = sigmoid(calibrated_logits(logits, self.bundle.findings, self.bundle.operating_points))
        answers = []
        for row, (study, span) in enumerate(zip(studies, rows)):
            judged = self._judged(study, features[0][span.start : span.stop])
            said = np.hstack([np.vstack([chances[row], chances[len(studies) + np.array(span)]]), own[row]])
            answers.append(Asked(said[0], said[1:], judged))
        return answers

    def _in_turn(self, until: float = math.inf) -> InTurn:
        return InTurn(self.engine, self._turns, until)

    def _judged(self, study: Prepared, features: Array) -> Judged | None:
        """Whether the images, by their features (V, C, h, w), are like those of training; None where nobody knows those."""
        if self.distribution is None:
            return None
        order = np.argsort([one.index for one in study.read])  # its sentences count images as they came
        return self.distribution.judge(study.images[order, 0], features[order])

    def _admit(self, judged: Judged | None) -> None:
        """Raises Problem where the gate refuses such images."""
        if judged is not None and not judged.inside and self.gate == "refuse":
            raise Problem("not-a-chest-xray", f"The images are unlike chest X-rays: {', '.join(judged.reasons)}.")

    def _read_own(
        self, engine: Engine, study: Prepared, features: Sequence[Array], view: np.ndarray, span: range
    ) -> Array:
        """Probabilities (1 + V, K) of a study's own findings: of the whole study, then of each of its pictures alone."""
        if study.own.vectors is None:
            return np.empty((1 + len(span), 0), np.float32)
        rows, person = [span, *(range(k, k + 1) for k in span)], study.person.numbers()
        asked = engine.asked(study.own.vectors)
        return sigmoid(self._read(asked, features, view, rows, [person] * len(rows)))

    def _read(
        self,
        engine: Engine,
        features: Sequence[Array],
        view: np.ndarray,
        rows: Sequence[range],
        people: Sequence[Array],
    ) -> Array:
        """Logits of studies that are ranges of the features (N, C, h, w): their mean over the features of each transform."""
        most = max(map(len, rows))
        present, views = np.zeros((len(rows), most), dtype=bool), np.zeros((len(rows), most), np.int8)
        laid = np.zeros((len(features), *present.shape, *features[0].shape[1:]), np.float32)
        for row, span in enumerate(rows):
            here, size = slice(span.start, span.stop), len(span)
            present[row, :size], views[row, :size] = True, view[here]
            laid[:, row, :size] = [one[here] for one in features]
        told = np.stack(people)
        return averaged([engine.read(one, present, views, told).logits for one in laid], self.averaging.space)

    def told(self, study: Prepared, asked: Asked) -> dict[str, Any]:
        """The answer as plain values for JSON. Raises Problem where the gate refuses such images."""
        judged = asked.judged
        self._admit(judged)
        return self._head(study) | {
            "findings": [
                self._finding(name) | self._called(name, float(asked.study[place]))
                | {"views": self._by_file(study, asked.alone[:, place]), "zero_shot": place >= len(self.bundle.findings)}
                for place, name in enumerate([*self.bundle.findings, *study.own.names])
            ],
            "in_distribution": None if judged is None else judged.inside,
            "distribution": None if judged is None else {"score": judged.score, "limit": judged.limit, "reasons": list(judged.reasons)},
        }  # fmt: skip

    def _head(self, study: Prepared) -> dict[str, Any]:
        read = {one.index for one in study.read}
        pictures = [one.told() for one in study.pictures]
        for told in pictures:
            told["warnings"] += [] if told["file_index"] in read else ["not-read"]
        return {"research_only": BANNER, "model": self.model, "images": pictures, "unknown": self._unknown(study)}

    def _finding(self, name: str) -> dict[str, Any]:
        point, bundle = self._points.get(name), self.bundle
        return {
            "name": name, "threshold": point.threshold if point else None, "tier": self._tiers.get(name), "reliability": self._relied_on(name),
            "training_positives": bundle.positives.get(name), "training_known": bundle.known.get(name),
        }  # fmt: skip

    def _relied_on(self, name: str) -> dict[str, Any] | None:
        """How the bundle did on this finding in held-out studies, and which these were; None where it does not say."""
        told: dict[str, Any] | None = self._reliability.get("findings", {}).get(name)
        return told and told | {"measured_on": self._reliability["measured_on"]}

    def _called(self, name: str, probability: float) -> dict[str, Any]:
        point = self._points.get(name)
        return {"probability": probability, "positive": None if point is None else probability >= point.threshold}

    def _by_file(self, study: Prepared, alone: Array) -> list[float | None]:
        """The probabilities of the pictures in the order of the files, None for those that were not read."""
        told = {one.index: float(value) for one, value in zip(study.read, alone)}
        return [told.get(one.index) for one in study.pictures]

    def explained(
        self, study: Prepared, names: Sequence[str], method: str | None = None, *, until: float = math.inf
    ) -> dict[str, Any]:
        """Heat maps of these findings on every picture that was read, as it is, as plain values for JSON.

        until: the last moment (time.monotonic()) at which the engine is asked. Raises Problem, `timeout` beyond that.
        """
        if method is not None and method not in self.methods:
            raise Problem("no-such-method", f"This engine can explain by {', '.join(self.methods)}.")
        names, images, asked = self.askable.spelt(names), as_floats(study.images), self.bundle.findings
        engine = self._in_turn(until)
        features = engine.encode(images, study.view)
        self._admit(self._judged(study, features))
        if any(name not in asked for name in names):
            own = self.askable.placed(names)
            assert own.vectors is not None
            engine, asked = engine.asked(own.vectors), names
        places = [asked.index(name) for name in names]
        whole = method == "gradcam"  # which asks the network itself, once
        with self._turns.one(until) if whole else nullcontext():
            found = explain(
                engine.engine if whole else engine,
                images,
                study.view,
                study.person.numbers(),
                places,
                method,
                features=features,
            )
        maps = []
        for name, of_views in zip(names, found.maps):
            for one, heat in zip(study.read, of_views):
                laid = onto_image(heat, self.bundle.pixels, (one.height, one.width))
                maps.append({
                    "finding": name, "file_index": one.index, "method": found.method, "png": base64.b64encode(as_png(laid)).decode("ascii"),
                    "words": words_of(laid, one.view), "peak": list(peak_of(laid)),
                })  # fmt: skip
        return self._head(study) | {"maps": maps}

    def _unknown(self, study: Prepared) -> list[str]:
        """What the model had to do without."""
        views = [f"view of image {one.index + 1}" for one in study.pictures if one.view == "unknown"]
        person = [name for name in ("age", "sex") if getattr(study.person, name) is None]
        return [*views, *person, *self._never_told]
