"""Label columns: found by name whatever their order, case and separators; values as they stand, a blank unknown."""

from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.errors import InputError
from hilum.findings import FINDING_SETS, aliases
from hilum.sources.label_columns import alias_notes, label_columns

FINDINGS = FINDING_SETS["chexpert"]
FILE = Path("labels.csv")
CELLS = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1, None: None}


def spelt(name: str, way: int) -> str:
    return (name, name.upper(), name.replace(" ", "_"), name.lower().replace(" ", "-"))[way]


@settings(max_examples=30, deadline=None)
@given(st.permutations(FINDINGS), st.lists(st.integers(0, 3), min_size=14, max_size=14), st.data())
def test_neither_order_nor_spelling_matters(order, ways, data):
    cells = {name: data.draw(st.lists(st.sampled_from(list(CELLS)), min_size=2, max_size=2)) for name in FINDINGS}
    table = pl.DataFrame(
        {
            "Path": ["a", "b"],
            **{spelt(name, way): cells[name] for name, way in zip(order, ways)},
            "Unnamed: 0": ["0", "1"],
        },
        schema_overrides={spelt(name, way): pl.String for name, way in zip(order, ways)},
    )
    read = label_columns(table, FINDINGS, FILE, of="CheXpert", facts=("Path",), uncertain=True)
    assert list(read) == list(FINDINGS)
    assert {name: column.to_list() for name, column in read.items()} == {
        name: [CELLS[cell] for cell in cells[name]] for name in FINDINGS
    }
    assert all(column.dtype == pl.Int8 for column in read.values())


def test_one_finding_under_two_names():
    table = pl.DataFrame({"Effusion": ["1"], "Pleural Effusion": ["0"]})
    with pytest.raises(InputError, match="two columns are the finding 'Pleural Effusion'"):
        label_columns(table, ("Pleural Effusion",), FILE, of="a test")


def test_only_another_word_is_an_alias():
    names = ["Effusion", "Pleural_Thickening", "CARDIOMEGALY", "ILD", "Something new"]
    assert aliases(names) == {"Effusion": "Pleural Effusion", "ILD": "Interstitial Lung Disease"}
    assert alias_notes(names) == [
        "Known under another name: Effusion is Pleural Effusion, ILD is Interstitial Lung Disease."
    ]
    assert alias_notes(["Mass", "No Finding", "Normal"]) == []
