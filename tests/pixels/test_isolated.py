"""The isolated decoder: whatever the child does, the parent answers in time, believes nothing, and leaves nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from hilum.errors import MachineError, UnreadableImage
from hilum.pixels.dicom.read import read_dicom
from hilum.pixels.isolated import child
from hilum.pixels.isolated import decoder as isolated
from hilum.pixels.isolated.decoder import Decoder, own_decoder
from hilum.pixels.render import render
from hilum.pixels.spec import PixelSpec
from tests.pixels.dicom_files import dicom
from tests.pixels.files import picture, png

posix = pytest.mark.skipif(os.name != "posix", reason="pipes with deadlines and signals are of Unix")
GREY = picture()
DATA = png(GREY)
PIXELS = {"shape": [2, 3], "dtype": "uint8", "provenance": {}}

# A child that greets, waits for a question, and then does what a test says.
GREETS = """
import json, os, struct, sys, time
def say(answer, body=b"", size=None):
    text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    data = struct.pack(">II", len(text), len(body) if size is None else size) + text + body
    while data:
        data = data[os.write(1, data):]
say({"confined": {}})
"""
LISTENS = GREETS + "while chunk := os.read(0, 1 << 20):\n    "


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(seconds=60) as one:
        yield one


def bad(monkeypatch: pytest.MonkeyPatch, script: str, seconds: float = 5.0) -> Decoder:
    """A decoder whose child runs this script instead."""
    monkeypatch.setattr(isolated, "_START", script)
    return Decoder(seconds=seconds)


def gone(pid: int, seconds: float = 60.0) -> bool:
    """Whether a process ends in time. A zombie counts as ended: its parent is another."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("grey", [GREY, picture(top=4095)], ids=["8 bits", "16 bits"])
def test_the_picture_is_that_of_the_decoder(decoder: Decoder, grey: np.ndarray) -> None:
    data = png(grey, depth=8 * grey.itemsize)
    assert (decoder.decode(data).image == grey).all()
    spec = PixelSpec(size=32, tone="equalize_hist")
    assert (decoder.decode(data, spec=spec).image == render(grey, spec)).all()


def test_a_dicom_file_comes_with_its_record(decoder: Decoder) -> None:
    data = dicom(picture(96, 80, top=4095), WindowCenter=2000, WindowWidth=3000)
    direct, apart = read_dicom(data), decoder.decode(data)
    assert (apart.image == direct.image).all()
    assert apart.provenance == direct.provenance.as_dict()


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        (b"", "unsupported-type", "empty"),
        (b"no image at all", "unsupported-type", "no known kind"),
        (b"GIF89a" + bytes(200), "unsupported-type", "a GIF file"),
        (DATA[:-5], "undecodable", "cut off"),
        (DATA[:33] + b"\0\0\0\0\x1b[2J\0\0\0\0" + DATA[33:], "undecodable", "chunk fails its checksum"),
        (png(GREY, size=(8000, 8000)), "too-many-pixels", "over the limit of 40 million"),
    ],
)
def test_refusals_come_with_a_code_and_cost_no_process(decoder: Decoder, data: bytes, code: str, says: str) -> None:
    decoder.decode(DATA)
    before = decoder.pid
    with pytest.raises(UnreadableImage, match=says) as caught:
        decoder.decode(data)
    assert caught.value.code == code
    assert caught.value.do
    assert decoder.pid == before


def test_a_large_file_is_not_sent() -> None:
    with Decoder(byte_limit=1000) as small, pytest.raises(UnreadableImage, match="larger than") as caught:
        small.decode(DATA)
    assert caught.value.code == "file-too-large"
    assert small.started == 0


def test_too_little_memory_is_a_refusal_and_the_next_file_is_read() -> None:
    large = dicom(np.zeros((5000, 5000), np.uint16))
    with Decoder(memory=450_000_000, seconds=60) as small:
        with pytest.raises(UnreadableImage) as caught:
            small.decode(large)
        assert (small.decode(DATA).image == GREY).all()
    assert caught.value.code in ("out-of-memory", "undecodable")  # a codec may say either
    with Decoder(seconds=60) as enough:
        assert enough.decode(large).image.shape == (5000, 5000)


def test_a_fresh_child_takes_over_after_so_many_files() -> None:
    with Decoder(files=2, seconds=60) as decoder:
        started = []
        for _ in range(4):
            assert (decoder.decode(DATA).image == GREY).all()
            started.append(decoder.started)
    assert started == [1, 2, 2, 3]


@posix
def test_a_child_that_was_killed_between_files_is_replaced_unseen() -> None:
    with Decoder(seconds=60) as decoder:
        decoder.decode(DATA)
        pid = decoder.pid
        assert pid
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert (decoder.decode(DATA).image == GREY).all()
        assert decoder.pid != pid
        assert not decoder.lost


