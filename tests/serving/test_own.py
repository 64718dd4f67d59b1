"""Findings of one's own: an open bundle asked in other words, and what is refused."""

import cv2
import pytest

from hilum.serving.answer import Answerer
from hilum.serving.own import LONGEST, MOST, names_of
from hilum.serving.problems import Problem
from tests.inference.test_open_vocabulary import runs  # noqa: F401
from tests.pixels.dicom_files import chest


@pytest.fixture(scope="module")
def answerer(runs):  # noqa: F811
    return Answerer(runs["open"] / "bundle", engine="torch")


def study_of(answerer):
    from hilum.pixels.isolated.decoder import Decoder
    from hilum.serving.answer import Person
    from hilum.serving.pictures import picture_of

    with Decoder() as decoder:
        pictures = [
            picture_of(cv2.imencode(".png", chest(height))[1].tobytes(), place, decoder, answerer.bundle.pixels)
            for place, height in enumerate((192, 200))
        ]
    return answerer.prepare(pictures, Person(age=60))


def test_words_are_scored_beside_the_findings_of_the_bundle(answerer):
    study = study_of(answerer)
    own = answerer.own(study, ["scoliosis", "Bulla"])
    assert [one["name"] for one in own] == ["Scoliosis", "Bulla"]
    assert all(one["zero_shot"] and one["threshold"] is None and one["positive"] is None for one in own)
    assert all(0 < chance < 1 for one in own for chance in (one["probability"], *one["views"]))
    assert answerer.own(study, ["Bulla"])[0]["probability"] == pytest.approx(own[1]["probability"], abs=1e-6)
    maps = answerer.explained(study, ["Bulla"])["maps"]
    assert [(one["finding"], one["file_index"]) for one in maps] == [("Bulla", 0), ("Bulla", 1)]
    assert answerer.facts["own_findings"] is True


def test_a_closed_bundle_and_nearly_known_names_are_refused(answerer, runs):  # noqa: F811
    study = study_of(answerer)
    with pytest.raises(Problem) as nearly:
        answerer.own(study, ["Scoliosi"])
    assert nearly.value.code == "unknown-finding"
    closed = Answerer(runs["closed"] / "bundle", engine="torch")
    assert closed.facts["own_findings"] is False
    with pytest.raises(Problem) as refused:
        closed.own(study, ["Scoliosis"])
    assert refused.value.code == "closed-vocabulary"
    with pytest.raises(Problem) as unknown:
        closed.explained(study, ["Scoliosis"])
    assert unknown.value.code == "unknown-finding"


def test_names_are_split_at_commas_and_bounded(answerer):
    assert names_of(" Bulla, ,bulla,EDEMA, rib notching ", answerer.bundle) == ["bulla", "rib notching"]
    assert names_of(None, answerer.bundle) == []
    for text in (",".join(f"name {k}" for k in range(MOST + 1)), "x" * (LONGEST + 1)):
        with pytest.raises(Problem) as refused:
            names_of(text, answerer.bundle)
        assert refused.value.code == "bad-field"
