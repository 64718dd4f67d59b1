"""Names, aliases, label sets and tiers, held against what was published."""

import pytest

from hilum.errors import InputError
from hilum.findings import (
    ALIASES,
    FINDING_SETS,
    IMPLIES,
    RELATIVE,
    canonical,
    finding_set,
    tiers_by_list,
    tiers_by_rule,
)

# Positives among 264,849 training images of CXR-LT 2023, in the order of its columns (CheXFusion's configuration).
COUNTS_2023 = (67597, 4361, 76900, 16038, 38574, 4255, 30119, 1158, 11883, 4049, 10218, 2533, 79931, 5529, 41869, 7663,
               69240, 675, 3369, 788, 48093, 543, 14983, 2453, 89140, 3499)  # fmt: skip


def test_sizes_of_the_published_sets():
    sizes = {name: len(names) for name, names in FINDING_SETS.items()}
    assert (sizes["cxr-lt-2023"], sizes["cxr-lt-2024-task1"], sizes["cxr-lt-2024-task2"], sizes["nih"]) == (
        26,
        40,
        26,
        14,
    )
    for names in FINDING_SETS.values():
        assert len(set(names)) == len(names)
        assert [canonical(name) for name in names] == list(names)


def test_2024_has_normal_where_2023_has_no_finding_in_the_same_place():
    old, new = FINDING_SETS["cxr-lt-2023"], FINDING_SETS["cxr-lt-2024-task2"]
    assert [pair for pair in zip(old, new) if pair[0] != pair[1]] == [("No Finding", "Normal")]
    assert old[13:16] == ("Mass", "No Finding", "Nodule")


@pytest.mark.parametrize(
    ("given", "ours"),
    [("Pleural_Thickening", "Pleural Thickening"), ("Effusion", "Pleural Effusion"), ("CARDIOMEGALY", "Cardiomegaly"),
     ("pneumoperitoneo", "Pneumoperitoneum"), ("Pulmonary fibrosis", "Fibrosis"), ("nodule/mass", "Nodule/Mass"), ("  Something new ", "Something new")],
)  # fmt: skip
def test_aliases(given, ours):
    assert canonical(given) == ours


def test_sizes_of_the_later_sets():
    sizes = {"cxr-lt-2026-task1": 30, "cxr-lt-2026-task2": 6, "vindr": 14, "nih-cxr-lt": 20, "mimic-cxr-lt": 19}
    assert {name: len(FINDING_SETS[name]) for name in sizes} == sizes
    assert not set(FINDING_SETS["cxr-lt-2026-task1"]) & set(FINDING_SETS["cxr-lt-2026-task2"])


def test_no_name_for_nothing_is_an_alias_and_every_alias_leads_to_a_known_finding():
    known = {name for names in FINDING_SETS.values() for name in names}
    assert set(ALIASES.values()) <= known
    assert not {*ALIASES, *ALIASES.values()} & set(RELATIVE)
    assert [canonical(name) for name in RELATIVE] == list(RELATIVE)


def test_what_is_implied_is_implied_to_the_end():
    known = {name for names in FINDING_SETS.values() for name in names}
    for child, parents in IMPLIES.items():
        assert {child, *parents} <= known
        assert child not in parents
        for parent in parents:
            assert set(IMPLIES.get(parent, ())) <= set(parents)


def test_tiers_by_rule_and_by_the_published_list():
    names = FINDING_SETS["cxr-lt-2023"]
    counts = dict(zip(names, COUNTS_2023))
    rule = tiers_by_rule(counts, dict.fromkeys(names, 264849))
    assert [list(rule.values()).count(tier) for tier in ("head", "medium", "tail")] == [9, 11, 6]
    published = tiers_by_list("chexfusion-2023", names)
    assert [list(published.values()).count(tier) for tier in ("head", "medium", "tail")] == [8, 10, 8]
    moved = {name: (rule[name], published[name]) for name in names if rule[name] != published[name]}
    assert moved == {
        "Enlarged Cardiomediastinum": ("head", "medium"),
        "Pleural Thickening": ("medium", "tail"),
        "Tortuous Aorta": ("medium", "tail"),
    }


def test_tiers_count_known_entries():
    assert tiers_by_rule({"A": 20, "B": 20, "C": 0}, {"A": 100, "B": 10_000, "C": 0}) == {"A": "head", "B": "tail"}


def test_wrong_names_are_told():
    with pytest.raises(InputError, match="id you mean 'cxr-lt-2023'"):
        finding_set("cxrlt-2023")
    with pytest.raises(InputError, match="named twice: Pleural Effusion"):
        finding_set(["Effusion", "Pleural Effusion"])
    with pytest.raises(InputError, match="there is no tier list"):
        tiers_by_list("kim", ["Mass"])
