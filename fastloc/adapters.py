"""Adapters to other pipelines: results as supervision's detections, raw outputs as results, decoders' frames as RGB.

`docs/guide/pipelines.md` shows each in ten lines. Nothing here needs torch but `nv12_to_rgb`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastloc.errors import FastlocError, TextError
from fastloc.imaging import images
from fastloc.imaging.readouts.regions import of_runs
from fastloc.imaging.readouts.runs import Runs
from fastloc.onnx_file.manifest import Manifest
from fastloc.results.result import Box, Result
from fastloc.runtime.inputs import geometry_of
from fastloc.runtime.outputs import prediction

if TYPE_CHECKING:
    import supervision as sv
    from torch import Tensor

__all__ = ["nv12_to_rgb", "result_of", "to_supervision"]

# the outputs that make a result, and their numbers of axes
_RANKS = {"similarity": 4, "scores": 2, "background": 2}


def to_supervision(
    result: Result, threshold: float = 0.5, *, masks: bool = True, min_area: int | None = None, score: float | None = None
) -> sv.Detections:
    """A result's boxes as `supervision.Detections`, for its annotators, trackers and zones: one for each of `Result.boxes`, in its order.

    xyxy float32 [N, 4]; mask bool [N, H, W], the region inside the box, or None without masks; confidence float32 [N], the highest value
    of the heatmap there; class_id int [N], the text's place among the result's texts; data["class_name"], the texts. Nothing found is
    `Detections.empty()`. Raises FastlocError without supervision, and as `Result.boxes` does.
    """
    library = _supervision()
    by_text = result._boxes_by_text(threshold, min_area, score)
    rows = [(index, box) for index, boxes in enumerate(by_text) for box in boxes]
    if not rows:
        nothing: sv.Detections = library.Detections.empty()
        return nothing
    found: sv.Detections = library.Detections(
        xyxy=np.array([(box.x0, box.y0, box.x1, box.y1) for _, box in rows], np.float32),
        mask=np.array([mask for each in zip(result._runs(threshold), by_text, strict=True) for mask in _regions(*each)]) if masks else None,
        confidence=np.array([box.value for _, box in rows], np.float32),
        class_id=np.array([index for index, _ in rows]),
        data={"class_name": np.array([box.text for _, box in rows])},
    )
    return found


def result_of(
    outputs: Mapping[str, Any], manifest: Manifest, frame: Any, *, texts: Sequence[str] | None = None, bgr: bool = False
) -> Result:
    """The result of one frame from an exported file's raw outputs: points, boxes, masks and heatmaps, without running anything.

    For files that you run elsewhere: in a GStreamer or DeepStream probe, or behind a server.

    Args:
        outputs: the file's outputs by name, for one frame, with a batch of 1 or without: "similarity" [T, h, w], and "scores" [T] and
            "background" [1] where there are any. They are copied, so a pipeline may use its buffers again.
        manifest: the file's description of itself: `fastloc.onnx_file.header.read("gem.onnx").manifest()`, once.
        frame: the frame (see `fastloc.imaging.images.load`), or its (height, width) alone: the result's picture is black then.
        texts: of a file that has none baked in.
        bgr: True where the frame's channels are blue, green, red.

    Raises:
        FastlocError: no similarity, or one that does not fit the file or the frame. TextError: texts missing, or another number of them.
    """
    picture = Image.new("RGB", frame[::-1]) if _is_size(frame) else images.load(frame, bgr=bgr)
    if "similarity" not in outputs:
        raise FastlocError(f"outputs must hold 'similarity', which a result is made of, got {', '.join(outputs) or 'none'}")
    found = {name: _batched(name, outputs[name], rank) for name, rank in _RANKS.items() if name in outputs}
    names = _names(manifest, texts, found["similarity"].shape[1])
    grid, patch = found["similarity"].shape[2:], manifest.model.patch
    size = None if manifest.input.size else (grid[0] * patch[0], grid[1] * patch[1])
    geometry = geometry_of(manifest, (picture.height, picture.width), size, "the file", "the frame")
    if geometry.grid(patch) != grid:
        raise FastlocError(f"similarity must have the file's grid, {' x '.join(map(str, geometry.grid(patch)))}, got {grid[0]} x {grid[1]}")
    return prediction(manifest, geometry, names, found, 0).result(picture)


def nv12_to_rgb(
    surface: Any, height: int | None = None, width: int | None = None, *, matrix: str = "bt709", full_range: bool = False
) -> Tensor:
    """Convert a hardware decoder's NV12 to RGB, on its device: see `fastloc.functional.frames.formats.nv12_to_rgb`. Needs torch."""
    from fastloc.functional.frames import formats

    return formats.nv12_to_rgb(surface, height, width, matrix=matrix, full_range=full_range)


def _supervision() -> Any:
    try:
        import supervision
    except ModuleNotFoundError as error:
        raise FastlocError(f'this needs {error.name}, which is not installed: pip install "fastloc[supervision]"') from error
    return supervision


def _regions(runs: Runs, boxes: list[Box]) -> Iterator[NDArray[np.bool_]]:
    """Masks [H, W]: for each box the region of the text's mask inside it. No two regions have the same box: they would touch."""
    if not boxes:
        return
    found = of_runs(runs)
    place = {tuple(box): index for index, box in enumerate(found.boxes.tolist())}
    for box in boxes:
        yield found.mask(place[box.x0, box.y0, box.x1, box.y1])


def _is_size(frame: Any) -> bool:
    return isinstance(frame, tuple) and len(frame) == 2 and all(isinstance(side, (int, np.integer)) for side in frame)


def _batched(name: str, array: Any, rank: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.array(array, np.float32)
    values = values[None] if values.ndim == rank - 1 else values
    if values.ndim != rank or values.shape[0] != 1:
        raise FastlocError(f"output {name!r} must be that of one frame, got shape {list(np.shape(array))}")
    return values


def _names(manifest: Manifest, texts: Sequence[str] | None, count: int) -> tuple[str, ...]:
    names = tuple(texts) if texts is not None else manifest.texts.names
    if not names:
        raise TextError("texts must be given for a file without texts baked in, got none; give texts=[...]")
    if len(names) != count:
        raise TextError(f"texts must be {count}, one a similarity, got {len(names)}")
    return names
