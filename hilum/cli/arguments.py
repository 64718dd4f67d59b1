"""What people type after a verb, as values: levels, options of a source, bounds per finding, files by pattern."""

from glob import glob
from pathlib import Path
from typing import Any, Literal

from hilum.errors import InputError

Level = Literal["study", "image"]


def options_of(words: list[str]) -> dict[str, Any]:
    """`--patient-column X` as {patient_column: X}; numbers become numbers, a bare flag becomes True."""
    options: dict[str, Any] = {}
    position = 0
    while position < len(words):
        word = words[position]
        if not word.startswith("--"):
            raise InputError(f"{word!r} is one argument too many", do="see `hilum import --help`")
        name, _, value = word[2:].partition("=")
        if name in ("source", "root", "output", "patients", "progress"):
            raise InputError(f"--{name} is no option of a source", do="see `hilum import --help`")
        if not value and position + 1 < len(words) and not words[position + 1].startswith("--"):
            position += 1
            value = words[position]
        options[name.replace("-", "_")] = int(value) if value.isdigit() else value or True
        position += 1
    return options


def bound_of(name: str, words: list[str] | None) -> dict[str, float] | None:
    """`0.6` and `Hernia=0.3` as numbers per finding, * for all that are not named."""
    bounds: dict[str, float] = {}
    for word in words or []:
        finding, _, number = word.rpartition("=")
        try:
            bounds[finding or "*"] = float(number)
        except ValueError as error:
            raise InputError(
                f"--{name} {word!r} is no number", do=f"write --{name} 0.1, or --{name} Hernia=0.1"
            ) from error
    return bounds or None


def files_of(word: str) -> list[str]:
    """The files that a word names: one, several with commas between, or those that a pattern with * finds."""
    if Path(word).exists():
        return [word]
    found = [(part, sorted(glob(part)) if "*" in part else [part]) for part in word.split(",") if part]  # noqa: PTH207
    if empty := [part for part, files in found if not files]:
        raise InputError(
            "no file fits this pattern", where=empty[0], do="check the folder's name, and quote the pattern"
        )
    return [file for _, files in found for file in files]
