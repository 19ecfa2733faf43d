"""The page that `fastloc web` writes, in a real browser: the same similarities as in Python, and what people see of them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import family_folders
import hierarchical_towers
from browser import NO_GPU, PACKAGE, SOFTWARE_GPU, Page, chromium, needed, scenes, served
from fastloc import Localizer
from fastloc.cli import web
from fastloc.imaging import heatmaps
from fastloc.imaging.geometry import fit
from fastloc.onnx_file.golden import picture

pytestmark = pytest.mark.slow("a real browser")

# largest difference of a similarity, a cosine, between browser and Python
TOLERANCE = 1e-3
VOCABULARIES = (["cat"], ["cat", "pizza", "red car"], ["owl", "bicycle", "sunflower", "butterfly", "green balloon", "traffic light", "dog"])
READOUTS = (
    {"order": "grid", "logit_scale": 40.0, "reverse": False},
    {"order": "grid", "logit_scale": 40.0, "reverse": True},
    {"order": "picture", "logit_scale": 40.0, "reverse": False},
    {"order": "softmax", "logit_scale": 40.0, "reverse": False},
    {"order": "softmax-input", "logit_scale": 40.0, "reverse": False},
    {"order": "softmax-grid", "logit_scale": 40.0, "reverse": False},
    {"order": "none", "logit_scale": 40.0, "reverse": False},
)


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def site(localizer: Localizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    needed()
    pytest.importorskip("onnxruntime")
    from fastloc.export.web_site import write_site

    folder = tmp_path_factory.mktemp("web") / "site"
    write_site(localizer, folder, ort=PACKAGE)
    return folder


@pytest.fixture(scope="module")
def page(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(site) as url, chromium(tmp_path_factory.mktemp("profile"), *NO_GPU) as driver:
        yield Page(driver, url)


@pytest.fixture
def opened(page: Page) -> Page:
    """The page, ready; loaded anew only where a test went elsewhere, which takes seconds."""
    if not page.driver.current_url.startswith(page.url):
        assert page.open() == "ready", page.text("error")
    return page


def frame(seed: int, size: list[int]) -> NDArray[np.uint8]:
    """A picture of the model's frame: a scene for even seeds, noise for odd ones."""
    if seed % 2:
        return picture(seed, (size[0], size[1]))
    row = list(scenes().values())[seed // 2]
    with Image.open(row["picture"]) as scene:
        return np.array(scene.convert("RGB").resize(size[::-1]))


def in_python(site: Path, frames: NDArray[np.uint8], names: list[str]) -> NDArray[np.float32]:
    """The similarity [T, h, w] by onnxruntime in Python, from the same files."""
    import onnxruntime

    listed = json.loads((site / "vocabulary.json").read_text(encoding="utf-8"))
    table = np.fromfile(site / "vocabulary.bin", "<f4").reshape(len(listed["names"]), listed["embed"])
    texts = table[[listed["names"].index(name) for name in names]]
    session = onnxruntime.InferenceSession(site / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["similarity"], {"frames": frames[None], "text_embeddings": texts})
    return np.asarray(found)[0]


def off(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    assert found.shape == expected.shape, f"shapes {found.shape} and {expected.shape}"
    return float(np.abs(found - expected).max())


def test_the_page_starts_with_a_sample_and_without_a_complaint(opened: Page) -> None:
    first = next(iter(scenes().values()))
    opened.shown(first["texts"])
    assert opened.complaints() == []
    assert opened.text("error") == ""
    cores = opened.evaluate("navigator.hardwareConcurrency")
    assert f"{len(first['texts'])} names in " in opened.text("status")
    # the server isolates the page, so that it may use threads
    assert ("WebAssembly, 1 thread" if cores == 1 else f"WebAssembly, {min(cores, 4)} threads") in opened.text("status")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("names", VOCABULARIES, ids=lambda names: f"{len(names)} names")
def test_similarities_are_python_s(opened: Page, site: Path, localizer: Localizer, names: list[str], seed: int) -> None:
    pixels = frame(seed, opened.evaluate("(await window.fastloc.ready).frame"))
    found = opened.locate(pixels, names)
    error = off(found, in_python(site, pixels, names))
    assert error <= TOLERANCE, f"off from onnxruntime in Python by {error:.1e}"
    engine, _ = localizer.similarity(torch.from_numpy(pixels)[None], names)
    error = off(found, engine[0].numpy())
    assert error <= TOLERANCE, f"off from PyTorch by {error:.1e}"


def test_alpha_is_not_read(opened: Page) -> None:
    pixels = frame(0, opened.evaluate("(await window.fastloc.ready).frame"))
    alpha = np.random.default_rng(0).integers(0, 256, (*pixels.shape[:2], 1), np.uint8)
    assert off(opened.locate(np.concatenate([pixels, alpha], -1), ["cat"]), opened.locate(pixels, ["cat"])) == 0


def test_without_threads(site: Path, localizer: Localizer, page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a server that does not isolate pages."""
    monkeypatch.setattr(web, "ISOLATION", {})
    with served(site) as url:
        plain = Page(page.driver, url)
        assert plain.open() == "ready", plain.text("error")
        assert "WebAssembly, 1 thread" in plain.text("status")
        pixels = frame(2, plain.evaluate("(await window.fastloc.ready).frame"))
        error = off(plain.locate(pixels, ["bus", "dog"]), in_python(site, pixels, ["bus", "dog"]))
    assert error <= TOLERANCE, f"off by {error:.1e}"


@pytest.mark.parametrize("readout", READOUTS, ids=lambda row: row["order"] + (" reversed" if row["reverse"] else ""))
@pytest.mark.parametrize("count", [1, 3])
def test_heatmaps_are_python_s(opened: Page, readout: dict[str, object], count: int) -> None:
    grid, size = (5, 4), (33, 60)
    similarity = np.random.default_rng(count).standard_normal((count, *grid)).astype(np.float32)
    # a map that says nothing
    similarity[0, :] = similarity[0, 0, 0] if count > 1 else similarity[0]
    found = opened.evaluate(
        """{
            const { heatmaps } = await import("./maps.js");
            return heatmaps(Float32Array.from(arguments[0]), arguments[1], arguments[2], arguments[3], [8, 8]).map((map) => [...map]);
        }""",
        similarity.ravel().tolist(), list(similarity.shape), list(size), readout,
    )  # fmt: skip
    expected = heatmaps.heatmaps(similarity, fit(size, (40, 32), 8), **readout)
    error = off(np.asarray(found, np.float32).reshape(expected.shape), expected)
    assert error <= 1e-5, f"off by {error:.1e}"


@pytest.mark.parametrize("name", list(scenes()))
def test_peaks_lie_on_the_things(opened: Page, localizer: Localizer, name: str) -> None:
    """The page's peaks lie on the things of a scene for every text whose engine's peak, stretched alike, does."""
    row = scenes()[name]
    opened.driver.find_element("css selector", f"button[data-sample={name}]").click()
    peaks = opened.shown(row["texts"])
    with Image.open(row["mask"]) as mask:
        things = np.asarray(mask)
    with Image.open(row["picture"]) as scene:
        engine = localizer(scene.convert("RGB").resize((scene.width, scene.width)), row["texts"])
    hits = 0
    for index, (text, point) in enumerate(zip(row["texts"], engine.points(), strict=True), start=1):
        x, y = peaks[text]
        on_it = things[int(y * things.shape[0]), int(x * things.shape[1])] == index
        by_engine = things[int(point.y / scene.width * things.shape[0]), point.x] == index
        assert on_it or not by_engine, f"{text!r} peaks at {x:.2f}, {y:.2f}, which is not on it"
        hits += on_it
    assert 2 * hits >= len(row["texts"]), f"{hits} of {len(row['texts'])} peaks lie on their things"


def test_typed_words_are_found(opened: Page) -> None:
    opened.driver.find_element("css selector", "button[data-sample=market]").click()
    opened.shown(scenes()["market"]["texts"])
    opened.type("Red  car , pizza,pizza", "\ue007")
    peaks = opened.shown(["Red  car", "pizza"])
    row = scenes()["market"]
    with Image.open(row["mask"]) as mask:
        things = np.asarray(mask)
    for name, text in (("Red  car", "red car"), ("pizza", "pizza")):
        x, y = peaks[name]
        assert things[int(y * things.shape[0]), int(x * things.shape[1])] == row["texts"].index(text) + 1
    ring = opened.driver.execute_script("const { left, top } = document.querySelector('.ring').style; return [left, top]")
    assert [float(each.rstrip("%")) / 100 for each in ring] == pytest.approx(peaks["Red  car"], abs=1e-4)
    assert "2 names in" in opened.text("status")


def test_an_unknown_word_is_reported_and_the_others_are_drawn(opened: Page) -> None:
    opened.type("cat, peeza, xyzzy", "\ue007")
    opened.shown(["cat"])
    assert "“peeza” is not among the 364 names of this model. Near it: pizza" in opened.text("error")
    assert "“xyzzy” is not among the 364 names of this model." in opened.text("error")
    opened.type("\ue007")
    opened.wait("return document.querySelectorAll('figure').length === 0")
    assert "Say what to look for" in opened.text("error")


def test_words_are_completed_by_keyboard(opened: Page) -> None:
    opened.type("cat, traf", "\ue015")
    prompts = opened.element("prompts")
    assert prompts.get_attribute("aria-expanded") == "true"
    chosen = opened.element(prompts.get_attribute("aria-activedescendant"))
    assert chosen.text == "traffic light"
    prompts.send_keys("\ue007")
    assert prompts.get_attribute("value") == "cat, traffic light"
    assert prompts.get_attribute("aria-expanded") == "false"
    opened.shown(["cat", "traffic light"])


def test_a_picture_of_one_s_own(opened: Page, tmp_path: Path) -> None:
    file = tmp_path / "mine.png"
    with Image.open(scenes()["street"]["picture"]) as scene:
        scene.save(file)
    opened.type("dog, bus", "\ue007")
    opened.shown(["dog", "bus"])
    opened.element("file").send_keys(str(file))
    pressed = "return document.querySelectorAll('.samples button[aria-pressed=true]').length === 0"
    opened.wait(pressed)
    x, y = opened.shown(["dog", "bus"])["dog"]
    with Image.open(scenes()["street"]["mask"]) as mask:
        things = np.asarray(mask)
    assert things[int(y * things.shape[0]), int(x * things.shape[1])] == scenes()["street"]["texts"].index("dog") + 1


def test_what_is_no_picture_is_reported(opened: Page, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a picture")
    opened.element("file").send_keys(str(file))
    opened.wait("return document.getElementById('error').textContent !== ''")
    assert opened.text("error") == "notes.txt is not a picture that this browser can read (its type is text/plain)."


def test_calls_are_refused_in_words(opened: Page) -> None:
    pixels = frame(0, opened.evaluate("(await window.fastloc.ready).frame"))
    with pytest.raises(RuntimeError, match=r"“peeza” is not among the 364 names"):
        opened.locate(pixels, ["peeza"])
    with pytest.raises(RuntimeError, match=r"names must hold at least one name, got none"):
        opened.locate(pixels, [])
    with pytest.raises(RuntimeError, match=r"The picture must be \d+ x \d+ pixels of 3 \(RGB\) or 4 bytes \(RGBA\), got 96 bytes"):
        opened.locate(pixels.ravel()[:96], ["cat"])


def test_a_phone_s_width_and_dark_colours(opened: Page) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    light = opened.driver.execute_script(background)
    try:
        features = [{"name": "prefers-color-scheme", "value": "dark"}]
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        assert opened.driver.execute_script(background) != light
        metrics = {"width": 340, "height": 700, "deviceScaleFactor": 1, "mobile": True}
        opened.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert opened.driver.execute_script("return document.documentElement.scrollWidth") <= 340
    finally:
        opened.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        opened.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_no_picture_yet(page: Page, site: Path, tmp_path: Path) -> None:
    """A model without samples begins with an empty page."""
    facts = json.loads((site / "site.json").read_text(encoding="utf-8"))
    with served(changed(site, tmp_path, "site.json", json.dumps({**facts, "samples": []}))) as url:
        bare = Page(page.driver, url)
        assert bare.open() == "ready"
        bare.type("cat", "\ue007")
        bare.wait("return document.getElementById('error').textContent !== ''")
        assert bare.text("error").startswith("There is no picture yet")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.onnx", None, "model.onnx could not be fetched (HTTP 404)"),
        ("model.onnx", "not a model", "WebAssembly is not used: Can't create a session"),
        ("site.json", "{", "site.json is damaged"),
        ("vocabulary.bin", "1234", "vocabulary.bin is not as long as vocabulary.json says"),
        ("vocabulary.json", '{"names": ["cat"], "embed": 192, "tower": "other"}', "made by the text tower of another model"),
    ],
)
def test_a_damaged_site_is_reported(page: Page, site: Path, tmp_path: Path, file: str, content: str | None, message: str) -> None:
    with served(changed(site, tmp_path, file, content)) as url:
        damaged = Page(page.driver, url)
        assert damaged.open() == "failed"
        assert damaged.text("error").startswith("The model could not be loaded: ")
        assert message in damaged.text("error")


def changed(site: Path, folder: Path, name: str, content: str | None) -> Path:
    """The site with one file of another content, or without it."""
    for file in site.iterdir():
        (folder / file.name).symlink_to(file)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_an_unknown_provider_is_reported(page: Page) -> None:
    assert page.open("?provider=cuda") == "failed"
    assert "this page knows webgpu and wasm" in page.text("error")


def test_a_provider_that_computes_something_else_is_not_used(page: Page, site: Path, tmp_path: Path) -> None:
    facts = json.loads((site / "site.json").read_text(encoding="utf-8"))
    facts["check"]["similarity"][7] += 0.02
    with served(changed(site, tmp_path, "site.json", json.dumps(facts))) as url:
        wrong = Page(page.driver, url)
        assert wrong.open() == "failed"
        message = "WebAssembly is not used: it computes something else than it should, off by 0.02 where 0.001 is allowed"
        assert message in wrong.text("error")


def test_webgpu_in_software(site: Path, tmp_path: Path) -> None:
    """The whole way through WebGPU, computed by the CPU: slow, and the same numbers."""
    facts = json.loads((site / "site.json").read_text(encoding="utf-8"))
    folder = tmp_path / "site"
    folder.mkdir()
    # a sample would be one slow run more
    changed(site, folder, "site.json", json.dumps({**facts, "samples": []}))
    with served(folder) as url, chromium(tmp_path / "profile", *SOFTWARE_GPU) as driver:
        page = Page(driver, url)
        driver.get(f"{url}/style.css")
        if not page.evaluate("(await navigator.gpu?.requestAdapter()) != null"):
            pytest.skip("this Chromium has no WebGPU adapter in software")
        # what it said of that page, which has no icon
        page.complaints()
        assert page.open("?provider=webgpu") == "ready", page.text("error")
        assert page.text("status") == "Ready on WebGPU"
        assert page.complaints() == []
        # the page's own check: the engine's similarities of a known picture
        error = page.evaluate("(await window.fastloc.ready).deviation")
    assert error <= TOLERANCE, f"off by {error:.1e}"


def test_a_model_without_a_class_token_and_with_other_pixels(tmp_path: Path) -> None:
    """SigLIP's preprocessing is in the graph: the page opens only where its own check computes what Python does."""
    needed()
    from fastloc.export.web_site import write_site

    folder = family_folders.folder(tmp_path / "model", "siglip", layers=3)
    small = Localizer(str(folder), method="gem", blocks=2, size=56, device="cpu", dtype="float32")
    manifest = write_site(small, tmp_path / "site", ort=PACKAGE, texts=("cat", "red car", "dog"))
    assert (manifest.model.mean, manifest.model.interpolation) == ((0.5,) * 3, "bilinear")
    with served(tmp_path / "site") as url, chromium(tmp_path / "profile", *NO_GPU) as driver:
        assert Page(driver, url).open() == "ready"


@pytest.mark.parametrize(("family", "method"), [("FastViT", "naclip"), ("ConvNeXt", "itsm")])
def test_towers_whose_grid_shrinks(family: str, method: str, tmp_path: Path) -> None:
    """Depthwise convolutions and the attention of a last stage: the page opens only where its own check computes what Python does."""
    needed()
    from fastloc.export.web_site import write_site

    with hierarchical_towers.narrow_sizes(family):
        model = str(hierarchical_towers.folder(tmp_path / "model", family))
        small = Localizer(model, method=method, size=64, device="cpu", dtype="float32")
    assert write_site(small, tmp_path / "site", ort=PACKAGE, texts=("cat", "red car", "dog")).model.tower == "hierarchical"
    with served(tmp_path / "site") as url, chromium(tmp_path / "profile", *NO_GPU) as driver:
        assert Page(driver, url).open() == "ready"
