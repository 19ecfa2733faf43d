"""The edges at which content of files comes in: nothing that could run code, inflate without a limit or skip the schemas."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from fastloc import Localizer, OnnxLocalizer
from fastloc.bench import schema
from fastloc.checkpoints.projections import Projections
from fastloc.diagnostics.inspect_file import inspect
from fastloc.eclip.pairs import Left, read_pairs
from fastloc.errors import FastlocError
from fastloc.evaluation.sets.table import open_set
from fastloc.export.trt import report
from fastloc.recipes.register_neurons import RegisterNeurons
from fastloc.recipes.temperatures import Temperatures
from fastloc.text.embeddings import TextEmbeddings
from repo import REPO

ROOMS = ("fastloc", "kernels", "export", "benchmarks")
# modules that may read JSON by themselves, and what it is: everything else goes through fastloc.utils.schema
OWN = {
    "fastloc/utils/schema.py": "this is the edge",
    "fastloc/onnx_file/manifest.py": "the shipped file's manifest",
    "fastloc/onnx_file/text_manifest.py": "the shipped text tower's",
    "fastloc/recipes/measured.py": "the shipped table",
    "fastloc/checkpoints/projections.py": "the shipped projections",
    "fastloc/checkpoints/open_clip_files.py": "the installed open_clip's own configurations",
    "fastloc/checkpoints/sources/listing.py": "the shipped model's configuration",
    "fastloc/analysis/scenes.py": "the shipped samples",
    "fastloc/cli/demo.py": "the shipped samples",
    "fastloc/engine/calibration.py": "the shipped samples",
    "fastloc/bench/models.py": "the shipped model's configuration",
    "fastloc/bench/quality.py": "the shipped record",
    "fastloc/engine/best_method.py": "the shipped measurements",
    "fastloc/bench/backends/onnx_backend.py": "a process of our own",
    "fastloc/bench/backends/torch_backend.py": "a process of our own",
    "fastloc/bench/peers/protocol.py": "a process of our own",
    "fastloc/bench/worker_pool.py": "a process of our own",
    "fastloc/diagnostics/probes.py": "a process of our own",
    "fastloc/live/messages.py": "messages of the live page, by a schema of their own",
    "fastloc/live/protocol.py": "messages of the live page",
    "export/text/tokenizer.py": "what a tokenizer in memory says of itself",
    "export/trt/build.py": "a process of our own",
    "export/trt/report.py": "a manifest in memory",
    "export/trt/worker.py": "a process of our own",
    "export/web_site.py": "the shipped samples, and a manifest in memory",
}
NEVER = {
    "eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open", "yaml.load",
    "gzip.decompress", "zlib.decompress", "bz2.decompress", "lzma.decompress",
}  # fmt: skip


@cache
def calls() -> tuple[tuple[str, str, ast.Call], ...]:
    """(file, name that is called, call) of every call by a dotted name."""
    found = []
    for room in ROOMS:
        for file in sorted((REPO / room).resolve().rglob("*.py")):
            where = file.relative_to(REPO.resolve()).as_posix()
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and (name := dotted(node.func)):
                    found.append((where, name, node))
    return tuple(found)


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) and dotted(node.value) else ""


def value_of(call: ast.Call, name: str) -> object:
    """The constant that a keyword argument is, or None."""
    return next((each.value.value for each in call.keywords if each.arg == name and isinstance(each.value, ast.Constant)), None)


def named(*names: str) -> Iterator[tuple[str, ast.Call]]:
    return ((where, call) for where, name, call in calls() if name in names)


def test_nothing_is_run_or_inflated_without_a_limit() -> None:
    assert [(where, name) for where, name, _ in calls() if name in NEVER] == []
    assert len(calls()) > 5000


def test_torch_reads_weights_only() -> None:
    assert [where for where, call in named("torch.load") if value_of(call, "weights_only") is not True] == []
    assert list(named("torch.load"))


def test_numpy_reads_no_pickles() -> None:
    assert [where for where, call in named("np.load", "numpy.load") if value_of(call, "allow_pickle") not in (None, False)] == []
    # arrays from elsewhere go through fastloc.utils.npz; these are of processes of our own
    own = ("fastloc/bench/", "benchmarks/")
    assert [where for where, _ in named("np.load", "numpy.load") if not where.startswith(own)] == []


def test_no_library_is_asked_to_run_a_model_s_code() -> None:
    values = [(where, value.value) for where, _, call in calls() for each in call.keywords
              if each.arg == "trust_remote_code" and isinstance(value := each.value, ast.Constant)]  # fmt: skip
    assert values == [("fastloc/checkpoints/text_loading.py", False)]


def test_json_from_elsewhere_goes_through_the_schemas() -> None:
    readers = {where for where, _ in named("json.loads", "json.load") if not where.startswith("benchmarks/")}
    assert readers - set(OWN) == set()


@pytest.mark.parametrize("file", OWN)
def test_the_table_names_files_that_exist(file: str) -> None:
    assert (Path(REPO) / file).is_file()


# files whose names no file system takes

READERS: dict[str, Callable[[str], object]] = {
    "a model": Localizer,
    "a model's folder": lambda name: Localizer(f"local-dir:{name}"),
    "a configuration": lambda name: Localizer(f"{name}.json", "random"),
    "weights": lambda name: Localizer("ViT-B-16", f"{name}.pt"),
    "an exported file": lambda name: OnnxLocalizer(f"{name}.onnx"),
    "a text tower": lambda name: OnnxLocalizer(text=name),
    "embeddings": lambda name: TextEmbeddings.load(f"{name}.npz"),
    "temperatures": Temperatures.load,
    "registers": RegisterNeurons.load,
    "projections": Projections.load,
    "a file to inspect": inspect,
    "pairs": lambda name: read_pairs([Path(name)], Left()),
    "records": lambda name: schema.read(Path(name)),
    "an engine": report.read,
    "a data set": lambda name: open_set("folder", name),
    "a list of a data set": lambda name: open_set("refcoco", ".", phrases=name),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "\ud800"], ids=["long", "a NUL", "half a character"])
def test_a_name_that_no_file_system_takes(reader: str, name: str) -> None:
    with pytest.raises(FastlocError):
        READERS[reader](name)
