"""The door: what every request passes on its way in, and every answer on its way out. Names, keys, headers, counts, one log line."""

import json
import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hilum.serving.guard import Guard
from hilum.serving.metrics import Metrics
from hilum.serving.page import CSP
from hilum.serving.problems import Problem

log = logging.getLogger("hilum.serving")

HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Frame-Options": "DENY",
}


class Door:
    """ASGI middleware. leaving: whether the server is about to stop, so that connections are not kept.

    A log line holds a request's id, route, status, problem code, milliseconds and bytes, and nothing that came with the request.
    """

    def __init__(self, app: ASGIApp, *, guard: Guard, metrics: Metrics, leaving: Callable[[], bool]):
        self.app, self.guard, self.metrics, self.leaving = app, guard, metrics, leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state.update(request_id=uuid.uuid4().hex, code="", inputs=[])
        answer = _Answer(send, state["request_id"], self.leaving)
        before = time.perf_counter()
        try:
            client = scope["client"][0] if scope.get("client") else None
            state["who"] = self.guard.check(scope["path"], Headers(scope=scope), client)
            await self.app(scope, receive, answer.send)
        except Problem as problem:
            state["code"] = problem.code
            await problem.response(state["request_id"])(scope, receive, answer.send)
        except ClientDisconnect:  # it went before its request was whole: nobody is there to be answered
            state["code"] = "client-gone"
        except Exception as error:
            state["code"] = "internal"
            log.error(json.dumps({"request_id": state["request_id"], "fault": type(error).__name__}))
            if answer.status is None:
                await Problem("internal").response(state["request_id"])(scope, receive, answer.send)
        finally:
            self._note(scope, state, answer, time.perf_counter() - before)

    def _note(self, scope: Scope, state: dict[str, Any], answer: "_Answer", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self.metrics.requests.labels(route, str(answer.status or "none"), state["code"]).inc()
        self.metrics.seconds.labels(route).observe(seconds)
        told = {
            "request_id": state["request_id"],
            "who": state.get("who"),
            "method": scope["method"] if route != "none" else None,
        }
        told |= {
            "route": route,
            "status": answer.status,
            "code": state["code"],
            "ms": round(1000 * seconds, 1),
            "bytes": answer.size,
        }
        log.info(json.dumps(told))


class _Answer:
    """The way out: the headers of every answer, and what was sent."""

    def __init__(self, send: Send, request_id: str, leaving: Callable[[], bool]):
        self._send, self._request_id, self._leaving = send, request_id, leaving
        self.status: int | None = None
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
            headers["X-Request-ID"] = self._request_id
            if self._leaving():
                headers["Connection"] = "close"
        elif message["type"] == "http.response.body":
            self.size += len(message.get("body", b""))
        await self._send(message)
