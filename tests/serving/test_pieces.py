"""The parts of the server by themselves: the queue, the places, the guard, the log of answers, the form."""

import asyncio
import hashlib
import json
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from hilum.errors import InputError
from hilum.serving.audit import START, Audit, check
from hilum.serving.guard import Guard, read_keys
from hilum.serving.places import Places
from hilum.serving.problems import PROBLEMS, Problem
from hilum.serving.queue import MicroBatches
from hilum.serving.settings import Limits, Settings
from hilum.serving.upload import read_form

# --- the queue


def test_what_comes_together_is_answered_together_and_in_order():
    sizes, gate = [], threading.Event()

    def run(items):
        gate.wait(10)
        sizes.append(len(items))
        return [2 * item for item in items]

    batches = MicroBatches(run, size=4, wait=0.05)
    futures = [batches.submit(number) for number in range(10)]
    gate.set()
    assert [future.result(10) for future in futures] == [2 * number for number in range(10)]
    assert max(sizes) == 4
    batches.close()


def test_one_that_fails_takes_no_other_with_it():
    def run(items):
        if "bad" in items:
            raise ValueError("bad")
        return [item.upper() for item in items]

    batches = MicroBatches(run, size=8, wait=0.1)
    futures = [batches.submit(item) for item in ("a", "bad", "c")]
    assert [futures[k].result(10) for k in (0, 2)] == ["A", "C"]
    with pytest.raises(ValueError):
        futures[1].result(10)
    batches.close()


def test_a_full_queue_says_so_and_closing_answers_what_waits():
    gate = threading.Event()
    batches = MicroBatches(lambda items: [gate.wait(10) for _ in items], size=1, most=2)
    first = batches.submit(0)
    while len(batches):
        time.sleep(0.01)
    waiting = [batches.submit(number) for number in (1, 2)]
    with pytest.raises(Problem) as caught:
        batches.submit(3)
    assert (caught.value.code, caught.value.headers["Retry-After"]) == ("queue-full", "1")
    gate.set()
    batches.close()
    assert all(future.done() for future in (first, *waiting))


# --- places


def test_places_and_bytes_are_given_back_whatever_happens():
    places = Places(2, 100)
    with places.one() as one, places.one() as other:
        one.hold(60)
        with pytest.raises(Problem) as caught, places.one():
            pass
        assert int(caught.value.headers["Retry-After"]) >= 1
        with pytest.raises(Problem):
            other.hold(41)
        other.hold(40)
    assert (places.taken, places.held) == (0, 0)
    with pytest.raises(KeyError), places.one() as one:
        one.hold(10)
        raise KeyError
    assert (places.taken, places.held) == (0, 0)


# --- the guard


def guard(tmp_path, **changes):
    keys = tmp_path / "keys"
    keys.write_text(f"# who\nward {hashlib.sha256(b'open sesame').hexdigest()}\n")
    return Guard(Settings(tmp_path, **{"key_file": keys, **changes}))


