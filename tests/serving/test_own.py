"""Findings of one's own: an open bundle asked by name on engines with and without torch, over HTTP too, and what is refused."""

import json

import httpx
import numpy as np
import pytest

from hilum.errors import InputError
from hilum.label_file import FILE, read_label_vectors
from hilum.pixels.isolated.decoder import Decoder
from hilum.serving import schema
from hilum.serving.answer import Answerer, Person
from hilum.serving.own import LONGEST, MOST
from hilum.serving.pictures import picture_of
from hilum.serving.problems import Problem
from tests.pixels.dicom_files import chest
from tests.pixels.files import png
from tests.serving.test_server import post
from tests.small import FINDINGS

FILES = [png(chest(192)), png(chest(200)[::-1])]
SECRET = "quarzwort of the lung"  # nothing like a finding


@pytest.fixture(scope="module")
def answerers(open_bundle):
    return {name: Answerer(open_bundle, engine=name) for name in ("onnx", "torch")}


@pytest.fixture(scope="module")
def closed(bundle):
    return Answerer(bundle)


def prepared(answerer):
    with Decoder() as decoder:
        pictures = [picture_of(data, k, decoder, answerer.bundle.pixels) for k, data in enumerate(FILES)]
    return answerer.prepare(pictures, Person(age=60))


def test_named_findings_stand_behind_those_of_the_bundle_which_stay(answerers):
    answers = {
        name: [each.study(FILES, findings=findings)["findings"] for findings in ([], ["scoliosis, Mass", "effusion"])]
        for name, each in answerers.items()
    }
    for plain, more in answers.values():
        assert more[:3] == plain
        assert [one["name"] for one in more] == [*FINDINGS, "Scoliosis", "Pleural Effusion"]
        for one in more:
            told = schema.Finding.model_validate(one)
            assert told.zero_shot == (told.name not in FINDINGS)
            if told.zero_shot:
                nothing = (told.threshold, told.positive, told.tier, told.reliability, told.training_known)
                assert nothing == (None,) * 5
    for ours, theirs in zip(answers["onnx"][1], answers["torch"][1]):
        assert [ours["probability"], *ours["views"]] == pytest.approx(
            [theirs["probability"], *theirs["views"]], abs=1e-5
        )
    added = answers["onnx"][1][3:]
    assert abs(added[0]["probability"] - added[1]["probability"]) > 1e-3
    assert abs(added[0]["views"][0] - added[0]["views"][1]) > 1e-4


def test_each_study_of_a_batch_is_asked_its_own(answerers):
    each = answerers["onnx"]
    pictures = prepared(each).pictures
    studies = [
        each.prepare(pictures[:1], Person(age=60), each.askable.own([text]))
        for text in ("Bulla", "", "Scoliosis,Bulla")
    ]
    together = each.ask(studies)
    assert [len(one.study) for one in together] == [4, 3, 5]
    for study, said in zip(studies, together):
        assert said.study == pytest.approx(each.ask([study])[0].study, abs=1e-5)
    assert together[0].study[3] == pytest.approx(together[2].study[4], abs=1e-6)


@pytest.mark.parametrize("method", ["attention", "cells"])
def test_where_a_named_finding_is_seen(answerers, method):
    maps = {name: each.explained(prepared(each), ["bulla", "Mass"], method)["maps"] for name, each in answerers.items()}
    places = [("Bulla", 0), ("Bulla", 1), ("Mass", 0), ("Mass", 1)]
    for told in maps.values():
        assert [(one["finding"], one["file_index"]) for one in told] == places
    alone = answerers["onnx"].explained(prepared(answerers["onnx"]), ["Mass"], method)["maps"]
    assert [one["png"] for one in maps["onnx"][2:]] == [one["png"] for one in alone], "Mass is where it always was"
    assert maps["onnx"][0]["png"] != maps["onnx"][2]["png"]
    assert [one["peak"] for one in maps["onnx"]] == [one["peak"] for one in maps["torch"]]


def test_what_can_be_asked_is_told(answerers, closed, open_bundle):
    carried = set(read_label_vectors(open_bundle / FILE).names)
    for each in answerers.values():
        assert set(each.facts["askable"]) == carried - set(FINDINGS)
    assert closed.facts["askable"] == []


def refused(answerer, text, code):
    with pytest.raises(Problem) as told:
        answerer.askable.own([text])
    assert told.value.code == code
    assert not any(word in str(told.value.body()) for word in (SECRET, "oliosi,", "fracturess"))
    return told.value.detail


def test_unknown_names_get_the_nearest_offered_and_are_never_repeated(answerers, closed):
    for each in answerers.values():
        assert "Scoliosis" in refused(each, "Bulla, scoliosi", "unknown-finding")
        assert refused(each, "Bulla, scoliosi", "unknown-finding").startswith("Name 2 ")
        assert "Rib Fracture" in refused(each, "rib fracturess", "unknown-finding")
        refused(each, ",".join(f"Bulla{k}" for k in range(MOST + 1)), "bad-field")
        refused(each, "x" * (LONGEST + 1), "bad-field")
    assert "GET /api/v1/bundle" in refused(answerers["onnx"], SECRET, "unknown-finding")
    refused(closed, "Scoliosis", "closed-vocabulary")
    with pytest.raises(Problem) as unknown:
        closed.explained(prepared(closed), ["Hernya"])
    assert unknown.value.code == "unknown-finding"
    assert "Hernia" in unknown.value.detail


def test_other_words_are_embedded_with_torch_where_the_encoder_is(answerers, monkeypatch):
    own = answerers["torch"].askable.own([SECRET, "Bulla"])
    assert own.names == (SECRET, "Bulla")
    assert np.linalg.norm(own.vectors, axis=1) == pytest.approx([384**0.5] * 2, rel=1e-4)
    assert (own.vectors[1] == answerers["onnx"].askable.own(["bulla"]).vectors[0]).all()

    def gone(*_):
        raise InputError("there is no encoder")

    monkeypatch.setattr("hilum.inference.open_vocabulary._encoder", gone)
    refused(answerers["torch"], SECRET, "unknown-finding")


def test_over_http_without_torch_and_without_a_trace(open_server):
    answer = post(open_server, *FILES, findings="Scoliosis, bulla ,Mass")
    assert [one["name"] for one in answer.json()["findings"] if one["zero_shot"]] == ["Scoliosis", "Bulla"]
    assert answer.json()["model"]["findings"] == len(FINDINGS)
    told = post(open_server, FILES[0], route="explain", finding="Scoliosis", findings="Scoliosis, Bulla")
    assert told.json()["maps"][0]["finding"] == "Scoliosis"
    assert post(open_server, FILES[0], findings="").status_code == 200
    for fields in ({"findings": SECRET}, {"finding": SECRET, "route": "explain"}):
        refusal = post(open_server, FILES[0], **fields)
        assert (refusal.status_code, refusal.json()["code"]) == (422, "unknown-finding")
        assert SECRET not in refusal.text
    kept = [open_server.log.read_text(), open_server.audit.read_text(), httpx.get(f"{open_server.url}/metrics").text]
    assert all("unknown-finding" in text for text in kept), "the code is kept, the words are not"
    assert not any(SECRET in text for text in kept)
    assert "Scoliosis" in httpx.get(f"{open_server.url}/api/v1/bundle").json()["askable"]
    form = json.dumps(httpx.get(f"{open_server.url}/api/v1/openapi.json").json()["paths"]["/api/v1/predict"])
    assert "askable" in form
    assert not open_server.watched.exists() or open_server.watched.read_text() == ""
