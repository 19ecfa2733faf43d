"""Routes of the page on which a person drops a picture and types words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from fastloc import export
from fastloc._version import __version__
from fastloc.imaging.overlay import colour_table

__all__ = ["FILES", "routes"]

# the page that `fastloc web` writes lends its look and its drawing
_OWN, _SHARED = Path(__file__).parent / "page", Path(export.__file__).parent / "web"
# said here, because a machine's own tables may say otherwise, and browsers run no module of another type
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


# path -> file
FILES = {
    "/": _OWN / "index.html",
    **{f"/{name}": _OWN / name for name in ("app.js", "spread.js", "service.css")},
    **{f"/{name}": _SHARED / name for name in ("maps.js", "tiles.js", "style.css")},
}


def routes() -> list[Route]:
    """The page's files, and `/page.json` with what they need to know beside `/v1/models`."""
    return [*(Route(path, _sender(file)) for path, file in FILES.items()), Route("/page.json", _facts)]


def _sender(file: Path) -> Callable[[Request], Awaitable[Response]]:
    async def sent(request: Request) -> Response:
        return FileResponse(file, media_type=_TYPES[file.suffix])

    return sent


async def _facts(request: Request) -> Response:
    return JSONResponse(_page_facts())


@cache
def _page_facts() -> dict[str, Any]:
    return {"fastloc": __version__, "colours": np.rint(colour_table("turbo")).astype(np.uint8).tobytes().hex()}
