"""The verbs of training: from a recipe to a run, a whole demonstration, a published table, a teacher's labels."""

from pathlib import Path
from typing import Annotated

import typer

from hilum.cli.arguments import Level, bound_of
from hilum.cli.says import say, say_next
from hilum.errors import InputError


def demo(out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("demo")) -> None:
    """Phantom studies, a model, an honest report: the whole way in a few minutes on a CPU."""
    from hilum.demo import demo as run
    from hilum.progress import shown

    run(out, progress=shown, say=print)
    say_next("hilum", "predict", out / "run" / "bundle", out / "images", "-o", out / "again.parquet")


def recipes() -> None:
    """Every recipe of the package, one line each."""
    from hilum.recipe import recipe_names

    for name, sentence in recipe_names().items():
        print(f"{name:<24} {sentence}")


def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's name (see `hilum recipes`) or file.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value ..., such as train.epochs=3.")] = None,
    run: Annotated[Path | None, typer.Option(help="The run folder; by default runs/RECIPE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Train as a recipe says; bundle, predictions and report land in the run folder."""
    from hilum.progress import shown
    from hilum.training.run import RANK
    from hilum.training.run import train as work

    if resume and run is None:
        raise InputError("--resume needs the run to go on with", do="name it with --run")
    folder = work(recipe, overrides or [], run=run, resume=resume, progress=shown, say=print)
    if RANK:  # of several processes the first has the last word
        return
    print(f"Report: {folder / 'report' / 'report.html'}")
    tested = next((f for f in ("test", "valid") if (folder / f"predictions_{f}.parquet").exists()), "valid")
    say_next(
        "hilum",
        "evaluate",
        folder / f"predictions_{tested}.parquet",
        folder / "studies.parquet",
        "--images",
        "-o",
        folder / "report-with-pictures",
    )


def pseudo(
    bundle: Annotated[Path, typer.Argument(help="The teacher: a bundle folder, calibrated.")],
    studies: Annotated[Path, typer.Argument(help="A study table; of a split one, the rows in train are labelled.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The table of pseudo labels.")] = Path(
        "pseudo.parquet"
    ),
    hard: Annotated[bool, typer.Option("--hard", help="0 and 1 instead of probabilities.")] = False,
    match_prevalence: Annotated[
        bool, typer.Option("--match-prevalence", help="Hard labels, as many positives as the teacher's training had.")
    ] = False,
    low: Annotated[
        list[str] | None, typer.Option(help="Sure negatives have at most this; 0.02, or Hernia=0.01 for one finding.")
    ] = None,
    high: Annotated[
        list[str] | None, typer.Option(help="Sure positives have at least this; what lies between stays unknown.")
    ] = None,
    negatives: Annotated[float | None, typer.Option(help="At most so many negatives per positive.")] = None,
    cases: Annotated[str, typer.Option(help="What is labelled, with commas between.")] = "unlabelled,unknown,absent",
    weight: Annotated[float, typer.Option(help="The weight of every row.")] = 1.0,
    teacher_studies: Annotated[
        str | None,
        typer.Option(help="The studies.parquet of the teacher's run; other = it learned from other patients."),
    ] = None,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Take probabilities that passed no calibration.")
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="A cache folder to use and keep.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what is left to chance.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    expect: Annotated[str | None, typer.Option(help="The identity the bundle must have.")] = None,
) -> None:
    """Let a teacher label what nobody labelled, for a student to learn from."""
    from hilum.data.pseudo_table import lines_of
    from hilum.inference.pseudo import pseudo as work
    from hilum.inference.pseudo_rules import Rules
    from hilum.progress import shown

    rules = Rules(
        hard=hard, match_prevalence=match_prevalence, low=bound_of("low", low), high=bound_of("high", high),
        negatives=negatives, cases=tuple(word.strip() for word in cases.split(",") if word.strip()), weight=weight,
    )  # fmt: skip
    made = work(
        bundle, studies, output, rules=rules, teacher_studies=teacher_studies, uncalibrated=uncalibrated, cache=cache,
        seed=seed, device=device, expect=expect, progress=shown,
    )  # fmt: skip
    print(lines_of(made))
    if not made.seen:
        print("\nThe teacher is taken to have learned from other patients, as you say.")
    print(f"\nPseudo labels of {made.table.height:,} studies: {output}")
    same = (
        ["split.column=split"] if made.rule["rows"] == "train" else []
    )  # another split would meet the teacher's patients
    say_next("hilum", "train", "RECIPE", f"studies={studies}", *same, f"pseudo.table={output}")


# by their files' names: what reads them takes longer to import than `--help` may take
_SYSTEMS = sorted(page.stem for page in (Path(__file__).parents[1] / "reproductions").glob("*.yaml"))


def reproduce(
    system: Annotated[str, typer.Argument(help=f"One of {', '.join(_SYSTEMS)}.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value ..., laid upon every row's recipe, such as train.epochs=3.")
    ] = None,
    studies: Annotated[Path, typer.Option(help="The study table to train and judge on.")] = Path("studies.parquet"),
    truth: Annotated[Path | None, typer.Option(help="A table of the same studies whose labels judge instead.")] = None,
    extra: Annotated[
        Path | None, typer.Option(help="A table of further training studies, for rows that learn from some.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="A cache folder to use and keep; by default in the runs' folder.")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of the runs; by default runs/reproduce-SYSTEM.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each row.")] = 1,
    first_seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of the rows that start from nothing; by default as many.")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="The laptop-sized form.")] = False,
    table: Annotated[list[str] | None, typer.Option(help="Only this table of it (again for another).")] = None,
    level: Annotated[Level, typer.Option(help="What is scored; theirs are images.")] = "image",
    tiers: Annotated[str | None, typer.Option(help="rule, or a published list; by default theirs.")] = None,
    replicates: Annotated[int, typer.Option(min=2, help="Bootstrap replicates.")] = 1000,
) -> None:
    """Run a published system's tables on any studies; ours beside theirs, and which differences are noise."""
    from hilum.progress import shown
    from hilum.reproduce import as_text
    from hilum.reproduce import reproduce as work

    made = work(
        system, studies, overrides or [], truth=truth, extra=extra, cache=cache, runs=runs, seeds=seeds, first_seeds=first_seeds, small=small,
        tables=table or [], level=level, tiers=tiers, replicates=replicates, progress=shown, say=say,
    )  # fmt: skip
    print(as_text(made))
    print(f"Files: {made['files']['page']}, {made['files']['figures']}")
