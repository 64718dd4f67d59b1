"""When something goes wrong in a server or around it: nobody blocks the others, nothing fails without a word, nobody is blamed wrongly."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from hilum.bundle import amend_bundle, read_bundle
from hilum.errors import InputError, MachineError
from hilum.serving.app import build_app
from hilum.serving.door import log
from hilum.serving.problems import Problem
from hilum.serving.run import bound
from hilum.serving.settings import Limits, Settings
from hilum.serving.turns import Turns
from tests.pixels import dicom_files as d
from tests.pixels.files import png
from tests.serving.bundles import copied

PNG = png(d.chest())
MAPS = {"finding": "Mass", "method": "occlusion"}  # which asks the engine most often


@asynccontextmanager
async def opened(bundle, **limits):
    """(room, client) of a server in this process."""
    app = build_app(Settings(bundle, limits=Limits(**limits)))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1", timeout=60) as client,
    ):
        yield app.state.room, client


async def until(what, seconds=30.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def asking(client, route="predict", **fields):
    return client.post(f"/api/v1/{route}", files=[("files", ("x", PNG))], data=fields)


def slowed(engine, wait):
    """Have `wait` called before each encoding; the calls so far are counted in what comes back."""
    calls, encode = [], engine._encode

    def slow(images, view):
        calls.append(len(images))
        wait()
        return encode(images, view)

    engine._encode = slow
    return calls


# --- one request and the others


def test_an_explanation_leaves_room_for_others(bundle):
    async def run():
        async with opened(bundle) as (room, client):
            await until(lambda: room.ready)
            calls = slowed(room.answerer.engine, lambda: time.sleep(0.1))
            maps = asyncio.create_task(asking(client, "explain", **MAPS))
            await until(lambda: len(calls) > 2)
            answers = [(await asking(client)).status_code for _ in range(2)]
            assert (answers, maps.done()) == ([200, 200], False)
            assert (await maps).status_code == 200
            assert len(calls) > 12

    asyncio.run(run())


def test_an_explanation_that_takes_too_long_ends(bundle):
    async def run():
        async with opened(bundle, answer=0.5) as (room, client):
            await until(lambda: room.ready)
            calls = slowed(room.answerer.engine, lambda: time.sleep(0.1))
            answer = await asking(client, "explain", **MAPS)
            assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
            await until(lambda: room.places.taken == 0, seconds=2)
            made = len(calls)
            await asyncio.sleep(0.5)
            assert len(calls) == made < 12

    asyncio.run(run())


@pytest.mark.parametrize(("route", "fields"), [("explain", MAPS), ("predict", {})])
def test_a_place_is_free_when_its_work_has_ended(bundle, route, fields):
    """Not when nobody waits any more: a thread cannot be stopped."""
    gate = threading.Event()

    async def run():
        async with opened(bundle, answer=0.5, places=1) as (room, client):
            await until(lambda: room.ready)
            slowed(room.answerer.engine, lambda: gate.wait(30))
            assert (await asking(client, route, **fields)).status_code == 504
            assert (await asking(client)).status_code == 429
            assert room.places.taken == 1
            gate.set()
            await until(lambda: room.places.taken == room.places.held == 0)
            assert (await asking(client)).status_code == 200

    asyncio.run(run())


def test_turns_go_to_whoever_waits_and_none_comes_too_late():
    turns, order = Turns(), []

    def work(name, times):
        for _ in range(times):
            with turns.one():
                order.append(name)
                time.sleep(0.02)

    greedy, modest = (
        threading.Thread(target=work, args=("greedy", 20)),
        threading.Thread(target=work, args=("modest", 3)),
    )
    greedy.start()
    modest.start()
    modest.join()
    assert order.count("greedy") < 10
    for late in (0.0, time.monotonic() + 0.01):
        with pytest.raises(Problem, match="timeout"), turns.one(), turns.one(late):
            pass
    greedy.join()


def test_whoever_hangs_up_is_no_fault_of_the_server(server):
    head = "POST /api/v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 10) as line:
        line.sendall(f"{head}Content-Length: 1000\r\n\r\n--x\r\n".encode())
        time.sleep(0.3)
    wanted = 'hilum_requests_total{code="client-gone",route="/api/v1/predict",status="none"}'
    end = time.monotonic() + 10
    while wanted not in (told := httpx.get(f"{server.url}/metrics").text):
        assert time.monotonic() < end, told
        time.sleep(0.1)
    assert 'code="internal"' not in told
    assert '"fault"' not in server.log.read_text()


@pytest.mark.parametrize("origin", ["http://[", "http://\uff0f.example", "//"])
def test_an_origin_that_is_no_url_is_foreign(server, origin):
    answer = httpx.get(server.url, headers={b"Origin": origin.encode()})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign-origin")


# --- the start


def test_a_port_that_is_taken_is_told_in_a_sentence(bundle):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "hilum.cli", "serve", str(bundle), "--port", str(port)],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    said = (
        f"hilum: 127.0.0.1, port {port}: another program listens here. Stop it, or choose another port with --port.\n"
    )
    assert (done.returncode, done.stdout + done.stderr) == (2, said)


@pytest.mark.parametrize("host", ["192.0.2.7", "nowhere.invalid"])
def test_an_address_of_another_machine_is_told(host):
    with pytest.raises(InputError, match="no address of this machine"):
        bound(host, 8000)


@pytest.mark.parametrize(
    ("error", "told"),
    [(MachineError("Doe^John"), "No decoder process can be started."), (OSError("Doe^John"), "The self-test could not be asked.")],
)  # fmt: skip
def test_a_start_that_fails_is_told_in_the_log_and_to_who_asks(bundle, monkeypatch, error, told):
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())

    async def run():
        async with opened(bundle) as (room, client):
            await until(lambda: room.trouble)
            for answer in (await client.get("/health/ready"), await asking(client)):
                assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (503, "not-ready", told)

    async def fails(self):
        raise error

    monkeypatch.setattr("hilum.serving.decoders.Decoders.start", fails)
    log.addHandler(handler)
    try:
        asyncio.run(run())
    finally:
        log.removeHandler(handler)
    faults = [line for line in lines if '"fault"' in line]
    assert len(faults) == 1
    assert type(error).__name__ in faults[0]
    assert told in faults[0]
    assert "Doe" not in faults[0]


def test_ready_says_whether_there_was_a_test(bundle, tmp_path):
    copy = copied(bundle, tmp_path / "bundle")
    amend_bundle(read_bundle(copy), lambda folder: (folder / "self_test.safetensors").unlink())

    async def said(folder):
        async with opened(folder) as (room, client):
            await until(lambda: room.ready)
            return (await client.get("/health/ready")).json()

    assert asyncio.run(said(bundle)) == {"ready": True, "self_test": "passed"}
    assert asyncio.run(said(copy)) == {"ready": True, "self_test": "none"}


def test_ready_looks_after_the_decoders(bundle, monkeypatch):
    async def run():
        async with opened(bundle, decoders=1) as (room, client):
            await until(lambda: room.ready)
            only = room.decoders._all[0]
            os.kill(before := only.pid, signal.SIGKILL)
            await asyncio.sleep(0.2)
            assert (await client.get("/health/ready")).status_code == 200
            assert only.pid != before
            os.kill(only.pid, signal.SIGKILL)
            await asyncio.sleep(0.2)
            monkeypatch.setattr(sys, "executable", "/nowhere/python")
            answer = await client.get("/health/ready")
            assert (answer.status_code, answer.json()["detail"]) == (503, "No decoder process can be started.")

    asyncio.run(run())
