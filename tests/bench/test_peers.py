"""The peers: the protocol they speak, their environments, their table; and their answers, where their environments are set up."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fastloc.bench import peer_environments
from fastloc.bench.cases import Case, write_inputs
from fastloc.bench.peer_environments import ENVIRONMENTS, python_of
from fastloc.bench.peer_table import PEERS, why_not
from fastloc.bench.peers.seeded import seeded_state, vision_shapes
from fastloc.checkpoints.vit_layouts import from_open_clip as weights_of
from fastloc.checkpoints.vit_spec import from_open_clip as spec_of
from fastloc.errors import FastlocError
from fastloc.recipes import RECIPES
from fastloc.reference import methods, parts, readouts
from fastloc.reference import scores as literal
from towers import config

FOLDER = Path(peer_environments.__file__).with_name("peers")
Asked = list[dict[str, Any]]


def start(python: str | Path, script: Path) -> subprocess.Popen[str]:
    command = [str(python), str(script)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def talk(process: subprocess.Popen[str], asked: Asked) -> tuple[dict[str, Any], Asked, str]:
    """(its first line, its answers, what it wrote to standard error)."""
    lines = "".join(json.dumps(each) + "\n" for each in asked)
    out, errors = process.communicate(lines, timeout=280)
    assert process.returncode == 0, errors
    hello, *answers = [json.loads(line) for line in out.splitlines()]
    assert len(answers) == len(asked), f"{len(asked)} questions, {len(answers)} answers: {errors}"
    return hello, answers, errors


# the protocol, with a worker that needs numpy alone

PLANTED = """
import sys
sys.path.insert(0, {folder!r})
import numpy as np
from protocol import Passes, serve

def build(case):
    print("while it loads")
    if case["fails"]:
        raise MemoryError("two\\nlines")
    calls = []

    def model(index):
        calls.append(index)
        print("in a call")
        return np.ones(case["bytes"], np.uint8).sum()

    answer = lambda: np.array(calls, np.float32)
    return Passes(model, None if case["silent"] else answer, columns={{"note": "planted"}})

