"""The figures on docs/why/serving.md, written from the stored results of bench/serve.py, bench/http_mutations.py and bench/load.py.

python bench/serve_page.py
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench/results"
PAGE = ROOT / "docs/why/serving.md"
MARK = "<!-- figures -->\n"


def of_engines(told: dict[str, Any]) -> str:
    """The table of engines, and the sentence about the page's answer."""
    lines = [
        f"`{told['command']}`, {told['date']}, {told['machine']} ({', '.join(told['processor'])}), beside other work. Random weights with logits of",
        "standard deviation 2; studies of one image; the engines took turns. The last column is the largest difference of a probability",
        "to torch.",
        "",
        "| network | engine | studies a second | times eager | by eight | ms: 50, 95, 99 % | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in told["rows"]:
        if "engine" in row:
            p50, p95, p99 = row["milliseconds"]
            lines.append(
                f"| {row['model']} at {row['size']} | {row['engine']} | {row['studies_per_second']:.1f} | {row['times_eager']:.1f} | "
                f"{row['eight_at_once']:.1f} | {p50:.0f}, {p95:.0f}, {p99:.0f} | {row['largest_difference']:.1g} |"
            )
    page = next(row for row in told["rows"] if "p95" in row)
    lines += [
        "",
        f"The page's answer for two native views (DICOM, 2500 x 2048, 12 bits), with images and a heat map on each, took {page['p50']:.2f} s",
        f"in the median and {page['p95']:.2f} s at 95 % with DenseNet-121 on ONNX Runtime; the goal on two cores of its own is 1.5 s.",
    ]
    return "\n".join(lines) + "\n"


def of_damaged_files(told: dict[str, Any]) -> str:
    """The table of damaged files."""
    rows = {row["what"]: row["ours"] for row in told["rows"]}
    p50, p99, p999, slowest = rows["seconds: median, 99 %, 99.9 %, slowest"]
    first, largest, last = rows["MB of the server: first, largest, last"]
    faults = [rows[name] for name in ("answers of 500 and above", "connections lost", "server restarts")]
    lines = [
        f"`{told['command']}`, {told['date']}, {told['machine']}, beside other work:",
        "",
        "| damaged DICOM, PNG and JPEG files over HTTP | |",
        "|---|---|",
        f"| sent | {rows['files']:,} |",
        f"| answers of 500 and above, connections lost, restarts | {', '.join(map(str, faults))} |",
        f"| decoder processes lost | {rows['decoder processes lost']} |",
        f"| seconds: median, 99 %, 99.9 %, slowest | {p50:.2f}, {p99:.2f}, {p999:.2f}, {slowest:.2f} |",
        f"| MB of the server: at first, at most, at the end | {first:.0f}, {largest:.0f}, {last:.0f} |",
        f"| MB with its decoders, at most | {rows['MB with decoders, largest']:.0f} |",
    ]
    return "\n".join(lines) + "\n"


def of_load(told: dict[str, Any]) -> str:
    """The table of too many clients, and of signals."""
    crowd, signals = told["rows"]
    spoken = {
        key: ", ".join(f"{value:.0f}" for value in crowd[f"{key}, ms: 50, 95, 99 %"]) for key in ("calm", "overload")
    }
    median, slowest = signals["exit, s: median, slowest"]
    lines = [
        f"`{told['command']}`, {told['date']}, {told['machine']}, clients and server on the same cores:",
        "",
        f"| {crowd['what']}, {crowd['seconds']:g} s | |",
        "|---|---|",
        f"| ms of who has a place, alone: 50, 95, 99 % | {spoken['calm']} |",
        f"| the same in the overload | {spoken['overload']}, {crowd['ratio at 99 %']:g} times as long at 99 % (goal: below 2) |",
        f"| answers by status | {', '.join(f'{status}: {count:,}' for status, count in crowd['answers'].items())} |",
        f"| seconds until an answer comes as before | {crowd['recovery, s']:g} |",
        f"| **{signals['what']}, {signals['stops']} times** | |",
        f"| requests answered (200 or 429), and dropped | {signals['accepted requests']:,}, {signals['accepted and dropped']} |",
        f"| cut off while knocking | {signals['cut off while knocking']} |",
        f"| seconds until it has ended: median, slowest | {median:g}, {slowest:g} |",
    ]
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "serve": of_engines,
    "http_mutations": of_damaged_files,
    "load": of_load,
}


def main() -> None:
    parts = []
    for name, write in PARTS.items():
        file = RESULTS / f"{name}.json"
        parts.append(
            write(json.loads(file.read_text())) if file.exists() else f"To be measured: `python bench/{name}.py`.\n"
        )
    before, mark, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text(before + mark + "\n".join(parts))


if __name__ == "__main__":
    main()
