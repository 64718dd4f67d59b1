"""The page as a document: facts escaped, nothing from elsewhere, nothing inline."""

import re
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from hilum.serving.page import CSP, page_routes, render

FACTS = {
    "identity": "0123456789abcdef",
    "hilum_version": "0.1.0",
    "findings": ["Edema", "Mass"],
    "note": "<script>x</script>",
}


def test_facts_of_the_bundle_are_escaped_and_shortened():
    html = render(FACTS)
    assert "<script>x" not in html
    assert "&lt;script&gt;" in html
    assert "0123456789ab<" in html
    assert "2 findings" in html


def test_findings_of_ones_own_are_asked_for_only_where_they_can_be_answered():
    assert 'id="own"' not in render(FACTS)
    html = render({**FACTS, "askable": ["Bulla", "<b>"]})
    assert 'id="own"' in html
    assert "<option>Bulla</option><option>&lt;b&gt;</option>" in html


def test_nothing_stands_inline_and_nothing_comes_from_elsewhere():
    html = render(FACTS)
    assert re.findall(r'\son\w+=|\sstyle=|<style|<script(?![^>]*src="static/)', html) == []
    static = files("hilum.serving").joinpath("static")
    for text in [html, *(each.read_text() for each in static.iterdir())]:
        assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert "unsafe" not in CSP


def test_the_api_is_asked_beside_the_page_so_that_a_proxy_may_put_it_under_a_path():
    static = files("hilum.serving").joinpath("static")
    assert 'send("api/v1/predict"' in static.joinpath("api.js").read_text()
    assert re.findall(r'(?:href|src)="/', render(FACTS)) == []


@pytest.mark.parametrize("name", ["app.js", "page.css", "icon.svg"])
def test_static_files_have_their_type(name):
    app = FastAPI()
    app.include_router(page_routes(FACTS))
    client = TestClient(app)
    kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
    assert client.get(f"/static/{name}").headers["content-type"].startswith(kinds[name.rsplit(".")[-1]])
    assert client.get("/static/../page.py").status_code == 404
    assert client.get("/static/%2e%2e%2fpage.py").status_code == 404