@posix
def test_a_child_that_is_killed_in_the_middle_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with bad(monkeypatch, LISTENS + "time.sleep(60)") as decoder:
        decoder.start()
        timer = threading.Timer(0.5, lambda: os.kill(decoder.pid or 0, signal.SIGKILL))
        timer.start()
        with pytest.raises(UnreadableImage, match="crash") as caught:
            decoder.decode(DATA)
        timer.join()
    assert caught.value.code == "undecodable"
    assert decoder.lost == {"died": 1}


@posix
@pytest.mark.parametrize(
    "script",
    [
        LISTENS + "time.sleep(60)",
        GREETS + "time.sleep(60)",  # never reads: the pipe fills up
        LISTENS + "[(os.write(1, b'\\0'), time.sleep(0.05)) for _ in range(1000)]",  # drips
        LISTENS + f"say({PIXELS}, b'', 6); time.sleep(60)",  # stops before the pixels
    ],
    ids=["sleeps", "does not read", "drips", "stops"],
)
@pytest.mark.parametrize("polls", [True, False], ids=["polling", "with a timer"])
def test_a_slow_child_costs_its_seconds_and_no_more(monkeypatch: pytest.MonkeyPatch, script: str, polls: bool) -> None:
    monkeypatch.setattr(child, "_POLLS", polls)
    with bad(monkeypatch, script, seconds=0.3) as decoder:
        big = png(GREY, before=b"\0\0\0\0teSt\0\0\0\0" * 1_000_000)  # more than any pipe holds
        before = time.monotonic()
        with pytest.raises(UnreadableImage, match="too long") as caught:
            decoder.decode(big)
        assert time.monotonic() - before < 3
    assert caught.value.code == "timeout"


