"""The page: one HTML document and its static files, rendered once at the start, served from memory."""

import mimetypes
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastapi import APIRouter, Response
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

# Nothing from elsewhere, nothing inline: images are drawn on canvases from what the API answers.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}


def page_routes(facts: Mapping[str, Any]) -> APIRouter:
    """GET / and GET /static/NAME for a bundle.

    facts: what GET /api/v1/bundle answers: `identity`, `hilum_version` and `findings` (their number, or the list), and where they are
    known `askable` (names of findings that can be added), `engine`, `note`. The page holds no more of the bundle; whatever else it
    shows comes from the API.
    """
    html = render(facts)
    router = APIRouter(include_in_schema=False)
    static = {
        file.name: (file.read_bytes(), _type_of(file.name)) for file in files(__package__).joinpath("static").iterdir()
    }

    @router.get("/")
    def page() -> Response:
        return Response(html, media_type="text/html; charset=utf-8", headers={"Cache-Control": "no-cache"})

    @router.get("/static/{name}")
    def asset(name: str) -> Response:
        if name not in static:
            return Response(status_code=404)
        content, kind = static[name]
        return Response(content, media_type=kind, headers={"Cache-Control": "no-cache"})

    return router


def render(facts: Mapping[str, Any]) -> str:
    """The document for a bundle."""
    environment = Environment(
        loader=PackageLoader(__package__), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    findings = facts["findings"]
    return environment.get_template("page.html").render(
        findings=findings if isinstance(findings, int) else len(findings),
        askable=facts.get("askable", []),
        identity=facts["identity"],
        version=facts["hilum_version"],
        engine=facts.get("engine"),
        note=facts.get("note"),
    )


def _type_of(name: str) -> str:
    suffix = name[name.rfind(".") :]
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
