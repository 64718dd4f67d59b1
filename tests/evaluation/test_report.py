"""The page: one file that asks nothing of the network, escapes what it shows, and names what was measured."""

import re
from html.parser import HTMLParser

import polars as pl
import pytest

from hilum.evaluation.evaluate import evaluate
from hilum.evaluation.report import number, percent
from hilum.tables import write_studies
from tests.evaluation.conftest import World

VOID = {"meta", "br", "img", "path", "circle", "link", "input"}


class Balance(HTMLParser):
    """Collects tags and checks that they close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(world: World, **options: object) -> str:
    evaluate(
        [world.predictions(thresholds={"Edema": 0.3})], world.studies, world.folder / "r", replicates=20, **options
    )
    return (world.folder / "r" / "report.html").read_text(encoding="utf-8")


def test_page_is_well_formed_and_self_contained(world: World) -> None:
    page = page_of(world)
    reader = Balance()
    reader.feed(page)
    assert not reader.open
    assert not re.search(r"https?://|//[a-z]+\.|@import|url\(", page)
    for tag, attributes in reader.seen:
        assert tag not in {"link", "iframe", "img", "object", "embed"}
        assert "src" not in attributes
        assert "href" not in attributes
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
    assert any(tag == "button" for tag, _ in reader.seen)


def test_page_names_what_was_measured(world: World) -> None:
    page = page_of(world)
    title = re.search(r"<title>(.*?)</title>", page)
    assert title is not None
    assert "These images are made up." in title[1]
    for text in (
        "study level", "150 patients", "not calibrated", "seed 0", "20 draws of patients", "expected value of each measure",
        "Hernia, Nodule (fewer than 10 positive patients)", "Chosen on validation", "hilum 0.",
    ):  # fmt: skip
        assert text in page
    assert "NaN" not in page
    assert "nan" not in re.sub(r"[a-z]nan|nan[a-z]", "", page)
    assert str(world.folder) not in page


def test_names_and_ids_are_escaped(world: World) -> None:
    nasty = "<script>alert('x')</script>"
    world.table = world.table.rename({"Edema": nasty}).with_columns(study_id=pl.col("study_id") + '"><img src=x>')
    write_studies(world.table, world.studies, label_level="study", note="<b>note</b> & more")
    world.scores = world.scores.rename({"Edema": nasty}).with_columns(study_id=pl.col("study_id") + '"><img src=x>')
    page = page_of(world)
    assert nasty not in page
    assert "<img" not in page
    assert "<b>note" not in page
    assert "&lt;script&gt;" in page
    assert page.count("<script>") == 1


def test_pictures_only_on_demand_and_under_a_banner(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    read = pytest.importorskip("hilum.pixels.read", exc_type=ImportError)
    import cv2
    import numpy as np

    assert read is not None
    folder = tmp_path_factory.mktemp("pictures")
    cv2.imwrite(str(folder / "one.png"), np.random.default_rng(0).integers(0, 255, (64, 80), dtype=np.uint8))
    assert "contains patient pictures" not in page_of(world)
    table = world.table.with_columns(
        path=pl.when(pl.int_range(pl.len()) % 5 > 0).then(pl.lit(str(folder / "one.png"))).otherwise("path")
    )
    write_studies(table, world.studies, label_level="study")
    page = page_of(world, images=True)
    assert "contains patient pictures" in page
    assert "data:image/jpeg;base64," in page
    assert str(folder) not in page


def test_numbers_for_reading() -> None:
    assert [number(value) for value in (None, 0.0, 0.12345, 0.00012)] == ["\N{EN DASH}", "0.000", "0.123", "0.0001"]
    assert [percent(value) for value in (None, 0.0, 0.3062, 0.00712)] == ["\N{EN DASH}", "0.0 %", "30.6 %", "0.71 %"]
