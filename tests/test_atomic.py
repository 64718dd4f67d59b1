"""Files and folders appear whole or not at all."""

import errno
import stat

import pytest

from hilum.atomic import atomic_folder, atomic_path, write_text
from hilum.errors import InputError, MachineError


def test_a_file_replaces_the_old_one_whole(tmp_path):
    write_text(tmp_path / "deep" / "a.txt", "old")
    with atomic_path(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "deep" / "a.txt").read_text() == "old"
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]
    assert stat.S_IMODE((tmp_path / "deep" / "a.txt").stat().st_mode) & 0o044, "others may read it, as the umask allows"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(ValueError, match="half way"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise ValueError("half way")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    for word in ("old", "new"):
        with atomic_folder(tmp_path / "f") as temporary:
            (temporary / word).write_text(word)
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["new"]
    with pytest.raises(KeyError), atomic_folder(tmp_path / "f") as temporary:
        (temporary / "half").write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert [path.name for path in (tmp_path / "f").iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("number", "kind", "said"), [(errno.ENOSPC, MachineError, "no space"), (errno.EROFS, InputError, "written")]
)
def test_whose_fault_it_is(tmp_path, number, kind, said):
    with pytest.raises(kind, match=said) as caught, atomic_path(tmp_path / "a.txt"):
        raise OSError(number, "refused")
    assert caught.value.exit_code == (1 if kind is MachineError else 2)
    assert not any(tmp_path.iterdir())


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").write_text("file")
    with pytest.raises(InputError, match="a file stands where a folder is needed"):
        write_text(tmp_path / "a" / "b.txt", "x")
