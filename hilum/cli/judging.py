"""The verbs of judging: one model's report, the difference between several."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.arguments import Level, files_of
from hilum.errors import InputError


def evaluate(
    tables: Annotated[
        list[Path], typer.Argument(help="Predictions (several: folds of one experiment), then the study table.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for report.html and metrics.json.")] = Path(
        "report"
    ),
    level: Annotated[Level | None, typer.Option(help="What is judged; by default what the predictions are of.")] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    tiers: Annotated[str, typer.Option(help="rule, or a published list.")] = "rule",
    min_positives: Annotated[int, typer.Option(help="Positive patients a finding needs to be averaged.")] = 10,
    average_all: Annotated[
        bool, typer.Option("--average-all", help="Average findings with fewer positives too.")
    ] = False,
    images: Annotated[bool, typer.Option("--images", help="Embed patients' pictures in the report.")] = False,
    single_label: Annotated[
        bool, typer.Option("--single-label", help="Balanced accuracy, too, on studies with exactly one finding.")
    ] = False,
) -> None:
    """Judge predictions: report.html and metrics.json, with intervals over patients."""
    from hilum.evaluation.evaluate import evaluate as work
    from hilum.evaluation.summary import summary
    from hilum.progress import shown

    if len(tables) < 2:
        raise InputError(
            "the study table is missing", do="write: hilum evaluate predictions.parquet studies.parquet -o report"
        )
    metrics = work(
        tables[:-1], tables[-1], output, level=level, replicates=replicates, seed=seed, tiers=tiers,
        min_positives=min_positives, average_all=average_all, images=images, single_label=single_label, progress=shown,
    )  # fmt: skip
    print(summary(metrics))
    print(f"\nReport: {output / 'report.html'}")


def compare(
    predictions: Annotated[
        list[str],
        typer.Argument(help="Two or more sides; A1.parquet,A2.parquet or 'A*.parquet' are runs or folds of one."),
    ],
    studies: Annotated[Path, typer.Option(help="The study table that all of them are judged against.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A comparison.json to write.")] = None,
    level: Annotated[Level | None, typer.Option(help="What is judged; by default what the predictions are of.")] = None,
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    tiers: Annotated[str, typer.Option(help="rule, or a published list.")] = "rule",
    min_positives: Annotated[int, typer.Option(help="Positive patients a finding needs to be averaged.")] = 10,
    common: Annotated[bool, typer.Option("--common", help="Compare on what all files share.")] = False,
) -> None:
    """Say which differences between predictions of the same studies are more than chance; all against the first."""
    from hilum.evaluation.compare import compare as work
    from hilum.evaluation.difference_lines import lines_of
    from hilum.progress import shown

    comparison = work(
        [files_of(word) for word in predictions], studies, output=output, level=level, replicates=replicates, seed=seed, tiers=tiers,
        min_positives=min_positives, common=common, progress=shown,
    )  # fmt: skip
    print(lines_of(comparison))
    if output is not None:
        print(f"\nComparison: {output}")
