"""The verbs that say what a bundle looks at, and give it the gate that knows its own kind of image."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hilum.cli.says import say_next


def explain(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder.")],
    studies: Annotated[list[Path], typer.Argument(help="A study table, or image files and folders.")],
    finding: Annotated[list[str], typer.Option(help="A finding of the model; may be repeated.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the pictures, replaced.")] = Path("maps"),
    one_study: Annotated[bool, typer.Option("--one-study", help="All files are views of one study.")] = False,
    method: Annotated[
        str | None, typer.Option(help="cells, occlusion, attention, gradcam; by default what suits the model.")
    ] = None,
    engine: Annotated[str, typer.Option(help="torch, onnx, openvino.")] = "torch",
) -> None:
    """Show what spoke for a finding: images under heat maps, and where that is in words."""
    from hilum.inference.explain_files import explain_files
    from hilum.progress import shown

    given: Any = studies[0] if len(studies) == 1 else studies
    told = explain_files(
        bundle, given, finding, output, one_study=one_study, method=method, engine=engine, progress=shown
    )
    for one in told[:20]:
        print(f"{one['file']}  {one['view']:<8}{one['finding']} {one['probability']:.3f}: {one['words']}")
    if len(told) > 20:
        print(f"... and {len(told) - 20:,} more in {output / 'maps.json'}")
    print(f"{len(told):,} pictures in {output}, by {told[0]['method']}. They show patients.")


def gate(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder; its gate is replaced.")],
    studies: Annotated[Path, typer.Argument(help="The table it was trained on: RUN/studies.parquet.")],
    cache: Annotated[Path, typer.Option(help="A cache folder to use and keep.")] = Path("cache"),
    quantile: Annotated[float, typer.Option(help="Share of held-out images that shall pass.")] = 0.99,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
) -> None:
    """Give a bundle its gate: statistics by which images unlike those of its training are told."""
    from hilum.inference.gate import gate as work
    from hilum.progress import shown

    made = work(bundle, studies, cache=cache, quantile=quantile, device=device, progress=shown)
    print(
        f"made of {made.images:,} training images; {made.quantile:.0%} of {made.held_out:,} images held out lie within"
    )
    say_next("hilum", "serve", bundle)
