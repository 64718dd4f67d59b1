"""Who may ask: the name this server is called by, the site a browser comes from, the key; on loopback too but for the key."""

import hashlib
import hmac
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from hilum.errors import InputError, from_os_error
from hilum.serving.problems import Problem
from hilum.serving.settings import LOOPBACK, Settings

# Open without a key: the page, which holds nothing of anyone, and what a watchdog asks.
OPEN = ("/health/", "/v2/health/", "/static/")


class Guard:
    """Checks a request by its headers alone.

    Web pages of others can make a browser ask a server on loopback: the names in Host stop those that point a name of theirs
    here (DNS rebinding), Origin and Sec-Fetch-Site stop those that send forms.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self.hosts = {name.lower().strip("[]") for name in (*LOOPBACK, settings.host, *settings.hosts)}
        self.keys = read_keys(settings.key_file) if settings.key_file else {}

    def check(self, path: str, headers: Mapping[str, str], client: str | None) -> str:
        """Who asks: the name of a key, what the proxy says, or `anyone`. Raises Problem."""
        if _name(headers.get("host", "")) not in self.hosts:
            raise Problem("unknown-host", "Ask for it by a name that was given with --allow-host.")
        origin = headers.get("origin")
        if origin is not None and _netloc(origin) != headers.get("host", "").lower():
            raise Problem("foreign-origin")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            raise Problem("foreign-origin")
        return self._who(path, headers, client)

    def _who(self, path: str, headers: Mapping[str, str], client: str | None) -> str:
        user = headers.get(self.settings.proxy_header.lower()) if self.settings.proxy is not None else None
        if user and client == self.settings.proxy:
            return f"proxy:{hashlib.sha256(user.encode()).hexdigest()[:16]}"
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.keys and (name := self._named(key.strip())):
            return f"key:{name}"
        if path == "/" or path.startswith(OPEN) or not (self.keys or self.settings.proxy):
            return "anyone"
        raise Problem("unauthorized", "Send the header Authorization: Bearer KEY.")

    def _named(self, key: str) -> str | None:
        """The name of a key; every stored one is compared, each in constant time."""
        digest, found = hashlib.sha256(key.encode()).hexdigest(), None
        for name, known in self.keys.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def read_keys(path: Path) -> dict[str, str]:
    """Names and SHA-256 digests (hex) of keys: one `NAME DIGEST` a line, # begins a comment. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise from_os_error(error, path) from error
    except UnicodeDecodeError as error:
        raise InputError("this is not a text file", where=path, do="write NAME DIGEST on a line") from error
    keys = {}
    for number, line in enumerate(lines, start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or len(words[1]) != 64 or not set(words[1].lower()) <= set("0123456789abcdef"):
            raise InputError(
                "this is no name and SHA-256 of a key", where=f"{path}, line {number}",
                do="write NAME DIGEST; the digest of a key is what `printf %s KEY | sha256sum` prints",
            )  # fmt: skip
        keys[words[0]] = words[1].lower()
    if not keys:
        raise InputError("this file names no key", where=path, do="write NAME DIGEST on a line")
    return keys


def _netloc(origin: str) -> str | None:
    """The host and port of an origin, None where it is no URL."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name(host: str) -> str:
    """The host of `host:port`, without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
