"""A model as a static web page: pictures in, heatmaps out, all in the browser. `write_site` writes the folder.

The model takes uint8 frames of one size and runs in onnxruntime-web; texts are a vocabulary encoded in advance. The page's own files are
in `web/` beside this one: plain modules, copied unchanged.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastloc.embedded import FOLDERS, SAMPLES
from fastloc.engine.localizer import Localizer
from fastloc.errors import FastlocError, TextError
from fastloc.export.options import Options
from fastloc.export.to_onnx import export
from fastloc.onnx_file.manifest import Manifest
from fastloc.text.prompts import checked
from fastloc.utils.atomic_write import replacing_folder
from fastloc.utils.system import files

__all__ = ["RUNTIME", "find_runtime", "write_site"]

PAGE = Path(__file__).parent / "web"
PAGE_FILES = ("index.html", "style.css", "app.js", "model.js", "maps.js", "tiles.js", "words.js")
# the versions of onnxruntime-web whose files have these names; the second pair is fetched where there is a GPU
RUNTIME = "onnxruntime-web@>=1.24 <2"
RUNTIME_FILES = (
    "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.bundle.min.mjs", "ort-wasm-simd-threaded.asyncify.wasm",
)  # fmt: skip
OLDEST = (1, 24)
INSTALL = f'npm install "{RUNTIME}"'
# the graph resizes frames as Pillow does, each browser differently: so a small input gets a larger frame, resized in the graph
FRAME = 384
# attention as plain products: as fast in WebAssembly as onnxruntime's own operator (within 2 % at 145 and 785 tokens), whose WebGPU
# kernel is silently wrong on GPUs of unusual subgroup sizes (onnxruntime-web 1.24 and 1.30, subgroups of 4)
SPELLING = "decomposed"
# the largest error of a similarity, a cosine, at which the page accepts its backend
TOLERANCE = 1e-3
COLOURS = "turbo"
NOTE = "This model knows drawn emoji scenes, not photographs."
# the file that marks a folder as a site, which may be overwritten
MARK = "site.json"


def write_site(localizer: Localizer, out: Path, *, ort: Path | None = None, texts: Sequence[str] = ()) -> Manifest:
    """Write a folder that any web server can serve: the page, the model, its vocabulary and onnxruntime-web.

    Args:
        localizer: the model and method, in float32. Pictures are stretched to its input size.
        out: the folder; made, or replaced if it is such a site already.
        ort: onnxruntime-web's package, its dist folder, or a folder with node_modules; by default the current folder.
        texts: the vocabulary; by default the names that the model itself lists, as the embedded one does.

    Returns: the manifest of model.onnx.

    Raises:
        FastlocError: `out` exists and is no site, or onnxruntime-web is not found or too old. TextError: no names, or an empty one.
    """
    names = _names(localizer, texts)
    runtime, version = find_runtime(ort)
    with _folder(out) as part:
        # steps that may fail because of the model come first
        manifest = _model(localizer, part / "model.onnx")
        _vocabulary(localizer, names, part)
        for name in PAGE_FILES:
            files.copy(PAGE / name, part / name)
        files.make_folder(part / "ort")
        for name in RUNTIME_FILES:
            files.copy(runtime / name, part / "ort" / name)
        check = _check(localizer, manifest, names[:2])
        site = {"model": _facts(manifest), "runtime": version, "check": check, "colours": _colours(), **_samples(localizer, part)}
        _json(part / MARK, site)
    return manifest


def find_runtime(ort: Path | None = None) -> tuple[Path, str]:
    """The folder of onnxruntime-web's files, and its version; see `write_site`. Raises FastlocError if it is not found or too old."""
    start = ort or Path()
    places = [start, start / "dist", start / "onnxruntime-web" / "dist", start / "node_modules" / "onnxruntime-web" / "dist"]
    for place in places:
        if (place / RUNTIME_FILES[0]).is_file():
            return place, _version(place)
    raise FastlocError(f"onnxruntime-web is not in {start.resolve()}: {INSTALL}, or name its folder with --ort")


