"""A child process behind two pipes: messages of JSON and bytes, none awaited beyond its deadline, nothing left behind."""

import json
import os
import signal
import struct
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

# A message: how many bytes of JSON follow, how many of the body, then both.
HEAD = struct.Struct(">II")
JSON_LIMIT = 1 << 16
_PIECE = 1 << 20  # bytes handed to a pipe at once, and what its buffer is asked to hold
_POLLS = os.name == "posix"  # Windows cannot wait for a pipe: there a timer kills the child instead

Answer = dict[str, Any]


class Lost(Exception):
    """The child cannot be talked to any more.

    why: died (the pipe is closed), late (the deadline passed) or garbled (it said what no honest child says).
    """

    def __init__(self, why: Literal["died", "late", "garbled"]):
        super().__init__(why)
        self.why = why


class Child:
    """One process in a session of its own; its error output is dropped, and it is killed when this object goes.

    What it says is taken for hostile: no length is believed before it is checked. Not for several threads at once.
    Raises OSError where the process cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]):
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # parsers write what they read there
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self.pid, self._owner = process.pid, os.getpid()
        self._kill = process.kill
        self._questions, self._answers = process.stdin.fileno(), process.stdout.fileno()
        self.end: Callable[[], Any] = weakref.finalize(self, _end, process, self._owner)
        if _POLLS:
            import select

            self._may_write, self._may_read = select.poll(), select.poll()
            self._may_write.register(self._questions, select.POLLOUT)
            self._may_read.register(self._answers, select.POLLIN)
            for pipe in (self._questions, self._answers):
                os.set_blocking(pipe, False)
                _widen(pipe)

    @property
    def ours(self) -> bool:
        """Whether this process started it; a fork of that one must not talk to it."""
        return self._owner == os.getpid()

    @property
    def idle(self) -> bool:
        """Whether it is alive, as far as one can see, and has said nothing unasked."""
        return not (_POLLS and self._may_read.poll(0))

    def send(self, question: Answer, body: bytes, deadline: float) -> None:
        """Hand over a message. deadline: on the clock of time.monotonic(). Raises Lost."""
        text = json.dumps(question).encode()
        with self._timed(deadline):
            for part in (HEAD.pack(len(text), len(body)) + text, body):
                view = memoryview(part)
                while view:
                    view = view[self._write(view[:_PIECE], deadline) :]

    def receive(self, body_size: Callable[[Answer], int], deadline: float) -> tuple[Answer, bytearray]:
        """The next message. body_size: the bytes that must follow this JSON; raises ValueError for one that makes no sense.

        Raises Lost.
        """
        with self._timed(deadline):
            text_size, size = HEAD.unpack(self._read(HEAD.size, deadline))
            if text_size > JSON_LIMIT:
                raise Lost("garbled")
            text = self._read(text_size, deadline)
            try:
                answer = json.loads(text)
                honest = isinstance(answer, dict) and body_size(answer) == size
            except (ValueError, RecursionError):
                honest = False
            if not honest:
                raise Lost("garbled")
            return answer, self._read(size, deadline)

    def _write(self, view: memoryview, deadline: float) -> int:
        while True:
            try:
                return os.write(self._questions, view)
            except BlockingIOError:
                self._wait(self._may_write, deadline)
            except OSError:
                raise self._lost(deadline) from None

    def _read(self, size: int, deadline: float) -> bytearray:
        data = bytearray(size)
        view, place = memoryview(data), 0
        while place < size:
            try:
                piece = os.read(self._answers, min(size - place, _PIECE))
            except BlockingIOError:
                self._wait(self._may_read, deadline)
                continue
            except OSError:
                piece = b""
            if not piece:
                raise self._lost(deadline)
            view[place : place + len(piece)] = piece
            place += len(piece)
        return data

    def _wait(self, pipe: Any, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not pipe.poll(left * 1000 + 1):
            raise Lost("late")

    def _lost(self, deadline: float) -> Lost:
        return Lost("died" if time.monotonic() < deadline else "late")

    @contextmanager
    def _timed(self, deadline: float) -> Iterator[None]:
        if _POLLS:
            yield
            return
        timer = threading.Timer(deadline - time.monotonic(), self._kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _widen(pipe: int) -> None:
    """A buffer of a megabyte where the system has such (Linux): a large file goes through in few turns."""
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIECE)


def _end(process: "subprocess.Popen[bytes]", owner: int) -> None:
    """Kill the process with whatever it started, and reap it. In a fork of the owner only the pipes are closed."""
    if os.getpid() == owner:
        with suppress(OSError):
            # It was not waited for before, so its number and its group's are still its own.
            os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
