"""HTTP/1.1 for strangers: uvicorn's, which waits for the headers of a request for ever, with an end to its patience."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


def impatient(seconds: float) -> type[H11Protocol]:
    """The protocol whose connections are closed where a request's headers are not whole after so many seconds.

    The clock runs while no request is being answered: from the connection on, and from the end of an answer, so that what a
    client still sends of a body that was refused is taken only so long.
    """

    class Impatient(H11Protocol):
        _clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def handle_events(self) -> None:
            super().handle_events()
            if self._answering():
                self._stop()
            else:
                self._watch()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if not self._answering() and not self.transport.is_closing():
                self._watch()

        def _answering(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _watch(self) -> None:
            if self._clock is None:
                self._clock = self.loop.call_later(seconds, self._give_up)

        def _stop(self) -> None:
            if self._clock is not None:
                self._clock.cancel()
                self._clock = None

        def _give_up(self) -> None:
            self._clock = None
            if not self._answering() and not self.transport.is_closing():
                self.transport.close()

    return Impatient
