"""The model for devices through the whole chain: exported in 8 bits, run without torch, verified, in a browser, and on a film."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import fastloc
import moving
import quality
from browser import NO_GPU, PACKAGE, Page, chromium, needed, scenes, served
from fastloc import embedded
from fastloc.bench.models import model as bench_model
from fastloc.checkpoints import loading
from fastloc.checkpoints.digests import digest
from fastloc.cli import main
from fastloc.embedded import SAMPLES
from fastloc.errors import ModelError
from fastloc.recipes import RECIPES

NAME = "embedded-device"
REFUSED = ("torch", "torchvision", "open_clip", "onnx", "onnx_ir", "onnxscript", "safetensors", "timm", "scipy", "rich", "cmap")
# a shift of a similarity, a cosine, by weights and activations of 8 bits
EIGHT_BITS = 0.05


@pytest.fixture(scope="module")
def localizer() -> fastloc.Localizer:
    return fastloc.Localizer(NAME, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model in 8 bits with its text tower beside it, as the command line writes them."""
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("device") / "device.onnx"
    assert main(["export", "--model", NAME, "--dtype", "int8", "--size", "dynamic", "-o", str(path)]) == 0
    assert main(["export-text", "--model", NAME, "-o", str(path.with_suffix(".text.onnx"))]) == 0
    return path


def inside(result: fastloc.Result, row: dict[str, object]) -> int:
    """The number of peaks that lie on their thing's mask."""
    mask = np.asarray(Image.open(row["mask"]))  # type: ignore[call-overload]  # a path
    return sum(bool(mask[int(point.y), int(point.x)] == i + 1) for i, point in enumerate(result.points()))


def answers(localizer: fastloc.Localizer, row: dict[str, object]) -> NDArray[np.float32]:
    return localizer(row["picture"], row["texts"]).similarity  # type: ignore[arg-type]  # a path and texts


def test_the_model_for_devices_is_small_and_reads_texts_as_the_first_one() -> None:
    source = loading.load("embedded-device")
    assert source.name == "embedded-device" and source.spec.patch == (8, 8) and source.spec.image == (96, 96)
    assert (embedded.DEVICE / embedded.MODEL.name).stat().st_size <= 2_000_000
    first = loading.load()
    assert source.text.digest == first.text.digest and source.logit_scale == first.logit_scale
    assert source.text.names == first.text.names and source.text.words == first.text.words
    assert not source.calibrations


def test_a_copy_of_its_folder_is_the_same_model(tmp_path: Path) -> None:
    for name in (embedded.CONFIG.name, embedded.MODEL.name):
        (tmp_path / name).write_bytes((embedded.DEVICE / name).read_bytes())
    assert digest(loading.load(str(tmp_path)).weights) == digest(loading.load("embedded-device").weights)


def test_it_is_taken_wherever_a_name_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["locate", str(SAMPLES / "market.webp"), "-t", "cat", "pizza", "--model", NAME, "--json"]) == 0
    out = capsys.readouterr()
    (found,) = json.loads(out.out)["pictures"]
    assert found["model"] == NAME and found["method"] == "gem" and found["grid"] == {"height": 14, "width": 19}
    assert "knows emoji scenes only" in out.err
    loaded = fastloc.load(NAME, method="itsm")
    assert isinstance(loaded, fastloc.Localizer) and loaded.method == "itsm"


def test_it_points_at_most_things_of_the_samples(localizer: fastloc.Localizer) -> None:
    hits = count = 0
    for row in scenes().values():
        hits += inside(localizer(row["picture"], row["texts"]), row)
        count += len(row["texts"])
    assert hits > count / 2, f"{hits} of {count}"


def test_its_record_is_of_the_methods_that_it_has(localizer: fastloc.Localizer) -> None:
    record = json.loads((embedded.DEVICE / embedded.QUALITY.name).read_text(encoding="utf-8"))
    assert list(record["methods"]) == [name for name, _ in quality.variants(localizer, list(RECIPES))]
    assert {"itsm", "grad_cam", "gem (recommended)"} <= set(record["methods"]) and "eclip" not in record["methods"]
    best = max(scores["pointing"] for scores in record["methods"].values())
    assert best >= 0.5 and best >= 10 * record["chance"]


def test_the_benchmark_runs_it_with_its_own_weights() -> None:
    found = bench_model(f"{NAME}@96")
    assert found.trained and found.own_size == 112 and found.size == 96
    assert found.methods(("itsm", "gem", "bi_modal")) == ("itsm", "gem")
    with pytest.raises(ModelError, match="embedded-device must come without a tag, got ':openai'"):
        bench_model(f"{NAME}:openai")


@pytest.mark.slow("an export in 8 bits")
def test_a_file_of_8_bits_runs_without_torch(file: Path, localizer: fastloc.Localizer, tmp_path: Path) -> None:
    row = next(iter(scenes().values()))
    for path in (file, file.with_suffix(".text.onnx")):
        shutil.copy(path, tmp_path)
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({REFUSED!r}))\n"
        "from fastloc.runtime.localizer import OnnxLocalizer\n"
        f"result = OnnxLocalizer({str(tmp_path / file.name)!r}, providers='cpu')({str(row['picture'])!r}, {row['texts']!r})\n"
        "print(result.similarity.tolist())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found, expected = np.array(json.loads(done.stdout)), answers(localizer, row)
    assert found.shape == expected.shape and np.abs(found - expected).max() <= EIGHT_BITS
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.98
    assert file.stat().st_size < 900_000


@pytest.mark.slow("an export in 8 bits")
def test_the_file_verifies(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(file)]) == 0
    assert "computes on this device what it should" in capsys.readouterr().out


@pytest.mark.slow("a real browser")
def test_its_page_answers_as_python_does(localizer: fastloc.Localizer, tmp_path: Path) -> None:
    import torch

    needed()
    from fastloc.export.web_site import write_site

    write_site(localizer, tmp_path / "site", ort=PACKAGE)
    row = next(iter(scenes().values()))
    with served(tmp_path / "site") as url, chromium(tmp_path / "profile", *NO_GPU) as driver:
        page = Page(driver, url)
        assert page.open() == "ready", page.text("error")
        height, width = page.evaluate("(await window.fastloc.ready).frame")
        pixels = np.array(Image.open(row["picture"]).convert("RGB").resize((width, height)))
        found = page.locate(pixels, row["texts"])
        assert page.complaints() == []
    expected, _ = localizer.similarity(torch.from_numpy(pixels)[None], row["texts"])
    assert found.shape == expected[0].shape and np.abs(found - expected[0].numpy()).max() <= EIGHT_BITS


@pytest.mark.slow("an export in 8 bits, and a film")
def test_a_film_is_followed(file: Path) -> None:
    """The thing moves from left to right and back; the peak goes with it."""
    engine = fastloc.OnnxLocalizer(file, providers="cpu")
    found = list(fastloc.stream(moving.frames(), ["red car", "pizza"], engine, rate=moving.RATE))
    assert len(found) == moving.ROUND
    peaks = np.array([each.result.points()[0].x / moving.WIDE for each in found])
    places = np.array([moving.place(index)[0] for index in range(moving.ROUND)])
    assert np.corrcoef(peaks, places)[0, 1] > 0.7
