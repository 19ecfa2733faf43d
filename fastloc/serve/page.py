"""Routes of the page on which a person drops a picture and types words."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from fastloc._version import __version__
from fastloc.imaging.overlay import colour_table

__all__ = ["FILES", "routes"]

_OWN = Path(__file__).parent / "page"
# said here, because a machine's own tables may say otherwise, and browsers run no module of another type
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}


def _shared() -> Path:
    """The folder of the static page that `fastloc export --web` writes, whose look and drawing this page has too."""
    found = find_spec("fastloc.export")
    places = found.submodule_search_locations if found else None
    return Path(next(iter(places or [""]))) / "web"


# path -> file
FILES = {
    "/": _OWN / "index.html",
    **{f"/{name}": _OWN / name for name in ("app.js", "spread.js", "service.css")},
    **{f"/{name}": _shared() / name for name in ("maps.js", "tiles.js", "style.css")},
}


def routes() -> list[Route]:
    """The page's files, and `/page.json` with what they need to know beside `/v1/models`."""
    return [*(Route(path, _file) for path in FILES), Route("/page.json", _facts)]


async def _file(request: Request) -> Response:
    file = FILES[request.url.path]
    return FileResponse(file, media_type=_TYPES[file.suffix])


async def _facts(request: Request) -> Response:
    return JSONResponse(_page_facts())


@cache
def _page_facts() -> dict[str, Any]:
    return {"fastloc": __version__, "colours": np.rint(colour_table("turbo")).astype(np.uint8).tobytes().hex()}
