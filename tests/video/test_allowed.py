"""Files that name other files and machines: only the source is read, and no other machine is called. And sizes that take gigabytes."""

import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from clips import coded, colours, write_clip
from fastloc.errors import FastlocWarning, VideoError
from fastloc.video.output.writer import VideoWriter, _playable
from fastloc.video.sources.av_allowed import LOCAL, MAX_PIXELS, Allowed
from fastloc.video.sources.network_source import SCHEMES
from fastloc.video.sources.open_source import open_source
from reading import fails, read, shown
from repo import REPO
from streams import free_port, http_server, sending

SOON = {"timeout": 2.0}


def playlist(*segments: str) -> str:
    lines = [line for segment in segments for line in ("#EXTINF:2,", segment)]
    return "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:2", *lines, "#EXT-X-ENDLIST", ""])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clip") / "x.ts", colours(20), audio="aac").read_bytes()


@pytest.fixture
def server(clip: bytes) -> Iterator[Any]:
    with http_server({"/x.ts": (200, clip)}) as running:
        yield running


# a file's name, and its text, where SECRET and SERVER are a file beside it and an address
LURES = {
    "list of files": ("x.mp4", "ffconcat version 1.0\nfile SECRET\n"),
    "list of addresses": ("x.mp4", "ffconcat version 1.0\nfile SERVER\n"),
    "list called ts": ("x.ts", "ffconcat version 1.0\nfile SECRET\n"),
    "playlist of files": ("x.m3u8", playlist("SECRET")),
    "playlist of addresses": ("x.m3u8", playlist("SERVER")),
    "playlist called mp4": ("x.mp4", playlist("SERVER")),
    "description of a stream": ("x.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50004 RTP/AVP 33\n"),
    "description called mp4": ("x.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 50004 RTP/AVP 33\n"),
    "index of subtitles": ("x.mp4", "# VobSub index file, v7 (do not modify this line!)\nsize: 720x576\n"),
    "DASH": ("x.mpd", "<?xml version='1.0'?><MPD profiles='urn:mpeg:dash'><Period><BaseURL>SERVER</BaseURL></Period></MPD>"),
}


def lure(folder: Path, name: str, address: str, clip: bytes) -> Path:
    (folder / "secret.ts").write_bytes(clip)
    path = folder / LURES[name][0]
    path.write_text(LURES[name][1].replace("SECRET", "secret.ts").replace("SERVER", f"{address}/x.ts"))
    return path


@pytest.mark.parametrize("name", LURES)
def test_a_local_file_names_nothing_else(tmp_path: Path, server: Any, clip: bytes, name: str) -> None:
    path = lure(tmp_path, name, server.address, clip)
    assert fails(path) == f"{path}: must be a video, got a text"
    assert server.asked == []


@pytest.mark.parametrize("name", LURES)
def test_nor_where_sound_is_read_or_a_part_is_looked_at(tmp_path: Path, server: Any, clip: bytes, name: str) -> None:
    path = lure(tmp_path, name, server.address, clip)
    with warnings.catch_warnings(record=True) as seen, VideoWriter(tmp_path / "out.mp4", sound=path) as writer:
        warnings.simplefilter("always")
        writer.write(coded(0))
    message = next(str(each.message) for each in seen if issubclass(each.category, FastlocWarning))
    assert message.startswith(f"{path}: its sound cannot be read")
    assert not _playable(path)
    assert server.asked == []


def test_the_lures_are_ones(tmp_path: Path, server: Any, clip: bytes) -> None:
    """FFmpeg opens the lures without the lists, or the tests above would test nothing."""
    with av.open(str(lure(tmp_path, "list of files", server.address, clip))) as opened:
        assert opened.format.name == "concat" and next(opened.decode(video=0))
    with av.open(str(lure(tmp_path, "playlist of files", server.address, clip))) as opened:
        assert opened.format.name == "hls" and next(opened.decode(video=0))
    with pytest.raises(av.FFmpegError):
        av.open(str(lure(tmp_path, "playlist called mp4", server.address, clip)))


