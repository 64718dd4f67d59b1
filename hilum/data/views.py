"""Which views of a study are read where it has more than a model takes: one of each kind, then on in order."""

from collections.abc import Sequence

KINDS = {"PA": "frontal", "AP": "frontal", "LATERAL": "lateral", "unknown": "other"}


def first_views(views: Sequence[str], most: int) -> list[int]:
    """Places, ascending, of at most `most` of a study's views, which stand in the order PA, AP, LATERAL, unknown.

    Four frontal views and a lateral one must not lose the lateral, which says what these cannot.
    """
    kinds = [KINDS[view] for view in views]
    firsts = [kinds.index(kind) for kind in dict.fromkeys(kinds)]
    others = [place for place in range(len(views)) if place not in firsts]
    return sorted([*firsts, *others][:most])
