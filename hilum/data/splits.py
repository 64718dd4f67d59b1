"""Who trains, who validates, who is tested: by patient, with every finding spread as evenly as its positives allow."""

from collections.abc import Sequence

import numpy as np
import polars as pl

from hilum.errors import InputError
from hilum.tables import finding_names, labels_of


def hold_out(studies: pl.DataFrame, *, valid: float = 0.1, test: float = 0.2, seed: int = 0) -> pl.DataFrame:
    """The table with a column `split`: train, valid, test in these shares of the studies (0 leaves a part out).

    No patient stands in two parts (where patients are unknown: no study). Deterministic in the seed, whatever the order
    of rows. Raises InputError where a part would be empty.
    """
    shares = {
        name: share for name, share in (("train", 1 - valid - test), ("valid", valid), ("test", test)) if share > 0
    }
    part_of = stratify(studies, list(shares.values()), seed=seed)
    return _with_split(studies, part_of, list(shares))


def folds(studies: pl.DataFrame, *, count: int, fold: int, valid: float = 0.1, seed: int = 0) -> pl.DataFrame:
    """The table with a column `split`: fold number `fold` of `count` is test, a share `valid` of the rest is valid.

    The folds of one seed do not overlap and together are the whole table.
    """
    part_of = stratify(studies, [1 / count] * count, seed=seed)
    tested = {patient for patient, part in part_of.items() if part == fold}
    key = _group_key(studies)
    rest = studies.filter(~key.is_in(list(tested)))
    inner = stratify(rest, [1 - valid, valid], seed=seed)
    return _with_split(studies, {patient: inner.get(patient, 2) for patient in part_of}, ["train", "valid", "test"])


def stratify(studies: pl.DataFrame, shares: Sequence[float], *, seed: int) -> dict[str, int]:
    """Part number of each patient (or study, where patients are unknown), parts being `shares` of the studies.

    Iterative stratification (Sechidis et al. 2011) over patients: the rarest finding still unplaced goes first, patients
    with most of its positives first, each to the part that lacks it most; patients without any positive fill up last.
    """
    labels = labels_of(studies, finding_names(studies))
    patients, group = np.unique(np.array(labels.patients), return_inverse=True)  # sorted: row order has no say
    if len(patients) < len(shares):
        raise InputError(
            f"{len(patients)} patients cannot be dealt into {len(shares)} parts",
            do="import more studies or ask for fewer parts",
        )
    positives = np.zeros((len(patients), len(labels.findings)), dtype=np.float64)
    np.add.at(positives, group, np.nan_to_num(labels.values) == 1)
    sizes = np.bincount(group, minlength=len(patients)).astype(np.float64)
    chance = np.random.default_rng([seed, len(patients)]).random(len(patients))  # decides between equals
    part = _deal(positives, sizes, np.asarray(shares, dtype=np.float64), chance)
    return dict(zip(patients.tolist(), part.tolist()))


def _deal(positives: np.ndarray, sizes: np.ndarray, shares: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(P,) part numbers for patients with positives (P, F) and studies (P,)."""
    part = np.full(len(sizes), -1)
    lacking = shares[:, None] * positives.sum(axis=0)  # (K, F) positives each part still wants
    room = shares * sizes.sum()  # (K,) studies each part still wants
    left = positives.sum(axis=0)
    while (left > 0).any():
        finding = int(np.where(left > 0, left, np.inf).argmin())
        waiting = np.flatnonzero((part < 0) & (positives[:, finding] > 0))
        for patient in waiting[np.lexsort((chance[waiting], -positives[waiting, finding]))]:
            # the part that lacks the finding most; among equals the one with most room, in proportion to its size
            chosen = int(np.lexsort((-room / shares, -lacking[:, finding].round(9)))[0])
            part[patient] = chosen
            lacking[chosen] -= positives[patient]
            room[chosen] -= sizes[patient]
            left -= positives[patient]
    waiting = np.flatnonzero(part < 0)
    for patient in waiting[np.lexsort((chance[waiting], -sizes[waiting]))]:
        chosen = int(room.argmax())
        part[patient] = chosen
        room[chosen] -= sizes[patient]
    return part


def _with_split(studies: pl.DataFrame, part_of: dict[str, int], names: Sequence[str]) -> pl.DataFrame:
    if empty := set(range(len(names))) - set(part_of.values()):
        raise InputError(
            f"the part {names[min(empty)]!r} of the split is empty", do="import more patients or raise its share"
        )
    split = _group_key(studies).replace_strict(
        {patient: names[part] for patient, part in part_of.items()}, return_dtype=pl.String
    )
    return studies.with_columns(split.alias("split"))


def _group_key(studies: pl.DataFrame) -> pl.Series:
    """What must not be torn apart: the patient, or the study where patients are unknown."""
    return studies["patient_id"].fill_null(studies["study_id"])
