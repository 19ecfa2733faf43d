"""File mode: every frame of a file exactly once, in order and at its own time, whether the engine is slower or quicker than decoding.

The file is h264 with varying gaps between frames. Each frame carries its number in its picture, so that a frame's result can be compared
with what was drawn; times are compared with the file's packets.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastloc
from embedded_model import moving_scenes
from embedded_model.moving_scenes import Clip
from video_parts.paced import Nothing, Slow

Row = dict[str, Any]
SIZE = (240, 320)
# seconds that the slow engine takes for a frame; a frame of this size is decoded in a fraction of it
SLOW = 0.01


def run(quick: bool = False, seconds: float = 120.0) -> dict[str, Any]:
    """A row for each engine; `problems` of all of them."""
    clip = moving_scenes.clip(2, 2, SIZE, seconds=2.0 if quick else seconds, varying=True, stamp=True)
    with tempfile.TemporaryDirectory() as folder:
        path = moving_scenes.write(clip, Path(folder) / "clip.mp4")
        times, decoding = packets(path), decoded(path)
        rows = []
        for name, (localizer, every) in engines(quick).items():
            row = streamed(path, clip, times, localizer(), every)
            rows.append({"engine": name, "every": every, **row, "decoding_fps": decoding})
            print(f"{name}: {row['frames']} of {len(clip)} frames, {row['fps']:.0f} a second; {'; '.join(row['problems']) or 'good'}")
    return {"size": list(SIZE), "frames": len(clip), "gaps": sorted(set(moving_scenes.GAPS)), "rows": rows,
            "problems": [f"{row['engine']}: {each}" for row in rows for each in row["problems"]]}  # fmt: skip


def engines(quick: bool) -> dict[str, tuple[Callable[[], Any], int]]:
    """Name -> what makes it, and every how many frames it is asked."""
    from fastloc.engine.localizer import Localizer

    every = {"quicker than decoding": (Nothing, 1), "slower than decoding": (lambda: Slow(Nothing(), SLOW), 1),
             "slower, every third frame": (lambda: Slow(Nothing(), SLOW), 3)}  # fmt: skip
    return every if quick else {**every, "embedded model": (Localizer, 1)}


def streamed(path: Path, clip: Clip, times: list[float], localizer: Any, every: int = 1) -> Row:
    """Stream the file, and report every deviation."""
    indices, stamps, moments, reused = [], [], [], 0
    began = time.perf_counter()
    with fastloc.stream(path, list(clip.texts), localizer, every=every) as stream:
        for found in stream:
            indices.append(found.index)
            stamps.append(moving_scenes.stamped(found.frame.rgb))
            moments.append(found.time)
            reused += found.reused
        counters = stream.counters
    took = time.perf_counter() - began
    off = max((abs(one - other) for one, other in zip(moments, times, strict=False)), default=0.0)
    expected = list(range(len(clip)))
    checks = {
        f"{len(indices)} frames came of {len(expected)}": len(indices) != len(expected),
        "frames came twice": len(set(indices)) < len(indices),
        "frames came out of order": indices != sorted(indices),
        "an index is not the frame's": indices != stamps or stamps != expected[: len(stamps)],
        f"a time is {off:.6f} s off the file's": off > 1e-6,
        f"{counters.captured} captured, {counters.delivered} delivered, {counters.dropped} dropped": (
            (counters.captured, counters.delivered, counters.dropped, counters.corrupt) != (len(expected), len(expected), 0, 0)
        ),
        f"{counters.located} located, {reused} reused": (counters.located, counters.reused) != (-(-len(expected) // every), reused),
    }
    problems = [problem for problem, bad in checks.items() if bad]
    return {"frames": len(indices), "time_off_s": off, "fps": len(indices) / took, "problems": problems}


def packets(path: Path) -> list[float]:
    """Presentation times of a file's frames in seconds from the first one, read off its packets."""
    import av

    with av.open(str(path)) as container:
        found = sorted(packet.pts * packet.time_base for packet in container.demux(video=0) if packet.pts is not None)
    return [float(each - found[0]) for each in found]


def decoded(path: Path) -> float:
    """Frames a second that are decoded, and nothing else."""
    import av

    began = time.perf_counter()
    with av.open(str(path)) as container:
        count = sum(1 for _ in container.decode(video=0))
    return count / (time.perf_counter() - began)


def lines(part: dict[str, Any]) -> list[str]:
    return [f"{row['engine']:28}{row['frames']:>7} frames {row['fps']:9.1f} a second (decoding alone {row['decoding_fps']:.0f}); "
            + ("; ".join(row["problems"]) or "each once, in order, at its time") for row in part["rows"]]  # fmt: skip
