"""A server from its start to its end: what is checked before it listens, and how it stops without dropping a request."""

import asyncio
import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO

import uvicorn

from hilum.errors import InputError
from hilum.serving.app import build_app
from hilum.serving.protocol import impatient
from hilum.serving.settings import Settings

_BACKLOG = 128  # connections that the system keeps until they are taken
_REFUSED: dict[int | None, tuple[str, str]] = {
    errno.EADDRINUSE: ("another program listens here", "stop it, or choose another port with --port"),
    errno.EACCES: ("ports below 1024 need a right that you have not", "choose another with --port"),
    errno.EADDRNOTAVAIL: ("this is no address of this machine", "name another with --host"),
}
_HEARD = 1.0  # seconds in which who was let in last must have asked
_LAST = 20  # seconds that requests in flight have at the end


class Server(uvicorn.Server):
    """uvicorn that says it is leaving before it stops listening: for `drain` seconds new requests are answered, and told not to
    come again; then the last ones are let in and finished. A second signal ends it at once.
    """

    def __init__(self, config: uvicorn.Config, settings: Settings, leave: Callable[[], None]):
        super().__init__(config)
        self._settings, self._leave, self._left = settings, leave, False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._left:
            self.should_exit = self.force_exit = True
            return
        self._left = True
        self._leave()
        loop = asyncio.get_running_loop()  # between two comparisons of its timers, maybe: they must not change now
        loop.call_soon_threadsafe(loop.call_later, self._settings.drain, self._stop)

    def _stop(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Whoever has knocked by now is let in and heard, so that only those are refused who come later."""
        loop = asyncio.get_running_loop()
        for taken in sockets or []:
            loop.remove_reader(taken)
        await asyncio.sleep(
            0.05
        )  # asyncio cuts off whom it lets in just before it closes: those are connections by then
        late: list[socket.socket] = []
        for taken in sockets or []:
            with suppress(BlockingIOError):
                while True:
                    late.append(taken.accept()[0])
        for door in self.servers:
            door.close()
        for line in late:
            line.setblocking(False)
            await loop.connect_accepted_socket(self._protocol, line)
        until = time.monotonic() + _HEARD
        while (
            time.monotonic() < until
            and not self.force_exit
            and any(map(_has_not_spoken, self.server_state.connections))
        ):
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        speaks: Any = self.config.http_protocol_class
        made: asyncio.Protocol = speaks(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def _has_not_spoken(connection: Any) -> bool:
    """Whether no request has come on it yet."""
    return connection.cycle is None and not connection.transport.is_closing()


def serve(settings: Settings, say: Callable[[str], None] = lambda line: None) -> None:
    """Serve until a signal ends it. Raises InputError where it may not listen there, or the bundle, keys or log cannot be used.

    Nothing is kept of what is sent, core dumps are off, and one line a request goes to standard error.
    """
    _no_core_dumps()
    _log_to(sys.stderr)
    taken = bound(settings.host, settings.port)
    app = build_app(settings)
    room = app.state.room

    def leave() -> None:
        room.leaving = True

    limits = settings.limits
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, http=impatient(limits.headers), ws="none", loop="asyncio", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=5, timeout_graceful_shutdown=_LAST,
        h11_max_incomplete_event_size=1 << 14, backlog=_BACKLOG, lifespan="on",
    )  # fmt: skip
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    with _told(settings.host, settings.port):  # two may have the address, as long as none listens
        taken.listen(_BACKLOG)
    say(f"{room.answerer.model['findings']} findings, {room.answerer.engine.name}: http://{host}:{settings.port}")
    Server(config, settings, leave).run([taken])


def bound(host: str, port: int) -> socket.socket:
    """A socket that has the address, and does not listen yet. Raises InputError where it cannot be had."""
    with _told(host, port):
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":  # elsewhere it would share the port with whoever has it
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
        except OSError:
            taken.close()
            raise
        return taken


@contextmanager
def _told(host: str, port: int) -> Iterator[None]:
    """What the system refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        what, do = _REFUSED.get(error.errno, _REFUSED[errno.EADDRNOTAVAIL])
        raise InputError(what, where=f"{host}, port {port}", do=do) from error


def _log_to(stream: TextIO) -> None:
    """The log lines of this package to a stream; what uvicorn says of requests is not: it may quote them."""
    logger = logging.getLogger("hilum.serving")
    if not logger.handlers:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)


def _no_core_dumps() -> None:
    try:
        import resource
    except ImportError:  # not a Unix
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
