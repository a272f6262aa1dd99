"""The endpoints of a server, as a FastAPI application."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from recbole_lcrec.pages import render
from recbole_lcrec.serving import messages
from recbole_lcrec.serving.batcher import Closed, Full
from recbole_lcrec.serving.guard import LOOPBACK, Guard
from recbole_lcrec.serving.service import Service
from recbole_lcrec.serving.settings import LONGEST_HISTORY
from recbole_lcrec.utils.errors import UserError, nearest, shortened
from recbole_lcrec.version import __version__

if TYPE_CHECKING:
    from recbole_lcrec.recommending import Recommender
    from recbole_lcrec.serving.settings import ServeSettings

logger = logging.getLogger(__name__)

LEFT = 499
"""Status, seen only by the counters, of a request whose client left before the answer."""
MOST_FOUND = 50
"""Most items that a search by words returns."""
NOT_JSON = "the body is not valid JSON."
NOT_AN_OBJECT = "the body is not a JSON object that is sent with content-type: application/json."
PROBLEMS: dict[int | str, dict[str, Any]] = {
    413: {"model": messages.Problem, "description": "The body is too large."},
    422: {"model": messages.Problem, "description": "Something in the request is wrong."},
    503: {"model": messages.Problem, "description": "Too many requests are waiting; see Retry-After."},
}


class ClientLeft(Exception):
    """The client no longer waits for the answer."""


def make_app(service: Service) -> FastAPI:
    """Return the application that answers for a service, and closes the service at the end."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="recbole_lcrec",
        version=__version__,
        description=f"Recommendations of {' and '.join(service.runs)}.",
        docs_url=None,  # FastAPI's own pages fetch scripts from a network
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_questions(app, service)
    _add_lookups(app, service)
    _add_state(app, service)
    _add_pages(app)
    _add_errors(app)
    settings = service.settings
    local = settings.serve_host in LOOPBACK
    app.add_middleware(Guard, most=settings.serve_body_kb << 10, local=local, answered=service.metrics.answered)
    return app


def _add_questions(app: FastAPI, service: Service) -> None:
    """Add the endpoints that a model answers."""
    settings = service.settings

    @app.post("/recommend", responses={200: {"model": messages.Recommended}, **PROBLEMS})
    async def recommend(body: messages.RecommendBody, request: Request) -> Response:
        """Recommend items for each history, or to each user."""
        run, k = service.name(body.run), settings.k("recommend: k", body.k)
        if not isinstance(body.paths, bool):
            raise UserError(f"recommend: paths must be true or false, found {shortened(body.paths)}.")
        recommender = service.runs[run]
        # wrong items or users are reported, or left out, before other requests have to wait for this one
        kind, asked, about = _whom(body, recommender, settings)
        found = await _answer(request, service.ask(kind, run, asked, k))
        path_of = recommender.path_of if body.paths else None
        return JSONResponse({"recommendations": [_items(items, path_of) for items in found], **about})

    @app.post("/search", responses={200: {"model": messages.Items}, **PROBLEMS})
    async def search(body: messages.SearchBody, request: Request) -> Response:
        """Find items for a wish in words."""
        run, k = service.name(body.run), settings.k("search: k", body.k)
        query = settings.text("search: query", body.query)
        history = None if body.history is None else settings.history("search: history", body.history)
        (found,) = await _answer(request, service.ask("search", run, [(query, history)], k))
        return JSONResponse({"items": _items(found)})

    @app.post("/similar", responses={200: {"model": messages.Items}, **PROBLEMS})
    async def similar(body: messages.SimilarBody, request: Request) -> Response:
        """Find items that are like an item."""
        run, k = service.name(body.run), settings.k("similar_items: k", body.k)
        (found,) = await _answer(request, service.ask("similar", run, [_token("similar_items", body.item)], k))
        return JSONResponse({"items": _items(found)})

    @app.post("/explain", responses=PROBLEMS)
    async def explain(body: messages.ExplainBody, request: Request) -> Response:
        """Say why an item is recommended after a history."""
        run, history = service.name(body.run), settings.history("explain: history", body.history)
        item = _token("explain", body.item)
        (found,) = await _answer(request, service.ask("explain", run, [(history, item)]))
        return JSONResponse(_plain(found))


def _add_lookups(app: FastAPI, service: Service) -> None:
    """Add the endpoints that look something up, without the model."""

    @app.get("/items", responses={200: {"model": messages.Items}, **PROBLEMS})
    def items(q: str, limit: str = "20", run: str | None = None) -> Response:
        """Find items by words of their titles."""
        words = service.settings.text("q", q)
        number = int(limit) if limit.isdecimal() and len(limit) < 10 else 0
        if not 1 <= number <= MOST_FOUND:
            raise UserError(f"limit must be a whole number from 1 to {MOST_FOUND}, found {shortened(limit)}.")
        found = service.runs[service.name(run)].find_items(words, number)
        return JSONResponse({"items": [{"item": one.item, "title": one.title} for one in found]})

    @app.get("/users/{user}", responses={200: {"model": messages.User}, **PROBLEMS})
    def user(user: str, run: str | None = None) -> Response:
        """Return the history of a user of the data set."""
        recommender = service.runs[service.name(run)]
        history = [{"item": item, "title": recommender.title_of(item)} for item in recommender.history_of(user)]
        return JSONResponse({"user": user, "history": history})


