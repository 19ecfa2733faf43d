"""`fastloc live`: a page that shows a camera's frames and the texts in them, served to this machine alone unless you ask for more."""

import argparse
import errno
import socket
import ssl
import threading
import webbrowser
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from fastloc.cli.arguments import add_execution, add_exported, add_like, add_method, add_self_check, add_source, examples_of
from fastloc.cli.localizers import PHOTOGRAPHS, engine
from fastloc.embedded import FOLDERS
from fastloc.errors import FastlocError
from fastloc.utils import console
from fastloc.utils.argument_types import count, prompt
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from fastloc.live.app import Live
    from fastloc.live.broadcast import Broadcast
    from fastloc.live.limits import Limits
    from fastloc.live.method_pool import Methods
    from fastloc.web_server.security import Rules

HOST, PORT = "127.0.0.1", 8010
PORTS = 65535
# connections more than there may be clients: for files, and for who is turned away
PASSING = 64
# the default texts: for emoji scenes, and for a camera on a desk
EMOJI, USUAL = ("cat", "pizza", "red car"), ("a face", "a hand", "a cup")
# long side of the frames that browsers send, in multiples of the model's input, and within which pixels
SPARE, SIDES = 1.5, (320, 720)


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc live`."""
    parser.usage = "fastloc live [SOURCE] [-t TEXT ...] [options]"
    known = "a video file, an address such as rtsp://…, or camera:0 of this machine (default: the browser's own camera)"
    parser.add_argument("source", nargs="?", metavar="SOURCE", help=known)
    parser.add_argument(
        "-t", "--text", dest="texts", metavar="TEXT", nargs="+", action="extend", type=prompt, help="first texts to look for"
    )
    add_like(parser)
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    add_self_check(group)
    add_exported(group)
    method = parser.add_argument_group("method")
    add_method(method)
    method.add_argument(
        "--methods", nargs="+", action="extend", default=[], metavar="NAME", help="methods that the page offers (default: all quick ones)"
    )
    server = parser.add_argument_group("server")
    add_server(server, PORT, "page")
    server.add_argument("--open", action="store_true", help="open the page in this machine's browser")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-clients", type=count, default=4, metavar="N", help="most browsers at a time (default: 4)")
    limits.add_argument("--max-fps", type=count, default=30, metavar="N", help="most frames a second of a browser (default: 30)")
    limits.add_argument("--max-pixels", type=count, default=1_500_000, metavar="N", help="largest frame, pixels (default: 1500000)")


def add_server(group: "argparse._ArgumentGroup", port: int, served: str) -> None:
    """Add the options of a command that serves something: host, port, access and certificate."""
    known = f"address to serve on; any but loopback has a token (default: {HOST})"
    group.add_argument("--host", default=HOST, metavar="NAME", help=known)
    group.add_argument("--port", type=int, default=port, metavar="N", help=f"port to serve on, 0 for a free one (default: {port})")
    group.add_argument("--token", metavar="TEXT", help=f"token that opens the {served} (default: random beyond loopback)")
    known = f"other names that the {served} is reached by"
    group.add_argument("--allow-host", nargs="+", action="extend", default=[], metavar="NAME", help=known)
    group.add_argument("--certfile", type=Path, metavar="FILE", help="certificate for https")
    group.add_argument("--keyfile", type=Path, metavar="FILE", help="key of the certificate, if in another file")


def run(args: argparse.Namespace) -> int:
    """Serve the page until interrupted. Raises FastlocError, before serving, for a part that cannot be opened, made or served."""
    # a missing package is reported before anything else is done
    for package in ("uvicorn", "websockets", "starlette"):
        import_module(package)
    from fastloc.web_server.security import rules

    check_certificate(args.certfile, args.keyfile)
    listening = bound(args.host, args.port)
    try:
        guard = rules(args.host, listening.getsockname()[1], args.token, args.allow_host, secure=args.certfile is not None)
        live = _live(args, guard)
        try:
            _serve(live, listening, args, guard)
        finally:
            live.close()
    finally:
        listening.close()
    return 0


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises FastlocError for a port that is none or is taken, and for a host that is not this machine's."""
    if not 0 <= port <= PORTS:
        raise FastlocError(f"--port must be a number from 0 to {PORTS}, got {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError):
        raise FastlocError(f"--host must be an address of this machine, such as {HOST} or 0.0.0.0, got {host!r}") from None
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen()
    except OSError as error:
        made.close()
        raise FastlocError(_unbound(host, port, error)) from error
    return made


def _unbound(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host} is not an address of this machine; give one that is, such as {HOST}, or 0.0.0.0 for all"
    return f"port {port} cannot be served on ({error.strerror}): name another one, such as --port {port % PORTS + 1}"


def check_certificate(certificate: Path | None, key: Path | None) -> None:
    """Raise FastlocError for files that TLS cannot be spoken with."""
    if certificate is None:
        if key is not None:
            raise FastlocError(f"--keyfile must come with --certfile, got {key} alone")
        return
    try:
        # a key that needs a password gets a wrong one, so that nothing prompts for it
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        given = f"--certfile {certificate}" + (f" --keyfile {key}" if key else "")
        reason = getattr(error, "strerror", None) or getattr(error, "reason", None) or error
        raise FastlocError(f"{given} cannot be used for https: {reason}") from error


def _live(args: argparse.Namespace, guard: "Rules") -> "Live":
    from fastloc.live.limits import Limits
    from fastloc.live.method_pool import Methods

    connections = max(Limits().connections, args.max_clients + PASSING)
    limits = Limits(clients=args.max_clients, fps=args.max_fps, pixels=args.max_pixels, connections=connections)
    hub = _hub(args, limits)
    try:
        methods = Methods(engine(args), args.methods)
        return _made(args, methods, limits, guard, hub)
    except BaseException:
        if hub is not None:
            hub.close()
        raise


def _hub(args: argparse.Namespace, limits: "Limits") -> "Broadcast | None":
    """The source, which is opened before the model is loaded, so that a missing one is reported at once."""
    if args.source is None:
        return None
    from fastloc.live.broadcast import Broadcast
    from fastloc.video.sources.open_source import open_source

    return Broadcast(lambda: open_source(args.source), limits.fps)


def _made(args: argparse.Namespace, methods: "Methods", limits: "Limits", guard: "Rules", hub: "Broadcast | None") -> "Live":
    from fastloc.live.app import Live
    from fastloc.live.settings import Settings, changed

    examples = examples_of(args.like)
    methods.examples |= {str(each): each for each in examples}
    texts = [*(args.texts or ()), *map(str, examples)] or list(EMOJI if args.model in FOLDERS else _known(methods) or USUAL)
    settings = changed(Settings((), (methods.first,)), {"texts": texts}, limits, methods.names)
    side = min(max(round(SPARE * max(methods.warm_up(settings.texts))), SIDES[0]), SIDES[1])
    note = f"The embedded model knows emoji scenes only; for photographs start with {PHOTOGRAPHS}." if args.model in FOLDERS else ""
    return Live(methods, settings, limits, guard, hub, side, note)


def _known(methods: "Methods") -> tuple[str, ...]:
    """The first texts of a file that has its texts baked in."""
    return tuple((getattr(methods.locator(methods.first).localizer, "texts", None) or ())[:3])


def _serve(live: "Live", listening: socket.socket, args: argparse.Namespace, guard: "Rules") -> None:
    from fastloc.live.server import PageServer

    address = url(args.host, listening.getsockname()[1], guard)
    out = console.console()
    if live.note:
        say(f"fastloc: note: {live.note[0].lower()}{live.note[1:].rstrip('.')}", error=True)
    if guard.numbers and not guard.secure and args.source is None:
        note = "browsers on other machines give a page the camera only over https: add --certfile and --keyfile"
        say(f"fastloc: note: {note}", error=True)
    out.print(f"{address} (Ctrl-C ends)", soft_wrap=True)
    if args.open:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    PageServer(live, args.certfile, args.keyfile).run(sockets=[listening])


def url(host: str, port: int, guard: "Rules") -> str:
    """The address to open, with the token where there is one."""
    shown = reachable() if host in ("0.0.0.0", "::", "") else host
    name = f"[{shown}]" if ":" in shown else shown
    return f"{'https' if guard.secure else 'http'}://{name}:{port}/" + (f"?token={guard.token}" if guard.token else "")


def reachable() -> str:
    """The address that other machines reach this one by, as far as it knows; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
            return str(asked.getsockname()[0])
        except OSError:
            return socket.gethostname()
