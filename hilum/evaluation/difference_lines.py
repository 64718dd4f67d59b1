"""A comparison in a few lines of text: each tier of each pair in a plain word, then what the word rests on."""

from typing import Any

NAMES = {"map": "mAP", "auroc": "AUROC"}


def lines_of(comparison: dict[str, Any]) -> str:
    """Lines for a terminal from the content of comparison.json."""
    lines = [
        f"{comparison['n_studies']:,} studies of {comparison['n_patients']:,} patients, compared per {comparison['level']}"
        f" on {comparison['replicates']:,} draws of patients, the same for all sides"
    ]
    for side in comparison["sides"]:
        folds = f"  ({side['runs']} x {side['folds']} folds)" if side["folds"] > 1 else ""
        lines.append(f"{side['name']}  {', '.join(side['files'])}{folds}")
    tiered = any(comparison["tiers"].values())
    for pair in comparison["pairs"]:
        for measure, name in NAMES.items():
            lines += [
                "",
                f"{name:<8}{'findings':>9}{pair['first']:>8}{pair['second']:>8}   95 % interval over patients",
            ]
            lines[-1] += f"{'':<26}{'p':>6}{'p (Holm)':>10}"
            lines += [_line(tier, row, measure) for tier, row in pair["macro"].items() if row or tiered]
    lines += ["", comparison["about_runs"], *_remarks(comparison)]
    return "\n".join(line.rstrip() for line in lines)


def _line(tier: str, row: dict[str, Any] | None, measure: str) -> str:
    if row is None or row[measure]["p"] is None:
        return f"{tier:<8}{0:>9}  no finding with enough positive patients to be scored"
    one = row[measure]
    first, second = one["values"]
    value, low, high = one["difference"]
    told = one["verdict"] if one["told_apart"] else f"{one['verdict']}: {value:+.3f} [{low:+.3f}, {high:+.3f}]"
    after = ""
    if one["told_apart"]:
        after = "  still told apart" if one["told_apart_holm"] else "  no longer told apart"
    numbers = f"{len(row['findings']):>9}{first:>8.3f}{second:>8.3f}"
    return f"{tier:<8}{numbers}   {told:<53}{one['p']:>6.3f}{one['p_holm']:>10.3f}{after}"


def _remarks(comparison: dict[str, Any]) -> list[str]:
    """What a reader must know beside the figures, one sentence a line."""
    tests = comparison["holm"]["tests"]["map"]
    remarks = [f"p (Holm) is corrected for {tests} tests: pairs x tiers, each measure apart."] if tests else []
    if tests * comparison["smallest_p"] > 1 - comparison["interval"]:
        remarks.append(
            f"{comparison['replicates']:,} replicates cannot tell the smallest of {tests} tests: take more with --replicates."
        )
    left = comparison["left_out"]
    if left["rows"] or left["findings"]:
        beside = f" and the findings {', '.join(left['findings'])}" if left["findings"] else ""
        remarks.append(f"Compared on what all files share: {left['rows']:,} rows{beside} are left out.")
    if not any(comparison["tiers"].values()):
        remarks.append("Tiers are unknown: neither the predictions nor the study table hold training counts.")
    if comparison["not_scored"]:
        remarks.append(f"Not averaged, too few positive patients: {', '.join(comparison['not_scored'])}.")
    if not comparison["patients_known"]:
        remarks.append("Patients are unknown: every study counts as a patient of its own.")
    return [*remarks, *(f"Doubt: {doubt}" for doubt in comparison["doubts"]), *comparison["note"]]
