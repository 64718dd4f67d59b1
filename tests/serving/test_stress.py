"""A server that is asked too much, asked slowly, asked nonsense by machine, and told to stop in the middle of it."""

import asyncio
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import uvicorn

from hilum.serving.protocol import impatient
from tests.pixels import dicom_files as d
from tests.pixels.files import png
from tests.serving.bundles import Served

PNG = png(d.chest())


BODY = b'--x\r\nContent-Disposition: form-data; name="files"\r\n\r\n' + PNG + b"\r\n--x--\r\n"


def posted(port):
    """(status, headers, body) of one request on a connection of its own."""
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        line.request("POST", "/api/v1/predict", BODY, {"Content-Type": "multipart/form-data; boundary=x"})
        answer = line.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        line.close()


class Load:
    """Threads that ask without pause, a connection for each request; what they got, by status."""

    def __init__(self, port, threads):
        self.port, self.over, self.lock = port, threading.Event(), threading.Lock()
        self.statuses, self.answered, self.headers, self.seconds = Counter(), set(), [], []
        self.threads = [threading.Thread(target=self.ask) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def ask(self):
        while not self.over.is_set():
            before = time.monotonic()
            try:
                status, headers, body = posted(self.port)
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.statuses[type(error).__name__] += 1
                time.sleep(0.05)
                continue
            with self.lock:
                self.statuses[status] += 1
                if status == 200:
                    self.answered.add(json.loads(body)["request_id"])
                    self.seconds.append(time.monotonic() - before)
                else:
                    self.headers.append(headers)
            if status == 429:
                time.sleep(0.02)

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


def test_overload_is_turned_away_and_a_signal_drops_nothing(bundle, tmp_path):
    """R13, R16: 24 at once where 2 have a place; then SIGTERM while they ask."""
    served = Served(bundle, tmp_path, "--places", "2").wait()
    load = Load(served.port, 24)
    try:
        until = time.monotonic() + 60
        while min(load.statuses[200], load.statuses[429]) < 10 and time.monotonic() < until:
            time.sleep(0.05)
        early = Counter(load.statuses)
        assert set(early) == {200, 429}
        assert min(early.values()) >= 10
        assert all(int(headers["retry-after"]) >= 1 for headers in load.headers)
        before = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - before < 20
    finally:
        load.stop()
        served.process.kill()
    lines = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    studies = [line for line in lines if line["route"] == "/api/v1/predict"]
    begun = {line["request_id"] for line in studies if line["status"] == 200}
    assert begun == load.answered, "every request that the server answered reached its client whole"
    assert {line["status"] for line in studies} == {200, 429}
    assert {status for status in load.statuses if isinstance(status, int)} == {200, 429}


def test_it_recovers_at_once(server):
    load = Load(server.port, 24)
    time.sleep(1)
    load.stop()
    before = time.monotonic()
    assert posted(server.port)[0] == 200
    assert time.monotonic() - before < 2


@pytest.fixture
def hasty():
    """A server whose patience with headers is 0.3 s, in a thread."""

    async def app(scope, receive, send):
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, port=0, http=impatient(0.3), ws="none", lifespan="off", log_config=None)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()), daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.02)
    yield running.servers[0].sockets[0].getsockname()[1]
    running.should_exit = True
    thread.join(10)


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\nX-"])
def test_headers_that_do_not_come(hasty, before, start):
    """Slow loris: a byte now and then does not keep a connection."""
    with socket.create_connection(("127.0.0.1", hasty), 10) as line:
        if before:
            line.sendall(before)
            assert b"200" in line.recv(1000)
        line.sendall(start)
        ended = time.monotonic() + 5
        try:
            while time.monotonic() < ended:
                time.sleep(0.1)
                if start.endswith(b"X-"):
                    line.sendall(b"a")
                line.settimeout(0.01)
                try:
                    if line.recv(1000) == b"":
                        break
                except TimeoutError:
                    continue
            else:
                pytest.fail("the connection is still open")
        except (ConnectionResetError, BrokenPipeError):
            pass


def test_a_slow_but_honest_request_is_answered(hasty):
    with socket.create_connection(("127.0.0.1", hasty), 10) as line:
        line.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n")
        for _ in range(4):
            time.sleep(0.2)
            line.sendall(b"ab")
        assert b"200" in line.recv(1000)


def test_the_contract_holds_against_a_machine(server):
    """R12: schemathesis asks all that the OpenAPI page allows, and what it forbids."""
    contract(server, examples=3)


@pytest.mark.long
def test_the_contract_holds_against_a_machine_for_long(server):
    contract(server, examples=400)


def contract(server, examples):
    # that generated bytes are no picture, and are refused, is no fault
    options = ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--no-color", "--seed", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/api/v1/openapi.json", "--max-examples", str(examples),
         "--generation-database", "none", *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "6 selected" in done.stdout