serve(build, {{"planted": "1.0"}}, tree="here")
"""
CASE = {"fails": False, "silent": False, "bytes": 1000}


@pytest.fixture
def planted(tmp_path: Path) -> subprocess.Popen[str]:
    script = tmp_path / "planted.py"
    script.write_text(PLANTED.format(folder=str(FOLDER)))
    return start(sys.executable, script)


def test_a_worker_answers_and_counts_its_calls(planted: subprocess.Popen[str], tmp_path: Path) -> None:
    file = tmp_path / "answer.npy"
    hello, answers, errors = talk(planted, [
        {"do": "prepare", "key": "a", "case": CASE}, {"do": "go", "key": "a", "what": "model", "count": 3},
        {"do": "answer", "key": "a", "file": str(file)}, {"do": "drop", "key": "a"},
    ])  # fmt: skip
    assert hello == {"protocol": 1, "versions": {"planted": "1.0"}, "tree": "here"}
    ready, went, answered, dropped = answers
    assert {"load_s", "first_ms", "loaded_mb"} <= set(ready) and ready["told"] == {"note": "planted"}
    assert not ready["whole"] and ready["answers"] and ready["device"] == "cpu"
    assert len(went["ms"]) == 3 and all(each > 0 for each in went["ms"])
    # the call of `prepare`, and the timed ones with inputs in turns
    assert np.load(file).tolist() == [0, 0, 1, 2]
    assert answered == dropped == {}
    # what a library prints goes where it does not disturb
    assert errors.count("while it loads") == 1 and errors.count("in a call") == 4


def test_what_goes_wrong_is_an_answer_and_the_process_goes_on(planted: subprocess.Popen[str], tmp_path: Path) -> None:
    file = str(tmp_path / "answer.npy")
    go, prepare = {"do": "go", "key": "a", "what": "model", "count": 1}, {"do": "prepare", "key": "a"}
    _, answers, _ = talk(planted, [
        go, prepare | {"case": CASE | {"fails": True}}, go, prepare | {"case": CASE | {"silent": True}},
        {"do": "answer", "key": "a", "file": file}, go | {"what": "whole"}, go, {"do": "drop", "key": "a"}, go,
    ])  # fmt: skip
    lines = [each.get("failed") for each in answers]
    assert lines == ["KeyError: 'a'", "MemoryError: two lines", "KeyError: 'a'", None, "ValueError: it has no answer to compare",
                     "ValueError: it has no pass 'whole'", None, None, "KeyError: 'a'"]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux alone")
def test_a_call_s_memory_is_its_own(planted: subprocess.Popen[str]) -> None:
    large = 300_000_000
    _, answers, _ = talk(planted, [
        {"do": "prepare", "key": "a", "case": CASE | {"bytes": large}}, {"do": "memory", "key": "a"},
        {"do": "prepare", "key": "b", "case": CASE}, {"do": "memory", "key": "b"},
    ])  # fmt: skip
    assert 0.95 * large / 1e6 < answers[1]["working_mb"] < 1.2 * large / 1e6, answers[1]
    assert answers[3]["working_mb"] < 30, f"the call before it counts: {answers[3]}"


# the environments


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_every_requirement_is_pinned(name: str) -> None:
    lines = [line for line in ENVIRONMENTS[name].pins.splitlines() if line and not line.startswith("#")]
    assert lines and all(line.count("==") == 1 for line in lines), lines


def test_the_two_differ_in_open_clip_and_share_torch() -> None:
    pins = {name: dict(line.split("==") for line in row.pins.splitlines() if "==" in line) for name, row in ENVIRONMENTS.items()}
    assert pins["pinned"]["open_clip_torch"] == "2.23.0" and int(pins["newest"]["open_clip_torch"].split(".")[0]) >= 3
    assert all(pins["pinned"][name] == pins["newest"][name] for name in ("gem_torch", "torch", "numpy"))


def test_an_environment_is_used_only_as_its_pins_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peer_environments, "home", lambda: tmp_path)
    row = ENVIRONMENTS["pinned"]
    with pytest.raises(FastlocError, match=r"'pinned' is not set up: `python -m fastloc.bench.peer_environments pinned`, or `make peers`"):
        python_of("pinned")
    row.python.parent.mkdir(parents=True)
    row.python.touch()
    stamp = row.folder / "installed-pins.txt"
    stamp.write_text(row.pins + "one_more==1\n")
    with pytest.raises(FastlocError, match=r"out of date with requirements-pinned\.txt"):
        python_of("pinned")
    stamp.write_text(row.pins)
    assert python_of("pinned") == row.python


def test_a_set_up_that_fails_leaves_nothing_that_looks_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(peer_environments, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    assert peer_environments.main(["newest"]) == 1
    assert "error: environment 'newest' was not made: " in capsys.readouterr().err.splitlines()[-1]
    assert ENVIRONMENTS["newest"].wrong == "is not set up"


def test_an_unknown_environment_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert peer_environments.main(["pined"]) == 1
    message = "error: unknown environment 'pined': did you mean 'pinned'? known environments: pinned, newest, mmseg\n"
    assert capsys.readouterr().err == f"fastloc.bench.peer_environments: {message}"


def test_without_a_checkout_they_lie_in_the_user_s_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert peer_environments.home() == FOLDER.parents[2] / ".venv-peers"
    monkeypatch.setattr(peer_environments, "__file__", str(tmp_path / "site-packages" / "fastloc" / "bench" / "peer_environments.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "cache"))
    assert peer_environments.home() == tmp_path / "cache" / "fastloc" / "peers"


@pytest.mark.parametrize(("module", "heavy"), [("peer_environments", ("numpy", "torch")), ("peer_table", ("torch", "open_clip"))])
def test_imports_are_light(module: str, heavy: tuple[str, ...], tmp_path: Path) -> None:
    code = f"import sys, fastloc.bench.{module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert not done.stdout.split()


# the table


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_s_row_names_what_there_is(name: str) -> None:
    row = PEERS[name]
    assert row.name == name and row.source and row.summary and row.method_label
    assert row.environment in ENVIRONMENTS and (FOLDER / row.script).is_file()
    assert row.method in {*RECIPES, "encoder", ""} and row.axes <= {"batch", "texts"}


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name.split(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file.name}, line {node.lineno}: a script has no package to import from"
            found.add(str(node.module).split(".")[0])
    return found


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.py")), ids=lambda file: file.stem)
def test_what_peers_run_imports_no_part_of_fastloc(file: Path) -> None:
    assert "fastloc" not in imported(file)


# seven blocks leave one before the six that GEM changes; one head's width is 16
TINY = config(width=64, head_width=16)
ANY = Case("tiny", TINY, "", "gem", (32, 48), "")
REFUSED = [
    ("gem_torch", {}, ""),
    ("gem_torch", {"changes": {"blocks": 3, "iterations": 0, "inv_temp": 5.0}}, ""),
    ("gem_torch", {"changes": {"inv_temp": "adaptive"}}, ""),
    ("gem_torch", {"changes": {"residual": False}}, "it cannot compute gem with residual=False"),
    ("gem_torch", {"changes": {"inv_temp": (((1.0,),),)}}, "it cannot compute gem with inv_temp=(((1.0,),),)"),
    ("gem_torch", {"method": "sclip"}, "it computes gem, not sclip"),
    ("gem_torch", {"dtype": "int8"}, "it computes in float32, float16, bfloat16, not in int8"),
    ("open_clip", {"method": "sclip", "batch": 8, "texts": 100}, ""),
    ("legrad", {"size": (32, 32), "texts": 100}, ""),
    ("legrad", {"batch": 2}, "it takes one of batch a call, not 2; it takes square pictures, not 32x48"),
    ("grad-cam", {"batch": 2}, ""),
    ("clipseg", {"model": "ViT-B-16", "size": (224, 224)}, ""),
    ("clipseg", {"model": "ViT-B-16"}, "it takes square pictures, not 32x48"),
    ("owlvit", {}, "it has an architecture of its own and is run beside ViT-B-16 and ViT-B-16-quickgelu only, not tiny"),
]


@pytest.mark.parametrize(("name", "fields", "reasons"), REFUSED, ids=[f"{name}-{fields}" for name, fields, _ in REFUSED])
def test_what_a_peer_cannot_do(name: str, fields: dict[str, Any], reasons: str) -> None:
    assert "; ".join(why_not(PEERS[name], replace(ANY, **fields))) == reasons


def test_maps_are_counted() -> None:
    assert PEERS["grad-cam"].maps(ANY) == 0
    # 4 x 6 patches and the class token, four heads, float32
    one = 4 * 25**2 * 4
    assert PEERS["open_clip"].maps(ANY) == one and PEERS["gem_torch"].maps(ANY) == 11 * one
    assert PEERS["gem_torch"].maps(replace(ANY, batch=3, texts=50, dtype="float16")) == 11 * one * 3 / 2
    # it repeats the picture for every text
    assert PEERS["legrad"].maps(replace(ANY, texts=50)) == 8 * one * 50


# the peers themselves


@dataclass(frozen=True)
class Row:
    """One comparison: which peer, on which picture size and recipe; `other` is another second picture beside the same first."""

    peer: str
    size: tuple[int, int] = (32, 32)
    changes: tuple[tuple[str, Any], ...] = ()
    other: bool = False

    @property
    def key(self) -> str:
        return f"{self.size[0]}x{self.size[1]} {dict(self.changes)} {self.other}"


WIDE = (32, 56)
ROWS = [
    Row("gem_torch"), Row("gem_torch", WIDE), Row("gem_torch", WIDE, other=True),
    Row("gem_torch", WIDE, (("blocks", 2), ("iterations", 2))), Row("gem_torch", changes=(("inv_temp", 10.0), ("iterations", 0))),
    Row("gem_torch-newest"), Row("gem_torch-newest", other=True), Row("open_clip"), Row("open_clip", WIDE),
    Row("legrad"), Row("grad-cam"), Row("grad-cam", WIDE),
]  # fmt: skip
BATCH, TEXTS = 2, 3


def model_of(row: Row) -> dict[str, Any]:
    """Texts of many numbers are less alike: grad-cam's float32 has no gradient left next to a share of 1."""
    return TINY | {"embed_dim": 512} if row.peer == "grad-cam" else TINY


