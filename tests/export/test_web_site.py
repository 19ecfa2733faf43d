"""`fastloc web`'s files and refusals, without a browser."""

import argparse
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from fastloc import FastlocError, Localizer
from fastloc.cli import web as cli_web
from fastloc.errors import TextError
from fastloc.export import web_site


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A folder that looks like one with onnxruntime-web in it."""
    return fake_runtime(tmp_path / "npm")


def fake_runtime(folder: Path, version: str = "1.30.0", names: tuple[str, ...] = web_site.RUNTIME_FILES) -> Path:
    dist = folder / "node_modules" / "onnxruntime-web" / "dist"
    dist.mkdir(parents=True)
    for name in names:
        (dist / name).write_text(f"/*!\n * ONNX Runtime Web v{version}\n */\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def small() -> Localizer:
    return Localizer(size=(16, 24), device="cpu", dtype="float32")


@pytest.mark.slow("exports the page's model")
def test_a_site_holds_the_page_the_model_and_the_vocabulary(small: Localizer, runtime: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    out = tmp_path / "site"
    manifest = web_site.write_site(small, out, ort=runtime, texts=["Cat", "red  car", "cat"])
    # a whole multiple of the input in its proportion
    assert manifest.input.size == (16, 24) and manifest.input.frame == (256, 384)
    assert {file.name for file in out.iterdir()} == {
        *web_site.PAGE_FILES, "site.json", "model.onnx", "vocabulary.json", "vocabulary.bin", "ort", "samples",
    }  # fmt: skip
    assert (out / "vocabulary.bin").stat().st_size == 2 * 192 * 4
    # written again in the same place, and nothing is left beside it
    web_site.write_site(small, out, ort=runtime, texts=["cat"])
    assert (out / "vocabulary.bin").stat().st_size == 192 * 4
    assert {file.name for file in tmp_path.iterdir()} == {"site", "npm"}


def test_a_failure_leaves_the_old_site(small: Localizer, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "site"
    out.mkdir()
    (out / web_site.MARK).write_text("{}")

    def fails(*_: object) -> None:
        raise FastlocError("no such export")

    monkeypatch.setattr(web_site, "export", fails)
    with pytest.raises(FastlocError, match="no such export"):
        web_site.write_site(small, out, ort=runtime)
    assert [file.name for file in out.iterdir()] == [web_site.MARK]
    assert {file.name for file in tmp_path.iterdir()} == {"site", "npm"}


def test_other_folders_are_not_written_over(small: Localizer, runtime: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(FastlocError, match=r"is neither empty nor a page that fastloc wrote"):
            web_site.write_site(small, out, ort=runtime)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_onnxruntime_web_is_found_wherever_it_is_named(runtime: Path) -> None:
    dist = runtime / "node_modules" / "onnxruntime-web" / "dist"
    for place in (runtime, runtime / "node_modules", dist.parent, dist):
        assert web_site.find_runtime(place) == (dist, "1.30.0")


def test_onnxruntime_web_that_will_not_do(tmp_path: Path) -> None:
    with pytest.raises(FastlocError, match=r'onnxruntime-web is not in .*: npm install "onnxruntime-web@>=1\.24 <2"'):
        web_site.find_runtime(tmp_path)
    with pytest.raises(FastlocError, match=r"onnxruntime-web 1\.22\.0 in .* has other files"):
        web_site.find_runtime(fake_runtime(tmp_path / "old", "1.22.0"))
    with pytest.raises(FastlocError, match=r"onnxruntime-web 1\.30\.0 in .* lacks ort-wasm-simd-threaded\.wasm, "):
        web_site.find_runtime(fake_runtime(tmp_path / "part", names=web_site.RUNTIME_FILES[:1]))


def test_names_that_will_not_do(small: Localizer, runtime: Path, tmp_path: Path) -> None:
    with pytest.raises(TextError, match="'cat, dog' has a comma"):
        web_site.write_site(small, tmp_path / "site", ort=runtime, texts=["cat, dog"])
    with pytest.raises(TextError, match="prompt 1 must not be empty"):
        web_site.write_site(small, tmp_path / "site", ort=runtime, texts=["cat", " "])


def test_the_server_gives_types_and_isolation(tmp_path: Path) -> None:
    (tmp_path / "a.mjs").write_text("")
    (tmp_path / "a.wasm").write_text("")
    server = cli_web.serving(tmp_path, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for name, kind in (("a.mjs", "text/javascript"), ("a.wasm", "application/wasm")):
            with urllib.request.urlopen(f"http://{cli_web.HOST}:{server.server_port}/{name}") as answer:
                assert answer.headers["Content-Type"] == kind
                assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    finally:
        server.shutdown()
        server.server_close()


def command(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    cli_web.add(parser)
    return parser.parse_args(words)


def test_a_taken_port_is_reported_before_the_work(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((cli_web.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FastlocError, match=rf"port {port} cannot be served on \(.*\): name another one"):
            cli_web.run(command("-o", str(tmp_path / "site"), "--serve", str(port), "--ort", str(tmp_path)))
    assert not (tmp_path / "site").exists()


def test_names_from_a_file(runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(web_site, "export", lambda *_: seen.append("exported"))
    names = tmp_path / "names.txt"
    names.write_text("\n\n")
    with pytest.raises(FastlocError, match="holds no text"):
        cli_web.run(command("-o", str(tmp_path / "site"), "--texts-file", str(names)))
    with pytest.raises(FastlocError, match=r"cannot be read: .*No such file"):
        cli_web.run(command("-o", str(tmp_path / "site"), "--texts-file", str(tmp_path / "none.txt")))
    assert not seen


@pytest.mark.parametrize("text", ["-1", "http", "70000"])
def test_what_is_no_port(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command(f"--serve={text}")
    assert f"must be a port, 0 to 65535, got '{text}'" in capsys.readouterr().err
