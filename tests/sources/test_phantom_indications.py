"""The phantom's indications: hints tied to what is there, follow-ups of what was there, a third missing, drawn apart from all else."""

from collections import Counter

import numpy as np
import pytest

from hilum.sources.phantom.indications import LIFT, MISSING, REQUESTS, indications
from hilum.sources.phantom.labels import mined_labels, truth_of
from hilum.sources.phantom.patients import first_studies, studies_of
from hilum.sources.phantom.worlds import WORLDS

MANY = 4000
BY_WORDS = {words: request for request in REQUESTS for words in request.words}


@pytest.fixture(scope="module")
def world():
    return WORLDS["cxr-lt-2023"]


@pytest.fixture(scope="module")
def asked(world):
    studies = list(first_studies(7, MANY))
    return studies, indications(studies, world)


def test_every_request_is_worded_once_and_knows_its_findings():
    assert len(BY_WORDS) == sum(len(request.words) for request in REQUESTS)
    names = set(WORLDS["cxr-lt-2024"].findings)
    assert {name for request in REQUESTS for name in request.findings} <= names


def test_a_third_is_missing_and_every_request_occurs(asked):
    _, said = asked
    assert np.mean([one is None for one in said]) == pytest.approx(MISSING, abs=4 * (MISSING / 1.5 / MANY) ** 0.5)
    counts = Counter(BY_WORDS[one] for one in said if one)
    assert len(counts) > len(REQUESTS) - 3, "the rarest may not come"


def test_a_finding_comes_with_its_words_four_times_as_often_and_mostly_with_others(asked, world):
    studies, said = asked
    truth = truth_of(studies)[[one is not None for one in said]]
    requests = [BY_WORDS[one] for one in said if one]
    for request in REQUESTS:
        if request.follow_up or not request.findings:
            continue
        concern = truth[:, [world.findings.index(name) for name in request.findings if name in world.findings]].any(
            axis=1
        )
        with_it, without = (
            np.mean([requests[k] is request for k in np.flatnonzero(side)]) for side in (concern, ~concern)
        )
        assert 1.5 < with_it / without < LIFT + 3, request.words
        assert with_it < 0.5, "a hint, not the answer"


def test_follow_ups_are_of_what_the_study_before_showed(asked, world):
    studies, said = asked
    seen = {(study.patient, study.number): set(np.array(world.findings)[study.truth]) for study in studies}
    followed = [(study, BY_WORDS[one]) for study, one in zip(studies, said) if one and BY_WORDS[one].follow_up]
    assert len(followed) > 50
    assert all(seen[study.patient, study.number - 1] & set(request.findings) for study, request in followed)
    gone = [not set(request.findings) & seen[study.patient, study.number] for study, request in followed]
    assert np.mean(gone) > 0.1, "and it may be gone"


def test_they_depend_on_their_patient_alone_and_nothing_depends_on_them(asked):
    studies, said = asked
    alone = list(studies_of(7, 5))
    assert indications(alone) == [one for study, one in zip(studies, said) if study.patient == 5]
    assert indications(list(studies_of(8, 5))) != indications(alone)
    before = mined_labels(alone)
    indications(alone)
    np.testing.assert_array_equal(mined_labels(alone), before)
