"""The application: which path answers what."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from textattn import __version__
from textattn.errors import TextattnError
from textattn.explain.as_json import explanation_as_json
from textattn.explain.explanations import Question
from textattn.inference.as_json import answer_as_json
from textattn.serve import schemas
from textattn.serve.batching import Batcher, Work
from textattn.serve.bodies import Bodies
from textattn.serve.connection import IS_GONE
from textattn.serve.files import PAGE_FILES, page_file, report_of
from textattn.serve.guard import Guard
from textattn.serve.metrics import CONTENT_TYPE, Metrics
from textattn.serve.models import Models, ServedModel
from textattn.serve.refusal import Refusal, json_response
from textattn.serve.settings import Access, Limits
from textattn.serve.works import Embed, Explain, Predict

Asked = TypeVar("Asked", bound=schemas.Texts)
ENDPOINTS = {"/", "/predict", "/explain", "/embed", "/health", "/models", "/metrics", "/reload", "/openapi.json"}
FOLDERS = {"/report/", "/page/"}
CLIENT_GONE = 499
STATUSES = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    403: "The page or the host may not ask.",
    404: "There is no such model or path.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    422: "The body is JSON, but something in it is wrong.",
    503: "Too much is waiting.",
    504: "The time is over.",
}
DESCRIPTION = "Texts in, labels, reasons and vectors out. The page to try it is at `/`."


class Service:
    """What the paths share."""

    def __init__(self, models: Models, limits: Limits) -> None:
        self.models = models
        self.limits = limits
        self.metrics = Metrics()
        self.batcher = Batcher(limits, self.metrics.batch)
        self.bodies = Bodies(limits)
        self.metrics.watch_queue(self.batcher)
        self.metrics.models(models)

    async def read(self, request: Request, schema: type[Asked]) -> tuple[Asked, ServedModel, list[str]]:
        """What is asked, of which model, about which texts.

        Raises:
            Refusal: something is wrong with the request.
        """
        asked = schemas.parse(schema, await self.bodies.read(request))
        served = self.models.find(asked.model)
        given = asked.given
        if len(given) > self.limits.max_texts:
            raise Refusal(
                422,
                f"{len(given):,} texts, but a request has at most {self.limits.max_texts:,}",
                "send several requests, or use textattn predict --input for a file",
            )
        single = asked.text is not None
        texts = served.texts(given, single=single)
        for number, text in enumerate(texts):
            if len(text) > self.limits.max_characters:
                name = "text" if single else f"texts[{number}]"
                raise Refusal(
                    422, f"{name} has {len(text):,} characters; at most {self.limits.max_characters:,} are read"
                )
        return asked, served, texts

    async def compute(self, request: Request, work: Work, texts: list[str]) -> list[Any]:
        """Results for the texts of a request.

        Raises:
            Refusal: the model cannot do it, or not in time.
        """
        try:
            return await self.batcher.ask(work, texts, request.scope.get(IS_GONE, lambda: False))
        except TextattnError as error:
            raise Refusal.of(error, by_input=False) from None

    async def reload(self) -> list[str]:
        """Loads the models again, while the old ones answer; see `Models.reload`.

        Raises:
            Refusal: one cannot be loaded, and all stay as they are (409).
        """
        try:
            changed = await asyncio.to_thread(self.models.reload)
        except TextattnError as error:
            self.metrics.reloads.labels("failed").inc()
            raise Refusal(409, f"not reloaded: {error.message}; the models stay as they were", error.hint) from None
        self.metrics.reloads.labels("done").inc()
        self.metrics.models(self.models)
        return changed


def create_app(
    service: Service, access: Access, on_error: Callable[[Exception], None], on_start: Callable[[], None] | None = None
) -> ASGIApp:
    """The whole application.

    Args:
        on_error: told about errors that are bugs.
        on_start: called on the event loop before the first request.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if on_start is not None:
            on_start()
        yield
        service.batcher.close()

    app = FastAPI(
        title="textattn",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # these pages load scripts from the network
        redoc_url=None,
        lifespan=lifespan,
        responses={code: {"description": text, "model": schemas.Error} for code, text in STATUSES.items()},
    )
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _failed)
    _add_answers(app, service)
    for route in [route for route in app.routes if isinstance(route, APIRoute)]:
        # FastAPI describes these paths; it would take as long to call their functions as the model takes to answer.
        app.router.routes.insert(0, Route(route.path, route.endpoint, methods=list(route.methods or ())))
    _add_state(app, service)
    _add_files(app, service)
    guarded: ASGIApp = Guard(app, access, service.metrics, ENDPOINTS | FOLDERS, on_error)
    if access.origins:
        headers = ["authorization", "content-type"]
        guarded = CORSMiddleware(
            guarded, allow_origins=access.origins, allow_methods=["GET", "POST"], allow_headers=headers
        )
    return guarded


