"""The whole GPU script on a GPU that is pretended: every line that only a GPU reaches runs, and what a GPU refuses is refused."""

import contextlib
import time
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fastloc
import gpu
from cuda_lines import all_cuda_lines, reached
from fastloc.bench import contenders, request, run_facts, schema
from fastloc.bench.peers import protocol
from fastloc.engine import devices
from fastloc.functional.frames.patches import frame_tables
from fastloc.imaging.geometry import fit
from fastloc.kernels import gate as kernels_gate
from fastloc.kernels import variants as switches
from fastloc.recipes import RECIPES
from fastloc.utils import hardware
from gpu_parts import compiled, fleet, frames, job, kernel_cases, kernel_variants, measured, methods, models, parity, speed, variants
from pretended_gpu import NAME, pretended_gpu

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
TINY = "tiny"
# what the dry run cannot reach, and why; a line of another file or function that it does not reach is a fault
UNREACHED = {
    "benchmarks/gpu_parts/fleet.py": "forked processes: test_gpu_processes has them fork, with `set_device` and `synchronize` of its own",
    "benchmarks/gpu.py": "asked in a process of its own: test_gpu_script",
    "benchmarks/gpu_parts/exported.py": "onnxruntime's CUDA provider, with a stand-in of its own in test_gpu_exported",
    "kernels/device.py": "a GPU that is too old, or another vendor's: tests/kernels",
    "fastloc/bench/contenders.py": "`python -m fastloc.bench` is a process of its own: below",
    "fastloc/bench/peers/protocol.py": "the same",
    "fastloc/bench/request.py": "the same",
    "fastloc/bench/run_facts.py": "the same",
    "fastloc/bench/backends/onnx_backend.py": "needs onnxruntime's CUDA provider: not run",
    "fastloc/bench/backends/torch_backend.py": "a line of torch.compile's graphs, in a process of its own: not run",
    "fastloc/engine/devices.py": "a Localizer's choice of a device: below",
    "kernels/gate.py": "the gate's own command line",
    "kernels/variants.py": "the GPUs that a variant runs on: tests/kernels/test_variants",
}


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    """A pretended GPU with the script's own tables, whose towers, pictures and frames are tiny."""
    real, tiny = fleet.spread, models.CONFIGS[TINY]

    def inline(groups: Any, work: Any, device: torch.device, deadline: float, clock: Any = time.monotonic) -> Any:
        return real(groups, work, torch.device("cpu"), deadline, clock)

    for name in ("B/16", "L/14"):
        monkeypatch.setitem(models.CONFIGS, name, tiny)
    monkeypatch.setattr(speed, "CONFIGS", (("B/16", 32, 1), ("L/14", 32, 2)))
    monkeypatch.setattr(speed, "LARGEST", ("B/16", 48, 1))
    monkeypatch.setattr(compiled, "CONFIGS", (("B/16", 32, 1),))
    monkeypatch.setattr(compiled, "SECONDS", 0.0)
    monkeypatch.setattr(methods, "CONFIG", ("B/16", 32, 1))
    monkeypatch.setattr(variants, "SIZE", 32)
    monkeypatch.setattr(variants, "BATCHES", (1,))
    # large cases take a CPU minutes
    monkeypatch.setattr(kernel_variants, "LARGE", 0)
    monkeypatch.setattr(frames, "QUICK", {"1080p": (24, 40)})
    monkeypatch.setattr(fleet, "spread", inline)
    # a CPU has one back end
    for module in (kernel_cases, speed):
        monkeypatch.setattr(module, "sdpa_kernel", lambda backend: contextlib.nullcontext())
    with pretended_gpu() as device:
        yield device


def the_job(part: str, folder: Path, device: torch.device, seconds: float = 60.0, quick: bool = True) -> job.Job:
    head = {"run": "20261121-184005", "commit": "c", "code": "x", "load_before": 0.0, **job.facts(device)}
    return job.Job(part, device, folder, head, deadline=time.monotonic() + seconds, quick=quick)


def test_tables_move_whole() -> None:
    """The padding colour of frames stayed on the host, which is a copy within a graph's capture."""
    where = fit((24, 40), 16, (8, 8))
    moved = frame_tables(where, (8, 8), (0.5, 0.5, 0.5)).to(torch.device("meta"))
    assert {moved.colour.device.type, moved.rows.start.device.type, moved.columns.weights.device.type} == {"meta"}


