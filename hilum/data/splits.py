"""Who trains, who validates, who is tested: patients are never shared, and every finding is spread as evenly as they allow."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl

from hilum.errors import InputError
from hilum.tables import finding_names

Counts = np.ndarray[Any, np.dtype[np.int64]]


def hold_out(
    studies: pl.DataFrame,
    *,
    by: Literal["patient"] = "patient",
    valid: float = 0.1,
    test: float = 0.2,
    seed: int = 0,
) -> pl.DataFrame:
    """The study table with `split` = train, valid or test, every patient on one side.

    valid, test: shares of the studies, each 0 or more, together below 1; a share of 0 leaves that split out.
    Where patients are unknown each study stands for its own. The same seed gives the same split in any order of rows.
    Raises InputError where a split would get no patient.
    """
    shares = {"train": 1.0 - valid - test, "valid": valid, "test": test}
    if valid < 0 or test < 0 or shares["train"] <= 1e-9:
        raise InputError(
            f"valid {valid:g} and test {test:g} are no shares that leave something to train on",
            do="choose shares of 0 or more that stay below 1 together",
        )
    wanted = {name: share for name, share in shares.items() if share > 1e-9}
    groups = _Groups(studies)
    places = _spread(groups, list(wanted.values()), [seed, 0])
    _check_filled(places, list(wanted), groups, "choose a larger share for it, or 0 to do without")
    return groups.tell(studies, [list(wanted)[place] for place in places])


def folds(studies: pl.DataFrame, *, count: int, fold: int, valid: float = 0.1, seed: int = 0) -> pl.DataFrame:
    """The study table with `split` for one of `count` folds: the fold is test, the rest train with `valid` carved out.

    fold: 0 to count - 1; over all folds each study is tested once. valid: share of all studies, by patient like the folds.
    """
    if count < 2 or not 0 <= fold < count:
        raise InputError(
            f"fold {fold} of {count} does not exist", do="choose 2 or more folds, and fold from 0 to folds - 1"
        )
    if not 0 <= valid < 1 - 1 / count:
        raise InputError(
            f"valid {valid:g} leaves nothing to train on beside a test fold of 1/{count}",
            do=f"choose 0 or more, below {1 - 1 / count:g}",
        )
    groups = _Groups(studies)
    names = [f"fold {number}" for number in range(count)]
    places = _spread(groups, [1 / count] * count, [seed, 1])
    _check_filled(places, names, groups, "choose fewer folds")
    split = np.where(places == fold, "test", "train").astype(object)
    if valid > 0:
        rest = np.flatnonzero(places != fold)
        share = valid / (1 - 1 / count)
        carved = _spread(groups.only(rest), [1 - share, share], [seed, 2, fold])
        _check_filled(carved, ["train", "valid"], groups, "choose a larger valid share, or 0 to do without")
        split[rest[carved == 1]] = "valid"
    return groups.tell(studies, split.tolist())


class _Groups:
    """Patients (or studies, where patients are unknown), sorted by name so that the order of rows does not matter.

    studies (G,): studies of each; positives (G, F): of those, how many show each finding.
    """

    def __init__(self, table: pl.DataFrame):
        findings = finding_names(table)
        self._key = pl.coalesce("patient_id", "study_id") if "patient_id" in table.columns else pl.col("study_id")
        shown = [(pl.col(name) == 1).any().cast(pl.Int64).alias(f"__{i}") for i, name in enumerate(findings)]
        per_study = table.group_by(self._key.alias("__group"), "study_id").agg(*shown)
        summed = [pl.col(f"__{i}").sum() for i in range(len(findings))]
        groups = per_study.group_by("__group").agg(pl.len().alias("__studies"), *summed).sort("__group")
        self.names = groups["__group"]
        self.studies: Counts = groups["__studies"].to_numpy().astype(np.int64)
        self.positives: Counts = groups.drop("__group", "__studies").to_numpy().astype(np.int64)

    def only(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> "_Groups":
        part = object.__new__(_Groups)
        part._key, part.names = self._key, self.names.gather(rows)
        part.studies, part.positives = self.studies[rows], self.positives[rows]
        return part

    def tell(self, table: pl.DataFrame, split: Sequence[str]) -> pl.DataFrame:
        """The table with its split column, given the split of each group."""
        said = pl.DataFrame({"__group": self.names, "split": split}, schema_overrides={"split": pl.String})
        rows = table.select(self._key.alias("__group"))
        return table.with_columns(rows.join(said, on="__group", how="left", maintain_order="left")["split"])


def _spread(groups: _Groups, shares: Sequence[float], seed: Sequence[int]) -> Counts:
    """The place 0..len(shares)-1 of each group: iterative stratification (Sechidis et al. 2011) of groups.

    The finding with fewest positives left goes first; its patients, those with most of it before the others, each go
    where after half of their own is placed the largest part of the share is still open (Webster's rule, which favours
    neither large nor small shares); then the same for the next finding, and the patients without any by their studies.
    """
    share = np.asarray(shares)
    total_positives, total = groups.positives.sum(axis=0), groups.studies.sum()
    room = np.outer(share, total_positives)  # (S, F): positives each place still wants
    space = share * total  # (S,): studies each place still wants
    places = np.full(len(groups.studies), -1, dtype=np.int64)
    lot = np.random.default_rng(list(seed)).permutation(len(places))  # who goes first among equals

    def place(group: int, want: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        tied = np.flatnonzero(want >= want.max() - 1e-9)
        chosen = tied[0] if len(tied) == 1 else tied[np.argmax(space[tied] / share[tied])]
        places[group] = chosen
        room[chosen] -= groups.positives[group]
        space[chosen] -= groups.studies[group]

    left = total_positives.copy()
    while (left > 0).any():
        finding = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        column = groups.positives[:, finding]
        waiting = np.flatnonzero((column > 0) & (places < 0))
        target = share * total_positives[finding]
        for group in waiting[np.lexsort((lot[waiting], -column[waiting]))]:
            place(int(group), (room[:, finding] - column[group] / 2) / target)
        left -= groups.positives[waiting].sum(axis=0)
    waiting = np.flatnonzero(places < 0)
    target = share * total
    for group in waiting[np.lexsort((lot[waiting], -groups.studies[waiting]))]:
        place(int(group), (space - groups.studies[group] / 2) / target)
    return places


def _check_filled(places: Counts, names: Sequence[str], groups: _Groups, remedy: str) -> None:
    for number, name in enumerate(names):
        if not (places == number).any():
            who = "patient" if len(groups.names) != groups.studies.sum() else "patient (or study)"
            raise InputError(f"no {who} of {len(groups.names)} is left for {name}", do=remedy)
