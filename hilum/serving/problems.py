"""The closed list of what an answer can say is wrong, as RFC 9457 problems. No sentence quotes a file, a name or a value."""

from typing import Any

from fastapi.responses import JSONResponse

from hilum.errors import UnreadableImage
from hilum.pixels.codes import REFUSALS

MEDIA_TYPE = "application/problem+json"

# code -> status, title. Codes of a file's decoding (hilum.pixels.codes, hilum.pixels.isolated) are 422 unless they stand here.
PROBLEMS: dict[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "bad-field": (422, "A field of the form has a value that cannot be used"),
    "no-files": (422, "The form holds no file"),
    "mixed-study": (422, "The files are not of one study"),
    "unknown-finding": (422, "This model has no finding of that name"),
    "closed-vocabulary": (422, "This model answers for its own findings only"),
    "no-such-method": (422, "This engine cannot explain in that way"),
    "not-a-chest-xray": (422, "The images are unlike those the model was trained on"),
    "too-many-files": (422, "A study has fewer files"),
    "file-too-large": (413, "A file is too large"),
    "request-too-large": (413, "The request is too large"),
    "unsupported-type": (415, "This kind of file is not read"),
    "unsupported-encoding": (415, "Compressed requests are not read"),
    "unsupported-form": (415, "The request is no multipart form"),
    "slow-request": (408, "The request took too long to arrive"),
    "unauthorized": (401, "A key is needed"),
    "unknown-host": (421, "This server is not called that"),
    "foreign-origin": (403, "Requests from other sites are refused"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "This cannot be done here"),
    "queue-full": (429, "Too much is being asked at once"),
    "not-ready": (503, "The server is not ready"),
    "storage-full": (503, "The answer could not be recorded"),
    "timeout": (504, "The answer took too long"),
    "internal": (500, "Something went wrong in the server"),
    "decoding-too-slow": (422, "Decoding the file takes too long"),
    "out-of-memory": (422, "Decoding the file takes too much memory"),
    **{code: (422, f"{what[0].upper()}{what[1:]}") for code, (what, _) in REFUSALS.items() if code != "file-too-large"},
}


class Problem(Exception):
    """What ends a request. code: of PROBLEMS; detail: a sentence of ours; file_index: which file, counted from 0."""

    def __init__(
        self, code: str, detail: str = "", *, file_index: int | None = None, headers: dict[str, str] | None = None
    ):
        super().__init__(code)
        self.code, self.detail, self.file_index, self.headers = code, detail, file_index, headers or {}
        self.status, self.title = PROBLEMS[code]

    def body(self, request_id: str | None = None) -> dict[str, Any]:
        """The problem as plain values for JSON."""
        told = {
            "type": f"urn:hilum:problem:{self.code}", "title": self.title, "status": self.status, "detail": self.detail or self.title,
            "instance": f"urn:hilum:request:{request_id}" if request_id else None, "code": self.code, "file_index": self.file_index,
            "warnings": [],
        }  # fmt: skip
        return {key: value for key, value in told.items() if value is not None}

    def response(self, request_id: str | None = None) -> JSONResponse:
        """The problem as an answer."""
        headers = {"Cache-Control": "no-store", **self.headers}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(request_id), self.status, headers, media_type=MEDIA_TYPE)


def of_image(error: UnreadableImage, file_index: int) -> Problem:
    """The problem of a file that cannot be read. Its words come from the decoder's own list, never from the file."""
    code = {"timeout": "decoding-too-slow"}.get(error.code, error.code)
    detail = f"{error.what[0].upper()}{error.what[1:]}."
    return Problem(code if code in PROBLEMS else "undecodable", detail, file_index=file_index)
