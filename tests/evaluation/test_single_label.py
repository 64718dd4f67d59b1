"""The single-label form: balanced accuracy is scikit-learn's, each finding has the same say, intervals go by patient."""

import numpy as np
import pytest
from sklearn.metrics import recall_score

from hilum.evaluation.evaluate import evaluate
from hilum.evaluation.single_label import balanced_accuracy, exactly_one, judge_single_label
from hilum.evaluation.summary import summary


def made(count=600, seed=0, shares=(0.7, 0.2, 0.07, 0.03, 0.0)):
    random = np.random.default_rng(seed)
    truth = random.choice(len(shares), size=count, p=shares)
    labels = np.eye(len(shares))[truth]
    scores = random.random(labels.shape) + 0.6 * labels
    return truth, labels, scores.astype(np.float32)


class OnePart:
    def __init__(self, labels, scores, patients):
        self.labels, self.scores, self.patients = labels, scores, patients


@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn(seed):
    truth, labels, scores = made(seed=seed)
    expected = recall_score(truth, scores.argmax(axis=1), labels=np.unique(truth), average="macro")
    assert balanced_accuracy(labels, scores) == pytest.approx(expected)


def test_rows_of_no_or_several_or_unknown_findings_do_not_count():
    _, labels, scores = made()
    spoilt = np.concatenate([labels, labels[:60], labels[:60], np.zeros((60, 5))])
    spoilt[600:660, 4] = np.nan
    spoilt[660:720, 4] = 1
    everything = np.concatenate([scores, np.random.default_rng(1).random((180, 5))])
    assert exactly_one(spoilt).tolist() == [True] * 600 + [False] * 180
    assert balanced_accuracy(spoilt, everything) == balanced_accuracy(labels, scores)


def test_the_size_of_a_class_does_not_matter():
    """Ten copies of the rows of one finding change accuracy, not balanced accuracy: balanced and unbalanced sets agree."""
    truth, labels, scores = made()
    rows = np.concatenate([np.arange(600), np.repeat((truth == 2).nonzero()[0], 9)])
    assert balanced_accuracy(labels[rows], scores[rows]) == pytest.approx(balanced_accuracy(labels, scores))


def test_nothing_to_judge_is_not_a_number():
    assert np.isnan(balanced_accuracy(np.zeros((4, 3)), np.ones((4, 3))))


def test_intervals_are_over_patients_and_each_finding_stands_with_its_recall():
    truth, labels, scores = made()
    single = judge_single_label([OnePart(labels, scores, np.arange(600))], 300, 1)
    value, low, high = single["balanced_accuracy"]
    assert value == balanced_accuracy(labels, scores)
    assert low < value < high
    assert single["chance"] == 0.25
    assert single["of"] == np.bincount(truth, minlength=5).tolist()
    assert single["recall"][0] == pytest.approx((scores[truth == 0].argmax(axis=1) == 0).mean())
    assert np.isnan(single["recall"][4])
    clustered = judge_single_label([OnePart(labels, scores, np.arange(600) // 30)], 300, 1)
    assert clustered["balanced_accuracy"][0] == value
    assert clustered["balanced_accuracy"][1:] != [low, high]


def test_folds_are_counted_together():
    _, labels, scores = made()
    patients = np.arange(600)
    halves = [OnePart(labels[rows], scores[rows], patients[rows]) for rows in (slice(0, 300), slice(300, 600))]
    whole = judge_single_label([OnePart(labels, scores, patients)], 50, 0)
    assert judge_single_label(halves, 50, 0)["balanced_accuracy"] == whole["balanced_accuracy"]


def test_the_verb_tells_it_when_asked(world):
    plain = evaluate([world.predictions()], world.studies, world.folder / "plain", replicates=10)
    assert "single_label" not in plain
    made = evaluate([world.predictions()], world.studies, world.folder / "r", replicates=50, single_label=True)
    single = made["single_label"]
    assert single["of"][:2] > [20, 2]
    assert single["recall"][3] is None  # nobody has it
    assert single["balanced_accuracy"][0] > single["chance"]
    assert f"on {single['rows']:,} with exactly one finding" in summary(made)
