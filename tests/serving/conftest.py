"""The bundle and the server that the tests of serving share."""

import pytest

from tests.serving.bundles import ATTENDING, Served, exported, made_once


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "popen-gw" in base.name else base
    return made_once(shared / "served-attending", exported(ATTENDING))


@pytest.fixture(scope="session")
def server(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    with Served(bundle, folder, "--audit", str(folder / "audit.jsonl"), "--places", "8") as running:
        running.audit = folder / "audit.jsonl"
        yield running
