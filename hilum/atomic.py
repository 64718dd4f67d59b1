"""A file or folder appears whole or not at all: written aside, flushed to disk, renamed into place."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hilum.errors import InputError, from_os_error


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; write a file there and it takes the place of `path` on leaving.

    On any exception the temporary file is removed and `path` is as it was.
    Raises InputError where the folder cannot be written, MachineError where the disk is full.
    """
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise from_os_error(error, target) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; fill it and it becomes `path` on leaving, replacing an older one."""
    target = Path(path)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb+") as written:
                    os.fsync(written.fileno())
        temporary.chmod(0o777 & ~_umask())
        if target.exists():
            aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.replace(aside / target.name)
            temporary.replace(target)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            temporary.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise from_os_error(error, target) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def refuse_replacing(output: str | Path, *inputs: str | Path | None) -> None:
    """Raise InputError where writing `output` would replace one of the inputs, or a file (no table) in a folder among them."""
    target = Path(output).resolve()
    for given in inputs:
        if given is None:
            continue
        place = Path(given).resolve()
        inside = place in target.parents and target.is_file() and target.suffix != ".parquet"
        if target == place or inside:
            raise InputError(
                "this is an input, and inputs are never changed", where=output, do="choose another name with -o"
            )


def ensure_folder(path: str | Path) -> Path:
    """Make the folder if need be and make sure that it can be written to; the error otherwise names it."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise from_os_error(error, folder) from error
    return folder


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system lets a folder be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
