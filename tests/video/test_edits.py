"""Videos with random bytes changed, read and written again: frames, or one line; never another error, and never the end of the process."""

import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import pytest

from clips import colours, write_clip
from repo import REPO

TENTH = Fraction(1, 10)
EDITS = 30

SCRIPT = """
    import sys, warnings
    from pathlib import Path
    import numpy as np
    from fastloc.errors import FastlocError
    from fastloc.video.output.writer import VideoWriter
    from fastloc.video.sources.open_source import open_source
    warnings.simplefilter("ignore")
    folder, rng, count = Path(sys.argv[1]), np.random.default_rng(int(sys.argv[2])), 0
    clips = sorted(folder.glob("in*"))
    for index in range(int(sys.argv[3])):
        clip = clips[index % len(clips)]
        content = bytearray(clip.read_bytes())
        # half of them in the headers
        reach = len(content) if rng.random() < 0.5 else min(len(content), 1500)
        for at in rng.integers(0, reach, int(rng.integers(1, 20))):
            content[at] = int(rng.integers(0, 256))
        edited, out = folder / f"edited{clip.suffix}", folder / ("out" + (".mp4", ".mkv", ".webm")[index // len(clips) % 3])
        edited.write_bytes(content)
        try:
            source = open_source(edited)
            known = {name: getattr(source.info, name) for name in ("time_base", "rate", "pixel_aspect")}
            with VideoWriter(out, sound=edited, force=True, **known) as video:
                for frame in source.frames():
                    video.write(frame.rgb, frame.pts)
                    count += 1
        except FastlocError as error:
            assert len(str(error).splitlines()) == 1, error
        edited.unlink()
    print(count)
"""


@pytest.mark.slow("hundreds of edited videos", quick=2)
@pytest.mark.parametrize("seed", range(8))
def test_random_edits(tmp_path: Path, seed: int) -> None:
    for suffix, audio, more in ((".mp4", "aac", {}), (".mkv", "opus", {}), (".ts", "aac", {}), (".flv", "aac", {}), (".webm", "opus", {}),
                                (".avi", "pcm", {"time_base": TENTH}), (".gif", None, {"pixel_format": "rgb8"})):  # fmt: skip
        write_clip(tmp_path / f"in{suffix}", colours(8), audio=audio, **more)
    command = [sys.executable, "-P", "-c", textwrap.dedent(SCRIPT), str(tmp_path), str(seed), str(EDITS)]
    ended = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, f"{ended.returncode}: {ended.stderr[-2000:]}"
    assert int(ended.stdout) > EDITS, "most of them still hold frames"
