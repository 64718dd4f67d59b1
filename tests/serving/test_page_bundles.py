"""What a bundle knows of itself, in a real browser: how far its findings can be relied on, and a gate that real odd pictures meet."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import expect

from hilum.bundle import amend_bundle, read_bundle
from hilum.data.splits import hold_out
from hilum.evaluation.reliability import measure_reliability, write_reliability
from hilum.inference.gate import gate
from hilum.sources import import_studies
from hilum.tables import read_studies, write_studies
from tests.inference.odd_pictures import ODD
from tests.serving.bundles import Served, copied
from tests.serving.test_page import axe_finds_nothing, browser, page, pytestmark, read  # noqa: F401
from tests.small import FINDINGS

MEASURED_ON = "Drawn scores of 200 studies."


@pytest.fixture(scope="module")
def knowing(bundle, tmp_path_factory) -> tuple[Path, Path]:
    """A bundle with reliability, but of its last finding too little is known, and with a gate made of phantom chests; the PNG of a
    chest that the gate never saw."""
    folder = tmp_path_factory.mktemp("knowing")
    made = copied(bundle, folder / "bundle")
    random = np.random.default_rng(0)
    labels = (random.random((200, len(FINDINGS))) < 0.3).astype(float)
    labels[5:, -1] = np.nan
    scores = np.clip(0.4 * np.nan_to_num(labels) + 0.6 * random.random(labels.shape), 0, 1)
    patients = [f"p{row // 2}" for row in range(200)]
    told = measure_reliability(FINDINGS, labels, scores, {}, patients, MEASURED_ON)
    amend_bundle(read_bundle(made), lambda inside: write_reliability(told, inside))
    path, _ = import_studies("phantom", None, folder / "phantom", studies=120, size=64, seed=3, workers=1)
    table = hold_out(read_studies(path), valid=0.4, test=0.1)
    write_studies(table, folder / "studies.parquet", label_level="study")
    gate(made, folder / "studies.parquet", cache=folder / "cache", device="cpu")
    return made, Path(table.filter(table["split"] == "test")["path"][0])


@pytest.fixture(scope="module")
def server(request, knowing, tmp_path_factory):
    with Served(knowing[0], tmp_path_factory.mktemp("served"), *getattr(request, "param", ())) as running:
        yield running


def picture(name: str) -> dict[str, object]:
    grey = ODD[name](256, np.random.default_rng(0))
    return {"name": "odd.png", "mimeType": "image/png", "buffer": cv2.imencode(".png", grey)[1].tobytes()}


def test_each_finding_tells_how_far_it_can_be_relied_on(page, knowing):  # noqa: F811
    with page.expect_response("**/predict") as answered:
        page.set_input_files("#files", knowing[1])
        expect(page.locator("body")).to_have_attribute("data-state", "answer")
    for finding in answered.value.json()["findings"]:
        line = page.locator(".finding", has=page.locator(f'[data-finding="{finding["name"]}"]'))
        line.evaluate("line => line.closest('details')?.setAttribute('open', '')")
        line.locator("summary").click()
        measured = finding["reliability"]
        if finding["name"] == FINDINGS[-1]:
            expect(line.locator("dl")).to_contain_text("too few positives or negatives to be measured")
            expect(line.locator("dl")).to_contain_text("among 5 known studies. ")
        else:
            middle, low, high = measured["auroc"]
            expect(line.locator("dl")).to_contain_text(f"AUROC{middle:.2f} (95 %: {low:.2f} to {high:.2f})")
            expect(line.locator("dl")).to_contain_text(f"sensitivity{measured['sensitivity']:.2f}specificity")
            expect(line.locator("dl")).to_contain_text(f"{measured['positives']} positives among 200 known studies. ")
        expect(line.locator("dl")).to_contain_text(MEASURED_ON)
    axe_finds_nothing(page)


@pytest.mark.parametrize("name", ["hand", "photograph", "blank"])
def test_what_is_no_chest_is_warned_of_before_the_findings(page, knowing, name):  # noqa: F811
    page.set_input_files("#files", knowing[1])
    expect(page.locator(".film")).to_be_visible()
    expect(page.locator(".warning")).to_have_count(0)
    page.click("#new")
    page.set_input_files("#files", [picture(name)])
    expect(page.locator(".warning h3")).to_have_text("These images are unlike those the model was trained on")
    expect(page.locator(".warning li").first).to_contain_text("the image")
    expect(page.locator("#status")).to_have_text("Read, with a warning.")
    expect(page.locator(".finding").first).to_be_hidden()
    axe_finds_nothing(page)
    page.get_by_role("button", name="Show the findings all the same").press("Enter")
    expect(page.get_by_role("button", name="Show where: ").first).to_be_focused()
    expect(page.locator("#earlier-list button").first).to_contain_text("unlike the training images")


@pytest.mark.parametrize("server", [("--gate", "refuse")], indirect=True)
def test_what_is_no_chest_is_refused_in_a_sentence(page, knowing):  # noqa: F811
    page.set_input_files("#files", [picture("hand")])
    expect(page.locator("#problem")).to_contain_text(
        "The images are unlike those the model was trained on. The images are unlike chest X-rays: the image"
    )
    expect(page.locator(".finding")).to_have_count(0)
    expect(page.locator("#intake")).to_be_visible()
    axe_finds_nothing(page)
    page.set_input_files("#files", knowing[1])
    expect(page.locator(".finding")).to_have_count(len(FINDINGS))
    expect(page.locator("#problem")).to_be_hidden()
