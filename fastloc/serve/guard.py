"""Access to the service, and its refusals, in JSON as all of its errors."""

from __future__ import annotations

from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from fastloc.web_server.security import Guard, Rules

__all__ = ["guarded"]

# only a machine that watches the service asks for these
OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")


def guarded(app: ASGIApp, rules: Rules) -> ASGIApp:
    """The application for those alone who keep to the rules."""
    return Guard(app, rules, _Pages(), OPEN)


class _Pages:
    def refusal(self, status: int, title: str, why: str) -> Response:
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        return JSONResponse({"error": f"{title}: {why}"}, status, headers)

    def signed_in(self) -> Response:
        return HTMLResponse('<!doctype html><meta http-equiv="refresh" content="0; url=/"><title>fastloc</title><a href="/">Go on</a>')
