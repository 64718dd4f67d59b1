"""Stored figures as pages write them: for tests that hold a page to its results."""


def interval(values, sign=""):
    return f"{values[0]:{sign}.3f} [{values[1]:{sign}.3f}, {values[2]:{sign}.3f}]"


def above(panel, lower, upper):
    """mAP of the row `upper` minus that of `lower`, [value, low, high]; None where they were not compared."""
    for pair in panel["differences"]:
        found = pair["columns"]["all"]["difference"]
        if (pair["from"], pair["to"]) == (lower, upper):
            return found
        if (pair["to"], pair["from"]) == (lower, upper):
            return [-found[0], -found[2], -found[1]]
    return None