def _version(place: Path) -> str:
    head = (place / RUNTIME_FILES[0]).read_text(encoding="utf-8")[:400]
    found = re.search(r"ONNX Runtime Web v(\d+)\.(\d+)\.(\S+)", head)
    if found is None:
        raise FastlocError(f"{place / RUNTIME_FILES[0]} does not give its version: {INSTALL}")
    version = ".".join(found.groups())
    missing = [name for name in RUNTIME_FILES if not (place / name).is_file()]
    if missing:
        raise FastlocError(f"onnxruntime-web {version} in {place} lacks {', '.join(missing)}: {INSTALL}")
    if not OLDEST <= (int(found[1]), int(found[2])) < (2, 0):
        raise FastlocError(f"onnxruntime-web must be {'.'.join(map(str, OLDEST))} or newer, below 2, got {version} in {place}; {INSTALL}")
    return version


def _names(localizer: Localizer, texts: Sequence[str]) -> list[str]:
    """The distinct names; the page ignores case and repeated spaces in names."""
    names = texts or localizer.source.text.names
    if not names:
        raise TextError(f"texts must be given for model {localizer.source.name!r}, which lists no names, got none; name some")
    by_plain = {" ".join(text.lower().split()): text for text in reversed(checked(names))}
    commas = [text for text in by_plain.values() if "," in text]
    if commas:
        raise TextError(f"texts must have no comma, which separates them on the page, got {commas[0]!r}")
    return list(reversed(by_plain.values()))


def _model(localizer: Localizer, path: Path) -> Manifest:
    size = localizer.input_size
    height, width = (size, size) if isinstance(size, int) else size
    times = max(-(-FRAME // max(height, width)), 1)
    frame = height * times, width * times
    options = Options(kind="frames", layout="NHWC", size=(height, width), frame=frame, spelling=SPELLING, outputs=("similarity",))
    manifest = export(localizer, path, options)
    if [file.name for file in path.parent.iterdir()] != [path.name]:
        raise FastlocError(f"model must fit into one file of 2 GB, which a browser holds, got {localizer.source.name!r}; use a smaller one")
    return manifest


def _vocabulary(localizer: Localizer, names: list[str], folder: Path) -> None:
    embeddings = localizer.source.text(names, localizer.template).float().cpu().numpy()
    files.write_bytes(folder / "vocabulary.bin", embeddings.astype("<f4").tobytes())
    listed = {"names": names, "template": localizer.template, "embed": embeddings.shape[1], "tower": localizer.source.text.digest}
    _json(folder / "vocabulary.json", listed)


def _check(localizer: Localizer, manifest: Manifest, names: list[str]) -> dict[str, Any]:
    """The engine's results for a picture that the page draws itself, `knownPicture` in model.js."""
    assert manifest.input.frame is not None
    height, width = manifest.input.frame
    pixels = (np.arange(height * width * 3) * 7919 // 8 % 256).astype(np.uint8).reshape(1, height, width, 3)
    similarity, _ = localizer.similarity(torch.from_numpy(pixels), names)
    return {"names": names, "similarity": similarity.float().cpu().ravel().tolist(), "tolerance": TOLERANCE}


def _facts(manifest: Manifest) -> dict[str, Any]:
    """The manifest without its golden, which is long."""
    facts: dict[str, Any] = json.loads(manifest.dumps())
    return {key: value for key, value in facts.items() if key != "golden"}


def _samples(localizer: Localizer, folder: Path) -> dict[str, Any]:
    """The sample scenes, which only the embedded models know."""
    if localizer.source.name not in FOLDERS:
        return {"note": "", "samples": []}
    files.make_folder(folder / "samples")
    listed = []
    for name, row in json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8")).items():
        files.copy(SAMPLES / row["file"], folder / "samples" / row["file"])
        listed.append({"name": name, "file": f"samples/{row['file']}", "texts": row["texts"]})
    return {"note": NOTE, "samples": listed}


def _colours() -> str:
    """256 colours as hexadecimal RGB."""
    import cmap

    rows = np.asarray(cmap.Colormap(COLOURS)(np.linspace(0, 1, 256)))[:, :3]
    return np.rint(rows * 255).astype(np.uint8).tobytes().hex()


def _json(path: Path, content: dict[str, Any]) -> None:
    files.write_text(path, json.dumps(content, ensure_ascii=False))


@contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into, which replaces `out` if the block raises nothing."""
    out = out.resolve()
    if out.exists() and not ((out / MARK).is_file() or (out.is_dir() and not any(out.iterdir()))):
        raise FastlocError(f"{out} must be an empty folder or a page that fastloc wrote, got something else; name another folder")
    try:
        with replacing_folder(out) as part:
            yield part
    except OSError as error:
        raise FastlocError(f"{out}: cannot be written ({error.strerror or error})") from error
