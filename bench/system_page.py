"""Rows of bench/systems.py judged side by side, and the page they make: figures first, then what may be read off them, by rule."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from system_rows import FLOORS, SAID, TWIN, Entry

from hilum.evaluation.calibration import brier_skill
from hilum.evaluation.compare import holm, macro_difference, over_runs
from hilum.evaluation.evaluate import plain, positive_patients, tiers_of, training_counts
from hilum.evaluation.intervals import Resampled, centred, macro
from hilum.evaluation.matched import match
from hilum.findings import TIERS
from hilum.reproductions.page import spoken
from hilum.tables import studies_metadata

COLUMNS = ("all", *TIERS, "auroc")
HEADINGS = ("mAP", "head", "medium", "tail", "AUROC")
SURE = 0.05
CONSTANT = FLOORS[0].name
BETTER, WORSE, NOISE = "above", "below", "cannot be told apart"


def judged(
    files: Mapping[str, Sequence[Path]],
    entries: Sequence[Entry],
    truth: Path,
    baseline: str,
    *,
    replicates: int = 500,
    least: int = 10,
) -> dict[str, Any]:
    """Figures and differences of every row of a table, as plain values.

    files: per row its predictions, a file for each training, or for each fold. truth: the table that judges. Differences are
    to `baseline`, and where an entry's gain is over another row (`held_against`) to that, too. Their p is two-sided and normal, with the standard error of
    the replicates (paired by patient, and drawing trainings where there are several): counted replicates are too coarse
    for so many comparisons. p_holm is corrected over all comparisons of a table, each column by itself.
    """
    matched = match([files[name] for name in files], truth, "study")
    labels, draws = matched.labels, {"replicates": replicates, "seed": 0}
    folds = matched.folds if matched.folds.any() else None
    scored = positive_patients(matched.joined) >= least
    counts, _ = training_counts(matched.joined)
    tier_of = tiers_of(matched.findings, counts, "rule")
    tier = np.array([tier_of.get(name, "") for name in matched.findings])
    chosen = {"all": scored, **{one: scored & (tier == one) for one in TIERS}, "auroc": scored}
    sides, rows = {}, []
    for name, side in zip(files, matched.sides):
        sides[name] = over_runs(labels, side.scores, matched.patients, folds, **draws)  # type: ignore[arg-type]
        skill = np.mean([brier_skill(labels, scores)[scored].mean() for scores in side.scores])
        figures = {column: _figure(sides[name], column, kept) for column, kept in chosen.items()}
        rows.append({"name": name, "runs": len(side.scores), "figures": figures, "brier_skill": float(skill)})
    over = {one.name: held_against(one, {"rows": rows, "baseline": baseline}) for one in entries}
    pairs = [(name, baseline) for name in files if name != baseline and baseline in files]
    pairs += [(name, over[name]) for name in files if over.get(name, baseline) in {*files} - {baseline}]
    differences = [
        {"row": row, "over": other, "columns": {column: _difference(sides[row], sides[other], column, kept) for column, kept in chosen.items()}}
        for row, other in pairs
    ]  # fmt: skip
    corrected(differences)
    answer: dict[str, Any] = plain(
        {
            "baseline": baseline,
            "studies": matched.n_studies,
            "patients": 1 + int(matched.patients.max()),
            "findings": {column: int(kept.sum()) for column, kept in chosen.items()},
            "rows": rows,
            "differences": differences,
            "note": studies_metadata(truth).get("note"),
            "replicates": replicates,
        }
    )
    return answer


def _figure(side: Resampled, column: str, kept: np.ndarray) -> list[float]:
    """[value, low, high]; NaN where no finding is scored."""
    measure = "auroc" if column == "auroc" else "ap"
    if not kept.any():
        return [math.nan] * 3
    value = float(macro(side.value[measure], kept))
    return [value, *centred(value, macro(side.replicates[measure], kept))]


def _difference(one: Resampled, other: Resampled, column: str, kept: np.ndarray) -> dict[str, Any] | None:
    """One minus the other with its interval and normal p; None where no finding is scored."""
    measure = "auroc" if column == "auroc" else "ap"
    if not kept.any():
        return None
    found = macro_difference(one, other, measure, kept)
    spread = float(np.std(macro(one.replicates[measure] - other.replicates[measure], kept), ddof=1))
    return {"difference": [found.value, found.low, found.high], "p": two_sided(found.value, spread)}


def two_sided(value: float, error: float) -> float:
    """The two-sided p of a difference with this standard error, by the normal distribution; 1 for no difference at all."""
    if value == 0:
        return 1.0
    return math.erfc(abs(value) / error / math.sqrt(2)) if error > 0 else 0.0


def corrected(differences: Sequence[dict[str, Any]]) -> None:
    """Put p_holm and the verdict beside every difference: each column by itself, over all pairs of a table."""
    for column in COLUMNS:
        found = [one["columns"][column] for one in differences if one["columns"].get(column)]
        for one, p in zip(found, holm([one["p"] for one in found])):
            sign = BETTER if one["difference"][0] > 0 else WORSE
            one |= {"p_holm": p, "verdict": sign if p <= SURE else NOISE}


# -- what may be read off a table -------------------------------------------------------------------------------------


def reading(table: Mapping[str, Any], entries: Sequence[Entry]) -> list[str]:
    """Sentences that follow from the figures: which differences are real, and which published gains appear."""
    baseline = table["baseline"]
    against = {one["row"]: one["columns"] for one in table["differences"] if one["over"] == baseline}
    lines = []
    for column in ("all", "tail", "auroc"):
        told = {name: columns[column]["verdict"] for name, columns in against.items() if columns[column]}
        named = {verdict: [name for name, one in told.items() if one == verdict] for verdict in (BETTER, WORSE)}
        if told:
            lines.append(
                f"{SAID[column]}: of {len(told)} rows {_count(named[BETTER])} above {baseline} and {_count(named[WORSE])} below it;"
                f" {len(told) - sum(map(len, named.values()))} cannot be told apart from it."
            )
    lines += [line for floor in FLOORS if (line := below(table, floor.name))]
    names = {row["name"] for row in table["rows"]}
    lines += [claim(one, table) for one in entries if one.gain and {one.name, held_against(one, table)} <= names]
    idle = [one.name for one in entries if one.rules and one.name in against and _unmoved(against[one.name])]
    if idle:
        lines.append(f"{', '.join(idle)}: no study moved, so nothing is learnt of the rule.")
    if all(row["runs"] == 1 for row in table["rows"]):
        lines.append(
            "Each row was trained once (on folds: once a fold): a real difference is one between these trainings; another seed"
            " may give another."
        )
    if TWIN in against and against[TWIN]["all"]:
        chance = against[TWIN]["all"]["difference"]
        told = {name: columns["all"] for name, columns in against.items() if columns["all"] and name != TWIN}
        within = [
            name
            for name, one in told.items()
            if one["verdict"] != NOISE and abs(one["difference"][0]) <= abs(chance[0])
        ]
        lines.append(
            f"The baseline with another seed differs from itself by {spoken(chance, '+')} mAP; of the differences called real"
            f" {_count(within)} no larger than that."
        )
    return lines


def held_against(entry: Entry, table: Mapping[str, Any]) -> str:
    """The row that a gain is over: an ensemble's best member by mAP of the table, else the source's, else the baseline."""
    worth = {row["name"]: row["figures"]["all"][0] or 0.0 for row in table["rows"]}
    members = [name for name in entry.members if entry.join and name in worth]
    return max(members, key=lambda name: worth[name], default=entry.over or str(table["baseline"]))


def claim(entry: Entry, table: Mapping[str, Any]) -> str:
    """Whether a published gain appears here: its verdict in the column where it is looked for decides."""
    of = {row["name"]: row["figures"] for row in table["rows"]}
    over, gain = held_against(entry, table), f"the published gain ({entry.gain})"
    if entry.keeps_order:
        return f"{entry.name}: {gain} cannot be looked for in an order: within a finding no study changes its place."
    if of[entry.name][entry.by][0] is None:
        return f"{entry.name}: {gain} cannot be looked for: no such finding is scored."
    if not _learnt(of[over], of.get(CONSTANT), entry.by):
        return f"{entry.name} against {over}: {gain} cannot be looked for: {over} learnt nothing, it is not above the constant floor."
    best = ", its best member (by mAP of this table, as validation is not stored)" if entry.join else ""
    pairs = {(one["row"], one["over"]): one["columns"] for one in table["differences"]}
    if (entry.name, over) not in pairs:  # measured before this pair was asked for
        ours, theirs = of[entry.name][entry.by], of[over][entry.by]
        apart = "appears" if ours[1] > theirs[2] else "does not appear"
        said = f"{apart}: {spoken(ours)} and {spoken(theirs)} {SAID[entry.by]}, not compared study by study"
        return f"{entry.name} against {over}{best}: {gain} {said}."
    found = pairs[entry.name, over][entry.by]
    ours = f"{spoken(found['difference'], '+')} {SAID[entry.by]}"
    said = {
        BETTER: f"appears: {ours}",
        WORSE: f"does not appear, it is a loss: {ours}",
        NOISE: f"does not appear: {ours} cannot be told from noise",
    }[found["verdict"]]
    return f"{entry.name} against {over}{best}: {gain} {said}."


def _learnt(row: Mapping[str, Any], constant: Mapping[str, Any] | None, column: str) -> bool:
    """Whether a row's whole interval lies above the constant, in the column and in AUROC: by chance AP is above prevalence."""
    return constant is None or all(row[one][1] > constant[one][0] for one in (column, "auroc"))


