"""Whatever does not survive fork() is renewed in the child, or has a reason not to be: every file that makes such a thing is named."""

import ast

from repo import REPO

# what a child finds locked, or without the threads that serve it
LOST = {"Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "ThreadPoolExecutor", "LastingPool",
        "InferenceSession"}  # fmt: skip
# a stream is never read in a child, see `fastloc.video.stream`, and neither are its sources
_STREAM = "read by a stream alone, which a child refuses"
_SERVER = "of a server's process, whose threads and sockets are its own"
_CALL = "lives for one call in one thread"
EXEMPT = {
    "export/text/export.py": _CALL,
    "fastloc/bench/backends/onnx_backend.py": "a worker process, which forks nothing",
    "fastloc/cli/web.py": _SERVER,
    "fastloc/evaluation/running/pipeline.py": _CALL,
    "fastloc/imaging/heat_arrays.py": _CALL,
    "fastloc/live/app.py": _SERVER,
    "fastloc/live/broadcast.py": _SERVER,
    "fastloc/live/method_pool.py": _SERVER,
    "fastloc/live/outbox.py": _SERVER,
    "fastloc/live/scheduler.py": _SERVER,
    "fastloc/live/session.py": _SERVER,
    "fastloc/serve/batcher.py": _SERVER,
    "fastloc/serve/service.py": _SERVER,
    "fastloc/utils/heartbeat.py": _CALL,
    "fastloc/video/sources/av_base.py": _STREAM,
    "fastloc/video/sources/iterables.py": _STREAM,
    "fastloc/video/sources/reconnecting_source.py": _STREAM,
    "fastloc/web_server/fault_log.py": _SERVER,
}


def makes(code: str) -> set[str]:
    """The things of `LOST` that the code makes, as calls or as a field's factory."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            for each in (node.func, *(word.value for word in node.keywords if word.arg == "default_factory")):
                # CUDA's and asyncio's events are no locks
                if _last(each) in LOST and _last(getattr(each, "value", None)) not in ("cuda", "asyncio"):
                    found.add(_last(each))
    return found


def _last(node: object) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def files() -> dict[str, str]:
    """The code of each file that makes such a thing."""
    every = [path for room in ("fastloc", "export", "kernels") for path in sorted((REPO / room).rglob("*.py"))]
    # the rooms that lie at the top are links in the package
    own = [path for path in every if not path.relative_to(REPO).as_posix().startswith(("fastloc/export/", "fastloc/kernels/"))]
    return {path.relative_to(REPO).as_posix(): path.read_text(encoding="utf-8") for path in own}


def test_everything_that_fork_breaks_is_registered_or_exempt() -> None:
    made = {name for name, code in files().items() if makes(code)}
    registered = {name for name in made if "renewed_after_fork(" in files()[name]}
    assert made - registered == set(EXEMPT), "register it with fastloc.utils.fork_safety, or say in EXEMPT why it need not be"


def test_the_check_itself() -> None:
    assert makes("self._lock = threading.Lock()") == {"Lock"} and makes("x: Any = field(default_factory=threading.RLock)") == {"RLock"}
    assert makes("pool = ThreadPoolExecutor(1)") and makes("pool = LastingPool(1)") and makes("self.ort.InferenceSession(path)")
    assert not makes("torch.cuda.Event()") and not makes("asyncio.Event()") and not makes("lock.acquire()")
