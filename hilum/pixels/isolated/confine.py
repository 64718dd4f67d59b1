"""What a process gives up before it touches strange bytes: memory without end, files, the network, dumps of what it held."""

import ctypes
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress

_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000  # CLONE_NEWNET, CLONE_NEWUSER of <linux/sched.h>
_SET_DUMPABLE, _SET_NO_NEW_PRIVILEGES = 4, 38  # PR_SET_... of <linux/prctl.h>
_OPEN_FILES = 64  # a codec that is loaded late opens a few


def confine(memory: int) -> dict[str, bool]:
    """Confine this process for good; what was asked for, and whether the system granted it.

    memory: bytes of address space (RLIMIT_AS), what the interpreter and its libraries map included.
    Linux grants all of it, other systems what they know. A network of its own needs root or user namespaces.
    """
    steps: dict[str, Callable[[], bool]] = {
        "no network": _leave_network,
        "limited memory": lambda: _limit("RLIMIT_AS", memory),
        "few open files": lambda: _limit("RLIMIT_NOFILE", _OPEN_FILES),
        "no written files": lambda: _limit("RLIMIT_FSIZE", 0),
        "no core dump": lambda: _limit("RLIMIT_CORE", 0),
        "no dump by a helper": lambda: _control(_SET_DUMPABLE, 0),  # these ignore the limit above
        "no new privileges": lambda: _control(_SET_NO_NEW_PRIVILEGES, 1),
    }
    _leave_folder()
    return {name: step() for name, step in steps.items()}


def _limit(name: str, value: int) -> bool:
    try:
        import resource
    except ImportError:  # not a Unix
        return False
    try:
        resource.setrlimit(getattr(resource, name), (value, value))
    except (AttributeError, OSError, ValueError):
        return False
    return True


def _control(option: int, value: int) -> bool:
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)


def _leave_network() -> bool:
    """An empty network namespace, inside a user namespace of its own where that alone is allowed."""
    if sys.platform != "linux":
        return False
    unshare = ctypes.CDLL(None).unshare
    return bool(unshare(_NEW_NETWORK) == 0 or unshare(_NEW_USER | _NEW_NETWORK) == 0)


def _leave_folder() -> None:
    """Stand in a folder that is gone: nothing can be made there."""
    with suppress(OSError):
        folder = tempfile.mkdtemp(prefix="hilum-")
        os.chdir(folder)
        os.rmdir(folder)  # noqa: PTH106