HOME = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unknown-host"),
        ({"host": "evil.example"}, "unknown-host"),
        ({"host": "127.0.0.1.evil.example"}, "unknown-host"),
        ({"host": "[::1]:8000"}, None),
        ({"host": "LOCALHOST:8000"}, None),
        ({**HOME, "origin": "http://127.0.0.1:8000"}, None),
        ({**HOME, "origin": "http://127.0.0.1:3000"}, "foreign-origin"),
        ({**HOME, "origin": "null"}, "foreign-origin"),
        ({**HOME, "origin": "https://evil.example"}, "foreign-origin"),
        ({**HOME, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, "foreign-origin"),
        ({**HOME, "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, None),
        ({**HOME, "sec-fetch-site": "same-origin"}, None),
    ],
)
def test_names_and_sites(tmp_path, headers, code):
    if code is None:
        assert guard(tmp_path).check("/", headers, "127.0.0.1") == "anyone"
    else:
        with pytest.raises(Problem) as caught:
            guard(tmp_path).check("/", headers, "127.0.0.1")
        assert caught.value.code == code


def test_keys(tmp_path):
    door = guard(tmp_path)
    good = {**HOME, "authorization": "Bearer open sesame"}
    assert door.check("/api/v1/predict", good, None) == "key:ward"
    for wrong in (
        {},
        {"authorization": "Bearer open"},
        {"authorization": "Basic open sesame"},
        {"authorization": "Bearer "},
    ):
        with pytest.raises(Problem) as caught:
            door.check("/api/v1/predict", {**HOME, **wrong}, None)
        assert caught.value.status == 401
        assert door.check("/health/ready", {**HOME, **wrong}, None) == "anyone"
    assert guard(tmp_path, key_file=None).check("/api/v1/predict", HOME, None) == "anyone"


def test_a_proxy_is_believed_by_its_address_alone(tmp_path):
    door = guard(tmp_path, key_file=None, proxy="10.0.0.7")
    told = {**HOME, "x-remote-user": "Dr Who"}
    assert door.check("/api/v1/predict", told, "10.0.0.7").startswith("proxy:")
    assert "Who" not in door.check("/api/v1/predict", told, "10.0.0.7")
    for headers, client in ((told, "10.0.0.8"), (HOME, "10.0.0.7"), (told, None)):
        with pytest.raises(Problem):
            door.check("/api/v1/predict", headers, client)


@pytest.mark.parametrize("text", ["", "# none\n", "ward abc\n", "ward " + "g" * 64 + "\n", "a b c\n"])
def test_a_file_of_keys_that_is_none(tmp_path, text):
    (tmp_path / "keys").write_text(text)
    with pytest.raises(InputError):
        read_keys(tmp_path / "keys")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "hospital.example"])
def test_no_door_without_a_lock(tmp_path, host):
    with pytest.raises(InputError, match="nobody is asked for a key"):
        Settings(tmp_path, host=host, hosts=("hospital.example",))
    with pytest.raises(InputError, match="must know its name"):
        Settings(tmp_path, host=host, key_file=tmp_path / "keys")
    Settings(tmp_path, host=host, key_file=tmp_path / "keys", hosts=("hospital.example",))
    for loopback in ("127.0.0.1", "localhost", "::1", "127.0.0.9"):
        Settings(tmp_path, host=loopback)


# --- the log of answers


def test_the_log_of_answers_is_a_chain(tmp_path):
    path = tmp_path / "audit.jsonl"
    for number in (1, 2):  # the second goes on where the first stopped
        log = Audit(path)
        for k in range(2):
            log.write(request_id=f"{number}{k}", inputs=["ab"])
        log.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["request_id"] for line in lines] == ["10", "11", "20", "21"]
    assert lines[0]["previous"] == START
    assert check(path) == lines[-1]["hash"]
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("fault", ["changed", "lost", "moved", "cut", "added"])
def test_a_log_that_was_tampered_with_is_refused(tmp_path, fault):
    path = tmp_path / "audit.jsonl"
    log = Audit(path)
    for k in range(4):
        log.write(request_id=str(k))
    log.close()
    lines = path.read_text().splitlines(keepends=True)
    spoiled = {
        "changed": [lines[0].replace('"0"', '"9"'), *lines[1:]],
        "lost": [lines[0], *lines[2:]],
        "moved": [lines[1], lines[0], *lines[2:]],
        "cut": [*lines[:3], lines[3][:-20]],
        "added": [*lines, json.dumps({"request_id": "5", "previous": "0" * 64, "hash": "0" * 64}) + "\n"],
    }[fault]
    path.write_text("".join(spoiled))
    with pytest.raises(InputError, match="audit log"):
        Audit(path)


def test_a_full_disk_means_no_answer_and_no_broken_chain(tmp_path, monkeypatch):
    import os

    log = Audit(tmp_path / "audit.jsonl")
    log.write(request_id="1")
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:7]))
    with pytest.raises(Problem) as caught:
        log.write(request_id="2")
    assert (caught.value.code, caught.value.status) == ("storage-full", 503)
    monkeypatch.setattr(os, "write", real)
    log.write(request_id="3")
    log.close()
    check(tmp_path / "audit.jsonl")
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2


