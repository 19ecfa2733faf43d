"""Connections: opened, lost and opened again, closed while they wait; and nothing secret in any message."""

import io
import itertools
import logging
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from clips import SIZE, colours, index_of, write_clip
from fastloc.errors import VideoError
from fastloc.video.sources.av_allowed import LOCAL
from fastloc.video.sources.av_container import open_container
from fastloc.video.sources.av_errors import reason
from fastloc.video.sources.av_reader import Reader
from fastloc.video.sources.frame import Frame
from fastloc.video.sources.open_source import open_source
from fastloc.video.sources.redact import redact, redact_address
from repo import SUPPORT
from streams import free_port, http_server, multipart, sending

SOON = {"timeout": 5, "backoff": (0.01, 0.05)}
SECRETS = ("s3cret", "t0ken", "adm1n")
# what a server wants to see before it gives anything
QUERY = "?token=t0ken&%74oken=t0ken&user=adm1n"


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """MPEG-TS, 20 frames in 2 seconds, without frames that wait for later ones."""
    return write_clip(tmp_path_factory.mktemp("stream") / "x.ts", colours(20), options={"bf": "0"}).read_bytes()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "x.mp4"
    return write_clip(path, colours(60, (96, 128)), container_options={"movflags": "faststart"}).read_bytes()


def first(source: Any, count: int) -> list[Frame]:
    """So many frames; the source is closed then."""
    frames = list(itertools.islice(source.frames(), count))
    source.close()
    return frames


def in_order(frames: list[Frame]) -> None:
    assert [frame.index for frame in frames] == list(range(len(frames)))
    times = [frame.time for frame in frames]
    assert times == sorted(times) and len(set(times)) == len(times)
    came = [frame.captured for frame in frames]
    assert came == sorted(came)


