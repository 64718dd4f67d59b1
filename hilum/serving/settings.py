"""What a server is told when it starts: where it listens, whom it trusts, how much it takes."""

from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from hilum.errors import InputError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Limits:
    """How much is taken at once. Sizes in bytes, times in seconds.

    files, file, total: of one request. places: requests whose files are read or answered at one time, beyond which the
    answer is 429; held: bytes of all their files together. patience: for a request to arrive whole; silence: between two
    pieces of it; headers: for its headers. answer: from then to its answer. decoders: processes that decode.
    batch, wait: studies that are answered together, and how long the first waits for others.
    """

    files: int = 8
    file: int = 64_000_000
    total: int = 256_000_000
    fields: int = 64
    field_size: int = 4096
    places: int = 6
    held: int = 512_000_000
    patience: float = 120.0
    silence: float = 15.0
    headers: float = 10.0
    answer: float = 60.0
    decoders: int = 2
    batch: int = 8
    wait: float = 0.005


@dataclass(frozen=True)
class Settings:
    """One server.

    bundle, expect: the folder and the identity it must have. engine: a name of `hilum.inference.engines.ENGINES`.
    gate: what becomes of images unlike those of training: a flag in the answer, or a refusal.
    key_file: SHA-256 (hex) of the keys that open the server, one a line, each with a name before it.
    proxy: address of a proxy that has checked who asks and says so in the header `proxy_header`.
    hosts: names this server is called by besides those of loopback. audit: the log of answers to append to.
    drain: seconds between the signal to stop and the last new request that is answered.
    """

    bundle: Path
    host: str = "127.0.0.1"
    port: int = 8000
    engine: str = "onnx"
    expect: str | None = None
    gate: Literal["flag", "refuse"] = "flag"
    key_file: Path | None = None
    proxy: str | None = None
    proxy_header: str = "X-Remote-User"
    hosts: tuple[str, ...] = ()
    audit: Path | None = None
    drain: float = 1.0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Raises InputError where this would be open to strangers."""
        if not is_loopback(self.host) and self.key_file is None and self.proxy is None:
            raise InputError(
                f"{self.host} can be reached from other machines, and nobody is asked for a key",
                do="give --api-key-file, or --proxy for one that checks who asks, or stay on 127.0.0.1",
            )
        if not is_loopback(self.host) and not self.hosts:
            raise InputError(
                "a server that others reach must know its name", do="give --allow-host NAME, as people will write it"
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
