"""A server from its start to its end: what is checked before it listens, and how it stops without dropping a request."""

import asyncio
import logging
import sys
from collections.abc import Callable
from types import FrameType
from typing import TextIO

import uvicorn

from hilum.serving.app import build_app
from hilum.serving.protocol import impatient
from hilum.serving.settings import Settings

_LAST = 20  # seconds that requests in flight have at the end


class Server(uvicorn.Server):
    """uvicorn that says it is leaving before it stops listening: for `drain` seconds new requests are answered, and told not to
    come again; then the last ones are finished. A second signal ends it at once.
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
        asyncio.get_running_loop().call_later(self._settings.drain, self._stop)

    def _stop(self) -> None:
        self.should_exit = True


def serve(settings: Settings, say: Callable[[str], None] = lambda line: None) -> None:
    """Serve until a signal ends it. Raises InputError where it may not listen there, or the bundle, keys or log cannot be used.

    Nothing is kept of what is sent, core dumps are off, and one line a request goes to standard error.
    """
    _no_core_dumps()
    _log_to(sys.stderr)
    app = build_app(settings)
    room = app.state.room

    def leave() -> None:
        room.leaving = True

    limits = settings.limits
    config = uvicorn.Config(
        app, host=settings.host, port=settings.port, http=impatient(limits.headers), ws="none", loop="asyncio", log_config=None,
        access_log=False, server_header=False, proxy_headers=False, timeout_keep_alive=5, timeout_graceful_shutdown=_LAST,
        h11_max_incomplete_event_size=1 << 14, backlog=128, lifespan="on",
    )  # fmt: skip
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    say(f"{room.answerer.model['findings']} findings, {room.answerer.engine.name}: http://{host}:{settings.port}")
    Server(config, settings, leave).run()


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
