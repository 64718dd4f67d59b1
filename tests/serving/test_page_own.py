"""Findings of one's own in a real browser: names offered while they are typed, a wrong one told, a group that promises little."""

import pytest
from playwright.sync_api import expect

from tests.serving.test_page import axe_finds_nothing, browser, file, page, pytestmark  # noqa: F401
from tests.small import FINDINGS

OFFERS = "[...document.querySelectorAll('#askable option')].map((option) => option.value)"


@pytest.fixture
def server(open_server):
    return open_server


def test_findings_are_asked_by_name_with_the_keyboard(page):  # noqa: F811
    field = page.get_by_label("Findings of your own")
    assert {"Bulla", "Scoliosis"} <= set(page.evaluate(OFFERS))
    field.focus()
    page.keyboard.type("Scoliosi")
    page.set_input_files("#files", [file("chest.png")])
    expect(page.locator("#problem")).to_contain_text("the nearest that are: Scoliosis")
    expect(field).to_have_attribute("aria-invalid", "true")
    axe_finds_nothing(page)
    field.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("Scoliosis, B")
    offered = page.evaluate(OFFERS)
    assert "Scoliosis, Bulla" in offered
    assert "Scoliosis, Scoliosis" not in offered
    page.keyboard.type("ulla")
    page.keyboard.press("Enter")
    group = page.locator(".group", has_text="Asked by name, never trained on: an order, not a probability")
    expect(group.locator(".finding")).to_have_count(2)
    expect(page.locator(".finding")).to_have_count(len(FINDINGS) + 2)
    expect(page.locator("#problem")).to_be_hidden()
    assert "%" not in group.locator(".chance").first.inner_text()
    first = group.locator(".name").first.inner_text()
    group.get_by_role("button").first.press("Enter")
    expect(page.locator("#heat-name")).to_have_text(first)
    axe_finds_nothing(page)
