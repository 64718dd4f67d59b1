"""The result in a few lines of text: what was judged, and each tier beside the floor of a random ranking."""

from typing import Any

from hilum.evaluation.evaluate import above_floor
from hilum.findings import TIERS


def summary(metrics: dict[str, Any]) -> str:
    """Lines for a terminal from the content of metrics.json: mAP with its 95 % interval, floor and verdict, AUROC, F1."""
    macro, verdict = metrics["macro"], above_floor(metrics)
    lines = [
        f"{metrics['n_studies']:,} studies of {metrics['n_patients']:,} patients, judged per {metrics['level']}",
        f"{'':<8}{'findings':>9}  {'mAP [95 % interval]':<24}{'floor':>6}   {'AUROC [95 % interval]':<24}",
    ]
    for tier in TIERS:
        part = macro.get(tier)
        if part:
            told = "above its floor" if verdict[tier] else "not shown to be above its floor"
            lines.append(
                f"{tier:<8}{len(part['findings']):>9}  {_interval(part['map'])}{part['floor']:>6.3f}   {_interval(part['auroc'])}{told}"
            )
        else:
            lines.append(f"{tier:<8}{0:>9}  no finding with enough positive patients to be scored")
    averaged = len(metrics["findings"]) - len(metrics["not_scored"])
    floor = macro["map_floor"]
    lines.append(
        f"{'all':<8}{averaged:>9}  {_interval(macro['map'])}{'-' if floor is None else f'{floor:.3f}':>6}   {_interval(macro['auroc'])}"
    )
    if single := metrics.get("single_label"):
        told = _interval(single["balanced_accuracy"]).rstrip()
        chance = f", by chance {single['chance']:.3f}" if single["chance"] else ""
        lines.append(f"single-label balanced accuracy {told} on {single['rows']:,} with exactly one finding{chance}")
    if metrics["not_scored"]:
        lines.append(f"Not averaged, too few positive patients: {', '.join(metrics['not_scored'])}.")
    lines += [f"Doubt: {doubt}" for doubt in metrics["doubts"]]
    return "\n".join(line.rstrip() for line in lines)


def _interval(values: list[float | None] | None) -> str:
    if not values or values[0] is None:
        return f"{'-':<24}"
    value, low, high = values
    return f"{f'{value:.3f} [{low:.3f}, {high:.3f}]' if low is not None else f'{value:.3f}':<24}"
