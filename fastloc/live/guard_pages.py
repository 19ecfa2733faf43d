"""Pages of the guard, in the live page's own style."""

from __future__ import annotations

import html

from starlette.responses import HTMLResponse, Response

__all__ = ["OPEN", "refusal", "signed_in"]

# fetched by the page of a refusal
OPEN = ("/style.css",)


def refusal(status: int, title: str, why: str) -> Response:
    """The page for a refused request."""
    return HTMLResponse(_page(title, html.escape(why)), status)


def signed_in() -> Response:
    """The page for a request with the right token, which goes on to the live page."""
    return HTMLResponse(_page("Signed in", '<a href="/">Go on to the page</a>', '<meta http-equiv="refresh" content="0; url=/">'))


def _page(title: str, body: str, head: str = "") -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'{head}<title>fastloc live</title><link rel="stylesheet" href="/style.css"></head><body><header><h1><svg viewBox="0 0 32 32" '
        f'aria-hidden="true"><circle cx="16" cy="16" r="11"/><circle cx="16" cy="16" r="3.5"/></svg>fastloc live</h1></header>'
        f'<main class="alone"><h2>{html.escape(title)}</h2><p>{body}</p></main></body></html>'
    )
