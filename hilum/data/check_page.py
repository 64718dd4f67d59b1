"""check.html: the counts of a study table on one page, drawn as inline SVG; it asks nothing of the network."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, StrictUndefined

from hilum.atomic import ensure_folder, write_text
from hilum.data.check import Report

_LOWEST = 1e-4  # where the axis of prevalence begins at the latest
_BARS = ("views", "images per study", "studies per patient", "ages", "sexes", "splits")
_MAP = 40  # findings in the heat map at most


def write_page(report: Report, folder: str | Path, *, title: str = "studies") -> Path:
    """Write check.html into a folder, which is made where it is missing; its path comes back."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["count"] = "{:,}".format
    template = environment.from_string(files("hilum.data").joinpath("check.html.j2").read_text(encoding="utf-8"))
    ensure_folder(Path(folder))
    path = Path(folder) / "check.html"
    lowest = _start(report.tables["findings"])
    page = template.render(
        report=report, title=title, findings=_findings(report.tables["findings"], lowest), ticks=_ticks(lowest),
        heat=_heat(report), bars={name: _bars(name, report.tables[name]) for name in _BARS if report.tables[name].height},
    )  # fmt: skip
    write_text(path, page)
    return path


def _start(findings: pl.DataFrame) -> float:
    shares = [share for share in findings["prevalence"] if share]
    return max(_LOWEST, 10 ** math.floor(math.log10(min(shares)) - 1e-9)) if shares else 0.1


def _ticks(lowest: float) -> list[tuple[float, str]]:
    powers = range(round(math.log10(lowest)), 1)
    return [(_along(10.0**power, lowest), f"{100 * 10.0**power:g} %") for power in powers]


def _along(share: float | None, lowest: float) -> float:
    """Per cent of the way from `lowest` to 1 on a log axis."""
    return round(100 * max(0.0, 1 - math.log10(share) / math.log10(lowest)), 2) if share else 0.0


def _findings(findings: pl.DataFrame, lowest: float) -> list[dict[str, Any]]:
    return [row | {"along": _along(row["prevalence"], lowest)} for row in findings.iter_rows(named=True)]


def _heat(report: Report) -> dict[str, Any]:
    """Names in order of prevalence, and cells (column, row, opacity 0..1, kind, what it says)."""
    names = report.tables["findings"].filter(pl.col("positive") > 0)["finding"].to_list()[:_MAP]
    place = {name: i for i, name in enumerate(names)}
    cells = []
    for one, other, studies, expected, lift in report.tables["pairs"].iter_rows():
        if one in place and other in place and lift is not None:
            steps = math.log2((studies + 1) / (expected + 1))  # drawn to 0 where little is expected
            strength = min(1.0, abs(steps) / 3)  # full at 8 times or an eighth of chance
            kind, says = ("more" if lift >= 1 else "less"), f"{one} + {other}: {studies:,} studies, {lift:.2f} x chance"
            for x, y in ((place[one], place[other]), (place[other], place[one])):
                cells.append((x, y, round(strength, 3), kind, says))
    return {"names": names, "cells": cells}


def _bars(name: str, counts: pl.DataFrame) -> list[tuple[str, int, float]]:
    """Label, number and per cent of the longest bar."""
    most = max(row[1] for row in counts.iter_rows())
    label = (lambda value: f"{value} to {value + 9}") if name == "ages" else str
    return [(label(value), number, round(100 * number / most, 2)) for value, number, *_ in counts.iter_rows()]
