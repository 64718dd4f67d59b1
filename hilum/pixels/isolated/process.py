"""The child's side of the isolated decoder: one file in, one picture or refusal out, until the pipe ends."""

import hashlib
import json
import math
import os
import signal
import sys
from typing import Any, BinaryIO

import cv2
import numpy as np

from hilum.errors import UnreadableImage
from hilum.pixels.dicom.read import read_dicom, read_dicom_header
from hilum.pixels.header import DICOM, PNG, check_stream, kind_of, read_header
from hilum.pixels.isolated.child import HEAD, JSON_LIMIT, Answer
from hilum.pixels.isolated.confine import confine
from hilum.pixels.raster import Grey, decode_raster
from hilum.pixels.render import render
from hilum.pixels.spec import PixelSpec

UNDECODABLE = {
    "code": "undecodable",
    "what": "the decoder gives up on this file",
    "do": "copy or download the file again",
}
TOO_MUCH = {"code": "out-of-memory", "what": "decoding this file takes more memory than it may", "do": "leave it out"}


def main(memory: int, seconds: float) -> None:
    """Answer questions on standard input until it ends. memory: bytes it may map; seconds: for one file, a second more."""
    questions, answers = _pipes()
    cv2.setNumThreads(0)
    held = confine(memory)
    _write(answers, {"confined": held}, b"")
    while head := questions.read(HEAD.size):
        text_size, size = HEAD.unpack(head)
        question, data = json.loads(questions.read(text_size)), questions.read(size)
        if hasattr(signal, "alarm"):  # should the parent be gone, the system ends a decoder that hangs
            signal.alarm(math.ceil(seconds) + 1)
        _write(answers, *_answer(question, data))
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Both pipes under numbers of their own, so that a parser that prints disturbs nothing."""
    questions, answers = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    return open(questions, "rb", buffering=1 << 16), open(answers, "wb", buffering=0)  # noqa: PTH123


def _write(answers: BinaryIO, answer: Answer, body: Any) -> None:
    text = json.dumps(answer).encode()
    if len(text) > JSON_LIMIT:
        text, body = json.dumps(UNDECODABLE).encode(), b""
    for part in (HEAD.pack(len(text), len(body)) + text, body):
        view = memoryview(part)
        while view:
            view = view[answers.write(view) :]


def _answer(question: Answer, data: bytes) -> tuple[Answer, Any]:
    """The picture or the refusal. What a parser says is not repeated: its messages quote the file, and with it the patient.

    What is no Exception (a panic in a Rust codec) ends the process, and the parent sees that.
    """
    try:
        return _decoded(data, **question)
    except UnreadableImage as error:
        return {"code": error.code, "what": error.what, "do": error.do or UNDECODABLE["do"]}, b""
    except MemoryError:
        return TOO_MUCH, b""
    except Exception:
        return UNDECODABLE, b""


def _decoded(
    data: bytes, at_least: int | None, pixel_limit: int, spec: dict[str, Any] | None, salt: str | None = None
) -> tuple[Answer, Any]:
    provenance: dict[str, Any] = {}
    owner: dict[str, str] = {}
    image: Grey
    kind = kind_of(data)
    if kind == PNG:
        check_stream(data, read_header(data, pixel_limit=pixel_limit))
    if kind == DICOM:
        rendered = read_dicom(data, at_least=at_least, pixel_limit=pixel_limit)
        image, provenance = rendered.image, rendered.provenance.as_dict()
        owner = _owner(data, salt) if salt else {}
    else:
        image = decode_raster(data, at_least=at_least, pixel_limit=pixel_limit)
    if spec:
        image = render(image, PixelSpec(**spec))
    answer = {"shape": image.shape, "dtype": str(image.dtype), "provenance": provenance, "owner": owner}
    return answer, np.ascontiguousarray(image).data.cast("B")


def _owner(data: bytes, salt: str) -> dict[str, str]:
    """Whose picture it is and of which study, as digests that say no more than whether two files name the same."""
    header = read_dicom_header(data)
    named = {"patient": header.patient_id, "study": header.study_uid}
    return {
        name: hashlib.sha256(f"{salt} {name} {value}".encode()).hexdigest() for name, value in named.items() if value
    }


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
