"""Decoding in a process of its own: a file from outside can crash, hang or swell the decoder, and nothing else.

Parent and child speak JSON and raw bytes over pipes. The child limits itself (hilum.pixels.isolated.confine); the parent waits
for nothing beyond a deadline, believes no length, and starts a new child where one is lost.
"""

import os
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hilum.errors import MachineError, UnreadableImage
from hilum.pixels.codes import REFUSALS
from hilum.pixels.header import readable_kind
from hilum.pixels.isolated.child import Answer, Child, Lost
from hilum.pixels.raster import Grey
from hilum.pixels.spec import PixelSpec

SECONDS = 8.0  # for one file where somebody waits
PATIENT_SECONDS = 60.0  # for one file of a person's own set: on a busy machine a sound file must not pass for a bad one
MEMORY = 1_500_000_000  # bytes of address space for the child, its libraries (some 0.5 GB mapped) included
BYTES = 64 << 20  # of one file
PIXELS = 40_000_000
FILES = 500  # answered by one child before a fresh one takes over: what a codec leaks does not add up
_START_SECONDS = 60.0
_TEXT = 300  # characters of a sentence that are taken from the child

# Folders are handed over because -I, which shuts the user's settings out, hides packages that are not in site-packages.
# pydicom would load requests, to fetch example files that nobody asks for: a fifth of the start.
_START = (
    "import sys; sys.path += [p for p in sys.argv[3:] if p not in sys.path]; sys.modules['requests'] = None; "
    "from hilum.pixels.isolated.process import main; main(int(sys.argv[1]), float(sys.argv[2]))"
)
_KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT")  # without these some interpreters do not start
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

# Every code that an UnreadableImage from here can have.
CODES = frozenset((*REFUSALS, "unsupported-type", "timeout", "out-of-memory"))
_LOST = {  # why the child was lost: what, do, code
    "died": ("this file makes the decoder crash", "leave it out, or convert it with another program", "undecodable"),
    "late": ("decoding this file takes too long", "leave it out, or convert it with another program", "timeout"),
    "garbled": ("this file makes the decoder talk nonsense", "leave it out: it may mean harm", "undecodable"),
}


@dataclass(frozen=True)
class Decoded:
    """image: (H, W) uint8 or uint16, bright = dense; provenance: of a DICOM file (`Provenance.as_dict`), else empty.

    owner: digests of the patient and the study that a DICOM file names, where a salt was given.
    """

    image: Grey
    provenance: dict[str, Any]
    owner: dict[str, str] = field(default_factory=dict)