def test_a_format_that_is_named_is_read(tmp_path: Path, server: Any, clip: bytes) -> None:
    """On purpose; but what it names is a file then, not an address."""
    path = lure(tmp_path, "playlist of files", server.address, clip)
    assert shown(read(open_source(path, format="hls"))) == list(range(20))
    with pytest.raises(VideoError):
        open_source(lure(tmp_path, "playlist of addresses", server.address, clip), format="hls")
    assert server.asked == []


def test_a_pattern_of_names_is_one_name(tmp_path: Path) -> None:
    """image2 would read the pictures 001, 002 … instead."""
    for index in range(3):
        Image.fromarray(coded(index)).save(tmp_path / f"{index:03d}.png")
    assert fails(tmp_path / "%03d.png").endswith("no such file")
    Image.fromarray(coded(7)).save(tmp_path / "%03d.png")
    assert "it is a playlist, a list of files or a rare container" in fails(tmp_path / "%03d.png")


@pytest.mark.parametrize("name", ["concat:a.ts|b.ts", "subfile,,start,0,end,9,,:x.ts", "lavfi:testsrc", "data:video,x", "fd:0", "pipe:0"])
def test_names_that_are_protocols_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: bytes, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    for each in ("a.ts", "x.ts"):
        (tmp_path / each).write_bytes(clip)
    assert fails(name).endswith("no such file")
    (tmp_path / name).write_bytes(clip)
    assert shown(read(open_source(name))) == list(range(20))
    # its sound too
    with VideoWriter(tmp_path / "out.mp4", sound=name) as writer:
        writer.write(coded(0))
    with av.open(str(tmp_path / "out.mp4")) as made:
        assert len(made.streams.audio) == 1


def test_a_playlist_from_the_network(tmp_path: Path, server: Any, clip: bytes) -> None:
    """Its segments come from there, and from nowhere else."""
    (tmp_path / "secret.ts").write_bytes(clip)
    server.files |= {
        "/good.m3u8": (200, playlist("x.ts").encode()),
        "/file.m3u8": (200, playlist(f"file://{tmp_path}/secret.ts").encode()),
        "/path.m3u8": (200, playlist(f"{tmp_path}/secret.ts").encode()),
        "/concat.ts": (200, f"ffconcat version 1.0\nfile {tmp_path}/secret.ts\n".encode()),
        "/list.ts": (200, f"ffconcat version 1.0\nfile {server.address}/x.ts\n".encode()),
    }
    source = open_source(f"{server.address}/good.m3u8", **SOON)
    assert shown(read(source)) == list(range(20)) and "/x.ts" in server.asked
    for name in ("file.m3u8", "path.m3u8", "concat.ts", "list.ts"):
        server.asked.clear()
        assert fails(f"{server.address}/{name}", **SOON).startswith(f"{server.address}/{name}: ")
        assert "/x.ts" not in server.asked


def test_a_playlist_over_a_bare_connection(server: Any) -> None:
    for content in (playlist(f"{server.address}/x.ts"), f"ffconcat version 1.0\nfile {server.address}/x.ts\n"):
        with sending(content.encode() * 3) as sender, pytest.raises(VideoError):
            open_source(f"tcp://127.0.0.1:{sender.port}", **SOON)
    assert server.asked == []


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"udp", "rtp", "srt"}))
def test_a_row_has_what_its_scheme_needs(scheme: str) -> None:
    """The protocols beneath it are allowed, so that the connection is tried."""
    message = fails(f"{scheme}://127.0.0.1:{free_port()}/x", **SOON)
    assert message.endswith((": the connection was refused", "and the web server gives no ranges")), message


def test_no_row_lets_files_in() -> None:
    """And each has lists: an empty one would allow everything."""
    assert LOCAL.protocols == ("file",)
    for name, scheme in SCHEMES.items():
        assert scheme.allowed.protocols and not {"file", "concat", "subfile", "data", "pipe", "fd"} & set(scheme.allowed.protocols), name
    lists = {"concat", "concatf", "sdp", "image2", "lavfi", "dash", "webm_dash_manifest", "vobsub", "mpsub", "imf", "tty"}
    for name, allowed in {"file": LOCAL, **{name: scheme.allowed for name, scheme in SCHEMES.items()}}.items():
        assert allowed.demuxers and not lists & set(allowed.demuxers), name
        assert ("hls" in allowed.demuxers) == (name in ("http", "https")), name
    nothing = Allowed((), ()).options()
    assert nothing["protocol_whitelist"] == nothing["format_whitelist"] == "none"


