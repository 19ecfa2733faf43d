"""The Open Inference Protocol, version 2, over HTTP: the clients of KServe and Triton call a service by it.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol, and Triton's extension for binary tensor data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fastloc._version import __version__
from fastloc.results.result import Result
from fastloc.serve import tensors
from fastloc.serve.requests import read_body
from fastloc.serve.service import Service
from fastloc.serve.settings import Refused
from fastloc.serve.while_there import while_there

__all__ = ["routes"]

VERSION = "1"
VERSIONS = "/versions/{version:str}", ""
INPUTS = {"image": ("BYTES", [-1]), "texts": ("BYTES", [-1])}
# of N pictures and T texts: the patch grid; x, y, the heat and the similarity of each peak; scores within [0, 1]
OUTPUTS = {"similarity": ("FP32", [-1, -1, -1, -1]), "points": ("FP32", [-1, -1, 4]), "scores": ("FP32", [-1, -1])}


def routes() -> list[BaseRoute]:
    """The routes under /v2; the app's state has the `Service`."""
    return [
        Route("/v2", _server),
        Route("/v2/health/live", _live),
        Route("/v2/health/ready", _ready),
        # names may hold slashes, such as hf:OWNER/NAME; a path alone would match what follows the name, too, and comes last
        *(Route(f"/v2/models/{{name:path}}{version}/infer", _infer, methods=["POST"]) for version in VERSIONS),
        *(Route(f"/v2/models/{{name:path}}{version}/ready", _model_ready) for version in VERSIONS),
        *(Route(f"/v2/models/{{name:path}}{version}", _model) for version in VERSIONS),
    ]


async def _server(request: Request) -> Response:
    return JSONResponse({"name": "fastloc", "version": __version__, "extensions": ["binary_tensor_data"]})


async def _live(request: Request) -> Response:
    return JSONResponse({"live": True})


async def _ready(request: Request) -> Response:
    draining = request.app.state.service.draining
    return JSONResponse({"ready": not draining}, 503 if draining else 200)


async def _model(request: Request) -> Response:
    _check_name(request)
    answer = {"name": request.app.state.service.name, "versions": [VERSION], "platform": "fastloc"}
    return JSONResponse({**answer, "inputs": _described(INPUTS), "outputs": _described(OUTPUTS)})


async def _model_ready(request: Request) -> Response:
    _check_name(request)
    draining = request.app.state.service.draining
    return JSONResponse({"name": request.app.state.service.name, "ready": not draining}, 503 if draining else 200)


def _described(table: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": shape} for name, (datatype, shape) in table.items()]


def _check_name(request: Request) -> None:
    name, version = request.path_params["name"], request.path_params.get("version", VERSION)
    served = request.app.state.service.name
    if name != served or version != VERSION:
        raise Refused(404, f"model must be {served!r} in version {VERSION}, got {name[:60]!r} in version {version[:20]}")


async def _infer(request: Request) -> Response:
    service: Service = request.app.state.service
    _check_name(request)
    service.check_open()
    # what is decompressed can be any size
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        raise Refused(415, f"Content-Encoding must be identity, got {encoding[:20]!r}")
    body = await read_body(request, service.settings)
    asked, found = await service.aside(tensors.read, body, request.headers.get(tensors.HEADER))
    return await while_there(request, lambda: _answered(service, asked, found))


async def _answered(service: Service, asked: tensors.Request, found: dict[str, Any]) -> Response:
    for name in found:
        if name not in INPUTS:
            raise Refused(400, f"inputs must be image and texts, got {name[:40]!r}")
    for output in asked.outputs:
        if output.name not in OUTPUTS:
            raise Refused(400, f"outputs must be among {', '.join(OUTPUTS)}, got {output.name[:40]!r}")
    # pixels are copied, and base64 is read
    pictures = await service.aside(_pictures, service, found.get("image"))
    texts = _strings(found.get("texts"))
    results = await service.locate(pictures, texts, asked.parameters.method)
    names = [output.name for output in asked.outputs] or [name for name in OUTPUTS if _has(results, name)]

    def write() -> tuple[bytes, dict[str, str]]:
        head = {"model_name": service.name, "model_version": VERSION, **({"id": asked.id} if asked.id else {})}
        return tensors.written(head, {name: READERS[name](results) for name in names}, asked)

    content, headers = await service.aside(write)
    return Response(content, headers=headers)


def _pictures(service: Service, image: Any) -> list[bytes | str | Image.Image]:
    if image is not None:
        service.check_count(len(image))
    if isinstance(image, list):
        return [tensors.base64_or_bytes(each) for each in image]
    if image is None or image.ndim != 4 or image.shape[3] != 3:
        got = "none" if image is None else f"UINT8 {list(image.shape)}"
        raise Refused(400, f"image must be BYTES [N], pictures' files, or UINT8 [N, H, W, 3], got {got}")
    if image[0, ..., 0].size > service.settings.pixels:
        raise Refused(413, f"a picture must have at most {service.settings.pixels:,} pixels, got {image[0, ..., 0].size:,}")
    return [Image.fromarray(each) for each in image]


def _strings(texts: Any) -> list[str]:
    if not isinstance(texts, list):
        raise Refused(400, f"texts must be BYTES [T], got {'none' if texts is None else 'UINT8'}")
    try:
        return [each.decode("utf-8") for each in texts]
    except UnicodeDecodeError:
        raise Refused(400, "texts must be UTF-8") from None


def _has(results: Sequence[Result], name: str) -> bool:
    if name == "similarity":
        return len({result.similarity.shape for result in results}) == 1
    return name != "scores" or all(result.scores is not None for result in results)


def _similarity(results: Sequence[Result]) -> NDArray[np.float32]:
    if not _has(results, "similarity"):
        raise Refused(422, "similarity must be of pictures of one grid, got several; send one picture at a time")
    return np.stack([result.similarity for result in results])


def _points(results: Sequence[Result]) -> NDArray[np.float32]:
    return np.array([[(point.x, point.y, point.value, point.similarity) for point in result.points()] for result in results], np.float32)


def _scores(results: Sequence[Result]) -> NDArray[np.float32]:
    if not _has(results, "scores"):
        raise Refused(422, f"outputs must leave out scores; {results[0].no_scores or 'this model gives none'}")
    return np.stack([result.scores for result in results if result.scores is not None])


READERS: dict[str, Callable[[Sequence[Result]], NDArray[np.float32]]] = {
    "similarity": _similarity, "points": _points, "scores": _scores,
}  # fmt: skip
