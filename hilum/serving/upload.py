"""A multipart form read piece by piece within limits: into memory, never to disk; file names are not looked at."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from hilum.serving.problems import Problem
from hilum.serving.settings import Limits

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_HEADERS = 8  # of a part


@dataclass
class Form:
    """What came: the files of `files` in order, and the text of every other field by name."""

    files: list[bytes] = field(default_factory=list)
    fields: dict[str, list[str]] = field(default_factory=dict)

    def texts(self, name: str) -> list[str]:
        return self.fields.get(name, [])


async def read_form(
    request: Request, limits: Limits, known: frozenset[str], hold: Callable[[int], None] = lambda size: None
) -> Form:
    """The form of a request. known: the fields it may have besides `files`. hold: told the size of each piece that is kept.

    Raises Problem as soon as a limit is passed; the rest is then not read.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Problem("unsupported-encoding")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise Problem("unsupported-form", "Send multipart/form-data with one part named files for each image.")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > limits.total:
        raise Problem("request-too-large", _too_large(limits))
    try:
        parts = _Parts(limits, known)
        parser = MultipartParser(options[b"boundary"], parts.callbacks(), max_header_count=_HEADERS)
        await asyncio.wait_for(_fed(request, parser, limits, hold), limits.patience)
        parser.finalize()
    except TimeoutError:
        raise Problem("slow-request", headers={"Connection": "close"}) from None
    except FormParserError:
        raise Problem("bad-request", "The multipart form is broken.") from None
    if not parts.ended:
        raise Problem("bad-request", "The multipart form ends before its end.")
    return parts.form


async def _fed(request: Request, parser: MultipartParser, limits: Limits, hold: Callable[[int], None]) -> None:
    size, pieces = 0, request.stream().__aiter__()
    while True:
        try:
            piece = await asyncio.wait_for(anext(pieces), limits.silence)
        except StopAsyncIteration:
            return
        size += len(piece)
        if size > limits.total:
            raise Problem("request-too-large", _too_large(limits))
        hold(len(piece))
        parser.write(piece)


def _too_large(limits: Limits) -> str:
    return f"A request may have {limits.total / 1e6:,.0f} MB."


class _Parts:
    """What the parser calls: parts become files and fields."""

    def __init__(self, limits: Limits, known: frozenset[str]):
        self.limits, self.known, self.form, self.ended = limits, known, Form(), False
        self._header, self._value, self._name = bytearray(), bytearray(), ""
        self._data, self._count = bytearray(), 0

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin, "on_header_field": self._header_field, "on_header_value": self._header_value,
            "on_header_end": self._header_end, "on_headers_finished": self._named, "on_part_data": self._more,
            "on_part_end": self._end, "on_end": self._finish,
        }  # fmt: skip

    def _begin(self) -> None:
        self._count += 1
        if self._count > self.limits.files + self.limits.fields:
            raise Problem("request-too-large", "The form has far too many parts.")
        self._name, self._data = "", bytearray()
        self._header, self._value = bytearray(), bytearray()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._name = options.get(b"name", b"").decode("ascii", errors="replace")
        self._header, self._value = bytearray(), bytearray()

    def _named(self) -> None:
        if self._name != "files" and self._name not in self.known:
            raise Problem("bad-field", f"The form may have the fields files, {', '.join(sorted(self.known))}.")
        if self._name == "files" and len(self.form.files) == self.limits.files:
            raise Problem("too-many-files", f"Give up to {self.limits.files} files, the views of one study.")

    def _more(self, data: bytes, start: int, end: int) -> None:
        is_file = self._name == "files"
        if len(self._data) + end - start > (self.limits.file if is_file else self.limits.field_size):
            if not is_file:
                raise Problem("bad-field", f"The field {self._name} is too long.")
            most = f"A file may have {self.limits.file / 1e6:,.0f} MB."
            raise Problem("file-too-large", most, file_index=len(self.form.files))
        self._data += data[start:end]

    def _end(self) -> None:
        if self._name == "files":
            self.form.files.append(cast(bytes, self._data))  # which nobody changes: a copy would take as much again
        else:
            try:
                text = self._data.decode("utf-8")
            except UnicodeDecodeError:
                raise Problem("bad-field", f"The field {self._name} is no text.") from None
            self.form.fields.setdefault(self._name, []).append(text.strip())

    def _finish(self) -> None:
        self.ended = True
