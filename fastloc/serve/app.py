"""The HTTP application: a Starlette app around a `Service`."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from fastloc._version import __version__
from fastloc.errors import FastlocError
from fastloc.imaging.heat_arrays import to_steps
from fastloc.imaging.heatmaps import minmax
from fastloc.imaging.overlay import write as write_sheet
from fastloc.results.base_localizer import BaseLocalizer
from fastloc.results.result import Result
from fastloc.results.wire import FORMAT, to_wire
from fastloc.serve import open_inference, openapi, page
from fastloc.serve.measured import Measured
from fastloc.serve.requests import Ask, read
from fastloc.serve.service import Service
from fastloc.serve.settings import Refused, Settings
from fastloc.serve.while_there import while_there
from fastloc.utils.system.exhaustion import exhausted

__all__ = ["application"]


def application(localizer: BaseLocalizer[Any], settings: Settings | None = None) -> Starlette:
    """The ASGI application of a localizer; `app.state.service` is its `Service`.

    Raises:
        FastlocError: settings that the localizer cannot follow.
    """
    service = Service(localizer, settings or Settings())
    routes = [
        Route("/v1/locate", _locate, methods=["POST"]),
        Route("/v1/heatmap", _heatmap, methods=["POST"]),
        Route("/v1/models", _models),
        Route("/healthz", _health),
        Route("/readyz", _ready),
        Route("/metrics", _metrics),
        Route("/openapi.json", _openapi),
        Route("/docs", _docs),
        *open_inference.routes(),
        *page.routes(),
    ]
    handlers: Any = {HTTPException: _http_error, FastlocError: _refused, MemoryError: _failed, Exception: _failed}
    paths = {route.endpoint: route.path for route in routes if isinstance(route, Route)}
    measured = Middleware(Measured, metrics=service.metrics, paths=paths)
    app = Starlette(routes=routes, middleware=[measured], exception_handlers=handlers, lifespan=_lifespan)
    app.state.service = service
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.to_thread(app.state.service.close)


async def _locate(request: Request) -> Response:
    return await _answered(request, _located)


async def _heatmap(request: Request) -> Response:
    overlay = request.query_params.get("overlay", "").lower() in ("1", "true")
    return await _answered(request, lambda service, ask: _drawn(service, ask, overlay))


async def _answered(request: Request, answer: Callable[[Service, Ask], Awaitable[Response]]) -> Response:
    service: Service = request.app.state.service
    # a body that cannot be answered is not read
    service.check_open()
    with service.request():
        ask = await read(request, service.settings)
        return await while_there(request, lambda: answer(service, ask))


async def _located(service: Service, ask: Ask) -> Response:
    results = await service.locate(ask.pictures, ask.texts, ask.method)
    return Response(await service.aside(_written, service.name, results, ask), media_type="application/json")


async def _drawn(service: Service, ask: Ask, overlay: bool) -> Response:
    if len(ask.pictures) != 1 or len(ask.texts) != 1:
        raise Refused(422, f"a heatmap is of one picture and one text, got {len(ask.pictures)} and {len(ask.texts)}")
    (result,) = await service.locate(ask.pictures, ask.texts, ask.method)
    return Response(await service.aside(_png, result, overlay), media_type="image/png")


def _png(result: Result, overlay: bool) -> bytes:
    file = io.BytesIO()
    if overlay:
        write_sheet(result.overlay(), file, "PNG")
    else:
        # raw similarities have no common 0 and 1
        heat = to_steps(minmax(result.heatmaps)) if result.order == "none" else result.heatmap_array("uint8")
        Image.fromarray(heat[0]).save(file, "PNG")
    return file.getvalue()


def _written(model: str, results: list[Result], ask: Ask) -> bytes:
    write = to_wire if ask.similarity else Result.to_dict
    found = [write(result, ask.threshold, score=ask.score) for result in results]
    answer = {"format": FORMAT, "fastloc": __version__, "model": model, "method": results[0].method, "results": found}
    return json.dumps(answer, separators=(",", ":"), allow_nan=False).encode()


async def _models(request: Request) -> Response:
    service: Service = request.app.state.service
    return JSONResponse({"models": [{"name": service.name, "method": method} for method in service.localizers]})


async def _health(request: Request) -> Response:
    return JSONResponse({"fastloc": __version__})


async def _ready(request: Request) -> Response:
    draining = request.app.state.service.draining
    return JSONResponse({"ready": not draining}, 503 if draining else 200)


async def _metrics(request: Request) -> Response:
    return Response(request.app.state.service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _openapi(request: Request) -> Response:
    return JSONResponse(openapi.schema())


async def _docs(request: Request) -> Response:
    return HTMLResponse(openapi.page())


async def _http_error(request: Request, error: HTTPException) -> Response:
    # not its url, which does not exist for a query that is not UTF-8
    path = request.scope["path"][:200]
    return JSONResponse({"error": f"{request.method} {path}: {error.detail}"}, error.status_code, headers=error.headers)


async def _refused(request: Request, error: FastlocError) -> Response:
    status, after = (error.status, error.after) if isinstance(error, Refused) else (422, None)
    return JSONResponse({"error": " ".join(str(error).split())}, status, headers={"Retry-After": str(after)} if after else None)


async def _failed(request: Request, error: Exception) -> Response:
    if (why := exhausted(error)) is not None:
        request.app.state.service.faults.note(f"a request could not be answered: {why}")
        return JSONResponse({"error": why}, 503, headers={"Retry-After": "1"})
    request.app.state.service.faults.note("a request could not be answered", error)
    return JSONResponse({"error": "the service failed; its log says why"}, 500)