class Decoder:
    """A decoder that can be lost. Threads take turns; for work side by side, give each thread its own.

    seconds: most time for one file; memory: bytes of address space; byte_limit: largest file; files: answers per child.
    The process starts with `start` or the first file, and ends with `close`, with the `with` block, or with the interpreter.
    """

    def __init__(self, *, seconds: float = SECONDS, memory: int = MEMORY, byte_limit: int = BYTES, files: int = FILES):
        self.seconds, self.memory, self.byte_limit, self.files = seconds, memory, byte_limit, files
        self.confined: dict[str, bool] = {}  # what the system granted the last child (hilum.pixels.isolated.confine)
        self.started = 0  # children so far
        self.lost: Counter[str] = Counter()  # how many of them were lost, by why (hilum.pixels.isolated.child.Lost)
        self._child: Child | None = None
        self._greeted, self._answered = False, 0  # the child is ready; files it answered
        self._lock = threading.Lock()

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process that is decoding, or None."""
        return self._child.pid if self._child else None

    def decode(
        self,
        data: bytes,
        *,
        at_least: int | None = None,
        pixel_limit: int = PIXELS,
        spec: PixelSpec | None = None,
        salt: str | None = None,
    ) -> Decoded:
        """The picture in a PNG, JPEG or DICOM file.

        at_least: as in `read_image`. spec: render after it, so that the image is uint8 (size, size). salt: also tell digests,
        made with it, of whose picture it is.
        Raises UnreadableImage with a code of CODES, after a loss too; MachineError where no process can be started.
        """
        question = {"at_least": at_least, "pixel_limit": pixel_limit, "spec": spec and spec.as_dict(), "salt": salt}
        answer, body = self._ask(question, data, pixel_limit if spec is None else spec.size**2)
        if "code" in answer:
            raise UnreadableImage(answer["what"], do=answer["do"], code=answer["code"])
        image = np.frombuffer(body, dtype=answer["dtype"]).reshape(answer["shape"])
        return Decoded(image, answer["provenance"], answer.get("owner", {}))

    def start(self) -> None:
        """Have a process ready, so that the next file does not wait for it. Raises MachineError."""
        with self._lock:
            try:
                self._ready()
            except BaseException:  # an interrupt: half a greeting may be read
                self.close()
                raise

    def close(self) -> None:
        """End the process. A closed decoder may be used again: it starts another."""
        if self._child:
            self._child.end()
        self._child, self._greeted, self._answered = None, False, 0

    def _ask(self, question: Answer, data: bytes, most: int) -> tuple[Answer, bytearray]:
        """The child's answer and its body, a picture of at most `most` pixels. Raises UnreadableImage where it is lost."""
        if len(data) > self.byte_limit:
            limit = f"{self.byte_limit / 1e6:,.0f} MB"
            raise UnreadableImage(f"the file is larger than {limit}", do="leave it out", code="file-too-large")
        readable_kind(data[:256])
        with self._lock:
            try:
                child = self._ready()
                deadline = time.monotonic() + self.seconds
                child.send(question, data, deadline)
                answer, body = child.receive(lambda answer: _body_size(answer, most), deadline)
            except Lost as lost:
                self.lost[lost.why] += 1
                self._replace()
                what, do, code = _LOST[lost.why]
                raise UnreadableImage(what, do=do, code=code) from None
            except BaseException:  # an interrupt: the answer would be taken for that of the next question
                self.close()
                raise
            self._answered += 1
            if self._answered >= self.files or answer.get("code") == "out-of-memory":  # its memory is in pieces
                self._replace()
            return answer, body

    def _ready(self) -> Child:
        """A child that waits for a question: the one at hand, or a fresh one."""
        if self._child and not self._fit(self._child):
            self.close()
        for _ in range(2):  # one that is killed from outside while it starts gets a successor
            child = self._child or self._start()
            if self._greeted:
                return child
            try:
                answer, _ = child.receive(_greeting, time.monotonic() + _START_SECONDS)
            except Lost:
                self.close()
                continue
            self.confined, self._greeted = answer["confined"], True
            return child
        raise MachineError(
            "the decoder process does not start",
            do=f"see what `{sys.executable or 'python'} -I -m hilum.pixels.isolated.process {self.memory} 1` says",
        )

    def _fit(self, child: Child) -> bool:
        return child.ours and (child.idle or not self._greeted)

    def _replace(self) -> None:
        """A fresh child is started, now and not with the next file, which then waits the less."""
        with suppress(MachineError):  # the next file tells it
            self._start()

    def _start(self) -> Child:
        self.close()
        folders = [path for path in sys.path if os.path.isabs(path)]  # noqa: PTH117
        command = [sys.executable, "-I", "-c", _START, str(self.memory), str(self.seconds), *folders]
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        try:
            self._child = Child(command, kept | _ONE_THREAD)
        except OSError as error:
            raise MachineError("the decoder process does not start", do="free memory or processes") from error
        self.started += 1
        return self._child


_own = threading.local()


def own_decoder() -> Decoder:
    """This thread's decoder, a patient one. It starts with the first file, and ends with the thread or the interpreter."""
    if not hasattr(_own, "decoder"):
        _own.decoder = Decoder(seconds=PATIENT_SECONDS)
    decoder: Decoder = _own.decoder
    return decoder


def _greeting(answer: Answer) -> int:
    if not isinstance(answer.get("confined"), dict):
        raise ValueError("no greeting")
    return 0


def _body_size(answer: Answer, most: int) -> int:
    """The bytes that must follow this JSON; ValueError where it is neither a refusal nor a picture of at most `most` pixels."""
    if "code" in answer:
        words = [answer.get(key) for key in ("code", "what", "do")]  # they may end in a terminal or a log
        if not all(isinstance(word, str) and 0 < len(word) <= _TEXT and word.isprintable() for word in words):
            raise ValueError("no words")
        if words[0] not in CODES:
            raise ValueError("no refusal")
        return 0
    shape, dtype = answer.get("shape"), answer.get("dtype")
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and side > 0 for side in shape)):
        raise ValueError("no shape")
    if dtype not in ("uint8", "uint16") or shape[0] * shape[1] > most or not isinstance(answer.get("provenance"), dict):
        raise ValueError("no picture")
    owner = answer.get("owner", {})
    if not (isinstance(owner, dict) and all(isinstance(one, str) and len(one) == 64 for one in owner.values())):
        raise ValueError("no owner")
    return int(shape[0] * shape[1] * np.dtype(dtype).itemsize)