@pytest.mark.parametrize(
    "script",
    [
        "os.write(1, b'\\xff' * 100_000)",
        "say(b'[' * 60_000)",
        "say(b'9' * 60_000)",
        "say(b'\\xff\\xfe')",
        "say([1, 2])",
        "say({})",
        f"say({PIXELS}, bytes(5))",
        f"say({PIXELS}, size=1 << 31)",
        f"say({PIXELS | {'shape': [1 << 16, 1 << 15]}}, size=1 << 31)",
        f"say({PIXELS | {'shape': [-2, -3]}}, bytes(6))",
        f"say({PIXELS | {'shape': [6]}}, bytes(6))",
        f"say({PIXELS | {'shape': [True, 6]}}, bytes(6))",
        f"say({PIXELS | {'shape': [1.0, 6]}}, bytes(6))",
        f"say({PIXELS | {'dtype': 'O'}}, bytes(48))",
        f"say({PIXELS | {'dtype': ['uint8']}}, bytes(6))",
        f"say({PIXELS | {'provenance': None}}, bytes(6))",
        "say({'code': 'undecodable', 'what': 'x', 'do': 'y'}, b'more')",
        "say({'code': 'undecodable', 'what': 'x\\x1b[2J', 'do': 'y'})",
        "say({'code': 'undecodable', 'what': 'x' * 400, 'do': 'y'})",
        "say({'code': 7, 'what': 'x', 'do': 'y'})",
        "say({'code': 'nobody', 'what': 'x', 'do': 'y'})",
    ],
)
def test_nonsense_is_not_believed(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    with (
        bad(monkeypatch, LISTENS + script) as decoder,
        pytest.raises(UnreadableImage, match="nonsense") as caught,
    ):
        decoder.decode(DATA)
    assert caught.value.code == "undecodable"
    assert decoder.lost == {"garbled": 1}


@posix
def test_who_speaks_unasked_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = LISTENS + f"say({PIXELS}, bytes(6)); say({PIXELS}, bytes(range(6)))"
    with bad(monkeypatch, twice) as decoder:
        for _ in range(2):
            assert not decoder.decode(DATA).image.any()  # never the picture that nobody asked for
            time.sleep(0.1)
        assert decoder.started == 2


@pytest.mark.parametrize("script", ["raise SystemExit(1)", "this is no Python", GREETS.replace("confined", "hello")])
def test_a_child_that_does_not_start_is_the_machines_fault(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    with bad(monkeypatch, script) as decoder, pytest.raises(MachineError, match=r"does not start.*See what"):
        decoder.decode(DATA)
    assert decoder.started == 2
    assert decoder.pid is None


def test_no_python_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with Decoder(seconds=60) as decoder, pytest.raises(MachineError, match="does not start"):
        decoder.decode(DATA)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux shows them")
@pytest.mark.parametrize("times", [20, pytest.param(200, marks=pytest.mark.long)])
def test_nothing_is_left_of_many_lost_children(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    before = open_files()
    with bad(monkeypatch, LISTENS + "os._exit(3)") as decoder:
        for _ in range(times):
            with pytest.raises(UnreadableImage):
                decoder.decode(DATA)
        assert decoder.lost == {"died": times}
        assert open_files() <= before + 2
    assert open_files() == before
    with suppress(ChildProcessError):
        assert os.waitpid(-1, os.WNOHANG)[0] == 0  # no zombie


@posix
def test_what_a_child_started_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    forks = LISTENS + f"pid = os.fork() or time.sleep(60)\n    say({PIXELS | {'provenance': {}}}, bytes(6))"
    forks = forks.replace("'provenance': {}", "'provenance': {'pid': pid}")
    with bad(monkeypatch, forks) as decoder:
        grandchild = decoder.decode(DATA).provenance["pid"]
        assert not gone(grandchild, 0.1)
    assert gone(grandchild)


def test_threads_have_a_decoder_each_that_ends_with_them() -> None:
    pids: list[int | None] = []
    both = threading.Barrier(2)

    def work() -> None:
        for _ in range(20):
            assert (own_decoder().decode(DATA).image == GREY).all()
        both.wait(20)
        pids.append(own_decoder().pid)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({*pids}) == 2
    assert all(gone(pid or 0) for pid in pids)


def test_threads_take_turns_with_one_decoder(decoder: Decoder) -> None:
    wrong: list[int] = []

    def work(size: int) -> None:
        mine = np.full((size, size), size, np.uint8)
        for _ in range(10):
            if not np.array_equal(decoder.decode(png(mine)).image, mine):
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in (20, 30, 40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@posix
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_uses_a_process_of_its_own_and_leaves_its_parents_alone(decoder: Decoder) -> None:
    decoder.decode(DATA)
    before = decoder.pid
    fork = os.fork()
    if fork == 0:
        try:
            os._exit(0 if (decoder.decode(DATA).image == GREY).all() and decoder.pid != before else 1)
        finally:
            os._exit(2)
    assert os.waitpid(fork, 0)[1] == 0
    assert (decoder.decode(DATA).image == GREY).all()
    assert decoder.pid == before


SCRIPT = """
import sys
from pathlib import Path
from hilum.pixels.isolated.decoder import Decoder
decoder = Decoder(seconds=60)
print(decoder.decode(Path(sys.argv[1]).read_bytes()).image.shape, decoder.pid, flush=True)
if len(sys.argv) > 2:
    from hilum.pixels.isolated import decoder as isolated
    isolated._START = sys.argv[2]
    decoder.close()
    decoder.start()
    print(decoder.pid, flush=True)
    decoder.decode(Path(sys.argv[1]).read_bytes())
"""

# The true child with a decoder that never comes back: only its own alarm ends it where the parent was killed.
HANGS = """
import time
from hilum.pixels.isolated import process as decoder_process
decoder_process.decode_raster = lambda *_, **__: time.sleep(60)
decoder_process.main(1_500_000_000, 0.1)
"""


def script(folder: Path, *more: str) -> "subprocess.Popen[str]":
    (folder / "script.py").write_text(SCRIPT)
    (folder / "a.png").write_bytes(DATA)
    return subprocess.Popen(
        [sys.executable, "script.py", "a.png", *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip


def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    out, errors = script(tmp_path).communicate(timeout=60)
    assert out.startswith(str(GREY.shape)), errors
    assert gone(int(out.split()[-1]))


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupt_leaves_no_child_behind(tmp_path: Path, number: signal.Signals) -> None:
    with script(tmp_path, HANGS) as process:
        assert process.stdout
        process.stdout.readline()
        pid = int(process.stdout.readline())
        time.sleep(0.3)
        process.send_signal(number)
        process.wait(20)
        assert gone(pid)


CONFINED = """
import os, socket, sys
from hilum.pixels.isolated.confine import confine
file = open(sys.argv[1], "wb", buffering=0)
held = confine(800_000_000)
def refused(act):
    try:
        act()
    except (OSError, MemoryError):
        return True
    return False
tried = {
    "limited memory": lambda: bytearray(900_000_000),
    "no written files": lambda: file.write(b"x"),
    "no network": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5),
    "few open files": lambda: [os.dup(0) for _ in range(100)],
}
held["folder"], tried["folder"] = True, lambda: os.open("x", os.O_CREAT | os.O_WRONLY)
print(sorted(name for name, act in tried.items() if held[name] and not refused(act)))
"""


@posix
def test_a_confined_process_cannot_do_what_it_gave_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", CONFINED, str(tmp_path / "file"), port], capture_output=True, text=True, check=False
        )
    assert done.stdout.strip() == "[]", done.stderr
    assert (tmp_path / "file").read_bytes() == b""


def test_the_child_is_confined_as_far_as_the_system_can(decoder: Decoder) -> None:
    decoder.decode(DATA)
    if sys.platform == "linux":
        assert [name for name, held in decoder.confined.items() if not held] in ([], ["no network"])
