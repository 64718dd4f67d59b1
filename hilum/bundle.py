"""The bundle: the portable model folder, weights with every fact needed to use them. Written and checked here, without torch."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from hilum import __version__
from hilum.atomic import atomic_folder
from hilum.errors import InputError, from_os_error
from hilum.operating_points import OperatingPoint, read_operating_points, write_operating_points
from hilum.pixels.spec import PixelSpec

WEIGHTS, FACTS = "model.safetensors", "bundle.json"


@dataclass
class Bundle:
    """The facts of a model.

    findings:     in the order of the logits.
    pixels:       the spec that images must be rendered with.
    architecture: backbone, fusion, head and their options, from dictionaries of this package alone.
    vocabulary:   open (findings can be added by text) or closed.
    positives, known: training counts per finding.
    sources:      data sets the model saw; licence: of its weights, null where nobody said.
    note:         a sentence every report repeats, null where there is none.
    views:        most views of a study read at once.
    predict:      how its recipe predicts (`hilum.recipe.PredictSpec` as plain values): the default of whoever uses it.
    folder:       where the bundle lies; null before it is written.
    """

    findings: list[str]
    pixels: PixelSpec
    architecture: dict[str, Any]
    positives: dict[str, int]
    known: dict[str, int]
    sources: list[str]
    views: int = 4
    predict: dict[str, Any] = field(default_factory=dict)
    vocabulary: Literal["open", "closed"] = "closed"
    licence: str | None = None
    note: str | None = None
    hilum_version: str = __version__
    identity: str = ""
    folder: Path | None = None
    operating_points: list[OperatingPoint] = field(default_factory=list)

    @property
    def backbone_data(self) -> list[str]:
        """Data sets that its backbone's weights were trained on before, as far as that is known."""
        told = self.architecture["backbone"]["facts"]
        sides = [told] if "name" in told else [told["frontal"], told["lateral"]]
        return sorted({name for side in sides for name in side.get("data", ())})

    @property
    def weights_file(self) -> Path:
        if self.folder is None:
            raise InputError("this bundle has not been written yet", do="write it first")
        return self.folder / WEIGHTS


def write_bundle(
    bundle: Bundle,
    weights: Mapping[str, np.ndarray],
    folder: str | Path,
    *,
    recipe: str,
    card: str,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Bundle:
    """Write a bundle as one folder, whole or not at all, and hand it back with its identity.

    weights: float arrays by parameter name; recipe: YAML of the run; card: the model card, Markdown; files: more of them.
    """
    target = Path(folder)
    with atomic_folder(target) as temporary:
        save_file({key: np.asarray(value, order="C") for key, value in weights.items()}, temporary / WEIGHTS)
        write_operating_points(bundle.operating_points, temporary / "operating_points.csv")
        (temporary / "recipe.yaml").write_text(recipe, encoding="utf-8")
        (temporary / "card.md").write_text(card, encoding="utf-8")
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        bundle.identity = _identity(_sha256(temporary / WEIGHTS), bundle)
        _write_facts(bundle, temporary)
    bundle.folder = target
    return bundle


def replace_operating_points(bundle: Bundle, points: list[OperatingPoint]) -> Bundle:
    """Put other operating points into a bundle on disk, whole or not at all. Its identity, which decides logits, stays."""
    bundle.operating_points = points
    return amend_bundle(bundle, lambda folder: write_operating_points(points, folder / "operating_points.csv"))


def amend_bundle(bundle: Bundle, change: Callable[[Path], object]) -> Bundle:
    """Change or add files of a bundle on disk, whole or not at all; its identity, which decides logits, stays.

    change: is handed the folder of a copy, where it may write whatever belongs to the bundle, in folders too.
    """
    source = bundle.weights_file.parent
    strange = [file.relative_to(source) for file in unlisted_files(source)]
    with atomic_folder(source) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        change(temporary)
        _write_facts(bundle, temporary, [temporary / name for name in strange])
    return bundle


def listed_files(folder: Path) -> dict[str, str]:
    """The files that a bundle consists of beside bundle.json, by their paths in it, each with its SHA-256 as written down."""
    files: dict[str, str] = json.loads((folder / FACTS).read_text(encoding="utf-8"))["files"]
    return files


def unlisted_files(folder: Path) -> list[Path]:
    """Files that lie in a bundle's folder and are no part of it: nobody vouches for these."""
    known = {folder / name for name in (*listed_files(folder), FACTS)}
    return sorted(file for file in folder.rglob("*") if not file.is_dir() and file not in known)


def _write_facts(bundle: Bundle, folder: Path, strange: Sequence[Path] = ()) -> None:
    """Write bundle.json, which lists every file but itself and those that are no part of the bundle."""
    facts = {key: value for key, value in asdict(bundle).items() if key not in ("folder", "operating_points")}
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and file not in (folder / FACTS, *strange)]
    facts["files"] = {file.relative_to(folder).as_posix(): _sha256(file) for file in files}
    facts["seal"] = _seal(facts)
    page = json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False)  # whoever reads it may not know NaN
    (folder / FACTS).write_text(page + "\n", encoding="utf-8")


