"""The bundle and the server that the tests of serving share."""

import pytest

from tests.serving.bundles import ATTENDING, Served, exported, made_once

# Notes what a serving process must never do, in a file: unpickle, or load torch.
WATCH = """
import sys
def _watch(event, arguments, file=open({path!r}, "a", buffering=1)):
    if event == "pickle.find_class" or (event == "import" and arguments[0].split(".")[0] in ("torch", "timm")):
        file.write(event + " " + str(arguments[0]) + chr(10))
sys.addaudithook(_watch)
"""


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "popen-gw" in base.name else base
    return made_once(shared / "served-attending", exported(ATTENDING))


@pytest.fixture(scope="session")
def server(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    watched = folder / "watched.txt"
    audit = folder / "audit.jsonl"
    with Served(
        bundle, folder, "--audit", str(audit), "--places", "8", prelude=WATCH.format(path=str(watched))
    ) as running:
        running.audit, running.watched = audit, watched
        yield running
