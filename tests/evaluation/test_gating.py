"""Rules between findings: by hand, what they never do, and on tables."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from hilum.cli import app
from hilum.errors import InputError
from hilum.evaluation.gating import apply_rules, choose_power, gated, raised
from hilum.tables import Predictions, read_predictions, read_studies, write_predictions, write_studies

FINDINGS = ["Normal", "Mass", "Nodule", "Lesion"]
TREE = {"Mass": "Lesion", "Nodule": "Lesion"}


def test_the_gate_by_hand():
    p = np.array([[0.75, 0.4, 0.1, 0.0], [0.0, 0.4, 0.1, 1.0], [1.0, 0.4, 0.1, 1.0]])
    np.testing.assert_allclose(gated(p, 0, 0.5), [[0.75, 0.2, 0.05, 0], [0, 0.4, 0.1, 1], [1, 0, 0, 0]])
    np.testing.assert_allclose(gated(p, 0, 1.0)[0], [0.75, 0.1, 0.025, 0])
    assert np.array_equal(gated(p, 0, 0.0), p), "no power, no gate, not even where Normal is certain"
    assert np.array_equal(gated(p, 3, 1.0)[:, 3], p[:, 3])


@given(
    rows=st.lists(st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=6),
    power=st.floats(0, 5),
)
@settings(max_examples=50, deadline=None, database=None, derandomize=True)
def test_rules_leave_probabilities_probabilities(rows, power):
    p = np.array(rows, dtype=np.float32)
    held = gated(p, 0, power)
    assert ((held >= 0) & (held <= p)).all()
    higher = raised(p, FINDINGS, TREE)
    assert ((higher >= p) & (higher <= 1)).all()
    assert (higher[:, 3:] >= higher[:, 1:3]).all()
    assert np.array_equal(higher[:, :3], p[:, :3])
    assert np.array_equal(raised(higher, FINDINGS, TREE), higher)


def test_a_grandchild_raises_its_grandparent():
    p = np.array([[0.1, 0.2, 0.9, 0.0]])
    pairs = {"Nodule": "Mass", "Mass": "Lesion"}
    assert raised(p, FINDINGS, pairs).tolist() == [[0.1, 0.9, 0.9, 0.9]]
    assert raised(p, FINDINGS, dict(reversed(pairs.items()))).tolist() == [[0.1, 0.9, 0.9, 0.9]]
    with pytest.raises(InputError, match="its own ancestor"):
        raised(p, FINDINGS, {"Mass": "Lesion", "Lesion": "Mass"})
    with pytest.raises(InputError, match="id you mean 'Lesion'"):
        raised(p, FINDINGS, {"Mass": "Lesions"})


def test_a_finding_may_have_several_parents():
    p = np.array([[0.9, 0.1, 0.2, 0.3]], dtype=np.float32)
    both = {FINDINGS[0]: [FINDINGS[1], FINDINGS[2]], FINDINGS[2]: FINDINGS[3]}
    assert raised(p, FINDINGS, both).tolist() == [[p[0, 0], p[0, 0], p[0, 0], p[0, 0]]]
    with pytest.raises(InputError, match="own ancestor"):
        raised(p, FINDINGS, both | {FINDINGS[3]: [FINDINGS[1], FINDINGS[0]]})


def test_the_power_is_the_one_that_ranks_best():
    labels = np.array([[1, 0], [0, 1], [0, 1], [1, 0]], dtype=float)
    helped = np.array([[0.9, 0.6], [0.1, 0.5], [0.1, 0.4], [0.8, 0.7]])
    assert choose_power(labels, helped, 0) == 0.5, "the least of those that are level"
    spoilt = 1 - helped[:, :1]
    assert choose_power(labels, np.hstack([spoilt, labels[:, 1:] * 0.2 + 0.4]), 0) == 0
    assert choose_power(labels[:, :1], helped[:, :1], 0) == 0
    unknown = labels.copy()
    unknown[:, 1] = np.nan
    assert choose_power(unknown, helped, 0) == 0


def tables(folder):
    random = np.random.default_rng(0)
    ids = [f"s{i}" for i in range(40)]
    labels = {"Normal": [i % 2 for i in range(40)], "Mass": [1 - i % 2 for i in range(40)], "Lesion": [0, 1, 1, 0] * 10}
    studies = pl.DataFrame(
        {"study_id": ids, "patient_id": ids, "image_id": ids, "path": ids, "view": "PA", "source": "t"}
    )
    studies = studies.with_columns(pl.Series(name, value, dtype=pl.Int8) for name, value in labels.items())
    write_studies(studies, folder / "studies.parquet", label_level="study")
    chances = pl.DataFrame({"study_id": ids, "patient_id": ids})
    noise = {name: np.clip(0.5 + 0.1 * random.standard_normal(40), 0, 1) for name in labels}
    noise["Normal"] = np.where(np.array(labels["Normal"]) > 0, 0.9, 0.1)
    chances = chances.with_columns(pl.Series(name, value, dtype=pl.Float32) for name, value in noise.items())
    facts = Predictions(chances, bundle="abc", calibrated=True, thresholds={"Mass": 0.5}, note="A note.")
    write_predictions(replace(facts, table=chances[20:]), folder / "p.parquet")
    write_predictions(replace(facts, table=chances[:20]), folder / "held.parquet")
    return folder / "p.parquet", folder / "studies.parquet"


def test_tables_say_what_was_done_to_them(tmp_path):
    predictions, studies = tables(tmp_path)
    _, power = apply_rules(
        predictions,
        tmp_path / "out.parquet",
        normal="Normal",
        fit_on=tmp_path / "held.parquet",
        studies=studies,
        parents={"Mass": "Lesion"},
    )
    assert power > 0
    before, after = read_predictions(predictions), read_predictions(tmp_path / "out.parquet")
    assert (after.thresholds, after.calibrated, after.bundle) == ({}, False, "abc")
    assert after.note.startswith("A note. Every probability was multiplied by (1 - that of Normal) to the power")
    assert "Mass < Lesion" in after.note
    assert after.table.columns == before.table.columns
    assert after.table["Normal"].equals(before.table["Normal"])
    expected = before.table["Mass"].to_numpy() * (1 - before.table["Normal"].to_numpy().astype(float)) ** power
    np.testing.assert_allclose(after.table["Mass"].to_numpy(), expected, rtol=1e-6)
    assert (after.table["Lesion"] >= after.table["Mass"]).all()
    plain, power = apply_rules(predictions, tmp_path / "plain.parquet")
    assert power == 0
    assert plain.table.equals(before.table)
    assert (plain.thresholds, plain.calibrated) == (before.thresholds, True)


def test_the_power_is_never_chosen_on_those_that_are_ruled(tmp_path):
    predictions, studies = tables(tmp_path)
    given = {"normal": "Normal", "fit_on": tmp_path / "held.parquet", "studies": studies}
    with pytest.raises(InputError, match="20 studies of --fit-on are also ruled, such as 's20'"):
        apply_rules(predictions, tmp_path / "out.parquet", **given | {"fit_on": predictions})
    again = read_studies(studies).with_columns(patient_id=pl.col("patient_id").replace("s3", "s20"))
    write_studies(again, studies, label_level="study")
    with pytest.raises(InputError, match="1 patients of --fit-on also have studies that are ruled, such as 's20'"):
        apply_rules(predictions, tmp_path / "out.parquet", **given)
    assert not (tmp_path / "out.parquet").exists()


def test_where_no_gate_helps_nothing_changes(tmp_path):
    predictions, studies = tables(tmp_path)
    held = read_predictions(tmp_path / "held.parquet")
    perfect = (pl.col("Mass", "Lesion").cast(pl.Float32) * 0.2 + 0.4).cast(pl.Float32)
    labels = read_studies(studies)[:20].select(perfect)
    spoilt = labels.with_columns(Normal=pl.col("Mass"))  # sure of Normal where there is a mass
    write_predictions(replace(held, table=held.table.with_columns(spoilt)), tmp_path / "held.parquet")
    made, power = apply_rules(
        predictions, tmp_path / "out.parquet", normal="Normal", fit_on=tmp_path / "held.parquet", studies=studies
    )
    before = read_predictions(predictions)
    assert power == 0
    assert made.table.equals(before.table)
    assert (made.thresholds, made.calibrated) == (before.thresholds, True) == ({"Mass": 0.5}, True)
    assert made.note == "A note. No gate by Normal was chosen."
    raised_too, _ = apply_rules(
        predictions, tmp_path / "out.parquet", normal="Normal", power=0, parents={"Mass": "Lesion"}
    )
    assert (raised_too.thresholds, raised_too.calibrated) == ({}, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal": "Nromal", "power": 1.0}, "id you mean 'Normal'"),
        ({"normal": "Normal"}, "nothing to choose it on"),
        ({"normal": "Normal", "power": -1.0}, "0 or more"),
    ],
)
def test_rules_that_cannot_be_laid(tmp_path, options, message):
    predictions, _ = tables(tmp_path)
    with pytest.raises(InputError, match=message):
        apply_rules(predictions, tmp_path / "out.parquet", **options)
    assert not (tmp_path / "out.parquet").exists()


def test_the_verb(tmp_path):
    predictions, _ = tables(tmp_path)
    given = ["rules", str(predictions), "-o", str(tmp_path / "out.parquet")]
    told = CliRunner().invoke(app, [*given, "--normal", "Normal", "--power", "0.5", "--parent", "Mass=Lesion"])
    assert told.exit_code == 0, told.output
    assert "20 rows, others times (1 - Normal)^0.5" in told.output
    none = CliRunner().invoke(app, [*given, "--normal", "Normal", "--power", "0"])
    assert "20 rows, no gate by Normal was chosen" in none.output
    for words, message in (([], "no rule to lay"), (["--parent", "Mass"], "names no parent")):
        failed = CliRunner().invoke(app, [*given, *words])
        assert isinstance(failed.exception, InputError)
        assert message in str(failed.exception)
