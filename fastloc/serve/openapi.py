"""The description of the HTTP interface, for programs (/openapi.json) and for people (/docs)."""

from __future__ import annotations

import html
from typing import Any

import msgspec

from fastloc._version import __version__
from fastloc.serve.requests import Ask

__all__ = ["page", "schema"]

_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_FORM = {
    "type": "object",
    "required": ["image", "texts"],
    "properties": {
        "image": {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "one picture's file, or several"},
        "texts": {"type": "array", "items": {"type": "string"}, "description": "the field repeated, or one field with a JSON list"},
        "method": {"type": "string"},
        "threshold": {"type": "number", "default": 0.5},
        "score": {"type": "number"},
        "similarity": {"type": "boolean", "default": False},
    },
}
_REFUSALS = {
    "400": "the body is malformed",
    "401": "a token is needed",
    "408": "the body came too slowly",
    "413": "more bytes, pictures or texts than the service takes",
    "415": "the body is neither JSON nor a multipart form",
    "422": "a picture (one of too many pixels too), a text or a method that cannot be used",
    "429": "the queue is full: Retry-After says in how many seconds to ask again",
    "503": "the service is about to end, or there is too little memory for the request",
    "504": "the answer took too long",
}
_OVERLAY = {"name": "overlay", "in": "query", "schema": {"type": "boolean"}, "description": "1: the heat over the picture, as a sheet"}
# path -> verb, summary, media type of the answer
_OTHERS = {
    "/v1/models": ("get", "The model and the methods that requests may ask for", "application/json"),
    "/healthz": ("get", "200 while the process runs", "application/json"),
    "/readyz": ("get", "200 while requests are taken, 503 before the service ends", "application/json"),
    "/metrics": ("get", "Counters and histograms, for Prometheus", "text/plain"),
    "/v2/models/{name}/infer": ("post", "Open Inference Protocol, version 2", "application/json"),
}


def schema() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    (ask,), components = msgspec.json.schema_components([Ask], ref_template="#/components/schemas/{name}")
    body = {"required": True, "content": {"application/json": {"schema": ask}, "multipart/form-data": {"schema": _FORM}}}
    refusals = {
        status: {"description": why, "content": {"application/json": {"schema": _ERROR}}} for status, why in _REFUSALS.items()
    }

    def post(summary: str, kind: str, *parameters: dict[str, Any]) -> dict[str, Any]:
        answers = {"200": {"description": "the answer", "content": {kind: {}}}, **refusals}
        return {"post": {"summary": summary, "parameters": list(parameters), "requestBody": body, "responses": answers}}

    paths: dict[str, Any] = {
        "/v1/locate": post("Peaks, boxes and scores of each text in each picture", "application/json"),
        "/v1/heatmap": post("The heat of one text in one picture, 8-bit grey at the picture's size", "image/png", _OVERLAY),
    }
    for path, (verb, summary, kind) in _OTHERS.items():
        parameter = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}] if "{name}" in path else []
        answer = {"200": {"description": "the answer", "content": {kind: {}}}}
        paths[path] = {verb: {"summary": summary, "parameters": parameter, "responses": answer}}
    token = {"token": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "fastloc", "version": __version__, "description": "Where in this picture is that, in words?"},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": token},
        "security": [{}, {"token": []}],
    }


def page() -> str:
    """The document as a page without scripts, styles or anything from elsewhere."""
    rows = []
    for path, verbs in schema()["paths"].items():
        for verb, call in verbs.items():
            answers = "".join(f"<li>{status} {html.escape(each['description'])}" for status, each in call["responses"].items())
            rows.append(f"<h2><code>{verb.upper()} {html.escape(path)}</code></h2><p>{html.escape(call['summary'])}</p><ul>{answers}</ul>")
    fields = "".join(f"<li><code>{name}</code> {html.escape(each.get('description', ''))}" for name, each in _FORM["properties"].items())  # type: ignore[attr-defined]
    example = "curl -F image=@photo.jpg -F texts=cat -F 'texts=red car' http://127.0.0.1:8020/v1/locate"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>fastloc {__version__}</title><h1>fastloc {__version__}</h1>'
        f'<p>For programs: <a href="openapi.json">openapi.json</a></p><pre>{example}</pre>'
        f"<h2>Fields of /v1/locate and /v1/heatmap</h2><ul>{fields}</ul>{''.join(rows)}</html>"
    )
