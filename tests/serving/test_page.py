"""The reading room in a real browser, over a real server: what people upload, see, hear and print."""

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.pixels.dicom_files import chest, dicom
from tests.small import FINDINGS

expect.set_options(timeout=60_000)  # of a machine that does much else
SENT = """
window.sent = [];
const append = FormData.prototype.append;
FormData.prototype.append = function (name, value, ...rest) {
  window.sent.push([name, value instanceof Blob ? rest[0] ?? value.name : value]);
  return append.call(this, name, value, ...rest);
};
addEventListener("securitypolicyviolation", (event) => console.error("csp " + event.violatedDirective));
"""  # what forms send, by name, of files the name they are given; violations told where Playwright hears them
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")


def file(name: str, height: int = 192, width: int = 160) -> dict[str, object]:
    """An upload whose name would give a patient away."""
    grey = chest(height, width)
    data = (
        dicom(grey.astype(np.uint16) * 16)
        if name.endswith("dcm")
        else cv2.imencode(name[name.rfind(".") :], grey)[1].tobytes()
    )
    return {"name": f"Doe^Jane-1950-{name}", "mimeType": "application/octet-stream", "buffer": data}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser, server) -> Iterator[Page]:
    """The page, opened. Nothing may be asked of another origin, break the content security policy, or fail in a script."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    opened, wrong = context.new_page(), []
    opened.on("request", lambda request: request.url.startswith((server.url, "blob:")) or wrong.append(request.url))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.add_init_script(SENT)
    opened.on("console", lambda message: "csp" in message.text.lower() and wrong.append(message.text))
    opened.set_default_timeout(60_000)
    assert (
        opened.goto(server.url).headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    )
    yield opened
    context.close()
    assert wrong == []


def read(page: Page, *files: dict[str, object]) -> None:
    page.set_input_files("#files", list(files))
    expect(page.locator("body")).to_have_attribute("data-state", "answer")


def altered(page: Page, path: str, **changes: object) -> None:
    """Answers of the server come with these keys changed."""

    def change(route: Route) -> None:
        response = route.fetch()
        route.fulfill(response=response, json={**response.json(), **changes})

    page.route(f"**/api/v1/{path}", change)


def refused(page: Page, status: int, headers: dict[str, str] | None = None, **body: object) -> None:
    told = json.dumps({"title": "Too much is being asked at once", "status": status, **body})
    kind = {"Content-Type": "application/problem+json", **(headers or {})}
    page.route("**/api/v1/predict", lambda route: route.fulfill(status=status, headers=kind, body=told), times=1)


def grey_of(page: Page) -> list[int]:
    """The distinct greys that the first image is drawn with."""
    script = "canvas => [...new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)]"
    return page.locator(".picture").first.evaluate(script)


@pytest.mark.parametrize("name", ["chest.png", "chest.jpg", "chest.dcm"])
def test_every_kind_of_file_is_read_and_shown(page, name):
    read(page, file(name))
    assert page.evaluate("sent") == [["files", "image-1"], ["view", "unknown"], ["images", "true"]], (
        "no name of a patient"
    )
    expect(page.locator(".finding")).to_have_count(len(FINDINGS))
    expect(page.locator(".film .size")).to_contain_text("160 \u00d7 192")
    assert len(grey_of(page)) > 100
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]


def test_two_views_hang_frontal_first_and_each_has_its_map(page):
    read(page, file("a.png"), file("b.jpg", 200, 150))
    for film, view in zip(page.locator(".film").all(), ("LATERAL", "PA")):
        film.locator(".which").select_option(view)
    page.fill("#age", "61")
    page.select_option("#sex", "F")
    page.evaluate("sent.length = 0")
    page.click("#again")
    expected = [
        ["files", "image-1"],
        ["view", "LATERAL"],
        ["files", "image-2"],
        ["view", "PA"],
        ["age", "61"],
        ["sex", "F"],
    ]
    assert page.evaluate("sent") == [*expected, ["images", "true"]]
    expect(page.locator(".film .name")).to_have_text(["2. PA", "1. Lateral"])
    expect(page.locator(".film").first.locator(".size")).to_contain_text("150 \u00d7 200")
    expect(page.locator(".film").first.locator(".side.right")).to_be_visible()
    expect(page.locator(".film").last.locator(".side.right")).to_be_hidden()
    page.locator(".finding summary").first.click()
    expect(page.locator(".finding dl").first).to_contain_text("Speaks for it most")
    name = page.locator(".finding .name").first.inner_text()
    page.locator(".finding button").first.click()
    expect(page.locator("#heat")).to_be_visible()
    expect(page.locator("#heat-name")).to_have_text(name)
    for film in page.locator(".film").all():
        expect(film.locator(".words")).to_contain_text(f"{name}: ")
    page.locator("#opacity").fill("20")
    expect(page.locator(".overlay").first).to_have_css("opacity", "0.2")
    page.locator(".finding button").first.click()
    expect(page.locator("#heat")).to_be_hidden()


def test_findings_go_by_their_distance_from_the_operating_point(page):
    findings = [
        {"name": "rare", "probability": 0.02, "threshold": 0.005, "positive": True, "tier": "tail"},
        {"name": "common", "probability": 0.55, "threshold": 0.5, "positive": True, "tier": "head"},
        {
            "name": "<b>own</b>",
            "probability": 0.3,
            "threshold": None,
            "positive": None,
            "tier": None,
            "zero_shot": True,
        },
        {"name": "absent", "probability": 0.1, "threshold": 0.5, "positive": False, "tier": "head"},
        {"name": "near", "probability": 0.45, "threshold": 0.5, "positive": False, "tier": "head"},
    ]
    plain = {"training_positives": 3, "training_known": 900, "reliability": None, "views": [0.1], "zero_shot": False}
    altered(page, "predict", findings=[plain | one for one in findings])
    read(page, file("chest.png"))
    expect(page.locator(".finding .name")).to_have_text(["rare", "common", "<b>own</b>", "near", "absent"])
    expect(page.locator(".group > h3").first).to_have_text("2 findings above the operating point")
    expect(page.locator(".chance").first).to_have_text("2.0 %")
    expect(page.locator(".finding").first).to_contain_text("above its operating point 0.50 % · rare in training")
    expect(page.locator(".finding").nth(2)).to_contain_text("no operating point · zero-shot")


def test_images_unlike_the_training_images_warn_before_the_findings(page):
    reasons = ["the image looks like a negative: what should be bright is dark"]
    altered(page, "predict", in_distribution=False, distribution={"score": 2.0, "limit": 1.0, "reasons": reasons})
    read(page, file("chest.png"))
    expect(page.locator(".warning")).to_contain_text(reasons[0])
    expect(page.locator(".finding").first).to_be_hidden()
    axe_finds_nothing(page)
    page.get_by_role("button", name="Show the findings all the same").click()
    expect(page.locator(".finding").first).to_be_visible()


def test_what_cannot_be_read_is_said_in_a_sentence_and_can_be_left_out(page):
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture at all"}
    page.set_input_files("#files", [file("chest.png"), broken])
    expect(page.locator("#problem")).to_contain_text("File 2: ")
    axe_finds_nothing(page)
    page.get_by_role("button", name="Read without it").click()
    expect(page.locator(".finding")).to_have_count(len(FINDINGS))
    expect(page.locator("#problem")).to_be_hidden()


def test_a_busy_server_is_asked_again_and_a_locked_one_for_its_key(page):
    refused(page, 429, {"Retry-After": "7"}, code="queue-full")
    page.set_input_files("#files", [file("chest.png")])
    expect(page.locator("#problem")).to_contain_text(
        "Too much is being asked at once. The server asks to wait 7 seconds."
    )
    refused(page, 401, code="unauthorized")
    page.get_by_role("button", name="Try again").click()
    page.fill("#key", "sesame")
    with page.expect_request("**/predict") as asked:
        page.keyboard.press("Enter")
    assert asked.value.headers["authorization"] == "Bearer sesame"
    expect(page.locator(".finding")).to_have_count(len(FINDINGS))


def test_the_keyboard_is_enough(page):
    page.on("filechooser", lambda chooser: None)  # from here on choosers are Playwright's, however fast a key is
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "files":
            break
    assert page.evaluate("document.activeElement.id") == "files"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files([file("chest.png")])
    expect(page.locator(".finding")).to_have_count(len(FINDINGS))
    page.locator("#images-title").evaluate("title => { title.tabIndex = -1; title.focus(); }")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "view"
    before = sorted(grey_of(page))
    for key in ("i", "+", "ArrowLeft", "[", ";"):
        page.keyboard.press(key)
    expect(page.get_by_role("button", name="Invert")).to_have_attribute("aria-pressed", "true")
    style = page.locator(".picture").evaluate("canvas => canvas.style.transform")
    assert "scale(1.4)" in style
    assert "translate(6%" in style
    assert sorted(grey_of(page)) != before
    page.keyboard.press("0")
    assert sorted(grey_of(page)) == before
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.finding"):
            break
    page.keyboard.press("Enter")
    expect(page.locator("#heat")).to_be_visible()
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true", "the focus stays"


def axe_finds_nothing(page: Page) -> None:
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]})
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("width", [320, 1280, 3840])
def test_it_fits_every_screen_and_axe_finds_nothing(page, width):
    page.set_viewport_size({"width": width, "height": 720})
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    axe_finds_nothing(page)
    read(page, file("a.png"), file("b.png", 120, 200))
    page.locator(".finding button").first.click()
    expect(page.locator("#heat")).to_be_visible()
    page.locator(".finding summary").first.click()
    page.locator("#earlier summary").click()
    assert page.evaluate(fits)
    axe_finds_nothing(page)


def test_it_prints_the_images_the_findings_and_the_warning(page):
    read(page, file("chest.png"))
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    for place in (".bar .banner", "footer .banner"):
        expect(page.locator(place)).to_have_text("Research software, not for clinical use.")
        expect(page.locator(place)).to_be_visible()
    for name in page.locator(".finding .name").all():
        expect(name).to_be_visible()
    expect(page.locator(".tools").first).to_be_hidden()
    expect(page.locator(".picture")).to_be_visible()
    foot, main = (page.locator(place).bounding_box() for place in ("footer", "main"))
    assert foot["y"] >= main["y"] + main["height"], "the foot of a sheet covers nothing"


def test_earlier_studies_live_in_the_window_alone_and_the_answer_can_be_saved(page):
    read(page, file("chest.png"))
    with page.expect_download() as saved:
        page.click("#save")
    told = json.load(io.BytesIO(saved.value.path().read_bytes()))
    assert told["research_only"] == "Research software, not for clinical use."
    assert [finding["name"] for finding in told["findings"]] == list(FINDINGS)
    assert "png" not in told["images"][0]
    page.click("#new")
    expect(page.locator("body")).to_have_attribute("data-state", "empty")
    page.locator("#earlier summary").click()
    page.locator("#earlier-list button").click()
    expect(page.locator(".film")).to_have_count(1)
    page.reload()
    expect(page.locator("#earlier")).to_be_hidden()


def test_the_default_window_shows_every_grey_of_the_picture(page):
    with page.expect_response("**/predict") as answered:
        read(page, file("chest.png"))
    sent = base64.b64decode(answered.value.json()["images"][0]["png"])
    expected = cv2.imdecode(np.frombuffer(sent, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert len(np.unique(expected)) == 256

    def drawn() -> np.ndarray:
        script = "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        return np.array(page.locator(".picture").evaluate(script)).reshape(*expected.shape, 4)

    np.testing.assert_array_equal(drawn()[..., 0], expected)
    np.testing.assert_array_equal(drawn()[..., 2], expected)
    page.get_by_role("button", name="Invert").click()
    np.testing.assert_array_equal(drawn()[..., 0], 255 - expected)
    page.get_by_label("Window centre").press("ArrowRight")
    page.get_by_label("Window centre").press("ArrowLeft")
    np.testing.assert_array_equal(drawn()[..., 0], 255 - expected)


def test_a_zoomed_image_is_moved_without_dragging(page):
    read(page, file("chest.png"))
    left = page.get_by_role("button", name="Look left")
    expect(left).to_be_hidden()
    page.get_by_role("button", name="Zoom in").click()
    axe_finds_nothing(page)
    for name, moved in (("left", "25%, 0%"), ("up", "25%, 25%"), ("right", "0%, 25%"), ("down", "0%, 0%")):
        page.get_by_role("button", name=f"Look {name}").click()
        expect(page.locator(".picture")).to_have_attribute("style", re.compile(re.escape(f"translate({moved})")))
    page.get_by_role("button", name="Reset").click()
    expect(left).to_be_hidden()


def test_dicom_files_without_an_extension_can_be_chosen(page):
    assert page.locator("#files").get_attribute("accept") is None, "a chooser would hide them"
    read(page, {**file("chest.dcm"), "name": "IM000001"})
    expect(page.locator(".film .size")).to_contain_text("160 \u00d7 192")


def test_what_has_the_focus_is_never_under_the_bar(page):
    page.set_viewport_size({"width": 1280, "height": 600})
    read(page, *(file(f"{name}.png") for name in "abcd"))
    for details in page.locator(".answer details").all():
        details.evaluate("each => { each.open = true; }")
    page.locator("#forget").focus()
    seen = set()
    for _ in range(120):
        page.keyboard.press("Shift+Tab")
        what, top, bottom = page.evaluate(
            """() => {
              const [here, bar] = [document.activeElement, document.querySelector(".bar")];
              const box = here.getBoundingClientRect();
              const name = here.getAttribute("aria-label") || here.id || here.textContent;
              return [bar.contains(here) || here === document.body ? null : name, box.top - bar.getBoundingClientRect().bottom, innerHeight - box.bottom];
            }"""
        )
        if what is None:
            break
        seen.add(what)
        assert top >= 0, what
        assert bottom >= 0 or "Arrow keys" in what, what
    assert {"View of image 4", "age", "Show where: Hernia"} <= seen
