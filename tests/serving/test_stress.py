"""A server that is asked too much, asked slowly, asked nonsense by machine, and told to stop in the middle of it."""

import asyncio
import heapq
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import uvicorn

from hilum.serving.protocol import impatient
from hilum.serving.run import Server
from tests.serving.bundles import Served
from tests.serving.load import Load, dropped, posted

PLACES, CLIENTS = 2, 40  # R13: twenty for each place


@pytest.fixture(scope="module")
def narrow(bundle, tmp_path_factory):
    with Served(bundle, tmp_path_factory.mktemp("narrow"), "--places", str(PLACES)) as served:
        yield served


def test_overload_is_turned_away_and_who_has_a_place_does_not_notice(narrow):
    """R13 in short; bench/load.py measures the 99th percentile over a minute.

    Medians, because one pause of a busy machine is a percentile of so few; clients come again sooner than they are told to.
    """

    def measured(clients):
        with Load(narrow.port, clients, pause=0.25) as load:
            load.until(lambda statuses: statuses[200] >= 60)
        return load

    measured(PLACES)  # and it is warm
    ratios = []
    while len(ratios) < 3 and (not ratios or ratios[-1] >= 2):  # a machine with other work to do may be measured again
        calm, busy = measured(PLACES), measured(CLIENTS)
        before = time.monotonic()
        assert posted(narrow.port)[0] == 200
        assert time.monotonic() - before < 2, "it recovers at once"
        assert set(calm.statuses) == {200}, "as many clients as places are never turned away"
        assert set(busy.statuses) == {200, 429}
        assert busy.statuses[429] > CLIENTS
        assert all(int(headers["retry-after"]) >= 1 for headers in busy.headers)
        ratios.append(np.median(busy.seconds) / np.median(calm.seconds))
    assert ratios[-1] < 2, ratios


def test_a_signal_drops_nothing(bundle, tmp_path):
    """R16: SIGTERM while 24 ask; whoever was let in is answered, and whoever is not finds nobody there."""
    served = Served(bundle, tmp_path, "--places", str(PLACES)).wait()
    with Load(served.port, 24) as load:
        load.until(lambda statuses: min(statuses[200], statuses[429]) >= 10)
        assert not load.errors
        before = time.monotonic()
        assert served.stop() == 0
        assert time.monotonic() - before < 20
        load.until(lambda statuses: statuses["ConnectionRefusedError"] > 0)
    assert load.statuses.pop("ConnectionResetError", 0) <= 1, "who knocks in the very instant of closing"
    assert set(load.statuses) == {200, 429, "ConnectionRefusedError"}
    assert dropped(served, load) == {}


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


def test_a_signal_between_two_comparisons_of_timers_disturbs_none():
    """A handler runs wherever the interpreter is, in the middle of the loop's heap of timers, too."""
    left: list[bool] = []
    server = Server(uvicorn.Config(app=None), SimpleNamespace(drain=0.01), lambda: left.append(True))

    class Meanwhile(asyncio.TimerHandle):
        """A timer during whose comparison the signal comes."""

        __slots__ = ("moment",)

        @property
        def _when(self):
            if not left:
                server.handle_exit(signal.SIGTERM, None)
            return self.moment

        @_when.setter
        def _when(self, moment):
            self.moment = moment

    async def busy():
        loop = asyncio.get_running_loop()
        heapq.heappush(loop._scheduled, Meanwhile(loop.time() + 60, print, (), loop))
        loop.call_later(0.001, int)  # RuntimeError, if the heap has grown by then
        await asyncio.sleep(0.1)
        return server.should_exit

    assert asyncio.run(busy())
    assert left == [True]