def below(table: Mapping[str, Any], floor: str) -> str | None:
    """A sentence where rows that are no floors lie below one."""
    of = {row["name"]: row["figures"] for row in table["rows"]}
    rows = [figures for name, figures in of.items() if name not in {one.name for one in FLOORS}]
    if floor not in of:
        return None
    told = []
    for column in ("all", "tail"):
        scored = [figures[column] for figures in rows if figures[column][0] is not None]
        under = [one for one in scored if one[0] < of[floor][column][0]]
        if under:
            apart = sum(one[2] < of[floor][column][1] for one in under)
            told.append(f"{len(under)} of {len(scored)} rows in {SAID[column]} ({apart} with their whole interval)")
    return (
        f"The floor {floor} lies above {' and '.join(told)}: they do not show that they saw more than it does."
        if told
        else None
    )


def _unmoved(columns: Mapping[str, Any]) -> bool:
    return all(not any(one["difference"]) for one in columns.values() if one)


def _count(names: Sequence[str]) -> str:
    if not names:
        return "none is"
    return f"{len(names)} {'is' if len(names) == 1 else 'are'} ({', '.join(names)})"


# -- the page ---------------------------------------------------------------------------------------------------------


def page(facts: Sequence[str], tables: Mapping[str, tuple[Mapping[str, Any], Sequence[Entry]]]) -> str:
    """Markdown. facts: paragraphs on all of it; tables: title -> (judged table with `how`, `command`, `date`, its entries)."""
    lines = ["# The recipes measured side by side", "", *(line for fact in facts for line in (fact, ""))][:-1]
    for title, (table, entries) in tables.items():
        lines += ["", f"## {title}", "", table["how"], "", *_about(table), "", *block(table, entries), ""]
        lines += ["What may be read off it:", "", *(f"- {sentence}" for sentence in reading(table, entries)), ""]
        lines += [f"Made by `{table['command']}` on {table['date']}."]
    noted = dict.fromkeys(str(table["note"]) for table, _ in tables.values() if table["note"])
    lines += ["", *noted, "", "Do not edit by hand."]
    return "\n".join(lines).rstrip() + "\n"


