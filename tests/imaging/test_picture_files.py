"""Bytes of pictures: files, pipes that were given on purpose, open files and addresses; everything else is refused at once."""

from __future__ import annotations

import http.server
import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastloc.errors import ImageError
from fastloc.imaging import images, picture_files

COLOUR = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


def encoded(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(COLOUR).save(buffer, kind)
    return buffer.getvalue()


def same(picture: Image.Image) -> bool:
    return bool((np.asarray(picture) == COLOUR).all())


@pytest.mark.parametrize("wrap", [io.BytesIO, bytearray, memoryview])
def test_bytes_in_any_wrapping(wrap: type) -> None:
    assert same(images.load(wrap(encoded())))


def test_an_open_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded())
    with (tmp_path / "a.png").open("rb") as file:
        assert same(images.load(file)) and not file.closed
    with (tmp_path / "a.png").open(encoding="latin-1") as file, pytest.raises(ImageError, match="binary mode"):
        images.load(file)


# --- what is no regular file


def test_a_named_pipe_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"a\.png: must be a regular file, got a named pipe; give it as standard input"):
        images.load(tmp_path / "a.png")


def test_devices_and_sockets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=f"{os.devnull}: must be a regular file, got a device"):
        images.load(os.devnull)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.png"))
        with pytest.raises(ImageError, match="is a socket"):
            images.load(tmp_path / "s.png")


def test_a_pipe_of_this_process_is_read() -> None:
    # what a shell's <(command) becomes
    reader, writer = os.pipe()
    threading.Thread(target=lambda: (os.write(writer, encoded()), os.close(writer))).start()
    assert same(images.load(f"/dev/fd/{reader}"))
    os.close(reader)


def test_what_does_not_say_its_size_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_files, "MAX_BYTES", 100)
    with pytest.raises(ImageError, match="at most 100 bytes"):
        images.load(io.BytesIO(encoded()))


# --- formats


def test_a_postscript_file_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "RAN"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {ran}\necho 10.02.1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "photo.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(ImageError, match="is not a picture"):
        images.load(tmp_path / "photo.png")
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["PDF", "PCX", "SGI", "IM", "ICNS"])
def test_readers_that_nobody_needs_are_not_asked(kind: str) -> None:
    with pytest.raises(ImageError, match="is not a picture"):
        images.load(encoded(kind))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "QOI", "TGA", "PPM"])
def test_lossless_formats_are_read(kind: str) -> None:
    buffer = io.BytesIO()
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    Image.fromarray(COLOUR).save(buffer, kind)
    assert same(images.load(buffer.getvalue()))


def test_heic_is_read_with_its_extra_and_named_without(monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 30))).save(buffer)
    assert np.abs(np.asarray(images.load(buffer.getvalue())).astype(int) - (200, 30, 30)).max() < 12
    monkeypatch.setattr("fastloc.imaging.picture_formats.find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r'phone\.heic: HEIC needs pillow-heif: pip install "fastloc\[heif\]"'):
        images.load(buffer.getvalue(), "phone.heic")


# --- addresses


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/a.png":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encoded())
        elif self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif self.path == "/large":
            self.send_response(200)
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
        else:
            self.send_error(404)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_an_address_is_fetched(site: str) -> None:
    assert same(images.load(f"{site}/a.png"))


@pytest.mark.parametrize(("path", "words"), [("/gone", "404"), ("/away", "file:///etc/passwd"), ("/large", "at most")])
def test_addresses_that_lead_nowhere(site: str, path: str, words: str) -> None:
    with pytest.raises(ImageError, match=words) as caught:
        images.load(site + path)
    assert site + path in str(caught.value)


def test_an_address_that_nobody_answers_keeps_its_name() -> None:
    with pytest.raises(ImageError, match=r"https://127\.0\.0\.1:9/a\.jpg: cannot be fetched \(.*refused"):
        images.load("https://127.0.0.1:9/a.jpg")


def test_a_jpeg_of_many_passes_is_not_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (600, 600), "grey").save(buffer, "JPEG", progressive=True)
    whole = buffer.getvalue()
    start = whole.rindex(b"\xff\xda")
    assert images.load(whole).size == (600, 600)
    with pytest.raises(ImageError, match=r"must be a JPEG of at most 100 scans, got 1\d\d\d"):
        images.load(whole[:start] + 1000 * whole[start:-2] + whole[-2:])
