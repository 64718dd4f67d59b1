"""The page on asking a model shows commands that work and names every code; the pages on hosting and its figures tell the truth."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from hilum.serving import schema
from hilum.serving.guard import read_keys
from hilum.serving.problems import PROBLEMS
from hilum.serving.settings import Limits, Settings
from tests.pixels import dicom_files as d
from tests.pixels.files import png

ROOT = Path(__file__).parents[2]
SERVE, HOST = ((ROOT / "docs/how-to" / name).read_text() for name in ("serve.md", "host.md"))
COMMANDS = re.findall(r"<!-- run -->\n```sh\n(.*?)```", SERVE, re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page is written for curl")
@pytest.mark.parametrize("command", [line for block in COMMANDS for line in block.splitlines()])
def test_every_command_on_the_page(command, server, tmp_path):
    (tmp_path / "frontal.png").write_bytes(png(d.chest()))
    (tmp_path / "lateral.dcm").write_bytes(d.dicom(d.chest(), bits=8, ViewPosition="LL"))
    (tmp_path / "notes.txt").write_text("no picture")
    words = command.partition("#")[0].replace("http://127.0.0.1:8000", server.url).split()
    done = subprocess.run([*words, "-w", "\n%{http_code}"], capture_output=True, text=True, check=True, cwd=tmp_path)
    body, _, status = done.stdout.rpartition("\n")
    if "notes.txt" in command:
        assert (status, json.loads(body)["code"]) == ("415", "unsupported-type")
        return
    assert status == "200"
    if "metrics" in command:
        assert "hilum_requests_total" in body
        return
    told = json.loads(body)
    if "predict" in command:
        assert {"model", "images", "findings", "in_distribution", "distribution", "unknown"} <= set(told)
        assert [image["view"] for image in told["images"]] == ["unknown", "LATERAL"]
        for key in told:
            assert f"`{key}`" in SERVE or key in ("request_id", "research_only"), key
    if "explain" in command:
        assert len(told["maps"]) == 2


def test_the_contract_on_paper_is_the_contract(server):
    """Written anew by the command that docs/how-to/serve.md tells."""
    kept = (ROOT / "docs/reference/openapi.json").read_text()
    assert kept == json.dumps(httpx.get(f"{server.url}/api/v1/openapi.json").json(), indent=1) + "\n"
    assert "docs/reference/openapi.json" in SERVE


def test_every_field_and_every_code_stands_on_the_page():
    for name in (*schema.FIELDS["explain"], "files"):
        assert f"`{name}`" in SERVE, name
    dicom = (ROOT / "docs/reference/dicom.md").read_text()
    for code, (status, _) in PROBLEMS.items():
        assert f"`{code}`" in SERVE or f"`{code}`" in dicom, code
        assert str(status) in SERVE, code


def test_the_limits_on_the_page_are_the_limits():
    limits = Limits()
    text = " ".join(HOST.split())
    for said in (
        f"{limits.places} studies at a time", f"{limits.decoders} processes", f"{limits.headers:g} s for headers",
        f"{limits.silence:g} s between pieces", f"{limits.patience:g} s for a request", f"{limits.answer:g} s for an answer",
        f"up to {limits.held / 1e6:g} MB for files", f"{limits.total / 1e6:g} MB without",
    ):  # fmt: skip
        assert said in text, said
    assert f"{limits.file / 1e6:g} MB each" in SERVE
    assert Settings(Path()).drain == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page is written for openssl")
def test_a_key_made_as_the_page_says_opens_the_door(tmp_path):
    lines = re.search(r"```sh\n(openssl.*?\n)(echo .*?\n)", HOST)
    assert lines is not None
    subprocess.run(["bash", "-c", lines[1] + lines[2]], check=True, cwd=tmp_path)
    key = (tmp_path / "ward7.key").read_text().strip()
    assert read_keys(tmp_path / "keys") == {"ward7": hashlib.sha256(key.encode()).hexdigest()}


@pytest.mark.parametrize("name", ["serve", "http_mutations", "load"])
def test_the_figures_on_the_page_are_those_measured(name):
    """`python bench/serve_page.py` writes them there."""
    sys.path.insert(0, str(ROOT / "bench"))
    from serve_page import PARTS, RESULTS

    page = (ROOT / "docs/why/serving.md").read_text()
    if (RESULTS / f"{name}.json").exists():
        assert PARTS[name](json.loads((RESULTS / f"{name}.json").read_text())) in page