def test_a_stream_that_breaks_off_and_comes_back(stream: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with sending(stream, stream[: len(stream) // 2], stream) as server:
        source = open_source(f"tcp://adm1n:s3cret@127.0.0.1:{server.port}{QUERY}", **SOON)
        assert source.live and source.info.size == SIZE and source.info.duration is None
        frames = first(source, 45)
    in_order(frames)
    assert source.reconnects == 2 and server.connections == 3
    codes = [index_of(frame.rgb) for frame in frames]
    # where the second one is cut is the coder's matter
    assert codes[:20] == list(range(20)) and codes[20:26] == list(range(6)) and codes[-10:] == sorted(codes[-10:])
    lost = [record.getMessage() for record in caplog.records if record.name == "fastloc.video"]
    assert len([line for line in lost if "lost (" in line]) == 2 == len([line for line in lost if "back after" in line])
    assert_silent("\n".join(lost))


def test_time_goes_on_by_the_clock_while_a_stream_is_away(stream: bytes) -> None:
    with sending(stream) as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", timeout=5, backoff=(0.4, 0.4))
        frames = first(source, 21)
    away = frames[20].captured - frames[19].captured
    assert away >= 0.2 and frames[20].time - frames[19].time == pytest.approx(away, abs=0.05)


def test_a_stream_that_falls_silent(stream: bytes) -> None:
    with sending((stream * 3, "hold"), stream) as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", timeout=1, backoff=(0.01, 0.05))
        frames = first(source, 70)
    in_order(frames)
    assert source.reconnects >= 1 and server.connections >= 2


def test_closing_ends_a_wait_for_data_at_once(stream: bytes) -> None:
    with sending((stream * 3, "hold")) as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", timeout=3)
        frames = source.frames()
        # more than are sent
        took = time_to_end(source, frames, after=50)
        source.close()
    assert took < 2


def test_closing_ends_a_wait_to_try_again(stream: bytes) -> None:
    with sending(stream) as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", timeout=5, backoff=(60, 60))
        assert time_to_end(source, source.frames(), after=20) < 2
    # nor does the thread that reads stay behind
    until = time.monotonic() + 10
    while any(thread.name == "fastloc-read" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_was_skipped_stays_counted(stream: bytes, tmp_path: Path) -> None:
    # one of the packets of a frame in the middle is lost on the way
    packets = [stream[start : start + 188] for start in range(0, len(stream), 188)]
    # of the video, and no frame begins in it
    lost = next(number for number in range(len(packets) // 2, len(packets)) if packets[number][1:3] == b"\x01\x00")
    damaged = b"".join(packets[:lost] + packets[lost + 1 :])
    (tmp_path / "x.ts").write_bytes(damaged)
    alone = open_source(tmp_path / "x.ts")
    count = len(list(alone.frames()))
    assert alone.corrupt == 20 - count > 0
    with sending(damaged, stream) as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", **SOON)
        frames = first(source, count + 10)
    in_order(frames)
    assert source.reconnects == 1 and source.corrupt == alone.corrupt


def test_a_live_stream_is_decoded_without_delay(stream: bytes) -> None:
    with sending(stream) as server:
        source: Any = open_source(f"tcp://127.0.0.1:{server.port}", **SOON)
        # one packet in, one frame out
        assert source._reader._packets == 1
        source.close()


def time_to_end(source: Any, frames: Iterator[Frame], after: int) -> float:
    """Takes `after` frames, waits for another, closes the source from a thread; seconds from then until it ends."""
    assert len(list(itertools.islice(frames, after))) == after
    closed: list[float] = []

    def close() -> None:
        closed.append(time.monotonic())
        source.close()

    threading.Timer(0.2, close).start()
    rest = list(frames)
    assert len(rest) <= 20
    return time.monotonic() - closed[0]


def test_giving_up(stream: bytes) -> None:
    with sending(stream, b"") as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", timeout=5, retries=2, backoff=(0.01, 0.02))
        frames = source.frames()
        got = list(itertools.islice(frames, 20))
        with pytest.raises(VideoError, match=r"tcp://127.0.0.1:\d+: lost after 20 frames \(.*\), and not back after 2 tries"):
            next(frames)
    assert len(got) == 20 and server.connections == 3 and source.reconnects == 0
    with sending(stream) as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", timeout=5, retries=0)
        frames = source.frames()
        # those that wait when it ends are given first
        assert len(list(itertools.islice(frames, 20))) == 20
        with pytest.raises(VideoError, match=r"lost after 20 frames \(it ended\)$"):
            next(frames)


def test_a_connection_that_fails_at_first_is_an_error_at_once() -> None:
    began = time.monotonic()
    with pytest.raises(VideoError, match=r"^rtsp://\*\*\*@127.0.0.1:\d+/x: the connection was refused$"):
        open_source(f"rtsp://adm1n:s3cret@127.0.0.1:{free_port()}/x", backoff=(60, 60))
    with sending((b"", "hold")) as server, pytest.raises(VideoError, match="there was no answer in time"):
        open_source(f"tcp://127.0.0.1:{server.port}", timeout=0.3)
    assert time.monotonic() - began < 20


def test_every_frame_of_a_live_source(stream: bytes) -> None:
    """Every frame arrives where the policy asks for it, however long each one takes."""
    with sending(stream) as server:
        source = open_source(f"tcp://127.0.0.1:{server.port}", live=False, **SOON)
        assert not source.live
        codes = []
        for frame in itertools.islice(source.frames(), 20):
            time.sleep(0.005)
            codes.append(index_of(frame.rgb))
            # what is read ahead does not pile up
            assert source._count <= frame.index + 3  # type: ignore[attr-defined]
        source.close()
    assert codes == list(range(20))


@pytest.mark.parametrize("path", ["/x.mp4", "/break.mp4"])
def test_a_file_on_a_web_server(clip: bytes, path: str) -> None:
    """To its end, also where the connection breaks halfway."""
    with http_server({path: (200, clip)}) as server:
        source = open_source(f"{server.address}{path}{QUERY}", timeout=5)
        frames = list(source.frames())
    assert not source.live and source.info.duration == pytest.approx(6) and source.info.count == 60
    assert [index_of(frame.rgb) for frame in frames] == list(range(60)) and source.corrupt == 0
    assert len(server.asked) == (2 if "break" in path else 1)
    assert source.name == f"{server.address}{path}?***"


@pytest.mark.parametrize("path", ["/gone.mp4", "/hold.mp4"])
def test_a_web_file_that_breaks_off_for_good(clip: bytes, path: str) -> None:
    with http_server({path: (200, clip)}) as server:
        source = open_source(f"{server.address}{path}{QUERY}", timeout=1, options={"reconnect_delay_max": "0"})
        got: list[Frame] = []
        with pytest.raises(VideoError, match=rf"{path}\?\*\*\*: broke off after \d+ frames: ") as raised:
            got.extend(source.frames())
    assert 3 < len(got) < 60
    assert_silent(error_line(raised.value))


def test_a_stream_from_a_web_server(stream: bytes) -> None:
    with http_server({"/stream.ts": (200, stream)}) as server:
        source = open_source(f"{server.address}/stream.ts", **SOON)
        frames = first(source, 30)
    in_order(frames)
    assert source.live and source.info.duration is None and source.reconnects == 1


def test_a_camera_with_a_web_server() -> None:
    stills = []
    for picture in colours(30):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "jpeg", quality=95)
        stills.append(file.getvalue())
    with http_server({"/stream.mjpeg": (200, multipart(stills))}) as server:
        source = open_source(f"{server.address}/stream.mjpeg", **SOON)
        frames = first(source, 20)
    in_order(frames)
    assert source.live and [index_of(frame.rgb) for frame in frames] == list(range(20))


def test_a_web_file_at_its_own_pace(clip: bytes) -> None:
    with http_server({"/x.mp4": (200, clip)}) as server:
        source = open_source(f"{server.address}/x.mp4", live=True, loop=True, timeout=5)
        began = time.monotonic()
        frames = first(source, 4)
    assert source.live and all(frame.captured >= began + frame.time for frame in frames)


RTSP = """
import sys
sys.path.insert(0, {tests!r})
import time, av
from fractions import Fraction
from clips import coded
for _ in range(200):
    try:
        with av.open({address!r}, "w", format="rtsp", options={{"rtsp_transport": "tcp"}}) as output:
            video = output.add_stream("libx264", rate=25, options={{"preset": "ultrafast", "tune": "zerolatency", "g": "5"}})
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for index in range(60):
                frame = av.VideoFrame.from_ndarray(coded(index), format="rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                output.mux(video.encode(frame))
                time.sleep(0.01)
            output.mux(video.encode(None))
        break
    except (av.error.ConnectionRefusedError, av.error.BrokenPipeError, av.error.ConnectionResetError):
        time.sleep(0.02)
"""


def test_rtsp() -> None:
    """FFmpeg's own RTSP listens, and another process sends."""
    address = f"rtsp://127.0.0.1:{free_port()}/live"
    script = RTSP.format(tests=str(SUPPORT), address=address)
    with subprocess.Popen([sys.executable, "-P", "-c", script], stderr=subprocess.PIPE) as sender:
        source = open_source(address, timeout=10, options={"rtsp_flags": "listen", "listen_timeout": "10"})
        frames = first(source, 30)
        sender.kill()
    in_order(frames)
    codes = [index_of(frame.rgb) for frame in frames]
    assert source.live and codes == list(range(codes[0], codes[0] + 30))
    assert frames[-1].time - frames[1].time == pytest.approx(28 / 25, abs=0.02)


def assert_silent(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text, (secret, text)


def error_line(error: BaseException) -> str:
    """Everything that a traceback shows, causes and contexts too."""
    assert error.__context__ is None or error.__suppress_context__
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 418, 429, 500, 200])
def test_no_secret_in_what_a_server_answers(status: int) -> None:
    with http_server({"/x.mp4": (status, b"no video at all" * 100)}) as server:
        address = server.address.replace("//", "//adm1n:s3cret@") + "/x.mp4" + QUERY
        # the server did see them
        with pytest.raises(VideoError) as raised:
            open_source(address, timeout=5)
        assert server.asked and all("t0ken" in path for path in server.asked)
    message = str(raised.value)
    assert message.startswith(server.address.replace("//", "//***@") + "/x.mp4?***: ")
    assert status == 200 or "the server" in message
    assert_silent(error_line(raised.value))


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://adm1n:s3cret@127.0.0.1:1/live?token=t0ken",
        "rtsp://adm1n:s3c%40s3cret@127.0.0.1:1/live",
        "rtsp://adm1n:s3/cret/s3cret@127.0.0.1:1/",
        "rtsp://127.0.0.1:1/user=adm1n_password=s3cret_channel=1.sdp",
        "http://127.0.0.1:1/a/rtsp%3A%2F%2Fadm1n%3As3cret%40host/x#key=t0ken",
        "rstp://adm1n:s3cret@127.0.0.1/live",
        "srt://127.0.0.1:1?passphrase=s3cret",
        "rtmp://adm1n:s3cret@127.0.0.1:1/app/x?sig=t0ken",
        "https://adm1n:s3cret@127.0.0.1:1/x.m3u8?X-Amz-Signature=t0ken",
        "tcp://adm1n:s3cret@no-such-host.invalid:1",
        "adm1n:s3cret@127.0.0.1/live",
        "rtsp:/adm1n:s3cret@127.0.0.1/live",
    ],
)
def test_no_secret_in_any_error(address: str) -> None:
    with pytest.raises(VideoError) as raised:
        open_source(address, **({"timeout": 0.5} if "://" in address else {}))
    assert_silent(error_line(raised.value))
    assert "127.0.0.1" in str(raised.value) or "host" in str(raised.value)


def test_no_secret_in_a_source(stream: bytes, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with sending(stream, b"") as server:
        source = open_source(f"tcp://adm1n:s3cret@127.0.0.1:{server.port}{QUERY}", retries=1, **SOON)
        assert_silent(repr(source) + source.name + repr(source.info) + repr(vars(source)))
        with pytest.raises(VideoError) as raised:
            list(source.frames())
    assert_silent(error_line(raised.value) + caplog.text + capfd.readouterr().err)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://admin:pw@10.0.0.7:554/ch1", "rtsp://***@10.0.0.7:554/ch1"),
        ("rtsp://admin@10.0.0.7/ch1", "rtsp://***@10.0.0.7/ch1"),
        ("rtsp://admin:p@ss@10.0.0.7/ch1", "rtsp://***@10.0.0.7/ch1"),
        ("http://host/a@2x.mp4", "http://host/a@2x.mp4"),
        ("http://host:80/a:b@2x.mp4", "http://host:80/a:b@2x.mp4"),
        ("http://host/x.m3u8?sig=1&v=2#t", "http://host/x.m3u8?***"),
        ("http://host/x#token=1", "http://host/x#***"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://u:p@[fe80::1]/x", "http://***@[fe80::1]/x"),
        ("rtsp://host/user=a&password=b&channel=1", "rtsp://host/user=***"),
        ("C:\\clips\\a.mp4", "C:\\clips\\a.mp4"),
        ("clips/a@b.mp4", "clips/a@b.mp4"),
    ],
)
def test_what_is_shown_of_an_address(address: str, shown: str) -> None:
    assert redact_address(address) == shown
    assert redact(f"cannot open '{address}' now") == f"cannot open '{shown}' now"


def test_reasons_hold_no_name() -> None:
    error = ConnectionRefusedError(111, "no", "rtsp://adm1n:s3cret@host")
    assert reason(error) == "the connection was refused"
    assert reason(OSError(77, "odd", "rtsp://adm1n:s3cret@host")) == "odd"


def test_what_has_no_end_cannot_loop(stream: bytes) -> None:
    with sending(stream) as server, pytest.raises(VideoError, match="has no end, so it cannot loop"):
        open_source(f"tcp://127.0.0.1:{server.port}", loop=True, **SOON)


def test_packets_without_a_picture(tmp_path: Path) -> None:
    """A stream that is joined long before its next key frame."""
    path = write_clip(tmp_path / "x.mkv", colours(30), gop=30)
    with av.open(str(path)) as container:
        data = next(bytes(packet) for packet in container.demux(container.streams.video[0]))
    path.write_bytes(path.read_bytes().replace(data, bytes(len(data))))
    with pytest.raises(VideoError, match="cam: packets come, but no picture within 1e-09 s"):
        Reader("cam", lambda: open_container("cam", str(path), LOCAL), quick=True, patience=1e-9)
