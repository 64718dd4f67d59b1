"""The log of answers: one JSON line each, chained by hashes, so that a line that was changed, lost or moved shows."""

import hashlib
import json
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hilum.errors import InputError, from_os_error
from hilum.serving.problems import Problem

START = "0" * 64


class Audit:
    """A file that lines are appended to, none ever changed. hash = SHA-256 of the line's other fields, the previous hash among them.

    What stands in a line: when, who asked (the name of a key), SHA-256 of the files and of the answer, model, settings, problem
    code. Nothing of a patient. Raises InputError where the file holds a broken chain or cannot be written.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, threading.Lock()
        try:
            self._last = check(path) if path.exists() and path.stat().st_size else START
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        except OSError as error:
            raise from_os_error(error, path) from error

    def write(self, **fields: Any) -> None:
        """Append a line. Raises Problem (storage-full) where it cannot be written: then nothing is answered either."""
        with self._lock:
            told = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields, "previous": self._last}
            told["hash"] = _hash(told)
            line = json.dumps(told, separators=(",", ":")).encode() + b"\n"
            try:
                size = os.fstat(self._file).st_size
                if os.write(self._file, line) != len(line):
                    os.ftruncate(self._file, size)  # half a line would break the chain
                    raise OSError("short write")
            except OSError:
                raise Problem("storage-full", headers={"Retry-After": "60"}) from None
            self._last = told["hash"]

    def close(self) -> None:
        """Flush it to disk and close it."""
        os.fsync(self._file)
        os.close(self._file)


def check(path: Path) -> str:
    """The last hash of a log. Raises InputError naming the first line that does not follow from the one before."""
    last = START
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                told = json.loads(line)
                said = told.pop("hash")
                honest = line.endswith("\n") and told["previous"] == last and said == _hash(told)
            except (ValueError, KeyError, TypeError, AttributeError):
                honest = False
            if not honest:
                raise InputError(
                    f"line {number} of the audit log does not follow from the line before",
                    where=path,
                    do="keep this file for whoever asks, and name another with --audit",
                )
            last = said
    return last


def _hash(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
