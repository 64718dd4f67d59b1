"""The bundle and the server that the tests of serving share."""

import pytest

from tests.serving.bundles import ATTENDING, OPEN, Served, exported, made_once

# Notes what a serving process must never do, in a file: unpickle, or load torch.
WATCH = """
import sys
def _watch(event, arguments, file=open({path!r}, "a", buffering=1)):
    if event == "pickle.find_class" or (event == "import" and arguments[0].split(".")[0] in ("torch", "timm")):
        file.write(event + " " + str(arguments[0]) + chr(10))
sys.addaudithook(_watch)
"""


def shared(tmp_path_factory, name, spec):
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "popen-gw" in base.name else base
    return made_once(folder / name, exported(spec))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return shared(tmp_path_factory, "served-attending", ATTENDING)


@pytest.fixture(scope="session")
def open_bundle(tmp_path_factory):
    return shared(tmp_path_factory, "served-open", OPEN)


@pytest.fixture(scope="session")
def server(bundle, tmp_path_factory):
    yield from served(bundle, tmp_path_factory)


@pytest.fixture(scope="session")
def open_server(open_bundle, tmp_path_factory):
    yield from served(open_bundle, tmp_path_factory)


def served(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    watched = folder / "watched.txt"
    audit = folder / "audit.jsonl"
    with Served(
        bundle, folder, "--audit", str(audit), "--places", "8", prelude=WATCH.format(path=str(watched))
    ) as running:
        running.audit, running.watched = audit, watched
        yield running
