"""The verbs: each checks its arguments, calls one function, prints the next command."""

import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hilum import __version__
from hilum.arguments import bound_of, files_of, options_of
from hilum.errors import HilumError, InputError

app = typer.Typer(
    name="hilum",
    help="Find many diseases at once in chest X-ray studies, most of them rare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Level = Literal["study", "image"]
_OPEN = {"allow_extra_args": True, "ignore_unknown_options": True}


def _version(shown: bool) -> None:
    if shown:
        print(f"hilum {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _next(*words: object) -> None:
    """Print the command that comes next, ready to be pasted."""
    print(f"\nNext: {shlex.join(str(word) for word in words)}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@app.command()
def demo(out: Annotated[Path, typer.Option(help="Folder to make.")] = Path("demo")) -> None:
    """Phantom studies, a model, an honest report: the whole way in a few minutes on a CPU."""
    from hilum.demo import demo as run
    from hilum.progress import shown

    run(out, progress=shown, say=print)
    _next("hilum", "predict", out / "run" / "bundle", out / "images", "-o", out / "again.parquet")


@app.command("import", context_settings=_OPEN)
def import_(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="nih, mimic, folder or phantom.")],
    root: Annotated[Path | None, typer.Argument(help="Where the data lies (phantom: none).")] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="A folder, or a .parquet file.")] = Path(
        "studies.parquet"
    ),
    patients: Annotated[
        Literal["known", "unknown"], typer.Option(help="unknown: the data does not say who the patients are.")
    ] = "known",
) -> None:
    """Read a data set into a study table. Further options (--table, --patient-column, --studies ...) go to the source."""
    from hilum.progress import shown
    from hilum.sources import import_studies

    extra = context.args
    if root is not None and str(root).startswith("--"):  # a source without a root: the first option was taken for one
        root, extra = None, [str(root), *extra]
    options = options_of(extra)
    table, imported = import_studies(source, root, output, patients=patients, progress=shown, **options)
    for note in imported.notes:
        print(note)
    studies = imported.studies["study_id"].n_unique()
    print(f"{imported.studies.height:,} images of {studies:,} studies in {table}")
    _next("hilum", "cache", table, "--size", 224, "-o", "cache")


@app.command()
def cache(
    studies: Annotated[Path, typer.Argument(help="A study table.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The cache folder.")] = Path("cache"),
    size: Annotated[int, typer.Option(help="Side of the images in pixels.")] = 224,
    fit: Annotated[Literal["pad", "stretch", "crop"], typer.Option(help="How an image becomes square.")] = "pad",
    tone: Annotated[
        Literal["as_is", "equalize_hist", "window"], typer.Option(help="The tone of the images.")
    ] = "as_is",
    workers: Annotated[int | None, typer.Option(help="Threads; one per core by default.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Also compare every shard with its checksum.")] = False,
) -> None:
    """Decode every image once into memory-mapped shards; go on where an interrupted run stopped."""
    from hilum.data.cache import build_cache
    from hilum.progress import shown
    from hilum.tables import read_studies

    table = read_studies(studies)
    images = build_cache(table, output, size=size, fit=fit, tone=tone, workers=workers, progress=shown)
    if verify:
        images.verify()
    _unreadable(images.unreadable)
    print(f"{len(images.image_ids):,} images of {size} x {size} px in {output}")
    _next("hilum", "train", *_recipe_for(table), f"studies={studies}", f"cache.folder={output}", f"cache.size={size}")


@app.command()
def check(
    studies: Annotated[Path, typer.Argument(help="A study table.")],
    cache: Annotated[Path | None, typer.Option(help="A cache folder to take pixels from.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for check.html.")] = None,
) -> None:
    """Count what a study table holds and list its faults; exit code 2 if it has any."""
    from hilum.data.check import check as work
    from hilum.data.check_text import check_text
    from hilum.progress import shown

    report = work(studies, cache=cache, progress=shown)
    print(check_text(report))
    if output is not None:
        from hilum.data.check_page import write_page

        print(f"\nPage: {write_page(report, output, title=studies.name)}")
    if report.faults:
        raise typer.Exit(2)
    _next("hilum", "cache", studies, "--size", 224, "-o", "cache")


