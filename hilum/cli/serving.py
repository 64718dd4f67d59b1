"""The verb that serves a bundle."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from hilum.cli.says import say


def serve(
    bundle: Annotated[Path, typer.Argument(help="A bundle folder that `hilum export` wrote graphs into.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8000,
    engine: Annotated[
        str, typer.Option(help="onnx, openvino, openvino-bf16, openvino-int8; torch where it is installed.")
    ] = "onnx",
    gate: Annotated[
        Literal["flag", "refuse"], typer.Option(help="What becomes of images unlike those of training.")
    ] = "flag",
    api_key_file: Annotated[
        Path | None, typer.Option(help="Names and SHA-256 of the keys that open the server, one a line.")
    ] = None,
    proxy: Annotated[str | None, typer.Option(help="Address of a proxy that checks who asks, and is believed.")] = None,
    proxy_header: Annotated[str, typer.Option(help="Where that proxy says who asks.")] = "X-Remote-User",
    allow_host: Annotated[list[str] | None, typer.Option(help="A name that people call this server by.")] = None,
    audit: Annotated[Path | None, typer.Option(help="A log of answers to append to, chained by hashes.")] = None,
    places: Annotated[int, typer.Option(min=1, help="Studies at one time; beyond them the answer is 429.")] = 6,
    decoders: Annotated[int, typer.Option(min=1, help="Processes that decode files.")] = 2,
    expect: Annotated[str | None, typer.Option(help="The identity the bundle must have.")] = None,
) -> None:
    """Serve a bundle: a page in the browser and an API, on this machine alone unless a key or a proxy guards it."""
    try:
        from hilum.serving.run import serve as work
    except ImportError as error:
        from hilum.errors import InputError

        raise InputError(
            f"what serves is not installed ({error.name} is missing)", do="install hilum[serve]"
        ) from error
    from hilum.serving.settings import Limits, Settings

    settings = Settings(
        bundle=bundle, host=host, port=port, engine=engine, expect=expect, gate=gate, key_file=api_key_file, proxy=proxy,
        proxy_header=proxy_header, hosts=tuple(allow_host or ()), audit=audit, limits=Limits(places=places, decoders=decoders),
    )  # fmt: skip
    work(settings, say=say)