def tower_of(row: Row) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in seeded_state(vision_shapes(model_of(row)), 0).items()}


def case_of(row: Row, folder: Path) -> Case:
    model = model_of(row)
    weights = folder / f"tower-{model['embed_dim']}.safetensors"
    if not weights.exists():
        save_file(tower_of(row), weights)
    batch = BATCH if "batch" in PEERS[row.peer].axes else 1
    inputs = write_inputs(folder / f"{row.size} {row.other} {weights.stem} {batch}", batch, row.size, TEXTS, model["embed_dim"], (30, 40))
    if row.other:
        pixels = np.load(inputs / "pixels-0.npy")
        pixels[1] = -pixels[1]
        np.save(inputs / "pixels-0.npy", pixels)
    return Case("tiny", model, str(weights), "gem", row.size, str(inputs), dict(row.changes), batch=batch, texts=TEXTS)


def available(names: Iterable[str]) -> list[str]:
    return [name for name in names if not ENVIRONMENTS[PEERS[name].environment].wrong]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[Row, Any]:
    """Each row's answer: importing takes them seconds, so each peer is started once, all at the same time."""
    folder = tmp_path_factory.mktemp("peers")
    names = available(dict.fromkeys(row.peer for row in ROWS))
    started = {name: start(python_of(PEERS[name].environment), FOLDER / PEERS[name].script) for name in names}
    found: dict[Row, Any] = {}
    for name, process in started.items():
        rows = [row for row in ROWS if row.peer == name]
        asked: Asked = []
        for row in rows:
            file = str(folder / f"{name} {row.key}.npy")
            asked.append({"do": "prepare", "key": row.key, "case": case_of(row, folder).to_dict()})
            asked.append({"do": "answer", "key": row.key, "file": file})
        asked.append({"do": "go", "key": rows[0].key, "what": "whole", "count": 1})
        _, answers, errors = talk(process, asked)
        assert not [each for each in answers if "failed" in each], f"{answers} {errors}"
        found |= {row: np.load(folder / f"{name} {row.key}.npy") for row in rows}
    return found