def test_every_place_that_opens_says_what_is_allowed() -> None:
    """Of the package: `av.open` for reading comes with the lists."""
    for path in (REPO / "fastloc").rglob("*.py"):
        for line in path.read_text().splitlines():
            if "av.open(" in line and '"w"' not in line:
                assert ".options()" in line or "options=options" in line, f"{path}: {line}"


def test_a_pipe_a_socket_and_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused at once: reading would wait for ever."""
    os.mkfifo(tmp_path / "x.mp4")
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("s.mp4")
        refused = {"x.mp4": "a pipe; a video is", "s.mp4": "a socket", os.devnull: "a device; give a camera as"}
        messages: dict[str, str] = {}

        def ask() -> None:
            for name in refused:
                messages[name] = fails(name)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(5)
        assert not thread.is_alive(), "it waits"
    for name, why in refused.items():
        assert messages[name].startswith(f"{name}: must be a video file, got {why}")
    assert "no such file; standard input is no source of video" in fails("-")


def test_standard_input(tmp_path: Path) -> None:
    """A file there is one; a pipe is refused."""
    path = write_clip(tmp_path / "x.mkv", colours(3))
    script = "from fastloc.video.sources.open_source import open_source\nprint(len(list(open_source('/dev/stdin').frames())))"
    command = [sys.executable, "-P", "-c", script]
    with path.open("rb") as file:
        assert subprocess.run(command, cwd=REPO, stdin=file, capture_output=True, text=True, check=True).stdout == "3\n"
    ended = subprocess.run(command, cwd=REPO, input=path.read_bytes(), capture_output=True, check=False)
    assert b"/dev/stdin: must be a video file, got a pipe" in ended.stderr


@pytest.mark.parametrize("suffix", [".ts", ".mp4", ".mkv"])
def test_frames_of_too_many_pixels(tmp_path: Path, suffix: str) -> None:
    path = write_clip(tmp_path / f"x{suffix}", colours(2, (96, 128)))
    message = f"{path}: frames must have at most max_pixels = 12,287 pixels, got 128 x 96 = 12,288; raise max_pixels where you trust it"
    assert fails(path, max_pixels=12287) == message
    assert len(read(open_source(path, max_pixels=12288))) == 2
    for wrong in (0, -1, 1.5, True):
        assert "max_pixels must be a whole number, 1 or more" in fails(path, max_pixels=wrong)


def test_frames_that_grow(tmp_path: Path) -> None:
    """A size that comes in the middle is refused by the decoder: those frames are skipped and counted."""
    parts = [write_clip(tmp_path / f"{size[0]}.ts", colours(10, size), options={"bf": "0"}) for size in ((48, 64), (240, 320), (48, 64))]
    path = tmp_path / "x.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert len(read(open_source(path))) == 30
    source = open_source(path, max_pixels=10_000)
    frames = read(source)
    assert [frame.size for frame in frames] == [(48, 64)] * len(frames) and 10 <= len(frames) <= 20 and source.corrupt >= 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells the peak of a process on Linux only")
def test_a_header_that_claims_too_much_takes_no_memory(tmp_path: Path) -> None:
    """A GIF of a kilobyte whose canvas is 11,000 x 11,000: half a gigabyte where it is decoded."""
    path = write_clip(tmp_path / "x.gif", colours(2), pixel_format="rgb8")
    content = bytearray(path.read_bytes())
    content[6:10] = (11_000).to_bytes(2, "little") * 2
    path.write_bytes(content)
    script = f"""
import re, sys
from pathlib import Path
from fastloc.errors import VideoError
from fastloc.video.sources.open_source import open_source
try:
    print(len(list(open_source({str(path)!r}, max_pixels=int(sys.argv[1])).frames())))
except VideoError:
    print("refused")
# the peak that getrusage tells is the parent's, where that was higher
print(int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""

    def run(limit: int) -> tuple[str, int]:
        command = [sys.executable, "-P", "-c", script, str(limit)]
        printed, used = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True).stdout.split()
        return printed, int(used)

    printed, used = run(MAX_PIXELS)
    assert printed == "refused" and used < 250
    printed, used = run(200_000_000)
    assert printed == "2" and used > 450, "the clip has lost its point"
