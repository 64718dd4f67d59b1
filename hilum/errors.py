"""What can go wrong, in one sentence each: what happened, where, and what to do."""

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class HilumError(Exception):
    """A failure with a message for a person.

    what:  what is wrong, without a full stop ("the table has no column patient_id").
    where: the file, key or row it was found in.
    do:    what mends it, as an instruction ("name one with --patient-column").
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | Path | None = None, do: str | None = None):
        self.what, self.where, self.do = what, where, do
        text = f"{where}: {what}" if where is not None else what
        super().__init__(f"{text}. {do[0].upper()}{do[1:]}." if do else f"{text}.")


class InputError(HilumError):
    """The user gave something that cannot be used: a file, an option, a recipe."""

    exit_code = 2


class UnreadableImage(InputError):
    """One image cannot be read; callers that walk many images collect these and go on.

    code: the reason as a word that programs can rely on (`hilum.pixels.codes.REFUSALS`).
    """

    def __init__(self, what: str, *, where: str | Path | None = None, do: str | None = None, code: str = "undecodable"):
        super().__init__(what, where=where, do=do)
        self.code = code


class MachineError(HilumError):
    """The machine is at fault: disk full, out of memory, a device that fails."""

    exit_code = 1


def nearest(name: str, known: Iterable[str]) -> str:
    """What to do about a name that is not known: "did you mean 'gamma_neg'? Known: ..." where one is near, else all of them."""
    options = list(known)
    folded = {option.casefold(): option for option in options}
    close = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    listing = ", ".join(options) if options else "nothing"
    return f"did you mean {folded[close[0]]!r}? Known: {listing}" if close else f"known: {listing}"


def from_os_error(error: OSError, where: str | Path) -> HilumError:
    """The sentence for a failed read or write at `where`; a full disk is the machine's fault, a folder without leave the user's."""
    match error.errno if error.errno is not None else _likely(error):
        case errno.ENOSPC | errno.EDQUOT:
            return MachineError(
                "no space is left on the device", where=where, do="free some space, then run the same command again"
            )
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return InputError(
                "this place cannot be written or read", where=where, do="choose a folder that you may write to"
            )
        case errno.ENOENT:
            return InputError("no such file or folder", where=where, do="check the path")
        case errno.ENOTDIR | errno.EEXIST | errno.EISDIR:
            return InputError(
                "a file stands where a folder is needed, or the other way round", where=where, do="choose another path"
            )
    return MachineError(
        f"the operating system refused: {error.strerror or error}", where=where, do="check the disk and try again"
    )


def _likely(error: OSError) -> int | None:
    """The number behind an error that came without one: a short write (numpy reports it so) is a full disk."""
    return errno.ENOSPC if "requested and" in str(error) else None
