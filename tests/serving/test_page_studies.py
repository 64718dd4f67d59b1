"""One study after another in a real browser: none is mixed with another, whatever comes late; what is dropped, what is saved."""

import base64
import contextlib
import io
import json

import pytest
from playwright.sync_api import Error, Page, Route, expect

from tests.serving.test_page import browser, file, page, pytestmark, read  # noqa: F401

FIRST, SECOND = "160 \u00d7 192", "200 \u00d7 120"  # pixels, as the page writes them
DRAG = """
([name, files]) => {
  const data = new DataTransfer();
  for (const [title, content] of files) {
    data.items.add(new File([Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0))], title));
  }
  if (!files.length) data.setData("text/plain", "no file");
  const event = new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true });
  return !document.querySelector("main").dispatchEvent(event);
}
"""  # true where the page takes it, so that the browser does not


def call_back(page: Page) -> None:  # noqa: F811
    page.locator("#earlier").evaluate("earlier => { earlier.open = true; }")
    page.locator("#earlier-list button").last.click()
    expect(page.locator("body")).to_have_attribute("data-state", "answer")


def hold(page: Page, path: str) -> list[Route]:  # noqa: F811
    """Requests that are asked from now on are answered when the test says so."""
    held: list[Route] = []
    page.route(f"**/api/v1/{path}", lambda route: held.append(route))
    return held


def let_go(page: Page, path: str, held: list[Route]) -> None:  # noqa: F811
    page.unroute(f"**/api/v1/{path}")
    for route in held:
        with contextlib.suppress(Error):  # of those that were given up
            route.fulfill(response=route.fetch())


def test_a_study_that_is_called_back_has_its_maps(page):  # noqa: F811
    read(page, file("a.png"))
    page.click("#new")
    call_back(page)
    page.locator(".finding button").first.click()
    expect(page.locator("#heat")).to_be_visible()
    expect(page.locator("#status")).to_be_empty()


@pytest.mark.parametrize("way", ["earlier", "new"])
def test_a_study_that_is_read_too_late_is_not_shown_over_another(page, way):  # noqa: F811
    read(page, file("a.png"))
    page.click("#new")
    held = hold(page, "predict")
    with page.expect_request("**/predict"):
        page.set_input_files("#files", [file("b.png", 120, 200)])
    with page.expect_event("requestfailed"):  # the page does not wait for it any more
        call_back(page) if way == "earlier" else page.click("#new")
    let_go(page, "predict", held)
    if way == "new":
        call_back(page)
    page.evaluate("sent.length = 0")
    page.set_input_files("#files", [file("c.png", 150, 150)])
    expect(page.locator(".film .size")).to_contain_text([FIRST, "150 \u00d7 150"])
    expect(page.locator("#problem")).to_be_hidden()


@pytest.mark.parametrize("way", ["new", "add", "other"])
def test_a_map_that_comes_too_late_is_laid_on_no_other_study(page, way):  # noqa: F811
    read(page, file("a.png"))
    page.locator("details.group").evaluate_all("groups => groups.forEach((group) => { group.open = true; })")
    names, where = page.locator(".finding .name").all_inner_texts(), page.locator(".finding button")
    held = hold(page, "explain")
    with page.expect_request("**/explain"):
        where.first.click()
    with page.expect_event("requestfailed"):  # the page does not wait for it any more
        if way == "new":
            page.click("#new")
        elif way == "add":
            page.set_input_files("#files", [file("b.png", 120, 200)])
        else:
            where.nth(1).click()
    if way == "add":
        expect(page.locator(".film .size")).to_contain_text([FIRST, SECOND])
    let_go(page, "explain", held)
    if way == "other":
        expect(page.locator("#heat-name")).to_have_text(names[1])
        expect(page.locator('.finding button[aria-pressed="true"]')).to_have_count(1)
    else:
        expect(page.locator("#heat")).to_be_hidden()
        expect(page.locator("#status")).not_to_contain_text("Looking")
    expect(page.locator("#problem")).to_be_hidden()


def test_files_that_come_after_a_study_that_could_not_be_read_are_another_study(page):  # noqa: F811
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture at all"}
    page.set_input_files("#files", [file("a.png"), broken])
    expect(page.locator("#problem")).to_contain_text("File 2: ")
    expect(page.locator("#add")).to_be_hidden()
    page.set_input_files("#files", [file("b.png", 120, 200)])
    expect(page.locator(".film .size")).to_contain_text([SECOND])
    expect(page.locator("#problem")).to_be_hidden()


def test_what_is_saved_names_images_and_their_probabilities_in_the_order_of_the_files(page):  # noqa: F811
    page.set_input_files("#files", [file("a.png"), file("b.png", 120, 200)])
    for name, view in (("1.", "LATERAL"), ("2.", "PA")):
        page.locator(".film", has=page.locator(".name", has_text=name)).locator(".which").select_option(view)
    with page.expect_response("**/predict") as answered:
        page.click("#again")
    expect(page.locator(".film .name")).to_have_text(["2. PA", "1. Lateral"])
    with page.expect_download() as saved:
        page.click("#save")
    told, answer = json.load(io.BytesIO(saved.value.path().read_bytes())), answered.value.json()
    assert [(image["file_index"], image["view"]) for image in told["images"]] == [(0, "LATERAL"), (1, "PA")]
    assert told["findings"] == answer["findings"]
    assert told.keys() == {*answer, "read_at"}


def test_files_are_dropped_and_other_things_are_not_taken(page):  # noqa: F811
    one, two = ([each["name"], base64.b64encode(each["buffer"]).decode()] for each in (file("a.png"), file("b.dcm")))

    def drag(name: str, *files: list[str]) -> bool:
        return page.evaluate(DRAG, [name, files])

    assert not drag("dragover"), "words that are dragged are the browser's"
    assert not drag("drop")
    assert drag("dragenter", one)
    assert drag("dragover", one)
    expect(page.locator("body")).to_have_class("over")
    assert drag("dragleave", one)
    expect(page.locator("body")).not_to_have_class("over")
    assert drag("dragenter", one)
    assert drag("drop", one, two)
    expect(page.locator("body")).not_to_have_class("over")
    expect(page.locator(".film")).to_have_count(2)
    assert [value for name, value in page.evaluate("sent") if name == "files"] == ["image-1", "image-2"]
    assert drag("drop", one), "on a study that is shown it is one more view"
    expect(page.locator(".film")).to_have_count(3)
