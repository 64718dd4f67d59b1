"""The verbs of predictions tables: the report, the difference between several, several as one, rules between findings."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hilum.cli.arguments import Level, files_of
from hilum.cli.says import say_next
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    tiers: Annotated[str, typer.Option(help="rule, or a published list.")] = "rule",
    min_positives: Annotated[int, typer.Option(min=1, help="Positive patients a finding needs to be averaged.")] = 10,
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
    min_positives: Annotated[int, typer.Option(min=1, help="Positive patients a finding needs to be averaged.")] = 10,
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


def ensemble(
    predictions: Annotated[list[Path], typer.Argument(help="Predictions of the same studies, one table per model.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The combined predictions.")] = Path(
        "ensemble.parquet"
    ),
    method: Annotated[
        Literal["mean", "weighted", "vote", "per-finding"], typer.Option(help="How they become one.")
    ] = "mean",
    space: Annotated[
        Literal["probability", "logit"], typer.Option(help="What mean and per-finding average.")
    ] = "probability",
    fit_on: Annotated[
        list[str] | None,
        typer.Option(
            help="A member's predictions of held-out studies; once per member, in their order, folds as A1,A2."
        ),
    ] = None,
    studies: Annotated[Path | None, typer.Option(help="The study table with the labels of --fit-on.")] = None,
    shared: Annotated[bool, typer.Option("--shared", help="weighted: the same weights for all findings.")] = False,
    prior: Annotated[float, typer.Option(help="weighted: positives that equal weights are worth.")] = 100.0,
    best: Annotated[int | None, typer.Option(help="per-finding: members kept; by default half of them.")] = None,
) -> None:
    """Combine predictions of several models; weights and choices are learned on other patients (--fit-on)."""
    from hilum.evaluation.ensemble import ensemble as work
    from hilum.evaluation.ensemble import lines_of

    made = work(
        predictions, output, method=method, space=space, fit_on=[files_of(word) for word in fit_on or []], studies=studies,
        shared=shared, prior=prior, best=best,
    )  # fmt: skip
    print(lines_of(made))
    print(f"\nPredictions: {output}")
    say_next("hilum", "evaluate", output, studies or "studies.parquet", "-o", "report")


def rules(
    predictions: Annotated[Path, typer.Argument(help="A predictions table.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The table with the rules laid upon it.")] = Path(
        "ruled.parquet"
    ),
    normal: Annotated[str | None, typer.Option(help="The finding that holds the others down, such as Normal.")] = None,
    power: Annotated[float | None, typer.Option(help="How much; by default the best on --fit-on.")] = None,
    fit_on: Annotated[Path | None, typer.Option(help="Predictions of held-out studies to choose the power on.")] = None,
    studies: Annotated[Path | None, typer.Option(help="The study table with the labels of --fit-on.")] = None,
    parent: Annotated[
        list[str] | None, typer.Option(help="CHILD=PARENT, repeatable: the parent is at least as likely.")
    ] = None,
) -> None:
    """Lay rules between findings upon predictions: normal holds the others down, a child holds its parent up."""
    from hilum.evaluation.gating import apply_rules

    pairs = [word.partition("=")[::2] for word in parent or []]
    if wrong := [child for child, above in pairs if not child or not above]:
        raise InputError(f"--parent {wrong[0]!r} names no parent", do="write --parent CHILD=PARENT")
    if normal is None and not pairs:
        raise InputError("there is no rule to lay", do="name one with --normal or --parent")
    parents = {child: [above for name, above in pairs if name == child] for child, _ in pairs}
    made, used = apply_rules(
        predictions, output, normal=normal, power=power, fit_on=fit_on, studies=studies, parents=parents
    )
    gate = f", others times (1 - {normal})^{used:g}" if used else f", no gate by {normal} was chosen"
    print(f"{made.table.height:,} rows" + (gate if normal else ""))
    print(f"\nPredictions: {output}")
    say_next("hilum", "evaluate", output, studies or "studies.parquet", "-o", "report")