def _add_answers(app: FastAPI, service: Service) -> None:
    @app.post("/predict", response_model=schemas.Predictions, openapi_extra=_body(schemas.PredictRequest))
    async def predict(request: Request) -> Response:
        """Labels and probabilities."""
        asked, served, texts = await service.read(request, schemas.PredictRequest)
        found = await service.compute(request, Predict(served, asked.min_score), texts)
        written = partial(answer_as_json, multi_label=served.multi_label, top_k=asked.top_k, min_score=asked.min_score)
        return _answers(served, [written(p, text) for p, text in zip(found, texts, strict=True)])

    @app.post("/explain", response_model=schemas.Explanations, openapi_extra=_body(schemas.ExplainRequest))
    async def explain(request: Request) -> Response:
        """Labels, probabilities, and what each word counted."""
        asked, served, texts = await service.read(request, schemas.ExplainRequest)
        method = asked.method or served.default_method
        if method not in served.verdicts:
            names = " or ".join(served.verdicts)
            raise Refusal(422, f"method: must be {names} for this model in a server, got {method!r}")
        question = Question(method, asked.target, asked.against)
        try:
            question.check(served.model.labels)
        except TextattnError as error:
            raise Refusal.of(error, by_input=True) from None
        found = await service.compute(request, Explain(served, question), texts)
        verdict = served.verdicts[method]
        return _answers(served, [explanation_as_json(e, served.multi_label, verdict, asked.top_k) for e in found])

    @app.post("/embed", response_model=schemas.Vectors, openapi_extra=_body(schemas.EmbedRequest))
    async def embed(request: Request) -> Response:
        """The pooled vectors, as the last layer sees them."""
        _, served, texts = await service.read(request, schemas.EmbedRequest)
        found = await service.compute(request, Embed(served), texts)
        return _answers(served, [{"text": t, "vector": v.tolist()} for t, v in zip(texts, found, strict=True)])


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/health", response_model=schemas.Health)
    async def health() -> Response:
        """Whether the server answers. Needs no token."""
        names = [served.name for served in service.models]
        return json_response({"status": "ok", "version": __version__, "models": names})

    @app.get("/models", response_model=schemas.ModelList)
    async def models() -> Response:
        """The models; the first is the default."""
        return json_response({"models": [served.as_json() for served in service.models]})

    @app.post("/reload", response_model=schemas.Reloaded, responses={409: {"model": schemas.Error}})
    async def reload() -> Response:
        """Load the models again, if their files have changed. Requests are answered all the while."""
        changed = await service.reload()
        return json_response({"models": [served.name for served in service.models], "changed": changed})

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def _add_files(app: FastAPI, service: Service) -> None:
    @app.get("/", response_class=Response, include_in_schema=False)
    async def page() -> Response:
        return page_file("index.html")

    @app.get("/page/{name}", response_class=Response, include_in_schema=False)
    async def part_of_page(name: str) -> Response:
        if name not in PAGE_FILES:
            raise Refusal(404, f"no such file: {name!r}")
        return page_file(name)

    @app.get("/report/{model}", response_class=Response)
    async def report(model: str) -> Response:
        """The report of the run, as a page."""
        return await asyncio.to_thread(report_of, service.models.find(model))


def _answers(served: ServedModel, answers: list[dict[str, Any]]) -> Response:
    return json_response({"model": served.name, "answers": answers})


def _body(schema: type[schemas.Texts]) -> dict[str, Any]:
    """A request body in OpenAPI. It is checked by `schemas.parse`, which is faster than FastAPI and words errors."""
    content = {"application/json": {"schema": schema.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return error.response()


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    message = f"no such path: {path}" if error.status_code == 404 else f"{request.method} {path}: {error.detail}"
    return Refusal(error.status_code, message, "/openapi.json lists all paths", error.headers).response()


async def _gone(_: Request, error: Exception) -> Response:
    return Response(status_code=CLIENT_GONE)  # for the metrics; nobody reads it


async def _failed(_: Request, error: Exception) -> Response:
    return Refusal(500, f"{type(error).__name__}: this is a bug; the output of the server says more").response()
