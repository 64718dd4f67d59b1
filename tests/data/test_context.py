"""Which study came before, and what words become: by hand."""

from datetime import date

import numpy as np
import polars as pl
import pytest

from hilum.data.context import indications, priors, wanted_by
from hilum.data.text import BUCKETS, TEXTS, hashed_words
from hilum.errors import InputError


def table(*rows):
    columns = {"study_id": pl.String, "patient_id": pl.String, "study_date": pl.Date, "indication": pl.String}
    return pl.DataFrame(rows, schema=columns, orient="row")


def day(number):
    return date(2020, 1, number)


def test_the_study_before_is_the_latest_of_an_earlier_day():
    rows = [
        ("d", "p", day(9), None), ("a", "p", day(1), None), ("a", "p", None, None), ("c", "p", day(5), None),
        ("b", "p", day(5), None), ("x", "q", day(7), None), ("u", "p", None, None), ("n", None, day(9), None),
        ("m", None, day(1), None),
    ]  # fmt: skip
    found = {study: (prior, years) for study, prior, years in priors(table(*rows)).iter_rows()}
    assert set(found) == {"b", "c", "d"}, "no prior of the first, of a patient's only one, without a day or a patient"
    assert {study: prior for study, (prior, _) in found.items()} == {"b": "a", "c": "a", "d": "c"}
    assert found["d"][1] == pytest.approx(4 / 365.25)
    assert priors(table(*rows).drop("study_date")).is_empty()
    assert priors(table(*rows[:1])).is_empty()
    assert priors(table(*reversed(rows))).sort("study_id").equals(priors(table(*rows)).sort("study_id"))


def test_words_become_the_same_numbers_everywhere():
    """The CRC-32 of "cough" is 0x401AA364, in bucket 356 of 512; likewise "fever" 465 and "cough fever" 104."""
    one = hashed_words(["Cough, FEVER!"])[0]
    assert np.flatnonzero(one).tolist() == [104, 356, 465]
    np.testing.assert_allclose(one[[104, 356, 465]], 3**-0.5, rtol=1e-6)
    many = hashed_words(["fever cough", "", "...", "cough cough cough"])
    assert (many[0] != one).any(), "the order of words tells"
    assert not many[1:3].any()
    np.testing.assert_allclose(np.linalg.norm(many[[0, 3]], axis=1), 1, rtol=1e-6)
    assert many.dtype == np.float32


def test_indications_are_of_studies_and_blank_ones_are_none():
    told, vectors = indications(
        table(("a", "p", None, None), ("a", "p", None, "fall"), ("b", "p", None, "  "), ("c", "p", None, None)),
        TEXTS["hashed_words"],
    )
    assert told == ["a"]
    np.testing.assert_array_equal(vectors, hashed_words(["fall"]))
    told, vectors = indications(table(("a", "p", None, "fall")).drop("indication"), TEXTS["hashed_words"])
    assert (told, vectors.shape) == ([], (0, BUCKETS))


def test_what_a_fusion_asks_for():
    assert wanted_by({"name": "mean"}) == wanted_by({"name": "transformer", "context": []})
    assert wanted_by({"name": "transformer", "context": ["demographics"]}).text is None
    assert wanted_by({"name": "transformer", "context": ["prior"]}).prior
    assert wanted_by({"name": "transformer", "context": ["indication"]}).text is TEXTS["hashed_words"]
    with pytest.raises(InputError, match="hashed_words"):
        wanted_by({"name": "transformer", "context": ["indication"], "text": "hashed_wrds"})
