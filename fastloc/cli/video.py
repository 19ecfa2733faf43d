"""`fastloc video`: texts in every frame of videos, drawn into new ones, or as lines of JSON. One that fails does not stop the others."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastloc.auto import METHOD
from fastloc.cli.arguments import add_execution, add_exported, add_like, add_method, add_self_check, add_source, add_texts, texts_of
from fastloc.cli.interrupts import Interrupts
from fastloc.cli.localizers import engine, note_embedded, note_self_check
from fastloc.cli.video_progress import Spent, bar
from fastloc.errors import VideoError, warn
from fastloc.utils import console
from fastloc.utils.argument_types import count, count_or_auto, prompt
from fastloc.utils.patterns import is_pattern, matching
from fastloc.utils.terminal import say

if TYPE_CHECKING:
    from rich.console import Console

    from fastloc.video.output.clock import Clock
    from fastloc.video.output.drawing import Drawer
    from fastloc.video.output.jobs import Job
    from fastloc.video.output.json_lines import Records
    from fastloc.video.output.writer import VideoWriter
    from fastloc.video.sources.time_range import Span
    from fastloc.video.stream import Stream
    from fastloc.video.stream_result import StreamResult


_OUTPUT = "video to write (.mp4, .m4v, .mov, .mkv, .webm), or a folder (default: <IN>.<method>.mp4; none with --json)"
_JSON = "write a line of JSON a frame, to FILE, or to a folder for several videos; without FILE, print it"


def add(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastloc video`."""
    from fastloc.imaging.images import MAX_PIXELS
    from fastloc.imaging.reduced_picture import DECODES
    from fastloc.video.output.drawing import STYLES
    from fastloc.video.output.jobs import STDOUT

    parser.usage = "fastloc video IN [IN ...] -t TEXT [TEXT ...] [-o OUT.mp4] [options]"
    text = "video: a file, an address (rtsp://, http:// …), a camera (camera:0) or a quoted pattern of files"
    parser.add_argument("inputs", metavar="IN", nargs="+", help=text)
    add_texts(parser, required=False)
    add_like(parser)
    group = parser.add_argument_group("model")
    add_source(group)
    add_execution(group)
    group.add_argument(
        "--decode", choices=DECODES, default="full",
        help="reduced: scale HD frames to the model's input in the decoder's own planes; similarities move a little (default: full)",
    )  # fmt: skip
    add_self_check(group)
    add_exported(group)
    add_method(parser.add_argument_group("method"))
    time = parser.add_argument_group("time")
    time.add_argument("--start", type=_seconds, default=0.0, metavar="S", help="start of the part to read, seconds (default: 0)")
    time.add_argument("--seconds", type=_seconds, metavar="S", help="length of the part to read, seconds (default: to the end, or Ctrl-C)")
    time.add_argument(
        "--every", type=count, default=1, metavar="N", help="run the model on every Nth frame and keep its map between (default: 1)"
    )
    time.add_argument(
        "--batch", type=count_or_auto, metavar="N",
        help="frames a call of the model: a number, or auto to measure it in the first seconds; not for live video (default: 1)",
    )  # fmt: skip
    time.add_argument(
        "--smooth", type=_seconds, default=0.0, metavar="S", help="half-life of a running mean of the maps, seconds (default: 0, none)"
    )
    time.add_argument("--maps", type=_maps, metavar="HOW", help=f"range of the heat: {_known_maps()}, or LOW:HIGH (default: frame)")
    time.add_argument(
        "--background", nargs="+", action="extend", type=prompt, default=[], metavar="TEXT", help="background texts, for --maps background"
    )
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", type=Path, metavar="OUT", help=_OUTPUT)
    output.add_argument("--style", choices=tuple(STYLES), default="heat", help="style of the drawing (default: heat)")
    output.add_argument(
        "--opacity", type=float, default=0.6, metavar="F", help="opacity of full heat, above 0 and at most 1 (default: 0.6)"
    )
    output.add_argument("--threshold", type=float, default=0.5, metavar="F", help="least heat of a pixel in a box, 0 to 1 (default: 0.5)")
    output.add_argument("--json", nargs="?", const=STDOUT, metavar="FILE", help=_JSON)
    output.add_argument("--force", action="store_true", help="overwrite existing files")
    output.add_argument(
        "--max-pixels", type=count, default=MAX_PIXELS, metavar="N", help=f"largest frame to read, pixels (default: {MAX_PIXELS})"
    )


