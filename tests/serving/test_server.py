"""A real server on loopback: what it answers, what it refuses, and what it never says, does or keeps."""

import base64
import http.client
import io
import json
import re
import socket
import zlib
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from hilum.errors import InputError
from hilum.inference.predict import load
from hilum.serving import schema
from hilum.serving.answer import BANNER, Answerer, Person
from hilum.serving.audit import check
from hilum.serving.door import HEADERS
from hilum.serving.problems import PROBLEMS
from tests.pixels import dicom_files as d
from tests.pixels.files import picture, png
from tests.serving.bundles import copied
from tests.serving.watching import resident
from tests.small import FINDINGS

CHEST = d.chest()
PNG = png(CHEST)


def post(server, *files, route="predict", **fields):
    """A request as a browser sends it; every answer must be of its type, and bear the headers."""
    parts = [("files", ("Doe^John.dcm", data)) for data in files]
    answer = httpx.post(f"{server.url}/api/v1/{route}", files=parts or {"x": b""}, data=fields, timeout=60)
    if answer.status_code == 200:
        {"predict": schema.Answer, "explain": schema.Explanation}[route].model_validate_json(answer.content)
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        told = schema.Told.model_validate_json(answer.content)
        assert PROBLEMS[told.code][0] == told.status == answer.status_code
    for name in HEADERS:
        assert name in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    return answer


def chances(answer):
    return {finding["name"]: finding["probability"] for finding in answer.json()["findings"]}


# --- the answer


def test_the_answer_is_that_of_predict(server, bundle, tmp_path):
    files = []
    for k, image in enumerate((CHEST, CHEST[::-1], picture(200, 180))):
        (tmp_path / f"{k}.png").write_bytes(png(image))
        files.append(tmp_path / f"{k}.png")
    answer = post(server, *(file.read_bytes() for file in files))
    table = load(bundle, engine="onnx").predict(files, one_study=True)
    assert chances(answer) == pytest.approx({name: table[name][0] for name in FINDINGS}, abs=1e-6)
    alone = load(bundle, engine="onnx").predict(files)
    for finding in answer.json()["findings"]:
        assert finding["views"] == pytest.approx(alone[finding["name"]].to_list(), abs=1e-6)
    assert np.ptp(answer.json()["findings"][0]["views"]) > 1e-3


