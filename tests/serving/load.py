"""Clients that ask a server without pause, each request on a connection of its own, and what became of every one."""

import http.client
import json
import random
import threading
import time
from collections import Counter

from tests.pixels import dicom_files as d
from tests.pixels.files import png

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
    """Threads that ask until `stop`. pause: seconds, more or less, before one that was turned away comes again, sooner than told.

    statuses: how many got each, errors by their kind. seconds: of those answered with 200. answered: their request ids.
    headers: of the others. errors: (kind, moment on time.monotonic()).
    """

    def __init__(self, port, threads, pause=0.02):
        self.port, self.pause, self.over, self.lock = port, pause, threading.Event(), threading.Lock()
        self.statuses, self.answered, self.headers, self.seconds, self.errors = Counter(), set(), [], [], []
        self.threads = [threading.Thread(target=self._ask) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def until(self, reached, seconds=60):
        """Wait until `reached(statuses)`."""
        end = time.monotonic() + seconds
        while not reached(self.statuses):
            assert time.monotonic() < end, self.statuses
            time.sleep(0.02)
        return self

    def stop(self):
        """End it; the requests that are under way are waited for."""
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _ask(self):
        while not self.over.is_set():
            before = time.monotonic()
            try:
                status, headers, body = posted(self.port)
            except (OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.statuses[type(error).__name__] += 1
                    self.errors.append((type(error).__name__, time.monotonic()))
                self.over.wait(0.05)
                continue
            with self.lock:
                self.statuses[status] += 1
                if status == 200:
                    self.answered.add(json.loads(body)["request_id"])
                    self.seconds.append(time.monotonic() - before)
                else:
                    self.headers.append(headers)
            if status == 429:
                self.over.wait(self.pause * random.uniform(0.5, 1.5))  # or they would come in step


def dropped(served, load):
    """What a server that has ended says it answered, by status, beyond what reached the clients; empty where nothing was dropped.

    One that hung up is none of these: our clients do not.
    """
    lines = [json.loads(line) for line in served.log.read_text().splitlines() if line.startswith("{")]
    studies = [line for line in lines if line.get("route") == "/api/v1/predict"]
    said = Counter(line["status"] for line in studies)
    came = Counter({status: count for status, count in load.statuses.items() if isinstance(status, int)})
    begun = {line["request_id"] for line in studies if line["status"] == 200}
    return dict(said - came) | dict(came - said) | dict.fromkeys(begun ^ load.answered, 200)
