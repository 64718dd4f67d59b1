"""The command line: every verb by name; each checks its arguments, calls one function, prints the next command.

A verb is a function in one of the files beside this one and its line in `VERBS`. What it calls is imported inside it,
so that `hilum --help` needs neither tables nor torch.
"""

import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from hilum import __version__
from hilum.cli import bundles, explaining, judging, serving, studies, training
from hilum.cli.says import say
from hilum.errors import HilumError, from_os_error

VERBS: dict[str, Callable[..., None]] = {  # in the order of `hilum --help`
    "demo": training.demo,
    "import": studies.import_,
    "merge": studies.merge,
    "cache": studies.cache,
    "check": studies.check,
    "recipes": training.recipes,
    "train": training.train,
    "predict": bundles.predict,
    "ensemble": judging.ensemble,
    "rules": judging.rules,
    "evaluate": judging.evaluate,
    "compare": judging.compare,
    "reproduce": training.reproduce,
    "calibrate": bundles.calibrate,
    "export": bundles.export,
    "serve": serving.serve,
    "explain": explaining.explain,
    "gate": explaining.gate,
    "pseudo": training.pseudo,
    "views": studies.views,
}
_OPEN = {"import"}  # verbs that take options beyond their own

app = typer.Typer(
    name="hilum",
    help="Find many diseases at once in chest X-ray studies, most of them rare.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _name, _verb in VERBS.items():
    _open = {"allow_extra_args": True, "ignore_unknown_options": True} if _name in _OPEN else None
    app.command(_name, context_settings=_open)(_verb)


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


def main() -> None:
    """The console script: a user's mistake ends in one sentence and exit code 2, the machine's in 1, never in a traceback."""
    try:
        app()
    except HilumError as error:
        say(f"hilum: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("hilum: stopped. The same command goes on where it can.")
        sys.exit(130)
    except BrokenPipeError:
        os._exit(0)
    except OSError as error:
        told = from_os_error(error, error.filename or "this machine")
        say(f"hilum: {told}")
        sys.exit(told.exit_code)
