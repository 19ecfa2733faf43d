"""The rooms of fastloc from top to bottom: a room imports lower rooms only, and the third parties of its row in the table.

Imports in functions and for type checkers count. `kernels` and `export` are read where they lie, at the top of the repository.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from repo import REPO

MOST = 22

# rooms on one line know nothing of each other
LAYERS = (
    ("fastloc", "__main__"),
    ("cli", "bench"),
    ("scale", "evaluation"),
    ("live", "serve"),
    ("web_server",),
    ("analysis", "video", "eclip"),
    ("auto", "adapters", "client"),
    ("export", "diagnostics"),
    ("engine", "runtime"),
    ("reference", "kernels"),
    ("functional",),
    ("checkpoints",),
    ("onnx_file", "results"),
    ("recipes", "text"),
    ("imaging",),
    ("utils",),
    ("embedded", "_version", "errors"),
)
RANK = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}
# what stands in fastloc/ itself
FILES = {"__init__", "__main__", "_version", "errors", "auto", "adapters"}

# package -> the rooms and files that may import it, and those that may in functions and for types
THIRD_PARTIES = {
    "torch": (
        "analysis.blocks analysis.tables analysis.text_relevance checkpoints functional reference kernels engine export eclip bench "
        "evaluation",
        "cli adapters auto scale.locate",
    ),
    "open_clip": ("bench.peers", "checkpoints.loading checkpoints.text_loading checkpoints.open_clip_files export.text bench.models"),
    # of a tokenizer that has slow files alone open_clip imports it
    "transformers": ("bench.peers", ""),
    "tokenizers": ("", "text.tokenizer checkpoints.text.tokenizer_folder"),
    "torchvision": ("checkpoints.classifiers", ""),
    "timm": ("checkpoints.classifiers", "evaluation.sets"),
    "triton": ("kernels", ""),
    "onnxruntime": ("runtime export bench", "diagnostics.probes"),
    "openvino": ("bench", "runtime"),
    "onnx": ("export", ""),
    "onnx_ir": ("export", ""),
    "av": ("video.sources video.output", ""),
    "pyarrow": ("", "scale cli.scale"),
    "pycocotools": ("", "scale evaluation.sets"),
    "h5py": ("", "evaluation.sets"),
    "sklearn": ("", "evaluation.metrics evaluation.questions"),
    "fsspec": ("", "scale.sources"),
    "starlette": ("live serve web_server", "cli.live cli.scale.serve"),
    "uvicorn": ("live web_server", "cli.live cli.scale.serve"),
    "prometheus_client": ("serve.metrics", ""),
    "httpx2": ("client", ""),
    "ray": ("serve.ray_app", "scale.on_ray scale.ray_session"),
    "h11": ("web_server.server", ""),
    "websockets": ("live.server", ""),
    "msgspec": ("live.protocol live.messages serve.openapi evaluation.rows evaluation.sets.coco_file", "utils.schema"),
    "pillow_heif": ("", "imaging.picture_formats"),
    "matplotlib": ("utils.plotting analysis.plots bench.report eclip.curve", ""),
    "rich": ("utils.console cli evaluation.running bench.report bench.cli eclip.cli", ""),
}


@cache
def modules() -> dict[str, Path]:
    """Dotted name without "fastloc." -> file, for every module of the package."""
    found = {}
    for folder, name in ((REPO / "fastloc", ""), (REPO / "kernels", "kernels"), (REPO / "export", "export")):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            if not name and parts[0] in ("kernels", "export"):
                continue
            dotted = ".".join(part for part in (name, *parts) if part and part != "__init__")
            found[dotted or "fastloc"] = file
    return found


@cache
def imports(name: str) -> tuple[tuple[str, bool], ...]:
    """Dotted names that a module imports, fastloc's own without the package's name, and whether that waits for a call."""
    file = modules()[name]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inner = {id(node) for part in ast.walk(tree) if _later(part) for node in ast.walk(part)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _base(name, file, node)
            names = [f"{base}.{alias.name}" if own(f"{base}.{alias.name}") in modules() else base for alias in node.names]
        else:
            continue
        found += [(own(each), id(node) in inner) for each in names]
    return tuple(found)


def _later(node: ast.AST) -> bool:
    """A function or a block for type checkers: what stands there is not imported with the module."""
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return typing or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))


def _base(name: str, file: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = ("fastloc." + name).split(".") if file.name == "__init__.py" else ("fastloc." + name).split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def own(name: str) -> str:
    return name.removeprefix("fastloc.")


def room(name: str) -> str:
    """The room a module belongs to, by its first name."""
    return name.partition(".")[0]


def allowed(name: str, places: str) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places.split())


def upward() -> list[str]:
    return [
        f"{name} imports {other}: {room(name)} stands {'beside' if RANK[room(other)] == RANK[room(name)] else 'below'} {room(other)}"
        for name in modules()
        for other, _ in imports(name)
        if other in modules() and room(name) != room(other) and RANK[room(other)] <= RANK[room(name)]
    ]


def foreign() -> list[str]:
    faults = []
    for name in modules():
        for other, inside in imports(name):
            everywhere, in_functions = THIRD_PARTIES.get(other.partition(".")[0], (None, ""))
            if everywhere is None or other in modules() or allowed(name, everywhere) or (inside and allowed(name, in_functions)):
                continue
            faults.append(f"{name} imports {other.partition('.')[0]}")
    return faults


def circles() -> list[str]:
    """Groups of files that reach each other, by Tarjan's algorithm."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[str] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other, _ in imports(name):
            if other in modules() and other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1:
                found.append("circle: " + " ".join(sorted(group)))

    for name in modules():
        if name not in index:
            visit(name)
    return found


def test_no_room_imports_upwards_and_no_files_import_in_circles() -> None:
    assert [*upward(), *foreign(), *circles()] == []


def test_every_file_has_a_room() -> None:
    for name, file in modules().items():
        assert room(name) in RANK, f"{file} is in no room of LAYERS"
        alone = file.parent == REPO / "fastloc"
        assert not alone or file.stem in FILES, f"{file} stands in no room"


def test_no_room_is_crowded() -> None:
    folders: dict[Path, int] = {}
    for file in modules().values():
        folders[file.parent] = folders.get(file.parent, 0) + 1
    for folder, count in folders.items():
        assert count <= MOST, f"{folder} holds {count} files; {MOST} are the most"


@pytest.mark.parametrize("name", sorted(THIRD_PARTIES))
def test_the_table_names_rooms_that_exist(name: str) -> None:
    places = " ".join(THIRD_PARTIES[name]).split()
    known = set(modules()) | set(RANK)
    missing = [place for place in places if not any(other == place or other.startswith(place + ".") for other in known)]
    assert not missing, f"{name} is allowed in {', '.join(missing)}, which is not there"
