"""The report of a check as plain text."""

from collections.abc import Iterator

import polars as pl

from hilum.data.check import Report

_PAIRS = 10


def check_text(report: Report) -> str:
    """A report for a terminal: sizes, findings, top pairs, distributions, warnings, faults last."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    owners = f" of {report.patients:,} patients" if report.patients is not None else ""
    yield f"{report.images:,} images of {report.studies:,} studies{owners}"
    findings, pairs = report.tables["findings"], report.tables["pairs"]
    width = max([7, *(len(name) for name in findings["finding"])])
    yield f"\n{'finding':<{width}}  tier    positive  negative  uncertain  unlabelled  patients  prevalence"
    for row in findings.iter_rows(named=True):
        share = "-" if row["prevalence"] is None else f"{100 * row['prevalence']:.3g} %"
        yield (
            f"{row['finding']:<{width}}  {row['tier'] or '-':<6}  {row['positive']:>8,}  {row['negative']:>8,}  "
            f"{row['uncertain']:>9,}  {row['unlabelled']:>10,}  {row['patients']:>8,}  {share:>10}"
        )
    seen = pairs.filter(pl.col("studies") > 0).head(_PAIRS)
    if seen.height:
        yield "\nfindings seen together (studies, lift over chance)"
        for one, other, studies, _, lift in seen.iter_rows():
            yield f"  {one} + {other}: {studies:,}" + (f", {lift:.2f} x chance" if lift is not None else "")
    yield ""
    for name in ("views", "images per study", "studies per patient", "ages", "sexes", "splits"):
        counts = report.tables[name]
        if counts.height:
            yield f"{name:<20} " + ", ".join(f"{value}: {number:,}" for value, number, *_ in counts.iter_rows())
    for title, remarks in (("Warnings", report.warnings), ("Faults", report.faults)):
        yield f"\n{title}: {len(remarks) or 'none'}"
        yield from (f"  {remark.sentence()}" for remark in remarks)