def read_bundle(folder: str | Path, *, expect: str | None = None) -> Bundle:
    """Read a bundle and check every file against its SHA-256. `expect` pins the identity (its beginning is enough).

    Nothing is unpickled, imported by name or downloaded. Raises InputError naming the file at fault.
    """
    target = Path(folder)
    if target.name == FACTS:
        target = target.parent
    if not (target / FACTS).is_file():
        beside = next((path.parent for path in sorted(target.glob(f"*/{FACTS}"))), None) if target.is_dir() else None
        hint = f"did you mean {beside}?" if beside else "name the bundle folder that `hilum train` wrote (RUN/bundle)"
        raise InputError(f"this is not a bundle: it holds no {FACTS}", where=target, do=hint)
    try:
        facts = json.loads((target / FACTS).read_text(encoding="utf-8"))
        if facts.pop("seal") != _seal(facts):
            raise ValueError("the seal is broken")
        files = facts.pop("files")
        facts["pixels"] = PixelSpec(**facts["pixels"])
        bundle = Bundle(**facts, folder=target)
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError("the facts of the bundle are damaged", where=target / FACTS, do=_DAMAGED) from error
    except OSError as error:
        raise from_os_error(error, target / FACTS) from error
    for name, wanted in files.items():
        file = target / name
        if ".." in Path(name).parts or not file.resolve().is_relative_to(target.resolve()):
            raise InputError(f"the bundle lists {name!r}, which lies outside it", where=target / FACTS, do=_DAMAGED)
        if not file.is_file():
            raise InputError("a file of the bundle is missing", where=file, do=_DAMAGED)
        if _sha256(file) != wanted:
            raise InputError("this file is not as the bundle was written: its SHA-256 differs", where=file, do=_DAMAGED)
    if bundle.identity != _identity(files[WEIGHTS], bundle):
        raise InputError("the facts of the bundle do not belong to its weights", where=target / FACTS, do=_DAMAGED)
    if expect is not None and not bundle.identity.startswith(expect.lower()):
        raise InputError(
            f"the bundle is {bundle.identity[:12]}, not {expect}", where=target, do="get the bundle you expect"
        )
    bundle.operating_points = read_operating_points(target / "operating_points.csv")
    return bundle


def read_weights(bundle: Bundle) -> dict[str, np.ndarray]:
    """The weights of a bundle by parameter name."""
    try:
        with safe_open(bundle.weights_file, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping, has only keys())
    except SafetensorError as error:
        raise InputError("the weights cannot be read", where=bundle.weights_file, do=_DAMAGED) from error


_DAMAGED = "copy the bundle again from where it came"


def _identity(weights_sha: str, bundle: Bundle) -> str:
    """SHA-256 over weights, findings, pixel spec and architecture: what decides the logits."""
    facts: dict[str, Any] = {"weights": weights_sha, "findings": bundle.findings, "pixels": bundle.pixels.as_dict()}
    facts |= {"architecture": bundle.architecture, "views": bundle.views}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _seal(facts: Mapping[str, Any]) -> str:
    """SHA-256 of the facts themselves, so that a damaged count is found as surely as a damaged weight."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
