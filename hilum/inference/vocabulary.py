"""What can be asked of an open bundle by name: which known finding is meant, and which are near. Without torch."""

import difflib
from collections.abc import Sequence

from hilum.bundle import Bundle
from hilum.errors import InputError
from hilum.findings import canonical
from hilum.label_file import FILE, LabelVectors, read_label_vectors

_NEAR = 0.85  # from this likeness on (difflib's ratio) an unknown name is taken for a known one misspelt
_LIKE = 0.5  # from this on a known name is worth offering


def carried_labels(bundle: Bundle) -> LabelVectors | None:
    """The vectors that an open bundle carries, of its own findings and of every other known one; None where it is closed."""
    return read_label_vectors(bundle.weights_file.parent / FILE) if bundle.vocabulary == "open" else None


def chosen(findings: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names as `known` spells them, others as they are. Raises InputError for none, doubles, and what is nearly a known one."""
    names = [known_as(name, known) or canonical(name) for name in findings if name.strip()]
    if not names:
        raise InputError("no finding is named", do='name some, such as "Scoliosis, Bulla"')
    if doubles := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{doubles[0]!r} is named twice", do="name each finding once")
    for name in names:
        if name not in known and (near := misspelt(name, known)):
            raise InputError(f"there is no finding {name!r}", do=f"write {near!r}, or choose other words")
    return names


def known_as(name: str, known: Sequence[str]) -> str | None:
    """The one of `known` that a name in any case, with any separators, or by an alias stands for."""
    folded = {one.casefold(): one for one in known}
    return folded.get(name.strip().casefold()) or folded.get(canonical(name).casefold())


def misspelt(name: str, known: Sequence[str]) -> str | None:
    """The one of `known` that a name is nearly, so that it cannot be meant for anything else."""
    return next(iter(like(name, known, most=1, likeness=_NEAR)), None)


def like(name: str, known: Sequence[str], most: int = 3, likeness: float = _LIKE) -> list[str]:
    """Up to `most` of `known` that look like a name, the likest first."""
    folded = {one.casefold(): one for one in known}
    return [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, n=most, cutoff=likeness)]
