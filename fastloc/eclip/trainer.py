"""A whole training: features, steps, checkpoints, and the projections at the end."""

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from fastloc.checkpoints.digests import digest
from fastloc.checkpoints.projections import FOR_PATCHES, Projections
from fastloc.eclip import checkpoint, curve
from fastloc.eclip.features import Features
from fastloc.eclip.loss import processes, rank
from fastloc.eclip.pairs import Left, Pair, fingerprint
from fastloc.eclip.settings import Settings
from fastloc.eclip.steps import CurveRow, State, take
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError
from fastloc.utils.atomic_write import write_whole
from fastloc.utils.system import files

PROJECTIONS, CACHE, LEFT = "projections.safetensors", "features.f16", "left_out.csv"
# (the current phase, steps done, steps in total, the last step's row)
Report = Callable[[str, int, int, CurveRow | None], None]


@dataclass(frozen=True)
class Running:
    """The options of a run. Only `stop`, the number of steps after which it ends early, changes its result."""

    save_every: int = 100
    stop: int | None = None
    resume: bool = False
    cache: str = "memory"
    room: int = 2 << 30
    workers: int = 2


def train(
    localizer: Localizer, pairs: list[Pair], out: Path, settings: Settings, running: Running, left: Left,
    report: Report = lambda what, done, total, row: None,
) -> Projections:  # fmt: skip
    """Train in this process or, where torch.distributed is initialised, in all of its processes, and write into the folder `out`.

    The files are checkpoint.safetensors, curve.csv, curve.png (with matplotlib), projections.safetensors, and left_out.csv if pairs were
    left out.

    Args:
        localizer: the model, without projections; its method is "itsm".

    Raises:
        FastlocError: settings that do not fit model, data or processes; an existing checkpoint without `resume`, or a missing one with it.
    """
    _refuse(localizer, out, settings, running, len(pairs))
    weights = localizer.source.transformer(*FOR_PATCHES)
    belongs = {"tower": digest(weights), "text_tower": localizer.source.text.digest, "data": fingerprint(pairs)}
    state = State(settings, weights.spec.embed, localizer.device)
    rows: list[CurveRow] = []
    if running.resume:
        checkpoint.resume(out / checkpoint.NAME, state, belongs)
        rows = curve.read(out / curve.NAME, state.step)
    last = min(settings.steps, running.stop or settings.steps)
    with _room(out, running) as file:
        room = 0 if running.cache == "none" else running.room
        features = Features(localizer, pairs, settings, left, room, file, running.workers)
        for done, total in features.fill():
            report("encoding", done, total, None)
        while state.step < last:
            rows.append(take(state, features))
            report("training", state.step, settings.steps, rows[-1])
            if state.step % running.save_every == 0 or state.step == last:
                _save(out, state, rows, belongs)
    return _finish(out, localizer, state, rows, belongs, left, len(pairs))


def _refuse(localizer: Localizer, out: Path, settings: Settings, running: Running, count: int) -> None:
    if localizer.projected.is_given or localizer.recipe.name != "itsm":
        raise FastlocError("the encoder to train on is the plain one: method itsm, without projections")
    if settings.batch % processes() or count < processes():
        raise FastlocError(f"a batch of {min(settings.batch, count)} pairs cannot be shared evenly by {processes()} processes")
    if not running.resume and (out / checkpoint.NAME).exists():
        raise FastlocError(f"{out} holds a checkpoint: go on with --resume, or begin in another folder")
    try:
        files.make_folder(out, parents=True, exist_ok=True)
    except OSError as error:
        raise FastlocError(f"{out}: no folder can be made there ({error})") from error


@contextmanager
def _room(out: Path, running: Running) -> Iterator[Path | None]:
    """The file that caches features, removed at the end; each process has its own."""
    file = out / f"{CACHE}.{rank()}" if running.cache == "disk" else None
    try:
        yield file
    finally:
        if file is not None:
            with suppress(OSError):
                files.remove(file)


def _save(out: Path, state: State, rows: list[CurveRow], belongs: dict[str, str]) -> None:
    """Save the training: one process writes, and the others wait for it."""
    if rank() == 0:
        curve.write(out / curve.NAME, rows)
        checkpoint.write(out / checkpoint.NAME, state, belongs)
    if processes() > 1:
        dist.barrier()


def _finish(
    out: Path, localizer: Localizer, state: State, rows: list[CurveRow], belongs: dict[str, str], left: Left, count: int
) -> Projections:
    facts = {
        **asdict(state.settings), "trained": state.step, "pairs": count, "size": localizer.input_size,
        "loss": round(rows[-1].loss, 4) if rows else None,
    }  # fmt: skip
    towers = belongs["tower"], belongs["text_tower"]
    image, text = (phi.detach().cpu().clone() for phi in (state.image, state.text))
    made = Projections(image, text, localizer.source.name, *towers, facts)
    if rank() == 0:
        made.save(out / PROJECTIONS)
        if rows:
            curve.plot(out / curve.PLOT, rows)
        if left.names:
            _write_left(out / LEFT, left)
    return made


def _write_left(path: Path, left: Left) -> None:
    buffer = io.StringIO()
    rows = [(why, name) for why, names in left.names.items() for name in names]
    csv.writer(buffer, lineterminator="\n").writerows([("reason", "name"), *rows])
    write_whole(path, lambda file: file.write(buffer.getvalue().encode()))


@contextmanager
def joined_processes(device: str | None) -> Iterator[str | None]:
    """Join the group of processes that torchrun started, if it did, for the time of this context; yields this process's device.

    At the end the group is destroyed before the interpreter shuts down. The threads of gloo hold tensors a moment longer than the call that
    they work for: a thread that releases its last tensor while the interpreter shuts down ends the process with SIGABRT. After an error
    NCCL's group is not destroyed: destroying it waits for the other processes, which may wait for this one.
    """
    if not dist.is_available() or not dist.is_torchelastic_launched():
        yield device
        return
    cuda = torch.cuda.is_available() if device is None else device.startswith("cuda")
    dist.init_process_group("nccl" if cuda else "gloo")
    place = dist.get_node_local_rank()
    if cuda:
        torch.cuda.set_device(place)
    try:
        yield f"cuda:{place}" if cuda else "cpu"
    except BaseException:
        if not cuda:
            dist.destroy_process_group()
        raise
    dist.destroy_process_group()
