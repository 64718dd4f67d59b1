"""The laws of a split: no patient on two sides, no say for the order of rows, shares met, rare findings spread."""

import contextlib

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.data.splits import folds, hold_out
from hilum.errors import InputError

PREVALENCE = {"Common": 0.4, "Medium": 0.05, "Rare": 0.01}


def table(patients: int = 600, seed: int = 0, known: bool = True) -> pl.DataFrame:
    """Patients of 1 to 6 studies of 1 to 3 images; -1 and null among the labels."""
    random = np.random.default_rng(seed)
    rows = []
    for p in range(patients):
        for s in range(random.integers(1, 7)):
            labels = {name: random.choice([1, 0, -1, None], p=[share, 0.9 - share, 0.05, 0.05])
                      for name, share in PREVALENCE.items()}  # fmt: skip
            for i in range(random.integers(1, 4)):
                rows.append({"study_id": f"p{p}s{s}", "patient_id": f"p{p}" if known else None,
                             "image_id": f"p{p}s{s}i{i}", **labels})  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"patient_id": pl.String, **dict.fromkeys(PREVALENCE, pl.Int8)})


def per_study(split: pl.DataFrame) -> dict[str, pl.DataFrame]:
    studies = split.unique("study_id")
    return {name: studies.filter(pl.col("split") == name) for name in ("train", "valid", "test")}


def sides(split: pl.DataFrame, key: str) -> int:
    most = split.group_by(key).agg(pl.col("split").n_unique())["split"].max()
    assert isinstance(most, int)
    return most


def test_no_patient_stands_on_two_sides_and_shares_are_met() -> None:
    split = hold_out(table(), valid=0.1, test=0.2)
    assert split["split"].null_count() == 0
    assert sides(split, "patient_id") == 1
    parts, total = per_study(split), split["study_id"].n_unique()
    for name, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
        assert parts[name].height / total == pytest.approx(share, abs=0.01)
    for finding in PREVALENCE:
        positives = {name: (part[finding] == 1).sum() for name, part in parts.items()}
        whole = sum(positives.values())
        for name, share in (("train", 0.7), ("valid", 0.1), ("test", 0.2)):
            assert abs(positives[name] - share * whole) <= max(1.5, 0.03 * whole), (finding, positives)


def test_positives_are_not_crowded_in_train() -> None:
    """Patients with many positives are dealt to every side, not to the largest alone."""
    rows = [{"study_id": f"{p}-{s}", "patient_id": str(p), "image_id": f"{p}-{s}", "Mass": int(s < p % 9)}
            for p in range(400) for s in range(9)]  # fmt: skip
    parts = per_study(hold_out(pl.DataFrame(rows, schema_overrides={"Mass": pl.Int8})))
    shares = {name: (part["Mass"] == 1).mean() for name, part in parts.items()}
    assert max(shares.values()) - min(shares.values()) < 0.01  # type: ignore[type-var, operator]


@pytest.mark.parametrize("known", [True, False])
def test_the_order_of_rows_has_no_say_and_the_seed_has(known: bool) -> None:
    rows = table(150, known=known)
    first = hold_out(rows, seed=3)
    assert first["image_id"].equals(rows["image_id"])
    shuffled = hold_out(rows.sample(fraction=1.0, shuffle=True, seed=1), seed=3)
    said = shuffled.select("image_id", again="split")
    assert first.join(said, on="image_id").filter(pl.col("split") != pl.col("again")).is_empty()
    assert not first["split"].equals(hold_out(rows, seed=4)["split"])
    assert sides(first, "study_id") == 1


def test_folds_partition_the_studies() -> None:
    rows = table(200)
    tested: list[str] = []
    for fold in range(5):
        split = folds(rows, count=5, fold=fold, valid=0.1)
        assert sides(split, "patient_id") == 1
        parts, total = per_study(split), rows["study_id"].n_unique()
        assert parts["test"].height / total == pytest.approx(0.2, abs=0.02)
        assert parts["valid"].height / total == pytest.approx(0.1, abs=0.02)
        tested += parts["test"]["study_id"].to_list()
    assert sorted(tested) == sorted(rows["study_id"].unique().to_list())


def test_shares_of_nothing_leave_a_side_out() -> None:
    assert set(hold_out(table(50), valid=0.2, test=0.0)["split"]) == {"train", "valid"}
    assert set(folds(table(50), count=2, fold=1, valid=0.0)["split"]) == {"train", "test"}


def test_an_earlier_split_is_replaced_and_no_other_column() -> None:
    rows = table(50).with_columns(split=pl.lit("test"))
    split = hold_out(rows)
    assert split.columns == rows.columns
    assert split.drop("split").equals(rows.drop("split"))
    assert set(split["split"]) == {"train", "valid", "test"}


def test_a_table_without_findings_is_split_by_size() -> None:
    parts = per_study(hold_out(table(200).drop(*PREVALENCE)))
    assert parts["test"].height / sum(part.height for part in parts.values()) == pytest.approx(0.2, abs=0.01)


def test_a_single_positive_goes_to_train() -> None:
    rows = table(60).with_columns(
        Rare=(pl.col("patient_id") == "p7").cast(pl.Int8), Common=pl.lit(0, dtype=pl.Int8), Medium=pl.lit(None).cast(pl.Int8)
    )  # fmt: skip
    assert set(hold_out(rows).filter(pl.col("Rare") == 1)["split"]) == {"train"}


@settings(max_examples=30, deadline=None)
@given(patients=st.integers(1, 12), valid=st.sampled_from([0.0, 0.1, 0.4]), test=st.sampled_from([0.0, 0.2, 0.5]))
def test_small_data_fill_every_side_or_say_what_to_do(patients: int, valid: float, test: float) -> None:
    wanted = {"train"} | ({"valid"} if valid else set()) | ({"test"} if test else set())
    split = None
    with contextlib.suppress(InputError):
        split = hold_out(table(patients), valid=valid, test=test)
    if split is None:
        with pytest.raises(InputError, match="larger share"):
            hold_out(table(patients), valid=valid, test=test)
        assert patients < 10
    else:
        assert set(split["split"]) == wanted
        assert sides(split, "patient_id") == 1


def test_impossible_shares_and_folds_are_refused() -> None:
    for shares in ({"valid": 0.5, "test": 0.5}, {"valid": -0.1, "test": 0.2}):
        with pytest.raises(InputError, match="shares"):
            hold_out(table(10), **shares)  # type: ignore[arg-type]
    for count, fold in ((5, 5), (1, 0), (3, -1)):
        with pytest.raises(InputError, match="fold"):
            folds(table(10), count=count, fold=fold)
    with pytest.raises(InputError, match="valid"):
        folds(table(10), count=2, fold=0, valid=0.5)
    with pytest.raises(InputError, match="fewer folds"):
        folds(table(3), count=5, fold=0)
