"""`fastloc web`: a model as a page that runs in the browser, written to a folder and, with --serve, served to this machine alone."""

import argparse
import errno
import functools
import os
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.cli.arguments import lines_of
from fastloc.errors import FastlocError
from fastloc.onnx_file.differences import PIPELINES as RESIZERS
from fastloc.utils import console
from fastloc.utils.argument_types import words
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from fastloc.engine.localizer import Localizer

PORT = 8000
# loopback: a page that is served to others belongs on a real web server
HOST = "127.0.0.1"
# connections at a time, each with a thread, and seconds that one may say nothing
CONNECTIONS, SILENCE = 32, 10.0
# seconds of rest where no connection can be accepted
REST = 0.5
# with these a browser lets the page use threads
ISOLATION = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}

# said here, because a machine's own tables may say otherwise, and browsers run no module of another type
TYPES = {
    ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
    ".wasm": "application/wasm", ".json": "application/json", ".webp": "image/webp",
}  # fmt: skip


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("fastloc-web"), metavar="DIR", help="folder to write (default: fastloc-web)"
    )
    parser.add_argument(
        "--model", default="embedded", metavar="NAME", help="model: a name of `fastloc models`, or a folder (default: embedded)"
    )
    parser.add_argument("--pretrained", metavar="TAG", help="weights of an open_clip model: a tag or a file; @sha256:DIGITS pins it")
    parser.add_argument("--method", default="gem", metavar="NAME", help="method: a name of `fastloc methods` (default: gem)")
    parser.add_argument("--size", type=int, metavar="N", help="side of the model's square input, pixels (default: the model's)")
    parser.add_argument(
        "--template", type=words, metavar="NAME", help="prompt template: a name, or a text of yours with {} (default: the method's)"
    )
    parser.add_argument(
        "--texts-file", type=Path, metavar="FILE", help="names that the page knows, one a line (default: the model's list)"
    )
    parser.add_argument(
        "--ort", type=Path, metavar="DIR", help="folder of `npm install onnxruntime-web` (default: the current one)"
    )
    parser.add_argument(
        "--serve", type=_port, nargs="?", const=PORT, metavar="PORT", help=f"serve the page on this machine, at this port (default: {PORT})"
    )


def run(args: argparse.Namespace) -> int:
    """Write the page, then serve it until interrupted. Raises FastlocError for a part that cannot be read, made or served."""
    texts = lines_of(args.texts_file) if args.texts_file else []
    localizer = _localizer(args)
    from fastloc.export.web_site import write_site

    # a port that is taken is reported before the work is done
    server = None if args.serve is None else serving(args.output, args.serve)
    try:
        manifest = write_site(localizer, args.output, ort=args.ort, texts=texts)
        out = console.console()
        out.print(f"written: {console.shown(args.output)} ({manifest.recipe.name} on {manifest.model.name})", soft_wrap=True)
        say(f"fastloc: note: {RESIZERS['web']}", error=True)
        if server is None:
            out.print("Any web server can serve this folder; a browser cannot open it as a file. `--serve` serves it here.")
            return 0
        out.print(f"http://{HOST}:{server.server_port}/ (Ctrl-C ends)")
        server.serve_forever()
    finally:
        if server is not None:
            server.server_close()
    return 0


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, with the types that modules and WebAssembly need, and nothing kept in caches."""

    timeout = SILENCE

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        return TYPES.get(Path(path).suffix) or super().guess_type(path)

    def end_headers(self) -> None:
        for name, value in {**ISOLATION, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the page reports what it could not fetch."""


class Server(ThreadingHTTPServer):
    """Server with a thread for each connection, limited so that neither threads nor descriptors run out; one more is closed at once."""

    def __init__(self, *args: Any, **more: Any) -> None:
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(*args, **more)

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError as error:
            # the connection waits until there is a descriptor, and would be asked for again at once
            if error.errno in (errno.EMFILE, errno.ENFILE):
                time.sleep(REST)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # the thread that gives the place back did not start
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a browser that leaves in the middle is no fault."""


def serving(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of the folder on loopback, not yet running; port 0 takes a free one. Raises FastlocError for a port that is taken."""
    try:
        return Server((HOST, port), functools.partial(Handler, directory=str(folder)))
    except OSError as error:
        raise FastlocError(f"port {port} cannot be served on ({error.strerror}): name another one, --serve {port + 1}") from error


def _localizer(args: argparse.Namespace) -> "Localizer":
    from fastloc.engine.localizer import Localizer

    size = None if args.size is None else (args.size, args.size)
    return Localizer(args.model, args.pretrained, args.method, size=size, template=args.template, device="cpu", dtype="float32")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a port, 0 to 65535, got {text!r}")
    return int(text)
