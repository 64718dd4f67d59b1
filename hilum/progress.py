"""Progress of long work: a bar with rate and time left on a terminal, a line now and then in a log, silence in a library call."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Anything that hands on the items of an iterable while telling how far it is."""

    def __call__(self, items: Iterable[T], *, total: int, label: str, unit: str = "images") -> Iterator[T]: ...


def silent(items: Iterable[T], *, total: int, label: str, unit: str = "images") -> Iterator[T]:
    """Hand the items on and say nothing: the default of every library function."""
    yield from items


def shown(items: Iterable[T], *, total: int, label: str, unit: str = "images") -> Iterator[T]:
    """Hand the items on under a rich bar on a terminal; elsewhere print a line every 30 s, and one at the end of what took long."""
    if sys.stderr.isatty():
        yield from _bar(items, total, label, unit)
    else:
        yield from _lines(items, total, label, unit)


def _bar(items: Iterable[T], total: int, label: str, unit: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(f"{speed:,.0f} {unit}/s" if speed else "", style="cyan")

    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(label, total=total)
        for item in items:
            yield item
            progress.advance(task)


def _lines(items: Iterable[T], total: int, label: str, unit: str, every: float = 30.0) -> Iterator[T]:
    start = last = time.monotonic()
    done = 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= every and done < total:
            last, rate = now, done / (now - start)
            print(
                f"{label}: {done:,} of {total:,} {unit}, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    seconds = time.monotonic() - start
    if seconds > every / 3:  # a log of many short steps would drown in lines
        print(f"{label}: {done:,} {unit} in {seconds:,.1f} s", file=sys.stderr, flush=True)