def test_the_first_parts_say_what_is_right_and_what_it_costs(on_a_gpu: torch.device, tmp_path: Path,
                                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert list(gpu.PARTS)[:2] == ["gate", "methods"] and gpu.PARTS["gate"] + gpu.PARTS["methods"] <= 100 and sum(gpu.PARTS.values()) <= 540
    for part in ("gate", "methods"):
        one = the_job(part, tmp_path, on_a_gpu)
        gpu._module(part).run(one)
        one.save(finished=True)
        assert one.good, one.rows
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("self_self_step: 2 good, 0 bad, 0 skipped") and len(printed) == len(gate_ops()) + 3
    assert [row["method"] for row in one.rows] == ["gem", "itsm", methods.order()[2]] and one.rows[0]["plan"]["attention"] == "triton"
    assert all(0 < row["distance"] <= row["within"] and row["ms"] > 0 for row in one.rows)


@pytest.mark.slow("every variant of the kernels")
def test_a_wrong_variant_is_not_timed(on_a_gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variant that a GPU of 9.0 runs is checked, then timed beside the default plan; the reason stands where it is not."""
    shipped = kernels_gate.check

    def check(op: Any, case: Any, dtype: torch.dtype, device: torch.device) -> Any:
        verdict = shipped(op, case, dtype, device)
        wrong = switches.on("three_accumulators") and case.label.startswith("unit N=65")
        return replace(verdict, problems=("error 1 is over 0",)) if wrong else verdict

    monkeypatch.setattr(kernels_gate, "check", check)
    monkeypatch.setattr(variants, "plans", lambda one, config: {"default": lambda: speed.ours(one, config, "gem", {}, "")})
    one = the_job("variants", tmp_path, on_a_gpu, quick=False)
    variants.run(one)
    names = {name for name in switches.VARIANTS if name != "warp_specialised"}
    assert {row["variant"] for row in one.rows if "case" in row} == names
    rows = {row["contender"].removeprefix("kernel "): row for row in one.rows if "contender" in row}
    assert set(rows) == {"default", *names}
    assert rows["three_accumulators"]["failed"].endswith("not timed: self_self_ensemble · unit N=65 d=64 three streams: error 1 is over 0")
    assert all(rows[name]["ms"] > 0 and rows[name]["error"] < 1e-2 for name in names - {"three_accumulators"})
    assert "1 bad" in variants.lines({"rows": one.rows})[-2]
    # what the part did not reach is not timed either
    one.rows = [row for row in one.rows if row.get("variant") != "project_cosine"]
    assert kernel_variants.problem(one, "project_cosine").startswith("not checked: project_cosine")
    assert len(measured.measurements({"part": "variants", **one.head, "rows": one.rows})) == len(rows)


def gate_ops() -> list[str]:
    from fastloc.kernels.table import OPS

    return list(OPS)


@pytest.mark.slow("every part of the script, on tiny shapes")
def test_every_cuda_line_runs(on_a_gpu: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = parity._places
    monkeypatch.setattr(parity, "_places", lambda one, name: places(one, TINY))
    expected, made = all_cuda_lines(), []
    with reached(set(expected)) as found:
        for part in gpu.PARTS:
            if part in ("exported", "bench"):
                continue
            # variants and methods by their own tables, the others where they are small
            one = the_job(part, tmp_path, on_a_gpu, quick=part not in ("methods", "variants", "compiled"))
            made.append(one)
            gpu._module(part).run(one)
            one.save(finished=True)
            wrong = [row for row in one.rows if row.get("problems") or row.get("failed")]
            assert not wrong, (part, wrong[:3])
            record = job.read(one.file)
            assert record and record["device"] == NAME and all(isinstance(line, str) for line in gpu._module(part).lines(record))
        speed.run(the_job("speed", tmp_path / "large", on_a_gpu, quick=False))
    missing = {name: sorted(lines - found[name]) for name, lines in expected.items() if name not in UNREACHED and lines - found[name]}
    assert not missing, f"lines that only a GPU runs, and that no test ran: {missing}"
    assert set(UNREACHED) <= set(expected), "a file that has no such line any more"
    gpu._measured(tmp_path / f"gpu{schema.SUFFIX}", made)
    rows = schema.read(tmp_path)
    assert {row["suite"] for row in rows} >= {"gpu-methods", "gpu-speed", "gpu-compiled", "gpu-frames", "gpu-video", "gpu-kernels"}


def test_the_pretended_gpu_refuses_what_a_gpu_refuses(on_a_gpu: torch.device) -> None:
    here, there = torch.ones(3), torch.ones(3, device=on_a_gpu)
    assert there.device == on_a_gpu and there.is_cuda and (2 * there)[1:].is_cuda and not there.cpu().is_cuda and not here.is_cuda
    with pytest.raises(RuntimeError, match="at least two devices"):
        here + there
    with pytest.raises(TypeError, match="can't convert cuda:0"):
        there.numpy()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        twice = there * 2
        with pytest.raises(RuntimeError, match="capturing"):
            twice.sum().item()
    there.fill_(5.0)
    graph.replay()
    assert twice.cpu().tolist() == [10.0, 10.0, 10.0]
    moved = here.to(on_a_gpu)
    here.fill_(7.0)
    assert moved.cpu().tolist() == [1.0, 1.0, 1.0], "another memory"


@pytest.fixture
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))


@pytest.mark.slow("a localizer in every way")
def test_a_localizer_on_a_gpu(on_a_gpu: torch.device, picture: Image.Image) -> None:
    """The default plan by every way in: pictures, handles, frames of the host and of the device, streams."""
    texts, frame = ["a cat", "a dog"], np.asarray(picture)
    expected = fastloc.Localizer(device="cpu")(picture, texts).similarity
    there = fastloc.Localizer()
    assert there.device == torch.device("cuda") and there.plan.attention == "triton" and there.plan.launch == "graph"
    pictures = [handle.result() for handle in [there.submit(picture, texts) for _ in range(4)]]
    on_device = torch.from_numpy(frame.copy()).to(on_a_gpu)
    found = [*pictures, there(picture, texts), there.predict_frame(frame, texts), there.predict_frame(on_device, texts)]
    found += [each.located for each in fastloc.stream(iter([frame] * 3), texts, there)]
    assert max(np.abs(each.similarity - expected).max() for each in found) < 2e-3
    assert there.heatmaps(on_device[None], texts).is_cuda and there.labels(on_device[None], texts).is_cuda


@pytest.mark.slow("a localizer of every method", quick=1)
@pytest.mark.parametrize("method", ["grad_eclip", *(name for name in RECIPES if name != "grad_eclip")])
def test_every_method_on_a_gpu(on_a_gpu: torch.device, picture: Image.Image, method: str) -> None:
    made = (fastloc.Localizer(device=device, method=method) for device in ("cpu", "cuda"))
    expected, found = (each(picture, ["a cat", "a dog"]).similarity for each in made)
    assert np.abs(found - expected).max() < 2e-2 * np.abs(expected).max()


def test_the_bench_on_a_gpu(on_a_gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls to a GPU of a worker of `python -m fastloc.bench`."""
    monkeypatch.setattr(protocol, "FLUSH_BYTES", 1024)
    monkeypatch.setattr(protocol, "_SCRATCH", [])
    monkeypatch.setattr(hardware, "gpus", lambda: (hardware.Gpu(NAME, driver="1.2", capability="9.0", memory=8000),))
    calls: list[int] = []
    passes = protocol.Passes(calls.append, device="cuda", whole=calls.append)
    ready: dict[str, protocol.Prepared] = {}
    protocol._prepare("a", types.SimpleNamespace(), lambda case: passes, ready)  # type: ignore[arg-type]
    assert len(protocol.timed(passes, "model", 2)) == len(protocol.timed(passes, "whole", 2)) == 2 and calls == [0, 0, 1, 0, 1]
    assert protocol._memory(ready["a"], again=True).keys() >= {"device_mb", "device_working_mb"}
    assert contenders._free(types.SimpleNamespace(device="cuda:0")) == 6e9  # type: ignore[arg-type]
    driver = types.SimpleNamespace(run=lambda *arguments, **more: types.SimpleNamespace(stdout="0x0000000000000024\n"))
    with monkeypatch.context() as patch:
        patch.setattr(run_facts, "subprocess", driver)
        assert run_facts.throttled("cuda:0") == "power cap, software thermal"
    assert run_facts.columns("cuda")["capability"] == "9.0" and request.device_of(None) == "cuda" and devices.processor(on_a_gpu) == NAME