# --- problems


def test_every_problem_has_a_status_and_a_title():
    for code, (status, title) in PROBLEMS.items():
        assert 400 <= status < 600, code
        assert title[0].isupper(), code
        assert not title.endswith("."), code
        assert Problem(code).body("x")["code"] == code


# --- the form

EDGE = "frontier"
KNOWN = frozenset({"age", "view"})


def form_of(body, pieces=7, kind=f"multipart/form-data; boundary={EDGE}", limits=None, **headers):
    """Read a body that arrives in pieces."""
    cuts = np.array_split(np.frombuffer(body, np.uint8), pieces) if body else [np.zeros(0, np.uint8)]
    messages = [{"type": "http.request", "body": cut.tobytes(), "more_body": True} for cut in cuts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        if messages[0] == "wait":
            await asyncio.sleep(60)
        return messages.pop(0)

    told = {"content-type": kind, **headers}
    scope = {"type": "http", "headers": [(name.encode(), value.encode()) for name, value in told.items()]}
    return asyncio.run(read_form(Request(scope, receive), limits or Limits(), KNOWN))


def part(name, content, more=""):
    return f'--{EDGE}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


END = f"--{EDGE}--\r\n".encode()


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(st.binary(max_size=300).filter(lambda data: EDGE.encode() not in data), max_size=5),
    pieces=st.integers(1, 60),
    age=st.text(max_size=20),
)
def test_what_is_sent_comes_out_however_it_is_cut(files, pieces, age):
    body = (
        b"".join(part("files", data, '; filename="Doe^John.dcm"') for data in files) + part("age", age.encode()) + END
    )
    form = form_of(body, pieces)
    assert form.files == files
    assert form.texts("age") == [age.strip()]
    assert form.texts("view") == []


SMALL = Limits(files=2, file=100, total=1000, fields=3, field_size=10)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (part("files", b"x" * 101) + END, "file-too-large"),
        (part("files", b"x") * 3 + END, "too-many-files"),
        (part("age", b"1" * 11) + END, "bad-field"),
        (part("age", b"\xff\xfe") + END, "bad-field"),
        (part("name", b"x") + END, "bad-field"),
        (part("age", b"1") * 6 + END, "request-too-large"),
        (part("view", b"PA") + END + b"\r\n" * 600, "request-too-large"),
        (part("files", b"x"), "bad-request"),
        (b"nonsense", "bad-request"),
        (b"", "bad-request"),
        (b"--frontier\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, "bad-field"),
        (b"--frontier\r\n" + b"X: y\r\n" * 20 + b"\r\nx\r\n" + END, "bad-request"),
        (b"--frontier\r\n" + b"X" * 9000, "request-too-large"),
    ],
)
def test_limits_of_a_form(body, code):
    with pytest.raises(Problem) as caught:
        form_of(body, limits=SMALL)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("kind", "more", "code"),
    [
        ("application/json", {}, "unsupported-form"),
        ("multipart/form-data", {}, "unsupported-form"),
        ("multipart/mixed; boundary=frontier", {}, "unsupported-form"),
        ("multipart/form-data; boundary=" + "x" * 5000, {}, "bad-request"),
        (f"multipart/form-data; boundary={EDGE}", {"content-encoding": "gzip"}, "unsupported-encoding"),
        (f"multipart/form-data; boundary={EDGE}", {"content-length": "99999999999"}, "request-too-large"),
    ],
)
def test_what_is_no_form_is_refused_before_it_is_read(kind, more, code):
    with pytest.raises(Problem) as caught:
        form_of(part("files", b"x") + END, kind=kind, **more)
    assert caught.value.code == code


def test_a_form_that_does_not_arrive():
    async def receive():
        await asyncio.sleep(60)

    scope = {"type": "http", "headers": [(b"content-type", f"multipart/form-data; boundary={EDGE}".encode())]}
    with pytest.raises(Problem) as caught:
        asyncio.run(read_form(Request(scope, receive), Limits(silence=0.05), KNOWN))
    assert caught.value.code == "slow-request"