@app.command()
def recipes() -> None:
    """Every recipe of the package, one line each."""
    from hilum.recipe import recipe_names

    for name, sentence in recipe_names().items():
        print(f"{name:<24} {sentence}")


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(help="A recipe's name (see `hilum recipes`) or file.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value ..., such as train.epochs=3.")] = None,
    run: Annotated[Path | None, typer.Option(help="The run folder; by default runs/RECIPE.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
) -> None:
    """Train as a recipe says; bundle, predictions and report land in the run folder."""
    from hilum.progress import shown
    from hilum.training.run import train as work

    if resume and run is None:
        raise InputError("--resume needs the run to go on with", do="name it with --run")
    folder = work(recipe, overrides or [], run=run, resume=resume, progress=shown, say=print)
    print(f"Report: {folder / 'report' / 'report.html'}")
    tested = next((f for f in ("test", "valid") if (folder / f"predictions_{f}.parquet").exists()), "valid")
    _next(
        "hilum",
        "evaluate",
        folder / f"predictions_{tested}.parquet",
        folder / "studies.parquet",
        "--images",
        "-o",
        folder / "report-with-pictures",
    )


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    studies: Annotated[list[Path], typer.Argument(help="A study table, or image files and folders.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The predictions table.")] = Path(
        "predictions.parquet"
    ),
    cache: Annotated[Path | None, typer.Option(help="A cache folder to use and keep.")] = None,
    level: Annotated[Level, typer.Option(help="What gets a row.")] = "study",
    batch_size: Annotated[int, typer.Option(min=1, help="Studies at once.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    expect: Annotated[str | None, typer.Option(help="The identity the bundle must have.")] = None,
) -> None:
    """Predict studies with a bundle."""
    from hilum.inference.predict import predict as work
    from hilum.progress import shown

    given: Any = studies[0] if len(studies) == 1 else studies
    model = work(
        bundle,
        given,
        output,
        cache=cache,
        level=level,
        batch_size=batch_size,
        device=device,
        expect=expect,
        progress=shown,
    )
    _unreadable(model.unreadable)
    if model.crowded:
        first = f"the first {model.bundle.views} were read, in the order PA, AP, LATERAL, unknown, then image_id"
        print(f"{model.crowded:,} studies have more than {model.bundle.views} images: {first}")
    print(f"{len(model.findings)} findings predicted in {output}")
    if given != studies and given.suffix == ".parquet":
        _next("hilum", "evaluate", output, given, "-o", "report")


@app.command()
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
        min_positives=min_positives, average_all=average_all, images=images, progress=shown,
    )  # fmt: skip
    print(summary(metrics))
    print(f"\nReport: {output / 'report.html'}")


@app.command()
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


@app.command()
def reproduce(
    system: Annotated[str, typer.Argument(help="chexfusion or robust_loss.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value ..., laid upon every row's recipe, such as train.epochs=3.")
    ] = None,
    studies: Annotated[Path, typer.Option(help="The study table to train and judge on.")] = Path("studies.parquet"),
    truth: Annotated[Path | None, typer.Option(help="A table of the same studies whose labels judge instead.")] = None,
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
    replicates: Annotated[int, typer.Option(help="Bootstrap replicates.")] = 1000,
) -> None:
    """Run a published system's tables on any studies; ours beside theirs, and which differences are noise."""
    from hilum.progress import shown
    from hilum.reproduce import as_text
    from hilum.reproduce import reproduce as work

    made = work(
        system, studies, overrides or [], truth=truth, cache=cache, runs=runs, seeds=seeds, first_seeds=first_seeds, small=small,
        tables=table or [], level=level, tiers=tiers, replicates=replicates, progress=shown, say=_say,
    )  # fmt: skip
    print(as_text(made))
    print(f"Files: {made['files']['page']}, {made['files']['figures']}")


@app.command()
def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder; its operating points are replaced.")],
    studies: Annotated[Path, typer.Argument(help="A study table the model was not trained on.")],
    cache: Annotated[Path, typer.Option(help="A cache folder to use and keep.")] = Path("cache"),
    sensitivity: Annotated[float | None, typer.Option(help="Wanted sensitivity; by default best F1.")] = None,
    split: Annotated[str, typer.Option(help="Rows to use, where the table is split; all = every row.")] = "valid",
    seed: Annotated[int, typer.Option(help="Seed of the folds.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Give a bundle calibrated probabilities and a threshold per finding."""
    from hilum.inference.calibrate import calibrate as work
    from hilum.progress import shown

    chosen = None if split == "all" else split
    done = work(
        bundle, studies, cache=cache, sensitivity=sensitivity, split=chosen, seed=seed, device=device, progress=shown
    )
    print(f"{done.studies:,} studies, cross-fitted over patients; pull towards the common map {done.strength:g}")
    for name, (before, after) in (("calibration error", done.ece), ("log loss", done.log_loss), ("F1", done.f1)):
        print(f"mean {name:<18} {before:.4f} before, {after:.4f} after")
    print(f"Operating points: {bundle / 'operating_points.csv'}")
    _next("hilum", "predict", bundle, "STUDIES.parquet", "-o", "calibrated.parquet")


@app.command()
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
    _next("hilum", "train", "RECIPE", f"studies={studies}", *same, f"pseudo.table={output}")


@app.command()
def views(
    studies: Annotated[Path, typer.Argument(help="A study table.")],
    cache: Annotated[Path, typer.Option(help="A cache folder to use and keep.")] = Path("cache"),
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The classifier's folder; with --fill the new study table.")
    ] = None,
    fill: Annotated[Path | None, typer.Option(help="Fill in unknown views with this classifier, train none.")] = None,
    confidence: Annotated[float, typer.Option(help="With --fill: less sure views stay unknown.")] = 0.9,
    steps: Annotated[int, typer.Option(help="Training steps of 32 images.")] = 600,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Train a classifier of views on images whose view is known; with --fill, tell the views that are not."""
    from hilum.progress import shown

    if fill is not None:
        from hilum.inference.fill_views import fill_views

        target = output or studies.with_name(f"{studies.stem}-filled.parquet")
        done = fill_views(studies, fill, target, cache=cache, confidence=confidence, device=device, progress=shown)
        told = ", ".join(f"{count:,} {view}" for view, count in done.filled.items())
        print(f"{done.unknown:,} images of unknown view: {told or 'none'} filled in, {done.left:,} left unknown")
        if done.confidence:
            print(f"confidence of what was filled in: mean {done.confidence[0]:.3f}, least {done.confidence[1]:.3f}")
        for view in done.unseen:
            print(f"The classifier never saw {view}: it calls such images something else.")
        print(f"Every guess: {target.with_name(f'{target.stem}-views.parquet')}")
        _next("hilum", "check", target)
        return
    from hilum.evaluation.view_report import view_lines
    from hilum.training.view_classifier import views as work

    folder = output or Path("views")
    print(
        "\n".join(view_lines(work(studies, folder, cache=cache, steps=steps, seed=seed, device=device, progress=shown)))
    )
    _next(
        "hilum",
        "views",
        studies,
        "--cache",
        cache,
        "--fill",
        folder,
        "-o",
        studies.with_name(f"{studies.stem}-filled.parquet"),
    )


def _recipe_for(table: Any) -> list[str]:
    """The recipe made for a table like this one, else the word RECIPE and, printed, where to choose it."""
    from hilum.findings import finding_set
    from hilum.tables import finding_names

    if set(finding_names(table)) == set(finding_set("nih")):
        return ["nih_quick"]
    if set(table["source"]) == {"phantom"}:
        return ["demo", "findings=null"]
    print("Choose a RECIPE from the list that `hilum recipes` prints, or write your own.")
    return ["RECIPE"]


def _unreadable(frame: Any, most: int = 5) -> None:
    """Name the images that could not be read, with the reason."""
    if frame.height:
        _say(f"{frame.height:,} images cannot be read and are left out:")
        for row in frame.head(most).iter_rows(named=True):
            _say(f"  {row['path']}: {row['reason']}")
        if frame.height > most:
            _say(f"  ... and {frame.height - most:,} more")


def main() -> None:
    """The console script: a user's mistake ends in one sentence and exit code 2, the machine's in 1, never in a traceback."""
    try:
        app()
    except HilumError as error:
        _say(f"hilum: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _say("hilum: stopped. The same command goes on where it can.")
        sys.exit(130)
    except BrokenPipeError:
        os._exit(0)
    except OSError as error:
        from hilum.errors import from_os_error

        told = from_os_error(error, error.filename or "this machine")
        _say(f"hilum: {told}")
        sys.exit(told.exit_code)


if __name__ == "__main__":
    main()
