"""A server that is asked twenty times too much, and told to stop in the middle of it: who is answered, how fast, who is dropped.

    python bench/load.py [--seconds 60] [--stops 200] [--places 2] [--quick]

Goal R13: of 20 clients for each place those that are let in are answered with a 99th percentile below twice that of as many clients as there
are places; the others get 429 with Retry-After, nobody a 5xx, and 2 s after the overload an answer comes as before. Calm and
overload take turns, so that other work on the machine falls on both; clients come again after about 0.25 s, sooner than they are told to.
Goal R16: SIGTERM under load, each time a fresh server and 24 clients: no request that was let in is dropped, exit within 20 s.
A small network with random weights; clients and server share the machine.
"""

import argparse
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from http_mutations import ATTENDING, Served, exported  # which finds the tests
from result import save

from tests.serving.load import Load, dropped, posted

PAUSE, ROUNDS, RECOVERY, EXIT = 0.25, 4, 2.0, 20.0
TIMES, CLIENTS = 20, 24  # clients for each place of an overload; clients while a server is told to stop


def overloaded(served: Served, places: int, seconds: float) -> dict[str, Any]:
    """Figures of R13."""
    taken: dict[str, list[float]] = {"calm": [], "busy": []}
    statuses: Counter[Any] = Counter()
    waits: list[float] = []
    told = True
    for number in range(2 * ROUNDS):
        name, clients = (("calm", places), ("busy", TIMES * places))[number % 2]
        with Load(served.port, clients, PAUSE) as load:
            time.sleep(seconds / ROUNDS)
        taken[name] += load.seconds
        if name == "calm":
            assert set(load.statuses) == {200}, load.statuses
            continue
        before = time.monotonic()
        assert posted(served.port)[0] == 200
        waits.append(time.monotonic() - before)
        statuses += load.statuses
        told = told and all(int(headers["retry-after"]) >= 1 for headers in load.headers)
    calm, busy = (np.quantile(taken[name], (0.5, 0.95, 0.99)) for name in ("calm", "busy"))
    return {
        "what": f"overload, {TIMES * places} clients for {places} places", "seconds": seconds,
        "calm, ms: 50, 95, 99 %": _ms(calm), "overload, ms: 50, 95, 99 %": _ms(busy), "ratio at 99 %": round(float(busy[2] / calm[2]), 2),
        "answers": {str(status): count for status, count in sorted(statuses.items(), key=str)}, "retry_after": told,
        "recovery, s": round(max(waits), 2),
        "held": bool(busy[2] < 2 * calm[2] and set(statuses) == {200, 429} and told and max(waits) < RECOVERY),
    }  # fmt: skip


def stopped(bundle: Path, folder: Path, places: int, count: int) -> dict[str, Any]:
    """Figures of R16."""
    statuses: Counter[Any] = Counter()
    lost, exits, codes = 0, [], Counter[str]()
    for number in range(count):
        served = Served(bundle, folder, "--places", str(places)).wait()
        with Load(served.port, CLIENTS) as load:
            load.until(lambda statuses: statuses[200] >= 10)
            before = time.monotonic()
            try:
                codes[str(served.stop())] += 1
            except subprocess.TimeoutExpired:  # which killed it
                codes["none"] += 1
            exits.append(time.monotonic() - before)
            load.until(lambda statuses: statuses["ConnectionRefusedError"] > 0)
        lost += len(dropped(served, load))
        statuses += load.statuses
        served.log.unlink()
        print(f"\r{number + 1} of {count} stops, {lost} dropped", end="", flush=True)
    print()
    knocked = sum(n for status, n in statuses.items() if status not in (200, 429, "ConnectionRefusedError"))
    return {
        "what": f"SIGTERM under load of {CLIENTS} clients", "stops": count, "accepted requests": statuses[200] + statuses[429],
        "accepted and dropped": lost, "cut off while knocking": knocked, "exit, s: median, slowest": [round(float(np.median(exits)), 2), round(max(exits), 2)],
        "exit status": dict(codes), "held": lost == 0 and max(exits) < EXIT and set(codes) == {"0"},
    }  # fmt: skip


def _ms(seconds: np.ndarray) -> list[float]:
    return [round(1000 * float(x), 1) for x in seconds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60, help="of overload, and as many calm")
    parser.add_argument("--stops", type=int, default=200)
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="8 seconds, 2 stops, and no result is written")
    options = parser.parse_args()
    seconds, stops = (8.0, 2) if options.quick else (options.seconds, options.stops)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        exported(ATTENDING)(folder / "bundle")
        with Served(folder / "bundle", folder, "--places", str(options.places)) as served:
            with Load(served.port, options.places):
                time.sleep(1)  # and it is warm
            rows = [overloaded(served, options.places, seconds)]
        print(rows[0])
        rows.append(stopped(folder / "bundle", folder, options.places, stops))
        print(rows[1])
    if not options.quick:
        save({
            "name": "load", "ours": rows[0]["ratio at 99 %"], "peer": None,
            "unit": "times as long at 99 %, under twenty times too much, for who has a place", "ratio": None,
            "goal": "below 2, the rest 429, no 5xx, recovery within 2 s; no accepted request dropped by SIGTERM, exit within 20 s",
            "command": f"python bench/load.py --seconds {seconds:g} --stops {stops}", "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
