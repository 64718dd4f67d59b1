"""Folders of published models: a local one as it is, or what a hub name stands for, fetched once and kept by its library."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from hilum.errors import InputError, MachineError, from_os_error


def model_folder(name: str | Path, files: Sequence[str], *, what: str = "model", fetch: bool = True) -> Path:
    """The folder of a model.

    name: a folder, or a hub name such as `microsoft/rad-dino`, of which the files that match `files` (patterns) are fetched.
    fetch: false takes what was fetched before, and asks no hub.
    Raises InputError where a path is none, MachineError where the hub cannot be reached: one sentence that says how to use a
    local folder.
    """
    check_place(name, what=what)
    if (path := Path(name).expanduser()).is_dir():
        return path
    try:
        import huggingface_hub as hub

        asked: dict[str, Any] = {"allow_patterns": list(files), "etag_timeout": 5, "local_files_only": not fetch}
        return Path(hub.snapshot_download(str(name), **asked))
    except ImportError as error:
        raise InputError("hub names need the extra text", do="pip install 'hilum[text]', or name a folder") from error
    except Exception as error:  # whatever the library, the network or the proxy makes of it
        if not fetch:
            raise InputError(f"the {what} {str(name)!r} is not on this machine", do="name a folder of it") from error
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MachineError(
            f"the {what} {str(name)!r} cannot be fetched from the hub ({first})",
            do=f"download {', '.join(files)} of it elsewhere and name the folder instead",
        ) from error


def check_place(name: str | Path, *, what: str) -> None:
    """Raise InputError where a name is neither a folder nor like one on a hub; nothing is fetched."""
    path = Path(name).expanduser()
    like = not path.is_absolute() and not str(name).startswith((".", "~")) and str(name).count("/") == 1
    if not (path.is_dir() or like):
        raise InputError(f"there is no folder of a {what}", where=name, do="name a folder, or a hub name: OWNER/NAME")


def read_json(folder: Path, file: str, *, what: str) -> dict[str, Any]:
    """A JSON file of a model's folder as a dictionary. Raises InputError where it is not there or is none."""
    try:
        page: dict[str, Any] = json.loads((folder / file).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"this is no folder of a {what}: it holds no {file}", where=folder, do="check it") from error
    except ValueError as error:
        raise InputError("this is not valid JSON", where=folder / file, do="download it again") from error
    return page


def read_tensors(folder: Path, files: Sequence[str], *, what: str) -> dict[str, Tensor]:
    """The tensors of the first of these files that is there: safetensors, or a torch file read as weights alone.

    Nothing but tensors is unpickled. Raises InputError where none is there or it holds other things.
    """
    found = next((folder / file for file in files if (folder / file).is_file()), None)
    if found is None:
        raise InputError(
            f"this is no folder of a {what}: it holds none of {', '.join(files)}", where=folder, do="check it"
        )
    try:
        if found.suffix == ".safetensors":
            return load_file(found)
        held = torch.load(found, map_location="cpu", weights_only=True)
    except OSError as error:
        raise from_os_error(error, found) from error
    except Exception as error:
        raise InputError(
            "the weights cannot be read as tensors alone", where=found, do="convert them to safetensors"
        ) from error
    for within in ("state_dict", "model", "module"):  # where trainers lay the weights beside what else they keep
        held = held[within] if isinstance(held.get(within), dict) else held
    return {key: value for key, value in held.items() if isinstance(value, Tensor)}


def missing_extra(package: str, error: ImportError) -> InputError:
    """The sentence for a package of the extra `text` that is not installed."""
    fault = InputError(f"{package} is not installed", do="pip install 'hilum[text]'")
    fault.__cause__ = error
    return fault
