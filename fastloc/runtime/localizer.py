"""The engine of an exported file: the same call as `fastloc.Localizer`, with numpy, Pillow and onnxruntime (or OpenVINO) alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.embedded import GEM_ONNX
from fastloc.errors import FastlocError, ModelError, TextError
from fastloc.imaging import images as pictures
from fastloc.imaging.geometry import Geometry, both_sides, size_text
from fastloc.onnx_file.golden import unit_texts
from fastloc.onnx_file.self_check import SelfCheck, share_of
from fastloc.results.base_localizer import BATCH, BaseLocalizer
from fastloc.results.prediction import Prediction
from fastloc.runtime import outputs
from fastloc.runtime.choice import Choice
from fastloc.runtime.fastest import Session
from fastloc.runtime.inputs import check_array, check_count, check_values, filled_up, geometry_of, picture_input
from fastloc.runtime.open_session import open_session
from fastloc.runtime.placement import Placement
from fastloc.runtime.second_session import SecondSession
from fastloc.runtime.shape_profiles import Profiles
from fastloc.runtime.text_sources import Selection, TextSource, check_embeddings, text_source
from fastloc.utils.distinct import distinct_rows

__all__ = ["OnnxLocalizer"]

Array = NDArray[Any]
Floats = NDArray[np.float32]
Pair = tuple[int, int]



class OnnxLocalizer(BaseLocalizer[Selection]):
    """Localizer that runs a file of `fastloc export` in onnxruntime. All settings that it needs are in the file.

    The texts of a call are those that the file or its embeddings have, or any where there is a text tower; None for all there are. A file
    that takes a camera's frames takes pictures of exactly that size. A file without an output "similarity" has `run` alone: a call raises
    ModelError.

    Args:
        path: the file; by default the small CLIP that ships with fastloc, with GEM.
        text: the text tower's file; by default `<stem>.text.onnx` beside the file, where there is one. Texts are encoded on the CPU.
        embeddings: of the texts, in place of a text tower: a file, {text: vector [E]}, (texts, array [T, E]) with unit vectors, or a
            `fastloc.text.embeddings.TextEmbeddings`.
        providers: where it runs: "auto" (CUDA where there is any, else the CPU), a row of `fastloc.runtime.providers.PROVIDERS`, or
            several; "openvino", OpenVINO's own runtime on the CPU; "fastest", the fastest of those installed and its best number of
            threads, measured for about a second when the file is first loaded on this machine, and kept in the user's cache.
        allow_fallback: let other providers run nodes that this one does not take, with a warning; else that is an error.
        threads: of the CPU; by default the runtime's choice.
        cuda_graph: replay each call as one CUDA graph: less time between kernels, one set of shapes.
        cache: folder for compiled engines; by default in the user's cache folder.
        size: of the input, for a file that takes any: one number or (height, width).
        profiles: sizes that a compiled engine is made for, where the file leaves them open: {"batch": (least, usual, most), "size": …,
            "texts": …}.
        options: of the provider, in the runtime's own words, in place of those chosen; None removes one. Names that begin with "session."
            are entries of onnxruntime's session: {"session.intra_op.allow_spinning": 1} lets threads that wait take their core. OpenVINO
            computes in bfloat16, where the processor has it, by {"INFERENCE_PRECISION_HINT": "bf16"}.
        self_check: the share of calls, True for a tenth, of which one picture is answered again by onnxruntime on the CPU without graph
            optimisations. A difference beyond the limit of the file's dtype gives a FastlocWarning once; `localizer.self_check.describe()`
            has the counts. It costs that share of such passes, and the file's weights once more in memory; off by default.

    Raises:
        FastlocError, ModelError, PlanError, TextError: a fault of the file, the provider or the texts, in one line.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = "embedded",
        *,
        text: str | os.PathLike[str] | None = None,
        embeddings: Any = None,
        providers: str | Sequence[str] = "auto",
        allow_fallback: bool = False,
        threads: int | None = None,
        cuda_graph: bool = False,
        cache: str | os.PathLike[str] | None = None,
        size: int | Pair | None = None,
        profiles: Profiles | None = None,
        options: Mapping[str, Any] | None = None,
        self_check: float | bool = False,
    ) -> None:
        self._describe(locals())
        share = share_of(self_check)
        path = GEM_ONNX if path == "embedded" else path
        self.session: Session = open_session(
            path, providers, allow_fallback=allow_fallback, threads=threads, cuda_graph=cuda_graph, cache=cache, profiles=profiles,
            options=options,
        )  # fmt: skip
        self.path, self.manifest = Path(path), self.session.manifest
        self.size = (size[0], size[1]) if isinstance(size, (tuple, list)) and len(size) == 2 else size
        self.batch = self.manifest.input.batch or BATCH
        self._check_size()
        self.text_source: TextSource = text_source(self.path, self.manifest, text, embeddings)
        check = SelfCheck(share, self.method, self.manifest.dtype, self.manifest.recipe.readout.score) if share else None
        self._second = None if check is None else SecondSession(path, self.manifest, check, threads)

    @property
    def method(self) -> str:
        """The method's name."""
        return self.manifest.recipe.name

    @property
    def choice(self) -> Choice | None:
        """The measurement that chose the runtime and its threads, for providers "fastest"; `print` gives every way with its time."""
        return self.session.choice

    @property
    def self_check(self) -> SelfCheck | None:
        """The counts of the self-check; None where it is off."""
        return None if self._second is None else self._second.check

    @property
    def logit_scale(self) -> float:
        """The factor of cosines with texts before a softmax over texts, as the model was trained."""
        return self.manifest.model.logit_scale

    @property
    def texts(self) -> tuple[str, ...] | None:
        """The texts that are baked in or given as embeddings; None where you can ask for any."""
        return self.text_source.names

    def similarity(self, array: Any, texts: str | Sequence[str] | Floats | None = None) -> Floats:
        """Similarity grids [B, T, h, w] of the file's inputs; arguments and errors as for `run`."""
        self._check_similarity()
        found: Floats = self.run(array, texts)["similarity"]
        return found

    def run(self, array: Any, texts: str | Sequence[str] | Floats | None = None) -> dict[str, Array]:
        """The file's own outputs by name, see `fastloc.onnx_file.manifest.Manifest`.

        Args:
            array: the file's picture input, numpy or anything with `__dlpack__`, on the CPU or the GPU it runs on: normalised pixels, bytes
                as floats, or a camera's frames, as `manifest.input` says. Of a file for B pictures, up to B.
            texts: as in a call, or their embeddings [T, E], unit length.

        Raises:
            ImageError: another shape or dtype; floats in the host's memory that are not finite. TextError: texts that cannot be used.
        """
        chosen: Selection
        if isinstance(texts, np.ndarray):
            chosen = self._embedded(texts) if texts.dtype.kind == "f" else self.text_source.select([str(text) for text in texts])
        else:
            chosen = self.text_source.select(texts)
        batch = check_array(self.manifest, array, str(self.path))
        check_values(array)
        return self._outputs(array, chosen, batch)

    def placement(self) -> Placement:
        """The provider of each node: `print(localizer.placement())` lists them by type, `.nodes` one by one."""
        return self.session.placement()

    def warm_up(self, texts: int | None = None, runs: int = 3) -> None:
        """Run on a black picture of the usual size, so that building, tuning and capturing are done before the first call.

        texts: the number of texts of later calls, for a file that takes any; by default as many as embeddings were given, else one.
        """
        given = self.manifest.input
        size = given.frame or self._geometry(self._usual()).input
        black = given.laid_out(np.zeros((given.batch or 1, *size, 3), np.uint8), self.manifest.model)
        if self.texts:
            chosen = self.text_source.select(None)
        else:
            chosen = self._embedded(unit_texts(0, texts or self.manifest.texts.count or 1, self.manifest.model.embed))
        feeds = self._feeds(black, chosen)
        for _ in range(runs):
            self.session.run(feeds)

    def compile(self, path: str | os.PathLike[str]) -> Path:
        """Write the compiled engine inside an ONNX file, for this device and these versions, see `OnnxSession.compile`."""
        return self.session.compile(path)

    def _texts(self, texts: str | Sequence[str] | None) -> Selection:
        self._check_similarity()
        return self.text_source.select(texts)

    def _predict(self, images: list[Image.Image], geometries: list[Geometry], texts: Selection) -> list[Prediction]:
        array = np.stack([picture_input(self.manifest, picture, geometry) for picture, geometry in zip(images, geometries, strict=True)])
        return self._predictions(array, geometries, texts)

    def _predictions(self, array: Any, geometries: list[Geometry], texts: Selection) -> list[Prediction]:
        found = self._outputs(array, texts, len(geometries))
        return [outputs.prediction(self.manifest, geometry, texts.names, found, i) for i, geometry in enumerate(geometries)]

    def _geometry(self, picture: Pair, name: str = "") -> Geometry:
        return geometry_of(self.manifest, picture, self.size, str(self.path), name)

    def _outputs(self, array: Any, chosen: Selection, batch: int) -> dict[str, Array]:
        """The outputs by name for the texts in their order; texts that the model cannot distinguish are computed once."""
        copies = None if chosen.vectors is None else distinct_rows(chosen.vectors)
        if copies is None or chosen.vectors is None:
            return self._cut(self._feeds(array, chosen), batch, len(chosen.names))
        once = Selection(tuple(chosen.names[i] for i in copies.first), np.ascontiguousarray(chosen.vectors[copies.first]))
        found = self._cut(self._feeds(array, once), batch, len(once.names))
        # a label is the first of equal texts; 255, where a crop hid the frame, stays
        numbers = np.arange(256, dtype=np.uint8)
        numbers[: len(copies.first)] = copies.first
        spread: dict[str, Array] = {name: each[:, copies.index] for name, each in found.items() if name not in ("labels", "background")}
        if "labels" in found:
            spread["labels"] = numbers[found["labels"]]
        return {name: spread.get(name, each) for name, each in found.items()}

    def _feeds(self, array: Any, chosen: Selection) -> dict[str, Any]:
        """The inputs by name, filled up to the numbers that a static file takes."""
        batch, count = self.manifest.input.batch, self.manifest.texts.count
        feeds = {self.manifest.input.name: array if batch is None or array.shape[0] == batch else filled_up(array, batch)}
        if chosen.vectors is not None:
            check_count(self.manifest, len(chosen.vectors), str(self.path))
            full = count is None or count == len(chosen.vectors)
            feeds["text_embeddings"] = chosen.vectors if full else filled_up(chosen.vectors, count or 0)
        return feeds

    def _cut(self, feeds: dict[str, Any], batch: int, texts: int) -> dict[str, Array]:
        """The outputs of the request, without the filled-up rows."""
        found = self.session.run(feeds)
        if self._second is not None:
            self._second(feeds, found)
        for name, array in found.items():
            if len(array) < batch or (name not in ("labels", "background") and array.shape[1] < texts):
                raise ModelError(f"{self.path}: its output {name!r} must be of {batch} pictures and {texts} texts, got {list(array.shape)}")
        return {name: array[:batch] if name == "labels" else array[:batch, :texts] for name, array in found.items()}

    def encode_texts(self, texts: str | Sequence[str] | None = None) -> Selection:
        """Encode the texts now, so that no picture waits for them; `predict_frame` takes the result. May run beside other calls.

        Raises TextError as a call does.
        """
        return self._texts(texts)

    def predict_frame(self, frame: Any, chosen: Selection, bgr: bool = False) -> Prediction:
        """The Prediction of one camera frame, for texts that `encode_texts` gave back, without making a picture of it.

        frame: uint8 [H, W, 3], a numpy array; a tensor on the device goes in as it is where the file takes a camera's frames, [H, W, 3]; or
            an RGB PIL picture, as a `fastloc.imaging.reduced_picture.ScaledPicture` is, of which bgr says nothing.

        Raises ImageError for another.
        """
        return self.predict_frames([frame], chosen, bgr)[0]

    def predict_frames(self, frames: Sequence[Any], chosen: Selection, bgr: bool = False) -> list[Prediction]:
        """The Prediction of each of several camera frames, as `predict_frame` has it, in one call of the file.

        Raises ImageError for more frames than a file of a fixed batch takes.
        """
        given = self.manifest.input
        if len(frames) > 1 and not all(isinstance(frame, (np.ndarray, Image.Image)) for frame in frames):
            # each stays in the memory of its device
            return [self.predict_frame(frame, chosen, bgr) for frame in frames]
        pictured = any(isinstance(frame, Image.Image) for frame in frames)
        if len(frames) == 1 and given.kind == "frames" and given.layout == "NHWC" and given.bgr == bgr and not pictured:
            (frame,) = frames
            check_array(self.manifest, array := frame[None], str(self.path))
            geometries = [self._geometry((int(frame.shape[0]), int(frame.shape[1])))]
        else:
            loaded = [frame if isinstance(frame, Image.Image) else pictures.load(np.asarray(frame), bgr=bgr) for frame in frames]
            geometries = [self._geometry(picture.size[::-1]) for picture in loaded]
            array = np.stack([picture_input(self.manifest, *each) for each in zip(loaded, geometries, strict=True)])
            if len(frames) > 1:
                check_array(self.manifest, array, str(self.path))
        return self._predictions(array, geometries, chosen)

    def _embedded(self, vectors: Any) -> Selection:
        """The selection for embeddings whose texts only the caller knows."""
        if self.manifest.texts.baked:
            raise TextError(f"embeddings must be left out for {self.path}, whose texts are baked in: {', '.join(self.texts or ())}")
        return Selection(tuple(str(i) for i in range(len(vectors))), check_embeddings(vectors, len(vectors), self.manifest.model.embed))

    def _check_similarity(self) -> None:
        if "similarity" not in self.manifest.outputs:
            there = ", ".join(self.manifest.outputs)
            raise ModelError(f"{self.path} must have the output 'similarity' for results; use .run(array), which gives {there}")

    def _check_size(self) -> None:
        """Raise FastlocError for an impossible size now, and not at the first picture."""
        fixed, given = self.manifest.input.size, self.size
        if given is not None and fixed is not None and fixed not in (given, (given, given)):
            raise FastlocError(f"size must be {size_text(fixed)}, the fixed input of {self.path}, got {given!r}")
        if self.manifest.input.kind != "frames":
            self._geometry(self._usual())

    def _usual(self) -> Pair:
        """The (height, width) of a picture of the input's own size."""
        size = self.manifest.input.size or self.size or self.manifest.input.usual
        return both_sides(size)