def expected(row: Row, folder: Path) -> Any:
    """The float32 reference's answer."""
    case = case_of(row, folder)
    tower = weights_of(tower_of(row), spec_of(model_of(row)))
    pixels, texts = (torch.from_numpy(np.load(Path(case.inputs) / name)) for name in ("pixels-0.npy", "texts.npy"))
    if row.peer == "open_clip":
        embedding, _ = parts.encoder(tower, pixels, "bicubic-antialias")
        return readouts.cosine(embedding, texts)[..., None, None].numpy()
    method, changes = PEERS[row.peer].method, dict(row.changes)
    if method != "gem":
        scores = literal.scores(tower.to(dtype=torch.float64), pixels, texts.double(), RECIPES[method])
        return scores.mT.reshape(len(pixels), TEXTS, case.size[0] // 8, case.size[1] // 8).numpy()
    patches = methods.gem(tower, pixels, changes.get("blocks", 6) + 1, changes.get("iterations", 1), changes.get("inv_temp"))
    return readouts.cosine(patches, texts).mT.reshape(BATCH, TEXTS, case.size[0] // 8, case.size[1] // 8).numpy()


def gap(found: Any, other: Any) -> float:
    assert found.shape == other.shape, f"{found.shape} instead of {other.shape}"
    return float(np.abs(found - other).max() / np.abs(other).max())


def the(row: Row, answers: dict[Row, Any]) -> Any:
    if row not in answers:
        pytest.skip(f"the environment {PEERS[row.peer].environment!r} is not set up (`make peers`)")
    return answers[row]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.peer} {row.key}")
def test_peers_compute_what_their_rows_say(row: Row, answers: dict[Row, Any], tmp_path: Path) -> None:
    error = gap(the(row, answers), expected(row, tmp_path))
    if row.peer == "gem_torch-newest":
        assert error > 1e-2, f"{row} computes GEM after all, to {error:.1e}: its row says otherwise"
    else:
        assert error < 1e-5, f"{row}: {error:.1e}"


@pytest.mark.parametrize(("peer", "size", "mixes"), [("gem_torch", WIDE, False), ("gem_torch-newest", (32, 32), True)])
def test_whether_a_picture_s_answer_depends_on_its_neighbour(
    peer: str, size: tuple[int, int], mixes: bool, answers: dict[Row, Any]
) -> None:
    change = gap(the(Row(peer, size), answers)[0], the(Row(peer, size, other=True), answers)[0])
    assert change > 1e-2 if mixes else change < 1e-6, f"{peer}: picture 0 changes by {change:.1e} with picture 1"
