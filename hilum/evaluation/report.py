"""report.html: the judgement on one page, in one file that asks nothing of the network."""

import base64
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import polars as pl
from jinja2 import Environment, StrictUndefined

from hilum.errors import HilumError
from hilum.evaluation.figures import Example, Figures, figures
from hilum.evaluation.joined import Joined
from hilum.findings import TIERS

ABSENT = "\N{EN DASH}"

PICTURE_SIDE = 224  # pixels
PICTURES_PER_EXAMPLE = 2


def render(content: dict[str, Any], joined: Joined, *, images: bool = False) -> str:
    """The page for the content of metrics.json. With `images`, pictures of the example studies are embedded."""
    drawn = figures(joined, content["findings"])
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"number": number, "percent": percent, "count": "{:,}".format, "place": place}
    template = environment.from_string(files("hilum.evaluation").joinpath("report.html.j2").read_text(encoding="utf-8"))
    shown = (example for one in drawn.values() for group in one.examples.values() for example in group)
    return template.render(
        content=content,
        figures=drawn,
        groups=_groups(content),
        scale=_scale(content),
        pictures=_pictures(joined, shown) if images else None,
        has_examples=_any_example(drawn),
    )


def number(value: float | None, digits: int = 3) -> str:
    """A number for reading, an en dash where there is none; small numbers keep two significant digits."""
    if value is None:
        return ABSENT
    if value and abs(value) < 10**-digits:
        return f"{value:.1g}"
    return f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share as per cent, with two significant digits where it is small."""
    if value is None:
        return ABSENT
    share = 100 * value
    return f"{share:.1f} %" if share >= 1 or not share else f"{share:.2g} %"


def place(value: float | None, scale: float) -> str:
    """Where a value stands on an axis from 0 to `scale`, as a CSS percentage."""
    return f"{100 * (value or 0.0) / scale:.2f}%"


def _groups(content: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """Findings by tier, the highest average precision first; those without a tier together at the end."""
    order = sorted(content["findings"], key=lambda name: -(content["findings"][name]["ap"][0] or 0.0))
    groups = [(tier, [name for name in order if content["tiers"][name] == tier]) for tier in TIERS]
    groups.append(("no tier known", [name for name in order if content["tiers"][name] is None]))
    return [(tier, names) for tier, names in groups if names]


def _scale(content: dict[str, Any]) -> float:
    """End of the axis of average precision: the first of a few round numbers above all that is drawn."""
    drawn = [end for fact in content["findings"].values() for end in fact["ap"] if end is not None]
    return next((end for end in (0.05, 0.1, 0.2, 0.5) if max(drawn, default=1.0) <= end), 1.0)


def _any_example(drawn: dict[str, Figures]) -> bool:
    return any(group for one in drawn.values() for group in one.examples.values())


def _pictures(joined: Joined, examples: Iterable[Example]) -> dict[str, list[str]]:
    """Data addresses of small JPEG pictures per example key; a file that cannot be read is left out."""
    import cv2

    from hilum.pixels.read import read_pixels
    from hilum.pixels.spec import PixelSpec

    spec = PixelSpec(size=PICTURE_SIDE)
    column = "study_id" if joined.level == "study" else "image_id"
    wanted = list(dict.fromkeys(example.key for example in examples))
    rows = joined.table.filter(pl.col(column).is_in(wanted)).select(column, "path")
    pictures: dict[str, list[str]] = {key: [] for key in wanted}
    for key, path in rows.iter_rows():
        if len(pictures[key]) < PICTURES_PER_EXAMPLE:
            try:
                written, data = cv2.imencode(".jpg", read_pixels(path, spec), [cv2.IMWRITE_JPEG_QUALITY, 80])
            except HilumError:
                continue
            if written:
                pictures[key].append("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii"))
    return pictures