def test_the_answer_says_what_one_needs_to_read_it(server, bundle):
    told = post(server, PNG, d.dicom(CHEST, bits=8, ViewPosition="LL"), view="PA", age="61", sex="F").status_code
    assert told == 422, "one view for two files"
    answer = post(server, PNG, d.dicom(CHEST, bits=8, ViewPosition="LL"), age="61", images="true").json()
    assert answer["research_only"] == BANNER
    assert [finding["name"] for finding in answer["findings"]] == list(FINDINGS)
    assert [finding["threshold"] for finding in answer["findings"]] == [0.4, 0.6, None]
    for finding in answer["findings"]:
        called = None if finding["threshold"] is None else finding["probability"] >= finding["threshold"]
        assert finding["positive"] is called
    assert [finding["tier"] for finding in answer["findings"]] == ["head", "medium", "tail"]
    assert answer["model"]["identity"] == Answerer(bundle).bundle.identity
    assert answer["unknown"] == ["view of image 1", "sex"]
    first, second = answer["images"]
    assert (first["view"], first["view_source"]) == ("unknown", "unknown")
    assert (second["view"], second["view_source"]) == ("LATERAL", "header")
    assert (first["width"], first["height"]) == (160, 192)
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(first["png"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (shown == CHEST).all()
    given = post(server, d.dicom(CHEST, bits=8, ViewPosition="LL"), view="AP").json()["images"][0]
    assert (given["view"], given["view_source"]) == ("AP", "given")


def test_what_is_known_of_the_patient_matters_and_calibration_is_applied(server, bundle):
    old, young = (chances(post(server, PNG, age=age, sex="M")) for age in ("80", "20"))
    assert any(abs(old[name] - young[name]) > 1e-4 for name in FINDINGS)
    answerer = Answerer(bundle)
    raw = answerer.bundle.operating_points[0]
    assert (raw.slope, raw.intercept) != (1, 0)
    direct = answerer.study([PNG], person=Person(80, "M"))
    assert {one["name"]: one["probability"] for one in direct["findings"]} == pytest.approx(old, abs=1e-6)


def test_copies_and_the_fifth_view_are_not_read(server):
    once, twice = post(server, PNG), post(server, PNG, PNG)
    assert chances(once) == chances(twice)
    assert [image["warnings"] for image in twice.json()["images"]] == [[], ["not-read"]]
    assert twice.json()["findings"][0]["views"][1] is None
    five = [png(np.roll(CHEST, 7 * k, axis=1)) for k in range(5)]
    assert [image["warnings"] for image in post(server, *five, view=["unknown", "PA", "AP", "PA", "AP"]).json()["images"]] == [
        [], [], [], [], ["not-read"]
    ], "one of each kind, then on in order: the unknown view is read, the second AP is not"  # fmt: skip


def test_the_same_question_gets_the_same_answer(server):
    """R22: byte for byte, but for the request's id."""
    bodies = [re.sub(rb'"request_id":"\w+"', b"", post(server, PNG, sex="M").content) for _ in range(3)]
    assert bodies[0] == bodies[1] == bodies[2]


def test_raw_dicom_and_its_equalised_jpeg_are_one_picture(server):
    """The bundle's images were histogram-equalised: whatever comes is made so. Within .01 of a probability: JPEG loses a little."""
    twelve = np.rint(CHEST * (2400 / 255) + 300).astype(np.uint16)
    raw = d.dicom(twelve, bits=12, WindowCenter=1500, WindowWidth=2400)
    equalised = cv2.imencode(".jpg", cv2.equalizeHist(CHEST), [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes()
    flat = png((CHEST * 0.3 + 90).astype(np.uint8))
    expected = chances(post(server, raw))
    for other in (equalised, flat, PNG):
        assert chances(post(server, other)) == pytest.approx(expected, abs=0.01)
    assert chances(post(server, png(255 - CHEST))) != pytest.approx(expected, abs=0.01)


def test_heat_maps_of_every_picture(server):
    answer = post(
        server, PNG, png(CHEST[:, ::-1]), route="explain", finding=["Mass", "Edema"], method="attention"
    ).json()
    assert [(heat["finding"], heat["file_index"]) for heat in answer["maps"]] == [
        ("Mass", 0),
        ("Mass", 1),
        ("Edema", 0),
        ("Edema", 1),
    ]
    heat = cv2.imdecode(np.frombuffer(base64.b64decode(answer["maps"][0]["png"]), np.uint8), cv2.IMREAD_UNCHANGED)
    assert heat.shape[0] / heat.shape[1] == pytest.approx(192 / 160, rel=0.05)
    assert {"attention", "occlusion"} <= set(httpx.get(f"{server.url}/api/v1/bundle").json()["methods"])
    for fields, code in (
        ({"finding": "Flu"}, "unknown-finding"),
        ({"finding": "Mass", "method": "gradcam"}, "no-such-method"),
        ({"finding": ["Mass"] * 9, "method": "magic"}, "no-such-method"),
        ({}, "bad-field"),
    ):
        assert post(server, PNG, route="explain", **fields).json()["code"] == code


# --- what is refused


@pytest.mark.parametrize(
    ("files", "fields", "code"),
    [
        ([], {}, "bad-field"),
        ([b""], {}, "unsupported-type"),
        ([b"GIF89a" + bytes(200)], {}, "unsupported-type"),
        ([PNG, PNG[:-40]], {}, "undecodable"),
        ([d.dicom(CHEST, bits=8, SOPClassUID=d.CT)], {}, "unsupported-sop-class"),
        ([d.dicom(CHEST, bits=8, SOPClassUID=d.DX_PROCESSING)], {}, "for-processing-image"),
        ([d.dicom(CHEST, bits=8, NumberOfFrames=3)], {}, "multi-frame"),
        ([d.dicom(CHEST, bits=8, PatientID="A"), d.dicom(CHEST[::-1].copy(), bits=8, PatientID="B")], {}, "mixed-study"),
        ([PNG] * 9, {}, "too-many-files"),
        ([PNG], {"age": "old"}, "bad-field"),
        ([PNG], {"age": "nan"}, "bad-field"),
        ([PNG], {"age": "121"}, "bad-field"),
        ([PNG], {"sex": "X"}, "bad-field"),
        ([PNG], {"view": "LL"}, "bad-field"),
        ([PNG], {"images": "yes"}, "bad-field"),
        ([PNG], {"findings": "Gout"}, "closed-vocabulary"),
    ],
)  # fmt: skip
def test_refusals(server, files, fields, code):
    answer = post(server, *files, **fields)
    assert answer.json()["code"] == code
    if code in ("undecodable", "mixed-study"):
        assert answer.json()["file_index"] == 1


def test_other_doors(server):
    assert httpx.get(f"{server.url}/api/v1/predict").headers["allow"] == "POST"
    assert httpx.get(f"{server.url}/nothing").json()["code"] == "not-found"
    assert (
        httpx.get(f"{server.url}/health/live").status_code
        == httpx.get(f"{server.url}/v2/health/ready").status_code
        == 200
    )
    for headers, status in (({"Host": "rebound.example"}, 421), ({"Origin": "http://evil.example"}, 403)):
        assert httpx.get(f"{server.url}/", headers=headers).status_code == status
    page = httpx.get(server.url)
    assert page.status_code == 200
    assert BANNER.split(",")[0] in page.text
    assert httpx.get(f"{server.url}/api/v1/openapi.json").json()["openapi"].startswith("3.1")
    compressed = zlib.compress(PNG)
    told = {"Content-Type": "multipart/form-data; boundary=x", "Content-Encoding": "gzip"}
    assert (
        httpx.post(f"{server.url}/api/v1/predict", content=compressed, headers=told).json()["code"]
        == "unsupported-encoding"
    )


def raw(server, head, body=b"", more=()):
    """The status of a request written by hand, its body in chunks where there are `more`."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as line:
        line.sendall(f"POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode() + body)
        try:
            for piece in more:
                line.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                if select_readable(line):
                    break
        except OSError:
            pass  # it has answered and closed
        answer = http.client.HTTPResponse(line)
        answer.begin()
        return answer.status, json.loads(answer.read())


def select_readable(line):
    import select

    return bool(select.select([line], [], [], 0)[0])


FORM = "Content-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n'


def test_a_file_without_end_is_refused_while_it_comes(server):
    before = resident(server.process.pid)
    status, told = raw(server, FORM + "Transfer-Encoding: chunked\r\n", more=iter([PART, *[bytes(1 << 20)] * 1000]))
    assert (status, told["code"]) == (413, "file-too-large")
    assert resident(server.process.pid) - before < 300
    status, told = raw(server, FORM + "Content-Length: 999999999999\r\n", PART)
    assert (status, told["code"]) == (413, "request-too-large")
    many = (b'--x\r\nContent-Disposition: form-data; name="age"\r\n\r\n1\r\n') * 10_000 + b"--x--\r\n"
    status, told = raw(server, FORM + f"Content-Length: {len(many)}\r\n", many)
    assert (status, told["code"]) == (413, "request-too-large")
    assert raw(server, FORM + "Content-Length: 4\r\n", b"--y\r")[0] == 400


# --- what is never said, done or kept


def test_the_log_of_answers_holds_together(server):
    post(server, PNG)
    post(server, b"nothing")
    check(server.audit)
    good, bad = [json.loads(line) for line in server.audit.read_text().splitlines()][-2:]
    assert (good["code"], bad["code"]) == (None, "unsupported-type")
    assert len(good["inputs"][0]) == len(good["output"]) == 64
    assert bad["output"] is None


def test_no_torch_no_unpickling(server):
    """R21: told by the interpreter's own audit events, from its first line on."""
    post(server, PNG)
    post(server, PNG, route="explain", finding="Mass")
    assert server.watched.read_text() == ""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert "onnxruntime" in maps


@pytest.mark.parametrize(
    "fault", ["graph", "weights", "pickle beside", "pickle within", "cut", "missing", "other engine"]
)
def test_spoiled_bundles_are_refused_at_the_start(bundle, tmp_path, fault):
    import pickle

    copy = copied(bundle, tmp_path / "bundle")
    file = copy / {"graph": "model.onnx/read.onnx", "weights": "model.safetensors", "cut": "model.onnx/encode.onnx",
                   "missing": "model.onnx/encode.onnx"}.get(fault, "extra.pkl")  # fmt: skip
    if fault in ("graph", "weights"):
        whole = bytearray(file.read_bytes())
        whole[len(whole) // 2] ^= 1
        file.write_bytes(whole)
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-10])
    elif fault == "missing":
        file.unlink()
    elif fault == "pickle within":
        (copy / "model.safetensors").write_bytes(pickle.dumps({"weights": 1}))
    elif fault == "pickle beside":
        file.write_bytes(pickle.dumps(1))
    with pytest.raises(InputError):
        Answerer(copy, engine="openvino" if fault == "other engine" else "onnx")


def test_a_self_test_that_fails_is_not_ready(bundle, tmp_path):
    from safetensors.numpy import load_file, save_file

    from hilum.bundle import amend_bundle, read_bundle

    copy = copied(bundle, tmp_path / "bundle")

    def change(folder):
        told = load_file(folder / "self_test.safetensors")
        save_file(told | {"logits": told["logits"] + 0.1}, folder / "self_test.safetensors")

    assert Answerer(copy).passes()
    amend_bundle(read_bundle(copy), change)
    assert not Answerer(copy).passes()


def test_jpegs_are_shown_large_and_read_as_predict_reads_them(bundle):
    large = cv2.resize(CHEST, (1600, 1920))
    buffer = io.BytesIO(cv2.imencode(".jpg", large)[1].tobytes())
    answerer = Answerer(bundle)
    plain, shown = (answerer.study([buffer.getvalue()], images=show) for show in (False, True))
    picture_shown = shown["images"][0]
    assert (picture_shown["width"], picture_shown["height"]) == (1600, 1920)
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(picture_shown.pop("png")), np.uint8), cv2.IMREAD_UNCHANGED)
    assert max(decoded.shape) == 1024
    assert plain == shown
