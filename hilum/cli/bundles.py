"""The verbs of a bundle: predict with it, calibrate it, export it."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from hilum.cli.arguments import Level
from hilum.cli.says import say_next, say_unreadable


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    studies: Annotated[list[Path], typer.Argument(help="A study table, or image files and folders.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The predictions table.")] = Path(
        "predictions.parquet"
    ),
    one_study: Annotated[
        bool,
        typer.Option("--one-study", help="All files are views of one study; else DICOM headers say, or each is one."),
    ] = False,
    cache: Annotated[Path | None, typer.Option(help="A cache folder to use and keep.")] = None,
    level: Annotated[Level, typer.Option(help="What gets a row.")] = "study",
    batch_size: Annotated[int, typer.Option(min=1, help="Studies at once.")] = 64,
    tta: Annotated[
        list[str] | None,
        typer.Option(
            help="Average over changed images too: flip, rotate:5, shift:0.04, zoom:0.08, random:4; none = off."
        ),
    ] = None,
    tta_space: Annotated[
        Literal["probability", "logit"] | None,
        typer.Option(help="What is averaged; by default as the bundle's recipe."),
    ] = None,
    tta_seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random ones.")] = None,
    findings: Annotated[
        str | None, typer.Option(help="Score these, with commas between, trained on or not; for open bundles.")
    ] = None,
    text_model: Annotated[
        str | None, typer.Option(help="Folder of the bundle's text encoder, for findings it does not know.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    engine: Annotated[
        str, typer.Option(help="torch; or what `hilum export` made: onnx, openvino, openvino-bf16, openvino-int8.")
    ] = "torch",
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
        one_study=one_study,
        cache=cache,
        level=level,
        batch_size=batch_size,
        tta=tta,
        tta_space=tta_space,
        tta_seed=tta_seed,
        findings=findings.split(",") if findings is not None else None,
        text_model=text_model,
        device=device,
        engine=engine,
        expect=expect,
        progress=shown,
    )
    say_unreadable(model.unreadable)
    if model.crowded:
        first = f"{model.bundle.views} were read, one of each kind first (frontal, lateral, other), then PA, AP, LATERAL, unknown by image_id"
        have = "study has" if model.crowded == 1 else "studies have"
        print(f"{model.crowded:,} {have} more than {model.bundle.views} images: {first}")
    if model.tta:
        print(f"mean {model.tta['space']} of: {', '.join(model.tta['transforms'])}")
    if model.zero_shot:
        print(f"not trained on: {', '.join(model.zero_shot)}. Their numbers rank studies; they have no threshold.")
    print(f"{len(model.scored)} findings predicted in {output}")
    if given != studies and given.suffix == ".parquet":
        say_next("hilum", "evaluate", output, given, "-o", "report")


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder; its operating points are replaced.")],
    studies: Annotated[Path, typer.Argument(help="A study table the model was not trained on.")],
    cache: Annotated[Path, typer.Option(help="A cache folder to use and keep.")] = Path("cache"),
    sensitivity: Annotated[float | None, typer.Option(help="Wanted sensitivity; by default best F1.")] = None,
    split: Annotated[str, typer.Option(help="Rows to use, where the table is split; all = every row.")] = "valid",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the folds.")] = 0,
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
    say_next("hilum", "predict", bundle, "STUDIES.parquet", "-o", "calibrated.parquet")


def export(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder; the graphs are written into it.")],
    to: Annotated[Literal["onnx", "openvino"], typer.Option(help="What will run them.")] = "onnx",
    precision: Annotated[Literal["fp32", "bf16", "int8"], typer.Option(help="bf16 and int8 with openvino.")] = "fp32",
    studies: Annotated[
        Path | None, typer.Option(help="A study table to compare on besides the self-test; int8 needs one.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="A cache folder to use and keep.")] = None,
    split: Annotated[str, typer.Option(help="Rows to use, where the table is split; all = every row.")] = "test",
    limit: Annotated[int, typer.Option(min=1, help="Studies to compare on.")] = 500,
) -> None:
    """Write a bundle's graphs for ONNX Runtime or OpenVINO, once their answers are those of torch."""
    from hilum.inference.export import export as work
    from hilum.progress import shown

    told = work(
        bundle, to=to, precision=precision, studies=studies, cache=cache, split=None if split == "all" else split, limit=limit,
        progress=shown,
    )  # fmt: skip
    for name, part in (("self-test", told["self_test"]), ("given studies", told.get("given"))):
        if part:
            changed = f"{part['decisions_changed']:,} of {part['decisions']:,} decisions change"
            print(
                f"{name}: {part['studies']:,} studies, largest difference {part['largest_difference']:.2g}; {changed}"
            )
    engine = to if precision == "fp32" else f"{to}-{precision}"
    print(f"Graphs: {bundle / f'model.{to}'}")
    say_next("hilum", "serve", bundle, *([] if engine == "onnx" else ["--engine", engine]))
