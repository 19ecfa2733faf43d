"""The live page's server in a process of its own, without a model: `with live_process(limits={"head": 0.5}) as (process, address): ...`.

As a script it serves until it is ended, and says its address first; "closed" is written when its camera is.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def live_process(errors: Path, descriptors: int | None = None, **more: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address. errors: where its standard error goes; more: limits, token, and camera=True for a source of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-P", __file__, json.dumps({"descriptors": descriptors, **more})]
    with errors.open("w") as file, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def main(descriptors: int | None, limits: dict[str, Any] | None = None, token: str | None = None, camera: bool = False) -> None:
    """Serve in the main thread, as the command does."""
    if descriptors is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    from fastloc.cli.live import bound
    from fastloc.live.app import Live
    from fastloc.live.broadcast import Broadcast
    from fastloc.live.limits import Limits
    from fastloc.live.method_pool import Methods
    from fastloc.live.server import PageServer
    from fastloc.live.settings import Settings
    from fastloc.web_server.security import rules
    from live_client import Bright, Film

    class Camera(Film):
        def close(self) -> None:
            super().close()
            print("closed", flush=True)

    listening = bound("127.0.0.1", 0)
    port = listening.getsockname()[1]
    methods, bounds = Methods(Bright()), Limits(**(limits or {}))
    hub = Broadcast(lambda: Camera(live=True), 30) if camera else None
    live = Live(methods, Settings(("cat",), (methods.first,)), bounds, rules("127.0.0.1", port, token), hub)
    print(f"http://127.0.0.1:{port}", flush=True)
    PageServer(live).run(sockets=[listening])


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(**json.loads(sys.argv[1]))
