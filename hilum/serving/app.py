"""The application: routes over a bundle that answers. What is said of a study is `answer`'s, who may ask is `door`'s."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from hilum import __version__
from hilum.errors import MachineError
from hilum.serving import schema
from hilum.serving.answer import BANNER, Answerer, Asked, Person, Prepared
from hilum.serving.audit import Audit
from hilum.serving.decoders import Decoders
from hilum.serving.door import Door, log
from hilum.serving.guard import Guard
from hilum.serving.metrics import CONTENT_TYPE, Metrics
from hilum.serving.page import page_routes
from hilum.serving.places import Place, Places
from hilum.serving.problems import Problem
from hilum.serving.queue import MicroBatches
from hilum.serving.settings import Settings
from hilum.serving.upload import Form, read_form
from hilum.tables import SEXES, VIEWS

Told = TypeVar("Told")
_OLDEST = 120.0
_FAILED: dict[type[Exception], str] = {MachineError: "No decoder process can be started."}
_OF_STUDIES = (400, 408, 413, 415, 422, 429, 503, 504)


class Room:
    """What a running server has: the model, the decoders, the queue, the counters, the log of answers."""

    def __init__(self, settings: Settings):
        self.settings, limits = settings, settings.limits
        self.answerer = Answerer(settings.bundle, engine=settings.engine, expect=settings.expect, gate=settings.gate)
        self.metrics, self.guard = Metrics(), Guard(settings)
        self.audit = Audit(settings.audit) if settings.audit else None
        self.places = Places(limits.places, limits.held)
        self.decoders = Decoders(limits.decoders, self.metrics.decode.observe)
        self.batches: MicroBatches[Prepared, Asked] = MicroBatches(
            self.answerer.ask, size=limits.batch, wait=limits.wait, seen=self.metrics.seen
        )
        told = {
            key: str(value) for key, value in asdict(settings).items() if key not in ("bundle", "key_file", "audit")
        }
        self.settings_hash = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        self.ready = self.leaving = False
        self.tested: bool | None = None
        self.trouble = ""  # a sentence, where the start failed

    async def open(self) -> None:
        """Start the decoders and let the model answer the bundle's self-test; from then on the server is ready.

        What goes wrong stands in the log and in `trouble`, in words of ours: an error may quote a file.
        """
        kind = None
        try:
            await self.decoders.start()
            self.tested = await asyncio.to_thread(self.answerer.passes)
            self.ready = self.tested is not False
            if not self.ready:
                self.trouble = "The engine does not give the logits that the bundle stores for its self-test."
        except Exception as error:
            kind = type(error).__name__
            self.trouble = _FAILED.get(type(error), "The self-test could not be asked.")
        if self.trouble:
            log.error(json.dumps({"fault": kind, "what": self.trouble}))

    def close(self) -> None:
        """Answer what waits, end what was started."""
        self.batches.close()
        self.decoders.close()
        if self.audit is not None:
            self.audit.close()

    async def prepared(self, form: Form) -> Prepared:
        """The study of a form, decoded. Raises Problem."""
        if not form.files:
            raise Problem("no-files", "Send at least one part named files.")
        views = [_one_of(text, VIEWS, "view") for text in form.texts("view")]
        if len(views) not in (0, len(form.files)):
            raise Problem("bad-field", "Give one view for each file, or none.")
        person = Person(_age(form), _one_of(_single(form, "sex"), SEXES, "sex"))  # type: ignore[arg-type]
        show = _one_of(_single(form, "images"), ("true", "false"), "images") == "true"
        own = await asyncio.to_thread(self.answerer.askable.own, form.texts("findings"))
        pictures = await self.decoders.pictures(
            form.files, self.answerer.bundle.pixels, views or [None] * len(form.files), show=show
        )
        for warning in {code for one in pictures for code in one.warnings}:
            self.metrics.warnings.labels(warning).inc()
        return self.answerer.prepare(pictures, person, own)

    async def asked(self, study: Prepared, place: Place) -> Asked:
        """What the model says. Raises Problem."""
        future: Future[Asked] = self.batches.submit(study)
        try:
            asked = await self.within(asyncio.wrap_future(future), place)
        except Problem:
            future.cancel()  # where it still waits
            raise
        if asked.judged is not None and not asked.judged.inside:
            self.metrics.unlike.inc()
        return asked

    async def within(self, work: Awaitable[Told], place: Place) -> Told:
        """The result, or Problem (timeout): threads cannot be stopped, so the place is then held until the work has ended."""
        going = asyncio.ensure_future(work)
        await asyncio.wait({going}, timeout=self.settings.limits.answer)
        if not going.done():
            place.work = going
            raise Problem("timeout", headers={"Retry-After": "5"})
        return going.result()

    def answered(self, request: Request, told: dict[str, Any]) -> Response:
        """The answer, once it stands in the log. Raises Problem (storage-full) where it cannot."""
        told = {"request_id": request.state.request_id, **told}
        body = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        self.note(request, hashlib.sha256(body).hexdigest())
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    def note(self, request: Request, output: str | None = None, code: str | None = None) -> None:
        """A line in the log of answers, where there is one."""
        if self.audit is not None:
            route = request.url.path
            self.audit.write(
                request_id=request.state.request_id, who=request.state.who, route=route, inputs=request.state.inputs, code=code,
                output=output, model=self.answerer.bundle.identity, calibration=self.answerer.calibration,
                engine=self.answerer.engine.name, settings=self.settings_hash,
            )  # fmt: skip


def build_app(settings: Settings) -> FastAPI:
    """The application of a server. Its bundle is read, its decoders are started with it; `app.state.room` is what it has.

    Raises InputError where the bundle, the keys or the log cannot be used.
    """
    room = Room(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(room.open())
        yield
        await asyncio.gather(opening, return_exceptions=True)
        room.close()

    app = FastAPI(
        title="hilum", version=__version__, description=BANNER, openapi_url="/api/v1/openapi.json", docs_url=None,
        redoc_url=None, lifespan=lifespan, separate_input_output_schemas=False,
    )  # fmt: skip
    app.state.room = room
    app.add_middleware(Door, guard=room.guard, metrics=room.metrics, leaving=lambda: room.leaving)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_problem)
    _study_routes(app, room)
    _other_routes(app, room)
    app.include_router(page_routes(room.answerer.facts))
    return app


def _study_routes(app: FastAPI, room: Room) -> None:
    limits = room.settings.limits

    async def study_of(request: Request, kind: str, place: Place) -> tuple[Form, Prepared]:
        if not room.ready:
            raise Problem("not-ready", room.trouble, headers={"Retry-After": "2"})
        form = await read_form(request, limits, schema.FIELDS[kind], place.hold)
        request.state.inputs = [hashlib.sha256(data).hexdigest() for data in form.files]
        return form, await room.within(room.prepared(form), place)

    @app.post(
        "/api/v1/predict", response_model=schema.Answer, responses=schema.problems_of(*_OF_STUDIES),
        openapi_extra=schema.form_of("predict"), summary="What a model finds in one study",
    )  # fmt: skip
    async def predict(request: Request) -> Response:
        with room.places.one() as place:
            _, study = await study_of(request, "predict", place)
            asked = await room.asked(study, place)
            return room.answered(request, await asyncio.to_thread(room.answerer.told, study, asked))

    @app.post(
        "/api/v1/explain", response_model=schema.Explanation, responses=schema.problems_of(*_OF_STUDIES),
        openapi_extra=schema.form_of("explain"), summary="Where the images of a study speak for findings",
    )  # fmt: skip
    async def explain(request: Request) -> Response:
        with room.places.one() as place:
            form, study = await study_of(request, "explain", place)
            names = list(dict.fromkeys(form.texts("finding")))
            if not 1 <= len(names) <= 4:
                raise Problem("bad-field", "Give the field finding one to four times.")
            until = time.monotonic() + limits.answer
            work = asyncio.to_thread(room.answerer.explained, study, names, _single(form, "method"), until=until)
            return room.answered(request, await room.within(work, place))


def _other_routes(app: FastAPI, room: Room) -> None:
    @app.get("/api/v1/bundle", responses=schema.problems_of(), summary="The model that answers here")
    async def bundle() -> dict[str, Any]:
        return room.answerer.facts

    @app.get("/health/live", responses=schema.problems_of(), summary="Whether the server runs")
    @app.get("/v2/health/live", include_in_schema=False)
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/health/ready", responses=schema.problems_of(503), summary="Whether the server answers")
    @app.get("/v2/health/ready", include_in_schema=False)
    async def ready() -> schema.Ready:
        if not room.ready or room.leaving:
            raise Problem("not-ready", room.trouble, headers={"Retry-After": "2"})
        if not await room.decoders.alive():
            raise Problem("not-ready", _FAILED[MachineError], headers={"Retry-After": "5"})
        return schema.Ready(ready=True, self_test="passed" if room.tested else "none")

    @app.get(
        "/metrics", responses=schema.problems_of() | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
        response_class=Response, summary="Counters for Prometheus",
    )  # fmt: skip
    async def metrics() -> Response:
        room.metrics.in_flight.set(room.places.taken)
        room.metrics.waiting.set(len(room.batches))
        room.metrics.lost.set(room.decoders.lost)
        return Response(room.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _problem(request: Request, error: Exception) -> JSONResponse:
    """A problem as an answer; of a study it stands in the log of answers too."""
    assert isinstance(error, Problem)
    if request.method == "POST" and error.code != "storage-full":
        try:
            request.app.state.room.note(request, code=error.code)
        except Problem as full:
            error = full
    request.state.code = error.code
    return error.response(request.state.request_id)


async def _http_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "bad-request")
    problem = Problem(code, headers=dict(error.headers or {}))
    request.state.code = code
    return problem.response(request.state.request_id)


def _single(form: Form, name: str) -> str | None:
    values = form.texts(name)
    if len(values) > 1:
        raise Problem("bad-field", f"Give the field {name} once.")
    return values[0] if values and values[0] else None


def _one_of(value: str | None, known: tuple[str, ...], name: str) -> str | None:
    if value is not None and value not in known:
        raise Problem("bad-field", f"The field {name} may be {', '.join(known)}.")
    return value


def _age(form: Form) -> float | None:
    text = _single(form, "age")
    try:
        age = None if text is None else float(text)
    except ValueError:
        age = -1.0
    if age is not None and not 0 <= age <= _OLDEST:
        raise Problem("bad-field", f"The field age is 0 to {_OLDEST:g} years.")
    return age
