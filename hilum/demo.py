"""The whole way through the house on phantom studies: draw, train, judge, in a few minutes on a CPU."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hilum.atomic import ensure_folder
from hilum.errors import InputError
from hilum.evaluation.evaluate import above_floor, evaluate
from hilum.evaluation.summary import summary
from hilum.progress import Progress, silent
from hilum.sources import import_studies
from hilum.training.run import train

STUDIES, DRAWN_AT = 3000, 96


def demo(
    out: str | Path = "demo", *, progress: Progress = silent, say: Callable[[str], None] = lambda line: None
) -> dict[str, Any]:
    """Fill OUT with {studies.parquet, truth.parquet, cache/, run/, report/}; the content of report/metrics.json comes back.

    The model is judged on patients it never saw, against the phantom's true labels; it was trained on mined ones.
    Raises InputError where OUT is in use.
    """
    folder, started = Path(out), time.monotonic()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(
            "this folder is not empty", where=folder, do="name another with --out (make demo DEMO=...), or delete it"
        )
    ensure_folder(folder)
    say(f"1. Drawing {STUDIES:,} phantom studies with known findings")
    studies, imported = import_studies("phantom", None, folder, studies=STUDIES, size=DRAWN_AT, progress=progress)
    for note in imported.notes:
        say(f"   {note}")
    say("2. Training a small network on their mined, imperfect labels")
    run = train(
        "demo",
        [f"studies={studies}", f"cache.folder={folder / 'cache'}"],
        run=folder / "run",
        progress=progress,
        say=lambda line: say(f"   {line}"),
    )
    say("3. Judging it on patients it never saw, against the true labels")
    metrics = evaluate(
        [run / "predictions_test.parquet"], folder / "truth.parquet", folder / "report", progress=progress
    )
    say("")
    say(summary(metrics))
    say(claim(metrics))
    say(f"\nReport: {folder / 'report' / 'report.html'}   ({time.monotonic() - started:.0f} s in all)")
    return metrics


def passes(metrics: dict[str, Any]) -> bool:
    """Whether head and medium findings each lie above the floor of a random ranking with their whole interval."""
    above = above_floor(metrics)
    return bool(above["head"] and above["medium"])


def claim(metrics: dict[str, Any]) -> str:
    """What the demo may say of its result."""
    if passes(metrics):
        return "The network has learnt: head and medium findings lie above chance with their whole intervals."
    return "The network has not been shown to beat chance on both head and medium findings."
