"""`fastloc video`: texts in every frame of a video, drawn into a new one, or as lines of JSON."""

import argparse
import math
import re
import sys
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastloc.auto import METHOD
from fastloc.cli.arguments import add_execution, add_method, add_source
from fastloc.cli.interrupts import Interrupts
from fastloc.cli.localizers import engine
from fastloc.cli.locate import PHOTOGRAPHS
from fastloc.cli.video_progress import Spent, bar
from fastloc.errors import FastlocWarning, VideoError
from fastloc.utils import console
from fastloc.utils.argument_types import count, prompt

if TYPE_CHECKING:
    from rich.console import Console

    from fastloc.video.output.drawing import Drawer
    from fastloc.video.output.json_lines import Records
    from fastloc.video.output.writer import VideoWriter
    from fastloc.video.sources.frame import Frame
    from fastloc.video.sources.time_range import Span
    from fastloc.video.stream import Stream
    from fastloc.video.stream_result import StreamResult

STDOUT = "-"
# ticks of pictures that come without a clock of their own
TICK = Fraction(1, 90000)


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc video`."""
    from fastloc.video.output.drawing import STYLES

    parser.usage = "fastloc video IN -t TEXT [TEXT ...] [-o OUT.mp4] [options]"
    parser.add_argument("input", metavar="IN", help="a video file, an address (rtsp://, http:// …), or a camera (camera:0)")
    parser.add_argument(
        "-t", "--text", dest="texts", metavar="TEXT", nargs="+", action="extend", required=True, type=prompt, help="what to look for"
    )
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    group.add_argument("--providers", nargs="+", metavar="NAME", help="for an .onnx file: where it runs (default: cuda or else cpu)")
    add_method(parser.add_argument_group("method"))
    time = parser.add_argument_group("time")
    time.add_argument("--start", type=_seconds, default=0.0, metavar="S", help="begin S seconds into the video")
    time.add_argument("--seconds", type=_seconds, metavar="S", help="end S seconds later (default: with the video, or at Ctrl-C)")
    time.add_argument("--every", type=count, default=1, metavar="N", help="run the model on every Nth frame; the others get its map")
    time.add_argument("--smooth", type=_seconds, default=0.0, metavar="S", help="half-life of a running mean of the maps, in seconds")
    time.add_argument("--maps", type=_maps, metavar="HOW", help=f"what is cold and hot: {_known_maps()}, or LOW:HIGH (default: frame)")
    time.add_argument(
        "--background", nargs="+", action="extend", type=prompt, default=[], metavar="TEXT", help="with --maps background: against what"
    )
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", type=Path, metavar="OUT", help=".mp4, .m4v or .mov (default without --json: <IN>.<method>.mp4)")
    output.add_argument("--style", choices=tuple(STYLES), default="heat", help="what is drawn (default: heat)")
    output.add_argument("--opacity", type=float, default=0.6, metavar="F", help="of the warmest heat, up to 1 (default: 0.6)")
    output.add_argument("--threshold", type=float, default=0.5, metavar="F", help="share of full heat that makes a box (default: 0.5)")
    output.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help="one JSON object a frame and line; without FILE, print it")
    output.add_argument("--force", action="store_true", help="write over files that exist")


def run(args: argparse.Namespace) -> int:
    """Run the command: 0. Raises FastlocError, before the model is loaded for all that can be seen by then; KeyboardInterrupt."""
    from fastloc.video.output.drawing import Drawer
    from fastloc.video.sources.open_source import open_source
    from fastloc.video.sources.time_range import Span

    job = plan(args)
    drawer = Drawer(args.style, args.opacity, args.threshold)
    source = open_source(args.input)
    try:
        return _run(args, job, drawer, Span(source, args.start, None if args.seconds is None else args.start + args.seconds))
    finally:
        source.close()


@dataclass(frozen=True)
class Job:
    """Where the answer goes: a video, lines of JSON (`STDOUT` or a file), or both."""

    video: Path | None
    records: str | None

    @property
    def to_stdout(self) -> bool:
        return self.records == STDOUT

    @property
    def record_file(self) -> Path | None:
        return None if self.records in (None, STDOUT) else Path(str(self.records))


def plan(args: argparse.Namespace) -> Job:
    """Where the answer goes. Raises VideoError for what cannot be written there."""
    from fastloc.video.output.containers import container_of
    from fastloc.video.output.partial_file import check

    default = None if args.json is not None else Path(f"{_stem(args.input)}.{_method(args)}.mp4")
    job = Job(args.output or default, args.json)
    files = [path for path in (job.video, job.record_file) if path is not None]
    if job.video is not None:
        container_of(job.video)
    for path in files:
        if path.exists() and Path(args.input).exists() and path.samefile(args.input):
            raise VideoError(f"{path}: would be written over the video that is read")
        check(path, args.force)
    if len(files) == 2 and files[0].resolve() == files[1].resolve():
        raise VideoError(f"{files[0]}: the video and the JSON need files of their own")
    return job


def _run(args: argparse.Namespace, job: Job, drawer: "Drawer", span: "Span") -> int:
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        sink = _sink(args, job, drawer, span, stack)
        localizer = engine(args)
        if args.model == "embedded":
            print(f"fastloc: note: the embedded model knows emoji scenes only; for photographs add {PHOTOGRAPHS}", file=sys.stderr)
        frames = stack.enter_context(_stream(args, localizer, span))
        out, shown = stack.enter_context(bar(span.count, stdout_is_data=job.to_stdout))
        # loading the model is not counted
        sink.spent.begin()
        try:
            for found in frames:
                with interrupts.held():
                    sink.put(found)
                    shown.step(sink.spent.frames, _odd(frames))
        except KeyboardInterrupt:
            # a camera ends in no other way
            if not span.live:
                raise
        frames.close()
        if not sink.spent.frames:
            raise VideoError(f"{span.name}: has no frame" + (f" from {args.start:g} s on" if args.start else ""))
        with interrupts.held():
            sink.close(rest=args.seconds is None)
    convert = frames.timings().get("convert", {"p50": 0.0})["p50"]
    sink.spent.seconds["decode"] = span.reading + convert * sink.spent.frames
    _tell(out, job, sink.spent.line(_counts(frames)))
    return 0


def _stream(args: argparse.Namespace, localizer: Any, span: "Span") -> "Stream":
    from fastloc.video.stream import stream

    maps = args.maps or ("background" if args.background else "frame")
    return stream(span, args.texts, localizer, every=args.every, smooth=args.smooth, maps=maps, background=args.background)


class _Sink:
    """What becomes of a result: a drawn frame, a line of JSON."""

    def __init__(self, drawer: "Drawer", threshold: float, video: "VideoWriter | None", clock: "Clock", records: "Records | None") -> None:
        self._drawer, self._threshold, self._video, self._clock, self._records = drawer, threshold, video, clock, records
        self.spent = Spent()

    def put(self, found: "StreamResult") -> None:
        from fastloc.video.output.json_lines import record

        self.spent.frames += 1
        self.spent.seconds["model"] += found.inference
        if self._records is not None:
            with self.spent.on("read-out"):
                self._records.write(record(found.index, found.time, found.result, self._threshold))
        if self._video is not None:
            with self.spent.on("draw"):
                drawn = self._drawer(found.frame.rgb, found.result)
            with self.spent.on("encode"):
                self._video.write(drawn, self._clock.ticks(found.frame))

    def close(self, rest: bool) -> None:
        if self._video is not None:
            with self.spent.on("encode"):
                self._video.close(rest)


class Clock:
    """Places frames on an output's clock: at the source's own timestamps, counted on where those jump, as `Frame.time` does."""

    def __init__(self, unit: Fraction) -> None:
        self.unit = unit
        self._start: int | None = None

    def ticks(self, frame: "Frame") -> int:
        """The frame's timestamp in units of `unit` seconds."""
        since = round(Fraction(frame.time) / self.unit)
        if self._start is None:
            known = frame.pts is not None and frame.time_base == self.unit
            self._start = frame.pts - since if known and frame.pts is not None else 0
        return self._start + since


def _sink(args: argparse.Namespace, job: Job, drawer: "Drawer", span: "Span", stack: ExitStack) -> _Sink:
    """Opens the files: what cannot be written is known before the model is loaded."""
    from fastloc.video.output.json_lines import Records
    from fastloc.video.output.writer import VideoWriter

    # what is live is timed by when it came
    clock = Clock(TICK if span.live else span.info.time_base or TICK)
    records = stack.enter_context(Records(job.record_file, args.force)) if job.records is not None else None
    video = None
    if job.video is not None:
        video = VideoWriter(
            job.video, time_base=clock.unit, rate=span.info.rate, pixel_aspect=span.info.pixel_aspect, sound=_sound(args.input, span),
            from_zero=True if span.live or args.start else None, force=args.force,
        )  # fmt: skip
        stack.enter_context(video)
    return _Sink(drawer, args.threshold, video, clock, records)


def _sound(given: str, span: "Span") -> Path | None:
    """The file whose sound is kept."""
    if not span.info.audio:
        return None
    if span.live or not Path(given).is_file():
        warnings.warn(f"{span.name}: its sound is left out: it is kept of files only", FastlocWarning, stacklevel=2)
        return None
    return Path(given)


def _tell(out: "Console", job: Job, line: str) -> None:
    """What was written, and how long it took."""
    for path in (job.video, job.record_file):
        if path is not None:
            out.print(f"written: {console.shown(path)}", soft_wrap=True)
    out.print(line, soft_wrap=True)


def _counts(frames: "Stream") -> dict[str, int]:
    """What went otherwise than one would want."""
    counters = frames.counters
    return {"dropped": counters.dropped, "corrupt, skipped": counters.corrupt, "reconnects": counters.reconnects}


def _odd(frames: "Stream") -> str:
    return ", ".join(f"{count} {name}" for name, count in _counts(frames).items() if count)


def _stem(given: str) -> str:
    """What the default output is named after: a file's name, the last part of an address, a camera."""
    if "://" in given:
        address = urlsplit(given)
        given = address.path.rstrip("/") or address.hostname or "stream"
    return re.sub(r"[^\w.+-]+", "-", Path(given).stem).strip("-") or "video"


def _method(args: argparse.Namespace) -> str:
    # an exported file has decided
    return Path(args.model).stem if args.model.endswith(".onnx") else args.method or METHOD


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; give seconds, 0 or more")
    return value


def _maps(text: str) -> str | tuple[float, float]:
    """A row of `temporal.MAPS`, or two similarities."""
    from fastloc.video.temporal import MAPS

    low, colon, high = text.partition(":")
    if not colon and text in MAPS:
        return text
    try:
        limits = float(low), float(high)
    except ValueError:
        limits = math.nan, math.nan
    if not (colon and math.isfinite(limits[0]) and math.isfinite(limits[1]) and limits[0] < limits[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {_known_maps()}, nor two similarities such as 0.1:0.3")
    return limits


def _known_maps() -> str:
    from fastloc.video.temporal import MAPS

    return ", ".join(MAPS)