def _add_state(app: FastAPI, service: Service) -> None:
    """Add the endpoints about the server itself."""

    @app.get("/health")
    async def health() -> Response:
        """Say that the server answers, what it serves, and how much a request may ask for."""
        bounds = {**dataclasses.asdict(service.settings), "longest_history": LONGEST_HISTORY}
        runs = [
            {
                "name": name,
                "model": run.model_name,
                "dataset": run.dataset_name,
                "paths": run.has_paths,
                "histories": run.reads_histories,
            }
            for name, run in service.runs.items()
        ]
        return JSONResponse({"status": "ok", "version": __version__, "runs": runs, "settings": bounds})

    @app.get("/metrics")
    async def metrics() -> Response:
        """Return the server's counters in Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_pages(app: FastAPI) -> None:
    """Add the page, and the human-readable description of the interface."""
    page = files("recbole_lcrec.serving").joinpath("page")
    style = files("recbole_lcrec.pages").joinpath("templates", "style.css").read_bytes()
    contents = {
        "/": (page.joinpath("index.html").read_bytes(), "text/html"),
        "/page.js": (page.joinpath("page.js").read_bytes(), "text/javascript"),
        "/page.css": (style + page.joinpath("page.css").read_bytes(), "text/css"),
    }
    for path, (content, kind) in contents.items():
        response = Response(content, media_type=kind)
        app.add_api_route(path, lambda response=response: response, include_in_schema=False)

    @app.get("/docs", include_in_schema=False)
    def docs() -> Response:
        """Return the description of the interface as a plain page."""
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}
        return HTMLResponse(render("interface.html", interface=app.openapi()), headers=policy)


def _add_errors(app: FastAPI) -> None:
    """Make every refusal say why, in one form."""

    @app.exception_handler(UserError)
    async def wrong(request: Request, error: UserError) -> Response:
        return _problem(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def unreadable(request: Request, error: RequestValidationError) -> Response:
        return _problem(422, " ".join(_words(one) for one in error.errors()[:5]))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # FastAPI's own, for bytes that are not text
            return _problem(422, NOT_JSON)
        return _problem(error.status_code, error.detail, dict(error.headers or {}))

    @app.exception_handler(Full)
    @app.exception_handler(Closed)
    async def full(request: Request, error: Exception) -> Response:
        return _problem(503, "too many requests are waiting. Try again in a second.", {"Retry-After": "1"})

    @app.exception_handler(ClientLeft)
    async def left(request: Request, error: ClientLeft) -> Response:
        return Response(status_code=LEFT)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _problem(500, "the server failed; its log says why.")


def _whom(
    body: messages.RecommendBody, recommender: Recommender, settings: ServeSettings
) -> tuple[str, list[Any], dict[str, int]]:
    """Return the kind of question, what it asks about, and what the answer contains besides its lists.

    Raises:
        UserError: For wrong histories or users, or unless exactly one of them is given.
    """
    if (body.histories is None) == (body.users is None):
        found = "neither" if body.users is None else "both"
        raise UserError(f"recommend: expected histories (of item tokens) or users (of the data set), found {found}.")
    if body.users is None:
        histories = settings.histories("recommend: histories", body.histories)
        histories, skipped = recommender.known_parts(histories, body.unknown)
        return "recommend", histories, {"skipped": skipped} if body.unknown == "skip" else {}
    if body.unknown != "error":
        raise UserError("recommend: unknown is about the items of histories, and cannot go with users.")
    return "recommend_users", recommender.known_users(settings.users("recommend: users", body.users)), {}


async def _answer(request: Request, asked: Future[list[Any]]) -> list[Any]:
    """Wait for an answer as long as the client does.

    Raises:
        ClientLeft: If the client closes the connection; the question is then withdrawn.
    """
    answer, left = asyncio.wrap_future(asked), asyncio.ensure_future(_leaves(request))
    try:
        await asyncio.wait((answer, left), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientLeft
        return answer.result()
    finally:
        answer.cancel()
        left.cancel()


async def _leaves(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _items(found: Sequence[Any], path_of: Any = None) -> list[dict[str, Any]]:
    """Return scored items as JSON, with their paths if ``path_of`` is given."""
    listed = [{"item": one.item, "title": one.title, "score": one.score} for one in found]
    return listed if path_of is None else [{**one, "path": list(path_of(one["item"]))} for one in listed]


def _plain(value: Any) -> Any:
    """Return frozen results as JSON values; numbers that are not finite become null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _token(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{what}: item must be an item token, found {shortened(value)}.")
    return value


def _words(error: dict[str, Any]) -> str:
    """Return pydantic's message in our own words."""
    where = error["loc"]
    if error["type"] == "json_invalid":
        return NOT_JSON
    if error["type"] == "missing":
        return f"{where[-1]} is missing." if len(where) > 1 else "the body is missing: expected a JSON object."
    if error["type"] == "extra_forbidden":
        return (
            f"unknown field {shortened(where[-1])}.{nearest(str(where[-1]), _fields() - {where[-1]}) or ' See /docs.'}"
        )
    return NOT_AN_OBJECT if len(where) == 1 else f"{where[-1]}: {error['msg']}."


def _fields() -> set[str]:
    bodies = (messages.RecommendBody, messages.SearchBody, messages.SimilarBody, messages.ExplainBody)
    return {name for body in bodies for name in body.model_fields}


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)