def run(args: argparse.Namespace) -> int:
    """Run the command: 0, or 1 if a video could not be used. Raises FastlocError, before the model is loaded for all that can be seen by
    then; KeyboardInterrupt."""
    from fastloc.video.output.drawing import Drawer
    from fastloc.video.output.jobs import plan

    args.texts = texts_of(args)
    sources, many = _sources(args.inputs)
    jobs = plan(sources, _method(args), args.output, args.json, many=many, force=args.force)
    drawer = Drawer(args.style, args.opacity, args.threshold)
    localizer = cache(partial(_localizer, args))
    failed: list[VideoError] = []
    try:
        with Interrupts() as interrupts:
            for job in jobs:
                try:
                    if not _video(args, job, drawer, localizer, interrupts, many):
                        break
                except VideoError as error:
                    if not many:
                        raise
                    failed.append(error)
    finally:
        if localizer.cache_info().currsize:
            note_self_check(localizer())
        if failed:
            lines = (console.shown(str(error)) for error in failed)
            print(f"fastloc: error: {len(failed)} of {len(jobs)} videos could not be used:", *lines, sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def _sources(inputs: Sequence[str]) -> tuple[list[str], bool]:
    """The sources of the command line, patterns replaced by the files that match; and True where they are several. Raises VideoError."""
    found: list[str] = []
    for each in inputs:
        named = matching(each) if is_pattern(each) else [each]
        if not named:
            raise VideoError(f"{each}: no file matches this pattern")
        found += named
    return found, len(inputs) > 1 or any(map(is_pattern, inputs))


def _localizer(args: argparse.Namespace) -> Any:
    made = engine(args)
    note_embedded(args, made)
    return made


def _video(
    args: argparse.Namespace, job: "Job", drawer: "Drawer", localizer: Callable[[], Any], interrupts: Interrupts, many: bool
) -> bool:
    """Carry out one job: False where it was ended by Ctrl-C. Raises VideoError where its source cannot be read or its file not written."""
    from fastloc.video.sources.open_source import open_source
    from fastloc.video.sources.time_range import Span

    source = open_source(job.source, max_pixels=args.max_pixels)
    try:
        span = Span(source, args.start, None if args.seconds is None else args.start + args.seconds)
        return _run(args, job, drawer, span, localizer, interrupts, many)
    finally:
        source.close()


def _run(
    args: argparse.Namespace, job: "Job", drawer: "Drawer", span: "Span", localizer: Callable[[], Any], interrupts: Interrupts, many: bool
) -> bool:
    ended: KeyboardInterrupt | None = None
    with ExitStack() as stack:
        sink = _sink(args, job, drawer, span, stack, span.name if many else None)
        frames = stack.enter_context(_stream(args, localizer(), span))
        out, shown = stack.enter_context(bar(span.count, stdout_is_data=job.to_stdout))
        # loading the model is not counted
        sink.spent.begin()
        try:
            for found in frames:
                with interrupts.held():
                    if not sink.spent.frames and args.batch == "auto":
                        say(f"fastloc: {frames.batch}", error=True)
                    sink.put(found)
                    shown.step(sink.spent.frames, _odd(frames))
        except KeyboardInterrupt as end:
            # a camera ends in no other way
            if not span.live:
                raise
            ended = end
        frames.close()
        if not sink.spent.frames:
            raise VideoError(f"{span.name}: has no frame" + (f" from {args.start:g} s on" if args.start else ""))
        with interrupts.held():
            sink.close(rest=args.seconds is None)
    convert = frames.timings().get("convert", {"p50": 0.0})["p50"]
    sink.spent.seconds["decode"] = span.reading + convert * sink.spent.frames
    _tell(out, job, sink.spent.line(_counts(frames)))
    # a signal other than Ctrl-C shows in the exit status
    if ended is not None and type(ended) is not KeyboardInterrupt:
        raise ended
    return ended is None


def _stream(args: argparse.Namespace, localizer: Any, span: "Span") -> "Stream":
    from fastloc.video.stream import stream

    maps = args.maps or ("background" if args.background else "frame")
    return stream(
        span, args.texts, localizer, every=args.every, smooth=args.smooth, maps=maps, background=args.background, batch=args.batch or 1,
        decode=args.decode,
    )  # fmt: skip


class _Sink:
    """The outputs of a result: a drawn frame, a line of JSON."""

    def __init__(
        self, drawer: "Drawer", threshold: float, video: "VideoWriter | None", clock: "Clock", records: "Records | None", name: str | None,
    ) -> None:  # fmt: skip
        self._drawer, self._threshold, self._video, self._clock, self._records = drawer, threshold, video, clock, records
        # which video a line is of, where there are several
        self._more = {} if name is None else {"video": name}
        self.spent = Spent()

    def put(self, found: "StreamResult") -> None:
        from fastloc.video.output.json_lines import record

        self.spent.frames += 1
        self.spent.seconds["model"] += found.inference
        if self._records is not None:
            with self.spent.on("read-out"):
                self._records.write(self._more | record(found.index, found.time, found.result, self._threshold))
        if self._video is not None:
            with self.spent.on("draw"):
                drawn = self._drawer.on(found.frame, found.result)
            with self.spent.on("encode"):
                self._video.write(drawn, self._clock.ticks(found.frame))

    def close(self, rest: bool) -> None:
        if self._video is not None:
            with self.spent.on("encode"):
                self._video.close(rest)


def _sink(args: argparse.Namespace, job: "Job", drawer: "Drawer", span: "Span", stack: ExitStack, name: str | None) -> _Sink:
    """Open the output files, so that one that cannot be written is known before the model is loaded."""
    from fastloc.video.output.clock import TICK, Clock
    from fastloc.video.output.json_lines import Records
    from fastloc.video.output.writer import VideoWriter

    # what is live is timed by when it came
    clock = Clock(TICK if span.live else span.info.time_base or TICK)
    records = stack.enter_context(Records(job.record_file, args.force)) if job.records is not None else None
    video = None
    if job.video is not None:
        video = VideoWriter(
            job.video, time_base=clock.unit, rate=span.info.rate, pixel_aspect=span.info.pixel_aspect, sound=_sound(job.source, span),
            from_zero=True if span.live or args.start else None, force=args.force,
        )  # fmt: skip
        stack.enter_context(video)
    return _Sink(drawer, args.threshold, video, clock, records, name)


def _sound(given: str, span: "Span") -> Path | None:
    """The file whose sound the output keeps."""
    if not span.info.audio:
        return None
    if span.live or not Path(given).is_file():
        warn(f"{span.name}: its sound is left out: it is kept of files only", stacklevel=2)
        return None
    return Path(given)


def _tell(out: "Console", job: "Job", line: str) -> None:
    """Print the files that were written, and the time spent."""
    for path in (job.video, job.record_file):
        if path is not None:
            out.print(f"written: {console.shown(path)}", soft_wrap=True)
    out.print(line, soft_wrap=True)


def _counts(frames: "Stream") -> dict[str, int]:
    """The numbers of irregular frames and reconnects, by name."""
    counters = frames.counters
    return {"dropped": counters.dropped, "corrupt, skipped": counters.corrupt, "reconnects": counters.reconnects}


def _odd(frames: "Stream") -> str:
    return ", ".join(f"{count} {name}" for name, count in _counts(frames).items() if count)


def _method(args: argparse.Namespace) -> str:
    # an exported file has decided
    return Path(args.model).stem if args.model.endswith(".onnx") else args.method or METHOD


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"must be seconds, 0 or more, got {text!r}")
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
        raise argparse.ArgumentTypeError(f"must be one of {_known_maps()}, or two similarities such as 0.1:0.3, got {text!r}")
    return limits


def _known_maps() -> str:
    from fastloc.video.temporal import MAPS

    return ", ".join(MAPS)
