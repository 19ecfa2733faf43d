"""`fastloc serve`: a service that locates texts in pictures for other programs, over HTTP."""

import argparse
from importlib import import_module
from typing import TYPE_CHECKING

from fastloc.cli.arguments import add_decode, add_execution, add_exported, add_method, add_self_check, add_source
from fastloc.cli.live import add_server, bound, check_certificate, url
from fastloc.cli.localizers import engine, note_embedded
from fastloc.utils import console
from fastloc.utils.argument_types import count

if TYPE_CHECKING:
    from fastloc.serve.settings import Settings

PORT = 8020


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc serve`."""
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    add_self_check(group)
    add_exported(group)
    add_decode(group)
    method = parser.add_argument_group("method")
    add_method(method)
    method.add_argument(
        "--methods", nargs="+", action="extend", default=[], metavar="NAME", help="further methods that requests may name (default: none)"
    )
    server = parser.add_argument_group("server")
    add_server(server, PORT, "service")
    server.add_argument("--allow-urls", action="store_true", help="fetch pictures from the http(s) addresses of requests")
    batches = parser.add_argument_group("batches")
    batches.add_argument("--batch", type=count, metavar="N", help="pictures a call of the model (default: the model's)")
    batches.add_argument(
        "--wait", type=float, default=5.0, metavar="MS", help="longest wait of a picture for others, milliseconds (default: 5)"
    )
    batches.add_argument(
        "--queue", type=count, default=64, metavar="N", help="most pictures in the queue; more get status 429 (default: 64)"
    )
    limits = parser.add_argument_group("limits of a request")
    limits.add_argument("--max-pixels", type=count, default=16_000_000, metavar="N", help="largest picture, pixels (default: 16000000)")
    limits.add_argument("--max-bytes", type=count, default=32_000_000, metavar="N", help="largest request, bytes (default: 32000000)")
    limits.add_argument("--max-texts", type=count, default=64, metavar="N", help="most texts a request (default: 64)")
    limits.add_argument("--timeout", type=float, default=30.0, metavar="S", help="longest time to an answer, seconds (default: 30)")


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted. Raises FastlocError, before anything is served, for a part that cannot be opened, made or served."""
    # the first package that is not installed is named before a model is loaded
    for package in ("uvicorn", "starlette", "prometheus_client", "python_multipart"):
        import_module(package)
    from fastloc.serve.app import application
    from fastloc.serve.guard import guarded
    from fastloc.serve.server import ServiceServer
    from fastloc.web_server.security import rules

    check_certificate(args.certfile, args.keyfile)
    settings = _settings(args)
    with bound(args.host, args.port) as listening:
        port = listening.getsockname()[1]
        guard = rules(args.host, port, args.token, args.allow_host, secure=args.certfile is not None, program="fastloc_serve")
        localizer = engine(args)
        note_embedded(args, localizer)
        app = application(localizer, settings)
        service = app.state.service
        try:
            service.warm_up()
            console.console().print(f"{url(args.host, port, guard)} (Ctrl-C ends)", soft_wrap=True)
            ServiceServer(guarded(app, guard), service, args.certfile, args.keyfile).run(sockets=[listening])
        finally:
            service.close()
    return 0


def _settings(args: argparse.Namespace) -> "Settings":
    from fastloc.serve.settings import Settings

    return Settings(
        methods=tuple(args.methods), pixels=args.max_pixels, size=args.max_bytes, texts=args.max_texts, queue=args.queue, batch=args.batch,
        wait=args.wait / 1000, seconds=args.timeout, addresses=args.allow_urls, decode=args.decode,
    )  # fmt: skip
