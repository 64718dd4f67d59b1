"""Damaged files over HTTP: the server answers each one, is never at fault, never restarts and does not grow (R1).

    python bench/http_mutations.py [--count 20000] [--first 0] [--clients 4] [--quick]

DICOM in every transfer syntax that is read, PNG and JPEG, damaged by chance and by design (tests/pixels/mutations.py), sent to
`hilum serve` in a process of its own, over a small bundle with random weights. Every 100 files a whole one must be answered
as at the start. Memory is the server's and its decoders', followed from /proc.
"""

import argparse
import http.client
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from result import save

sys.path.insert(0, str(Path(__file__).parent.parent))  # the files and the server are made as those of the tests are

from tests.pixels import dicom_files as d
from tests.pixels.files import png
from tests.pixels.mutations import damaged
from tests.serving.bundles import ATTENDING, Served, exported

WHOLE = png(d.chest())


def memory(process: int) -> tuple[float, float]:
    """(MB of a process, MB of it and its children)."""
    lists = Path(f"/proc/{process}/task").glob("*/children")  # each thread has its own children
    children = [child for one in lists for child in one.read_text().split()]
    sizes = [_resident(str(one)) for one in (process, *children)]
    return sizes[0], sum(sizes)


def _resident(process: str) -> float:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


class Client:
    """Asks on one connection, kept as long as the server keeps it."""

    def __init__(self, port: int):
        self.port = port
        self.line = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self.lost = 0

    def ask(self, data: bytes) -> tuple[int, dict[str, Any], float]:
        """(status, answer, seconds); asks again while every place is taken, which is no answer about the file."""
        edge = b"--edge-of-a-part-7b1d"
        while edge in data:
            edge += b"x"
        body = edge + b'\r\nContent-Disposition: form-data; name="files"\r\n\r\n' + data + b"\r\n" + edge + b"--\r\n"
        head = {"Content-Type": f"multipart/form-data; boundary={edge[2:].decode()}"}
        while True:
            before, fresh = time.perf_counter(), self.line.sock is None
            try:
                self.line.request("POST", "/api/v1/predict", body, head)
                answer = self.line.getresponse()
                told = json.loads(answer.read())
            except (OSError, http.client.HTTPException):
                self.line.close()  # one that was idle for long may have been closed, and is no loss
                self.lost += fresh
                if self.lost > 20:
                    raise
                continue
            if answer.status != 429:
                return answer.status, told, time.perf_counter() - before
            time.sleep(0.05)


def chances(told: dict[str, Any]) -> list[float]:
    return [finding["probability"] for finding in told["findings"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--quick", action="store_true", help="300 files, and no result is written")
    options = parser.parse_args()
    count = 300 if options.quick else options.count
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exported(ATTENDING)(folder / "bundle")
        with Served(folder / "bundle", folder) as served:
            rows = measured(served, range(options.first, options.first + count), options.clients)
    for row in rows:
        print(f"{row['what']:<45}{row['ours']}")
    if not options.quick:
        told = {row["what"]: row["ours"] for row in rows}
        save({
            "name": "http_mutations", "ours": count - told["answers of 500 and above"] - told["connections lost"], "peer": None,
            "unit": f"of {count} damaged files answered and not the server's fault", "ratio": None,
            "goal": "all; no restart; server below 1 GB; 99.9 % within 10 s",
            "command": f"python bench/http_mutations.py --count {count} --first {options.first}", "rows": rows,
        })  # fmt: skip


def measured(served: Served, numbers: range, clients: int) -> list[dict[str, Any]]:
    own = threading.local()
    everyone: list[Client] = []
    statuses: Counter[int] = Counter()
    codes: Counter[str] = Counter()
    faults: list[dict[str, Any]] = []
    sizes: list[tuple[float, float]] = []
    lock = threading.Lock()
    expected = chances(Client(served.port).ask(WHOLE)[1])

    def one(number: int) -> float:
        if not hasattr(own, "client"):
            own.client = Client(served.port)
            everyone.append(own.client)
        made, data = damaged(number)
        status, told, seconds = own.client.ask(data)
        with lock:
            statuses[status] += 1
            codes[told.get("code", "answered")] += 1
            if status >= 500:
                faults.append({"number": number, "made": made, "code": told.get("code")})
        if number % 100 == 0:
            difference = np.abs(np.subtract(chances(own.client.ask(WHOLE)[1]), expected)).max()
            assert difference <= 1e-5, "a whole file is answered as at the start, whoever is beside it"
            sizes.append(memory(served.process.pid))
        return seconds

    with ThreadPoolExecutor(clients) as pool:
        seconds = np.array(list(pool.map(one, numbers)))
    assert served.process.poll() is None, "the server is still the one that was started"
    line = http.client.HTTPConnection("127.0.0.1", served.port)
    line.request("GET", "/metrics")
    metrics = line.getresponse().read().decode()
    lost = next(float(text.split()[1]) for text in metrics.splitlines() if text.startswith("hilum_decoders_lost"))
    server = np.array([size[0] for size in sizes])
    return [
        {"what": "files", "ours": len(numbers)},
        {"what": "answers of 500 and above", "ours": sum(number for status, number in statuses.items() if status >= 500)},
        {"what": "connections lost", "ours": sum(client.lost for client in everyone)},
        {"what": "server restarts", "ours": 0},
        *({"what": f"answered with {status}", "ours": number} for status, number in sorted(statuses.items())),
        *({"what": code, "ours": number} for code, number in codes.most_common()),
        {"what": "decoder processes lost", "ours": int(lost)},
        {"what": "seconds: median, 99 %, 99.9 %, slowest", "ours": [round(float(x), 4) for x in (*np.quantile(seconds, (0.5, 0.99, 0.999)), seconds.max())]},
        {"what": "MB of the server: first, largest, last", "ours": [round(float(x), 1) for x in (server[0], server.max(), server[-1])]},
        {"what": "MB with decoders, largest", "ours": round(max(size[1] for size in sizes), 1)},
        {"what": "the server's faults", "ours": faults},
    ]  # fmt: skip


if __name__ == "__main__":
    main()