def _about(table: Mapping[str, Any]) -> list[str]:
    counts = ", ".join(f"{table['findings'][one]} {one}" for one in TIERS)
    return [
        f"{table['studies']:,} studies of {table['patients']:,} patients; {table['findings']['all']} findings are averaged ({counts}).",
        f"95 % intervals over patients, and over trainings where a row has several. Differences to `{table['baseline']}`; **bold**"
        f" where p is at most {SURE:g} after Holm's correction over the rows.",
    ]


def block(table: Mapping[str, Any], entries: Sequence[Entry]) -> list[str]:
    """The table's lines: best mAP first."""
    of = {one.name: one for one in entries}
    against = {one["row"]: one["columns"]["all"] for one in table["differences"] if one["over"] == table["baseline"]}
    several = any(row["runs"] > 1 for row in table["rows"])
    stands = any(row.get("stand_in") for row in table["rows"])
    heads = ["row", *(["stands in"] if stands else []), *(["trainings"] if several else []), *HEADINGS]
    heads += ["mAP, difference", "Brier skill", "training s", "reported by its source, on its data"]
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in sorted(table["rows"], key=lambda one: -(one["figures"]["all"][0] or 0.0)):
        entry = of.get(row["name"])
        cells = [row["name"], *([row.get("stand_in") or ""] if stands else [])]
        cells += [str(row["runs"])] if several else []
        cells += [spoken(row["figures"][column]) for column in COLUMNS]
        found = against.get(row["name"])
        told = spoken(found["difference"], "+") if found else ""
        cells.append(f"**{told}**" if found and found["verdict"] != NOISE else told)
        cells.append("-" if row["brier_skill"] is None else f"{row['brier_skill']:.3f}")
        cells.append("-" if row.get("seconds") is None else f"{row['seconds']:.0f}")
        cells.append(entry.reported if entry else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines
