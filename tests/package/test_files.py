"""Everything that fastloc writes goes through one file layer, so that tests can make each call fail: `fastloc/utils/system/files.py`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from repo import REPO

LAYER = "fastloc/utils/system/files.py"
# file -> the calls that it may make itself, and why
ALLOWED = {
    "export/int8.py": ("ir.save", "TemporaryDirectory", "the quantiser takes paths: scratch in a temporary folder"),
    "export/onnx_file.py": ("onnx.save_model", "weights of more than 2 GB: into the folder of an unfinished file"),
    "export/to_onnx.py": ("ir.save", "weights of more than 2 GB: into the folder of an unfinished file"),
    "export/trt/build.py": ("TemporaryFile", "the builder's last words"),
    "export/trt/worker.py": ("os.fdopen", "open", "replace", "imports the standard library alone, into an unfinished file"),
    "fastloc/checkpoints/state_dicts.py": ("io.FileIO", "reads"),
    "fastloc/evaluation/running/evaluate.py": ("TemporaryDirectory", "rows that nobody keeps"),
    "fastloc/evaluation/running/run.py": ("file.replace", "a RowFile, which writes through the layer"),
    "fastloc/utils/terminal.py": ("open", "os.open", "the null device"),
    "fastloc/video/output/preview.py": ("self._file.replace", "a PartialFile, which writes through the layer"),
    # measurements of a developer's machine, in folders of their own that are removed
    "fastloc/bench/cases.py": ("mkdir", "np.save", "inputs of one run"),
    "fastloc/bench/models.py": ("mkdir", "save_file", "weights of one run"),
    "fastloc/bench/peer_environments.py": ("shutil.rmtree", "write_text", "an environment, whose stamp comes last"),
    "fastloc/bench/peers/protocol.py": ("os.fdopen", "np.save", "write_text", "standard output; answers of one run; /proc"),
    "fastloc/bench/regression.py": ("TemporaryDirectory", "mkdir", "symlink_to", "another checkout, for one run"),
    "fastloc/bench/run_context.py": ("TemporaryDirectory", "mkdir", "the folder of one run"),
    "fastloc/bench/worker_pool.py": ("mkdir", "open", "what a worker prints"),
}
# functions that change files, by their whole name
FUNCTIONS = {
    "os.open", "os.fdopen", "os.write", "os.fsync", "os.replace", "os.rename", "os.remove", "os.unlink", "os.truncate", "os.ftruncate",
    "os.mkdir", "os.makedirs", "os.symlink", "os.link", "os.rmdir", "os.posix_fallocate", "shutil.copy", "shutil.copy2", "shutil.copyfile",
    "shutil.copytree", "shutil.move", "shutil.rmtree", "np.save", "np.savez", "np.savez_compressed", "np.memmap", "torch.save", "ir.save",
    "onnx.save", "onnx.save_model", "zipfile.ZipFile", "tarfile.open", "io.FileIO", "io.open",
}  # fmt: skip
# methods and functions that do so by any name
METHODS = {
    "write_text", "write_bytes", "touch", "mkdir", "unlink", "symlink_to", "hardlink_to", "rename", "savefig", "save_file", "tofile",
    "TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "mkstemp", "mkdtemp", "urlretrieve",
}  # fmt: skip


# the names of the layer
OWN = {
    name for node in ast.parse((REPO / LAYER).read_text(encoding="utf-8")).body
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__" for name in ast.literal_eval(node.value)
}  # fmt: skip


def sources() -> list[Path]:
    return sorted([*(REPO / "fastloc").rglob("*.py"), *(REPO / "export").rglob("*.py")])


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def _mode(call: ast.Call, place: int) -> str:
    given = [*call.args[place : place + 1], *(each.value for each in call.keywords if each.arg == "mode")]
    return str(given[0].value) if given and isinstance(given[0], ast.Constant) else ""


def _writes(call: ast.Call) -> bool:
    """True for a call that changes a file by itself."""
    name = name_of(call)
    last = name.rpartition(".")[2]
    if name in FUNCTIONS:
        reads = last == "open" and name != "os.open" and not set(_mode(call, 1)) & set("wax+")
        return not (reads or _reads_only(name, call))
    # the layer's own, and atomic_write's
    if (name.startswith(("files.", "system_files.")) and last in OWN) or name in ("write_text", "write_bytes"):
        return False
    if last == "open":
        return bool(set(_mode(call, 1 if name == "open" else 0)) & set("wax+")) and not name.startswith("av.")
    # str.replace takes two arguments
    if last == "replace" and "." in name:
        return len(call.args) == 1 and not call.keywords and not name.startswith("dataclasses.")
    return last in METHODS and not (last == "savefig" and _open_file(call))


def _reads_only(name: str, call: ast.Call) -> bool:
    if name == "os.open":
        flags = ast.unparse(call.args[1])
        return "O_RDONLY" in flags and not any(each in flags for each in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    if name in ("np.savez", "np.savez_compressed", "np.save"):
        return _open_file(call)
    if name == "zipfile.ZipFile":
        return not set(_mode(call, 1)) & set("wax")
    if name == "np.memmap":
        return _mode(call, 2) in ("r", "r+", "c")
    return False


def _open_file(call: ast.Call) -> bool:
    """True where the first argument is a variable for an open file or for memory."""
    return isinstance(call.args[0], ast.Name) and call.args[0].id in ("file", "whole", "out")


def faults(name: str, text: str) -> list[str]:
    permitted = ALLOWED.get(name, ())
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and _writes(node):
            called = name_of(node)
            if called not in permitted and called.rpartition(".")[2] not in permitted:
                found.append(f"{name}:{node.lineno}: {called} changes a file; use fastloc.utils.system.files, or atomic_write")
    return found


def test_only_the_file_layer_changes_files() -> None:
    found = [fault for path in sources() if (name := path.relative_to(REPO).as_posix()) != LAYER
             for fault in faults(name, path.read_text(encoding="utf-8"))]  # fmt: skip
    assert found == []


@pytest.mark.parametrize(
    "line",
    ['open("x", "w")', 'path.open("ab")', 'open("x", mode="r+b")', 'path.write_text("x")', "part.replace(target)", "os.replace(a, b)",
     "os.open(path, os.O_WRONLY)", "np.savez(path, a=b)", 'np.memmap(path, np.float16, "w+")', 'zipfile.ZipFile(path, "w")',
     "shutil.rmtree(folder)", "files.mkdir()",
     "path.unlink()", "save_file(tensors, path)", "tempfile.TemporaryDirectory()", "figure.savefig(path)"],
)  # fmt: skip
def test_a_call_that_changes_a_file_is_found(line: str) -> None:
    assert faults("fastloc/a.py", line)


@pytest.mark.parametrize(
    "line",
    ['open("x")', 'path.open("rb")', 'text.replace("a", "b")', "replace(row, inv_temp=1)", "os.open(path, os.O_RDONLY | os.O_CLOEXEC)",
     "np.savez(file, a=b)", "zipfile.ZipFile(path)", "files.rename(a, b)", 'av.open(file, "w")'],
)  # fmt: skip
def test_what_only_reads_is_not(line: str) -> None:
    assert faults("fastloc/a.py", line) == []


def test_every_exception_is_in_use() -> None:
    for name, (*calls, _) in ALLOWED.items():
        tree = ast.parse((REPO / name).read_text(encoding="utf-8"))
        called = {name_of(node) for node in ast.walk(tree) if isinstance(node, ast.Call) and _writes(node)}
        lasts = {each.rpartition(".")[2] for each in called}
        unused = [each for each in calls if each not in called | lasts]
        assert not unused, f"{name} makes no such call any more: {unused}"
