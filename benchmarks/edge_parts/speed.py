"""One model's files and their times in onnxruntime, in turns with open_clip's own tower."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import torch

from fastloc.bench.models import model, open_clip_tower, read_state, weights_of
from fastloc.bench.peers.seeded import seeded_pixels
from fastloc.bench.stats import percentiles, ratio_interval
from fastloc.checkpoints.families.kinds import AnyWeights
from fastloc.checkpoints.hierarchical.spec import DESCRIBED
from fastloc.errors import FastlocError
from fastloc.export.graph import Parts
from fastloc.export.graph_kinds import graph_kind
from fastloc.export.int8 import quantized
from fastloc.export.options import Options
from fastloc.export.to_onnx import save, trace
from fastloc.onnx_file.golden import unit_texts
from fastloc.recipes import recipe
from fastloc.runtime.providers import SHARED
from fastloc.utils.hardware import processors

Row = dict[str, Any]
Feed = dict[str, np.ndarray[Any, Any]]
EAGER, USUAL = "open_clip", "float32"
EIGHT = ("int8-dynamic", "int8-static")
# numbers of a file that are no parameters: a BatchNorm's
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
TEXTS, CALIBRATION = 4, 4
ROUNDS, QUICK = 12, 2
# seconds: a contender of a turn is called for so long at least, and threads come to rest between turns
TURN, REST = 0.15, 0.05


def measured(name: str, folder: Path, rounds: int) -> Row:
    """A model's parameters, MB of its files and times: milliseconds (median, 20 % and 80 %), and the ratio of open_clip's to them."""
    one = model(name)
    weights_file = one.write(folder / "weights.safetensors")
    weights = weights_of(one.config, one.preprocess, weights_file)
    size = (one.own_size, one.own_size)
    feeds = [
        {"pixels": seeded_pixels((1, 3, *size), seed), "text_embeddings": unit_texts(0, TEXTS, weights.spec.embed)}
        for seed in range(CALIBRATION)
    ]  # fmt: skip
    files = _files(folder, weights, size, feeds)
    calls = {dtype: _session(file, feeds[0]) for dtype, file in files.items() if dtype != "float16"}
    exact = calls[USUAL]()
    errors = {dtype: float(f"{np.abs(calls[dtype]() - exact).max() / np.abs(exact).max():.1e}") for dtype in calls if dtype != USUAL}
    # open_clip has no tower that a configuration describes field by field
    tower = None if one.config["vision_cfg"].get(DESCRIBED) else open_clip_tower(one.config, weights_file, size)
    turns = _turns({**({EAGER: _eager(tower, feeds[0])} if tower else {}), **calls}, rounds)
    return {
        "model": name, "weights": "trained" if one.trained else "random", "tower": graph_kind(weights).name, "size": size[0],
        "parameters": sum(each.numel() for name, each in read_state(weights_file).items() if not name.endswith(STATISTICS)),
        "mb": {dtype: round(file.stat().st_size / 1e6, 2) for dtype, file in files.items()},
        "times": {way: _time(each, turns.get(EAGER)) for way, each in turns.items()}, "errors": errors, "rounds": rounds,
    }  # fmt: skip


def _files(folder: Path, weights: AnyWeights, size: tuple[int, int], feeds: list[Feed]) -> dict[str, Path]:
    """The files by dtype, of those that this kind of tower has."""
    found = {}
    row, eight = recipe("itsm").at_scale(weights.logit_scale), graph_kind(weights).eight_bits(weights.spec)

    def traced(dtype: str) -> ir.Model:
        return trace(Parts(weights, row, Options("ort", dtype, size=size, count=TEXTS, outputs=("similarity",)), None, None, None))

    for dtype in ("float32", "float16", *EIGHT):
        try:
            eight.check(dtype)
        except FastlocError:
            continue
        # a FastViT's graph in 8 bits is another one, see `fastloc.export.hierarchical_graph`
        made = traced(dtype)
        if dtype in EIGHT:
            made = quantized(made, dtype, feeds if dtype == "int8-static" else [], eight)
        found[dtype] = folder / f"{dtype}.onnx"
        save(made, found[dtype])
    return found


def _session(file: Path, feed: Feed) -> Callable[[], np.ndarray[Any, Any]]:
    logging.getLogger().setLevel(logging.ERROR)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, processors()
    for entry in SHARED.items():
        options.add_session_config_entry(*entry)
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])

    def call() -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = session.run(["similarity"], feed)[0]
        return found

    return call


def _eager(tower: Any, feed: Feed) -> Callable[[], object]:
    torch.set_num_threads(processors())
    pixels = torch.from_numpy(feed["pixels"])

    def call() -> object:
        with torch.inference_mode():
            return tower(pixels)

    return call


def _turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[list[float]]]:
    """Milliseconds of the calls of each turn: there and back, so that nobody has the same one before it in every round."""
    for call in calls.values():
        call()
    found: dict[str, list[list[float]]] = {way: [] for way in calls}
    order = list(calls)
    for _ in range(rounds):
        for way in order:
            time.sleep(REST)
            spent: list[float] = []
            while not spent or sum(spent) < TURN * 1e3:
                began = time.perf_counter()
                calls[way]()
                spent.append((time.perf_counter() - began) * 1e3)
            found[way].append(spent)
        order.reverse()
    return found


def _time(mine: list[list[float]], eager: list[list[float]] | None) -> Row:
    ours = [median(turn) for turn in mine]
    spread = {key: round(value, 2) for key, value in percentiles(ours).items() if key != "ms_p99"}
    if eager is None:
        return spread
    return {**spread, "faster": [round(value, 3) for value in ratio_interval([median(turn) for turn in eager], ours)]}
