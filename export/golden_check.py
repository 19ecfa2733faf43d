"""The golden's expected outputs, by the functional tower in float32, and the check of a file against them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.errors import ModelError
from fastloc.export.graph_kinds import graph_kind
from fastloc.export.options import Options
from fastloc.functional import heatmaps
from fastloc.imaging.geometry import Geometry, fit
from fastloc.imaging.preprocess import prepare
from fastloc.onnx_file import golden
from fastloc.onnx_file.golden import Golden, Sample
from fastloc.runtime.session import OnnxSession

if TYPE_CHECKING:
    from fastloc.engine.localizer import Localizer

SEED = 20
# the number of texts for a file that takes any number
TEXTS = 3
# the grid for a file that takes any size is larger than the trained grid by this many patches
MORE = (2, 1)


@torch.no_grad()
def golden_of(localizer: "Localizer", options: Options, geometry: Geometry | None) -> Golden:
    """The golden of a file with these options; `geometry` of the camera's frames, for kind "frames"."""
    spec = localizer.source.spec
    size = options.size or tuple((side + more) * step for side, more, step in zip(spec.grid, MORE, spec.patch, strict=True))
    picture = options.frame or (size[0], size[1])
    blank = Golden(SEED, options.batch or 2, picture, 0 if options.texts else options.count or TEXTS, {})
    where = geometry or fit(picture, picture, spec.patch, "stretch")
    similarity, cosines = _pass(localizer, options, blank, where)
    score = localizer.recipe.readout
    found: dict[str, Tensor] = {"similarity": similarity, "scores": cosines[:, :-1], "background": cosines[:, -1:]}
    if "heatmaps" in options.outputs:
        found["heatmaps"] = heatmaps.heatmaps(similarity, where, score.order, score.scale, score.reverse)
    if "labels" in options.outputs:
        found["labels"] = heatmaps.labels(-similarity if score.reverse else similarity, where, order=score.order).to(torch.uint8)
    arrays = {name: tensor.numpy() for name, tensor in found.items() if name in options.outputs}
    return replace(blank, outputs={name: Sample.take(array) for name, array in arrays.items()})


def _pass(localizer: "Localizer", options: Options, blank: Golden, where: Geometry) -> tuple[Tensor, Tensor]:
    source, recipe, template = localizer.source, localizer.recipe, localizer.template
    texts = source.text(options.texts, template) if options.texts else _texts(blank, source.spec.embed)
    spec = source.spec
    pictures = [Image.fromarray(each) for each in blank.pictures()]
    pixels = torch.from_numpy(np.stack([prepare(each, where, spec.mean, spec.std, spec.interpolation) for each in pictures]))
    grids = graph_kind(source.weights).grids
    similarity, cosines = grids(source.weights, pixels, texts, recipe, source.text.empty(template), background=True)
    assert cosines is not None
    return similarity, cosines


def _texts(blank: Golden, embed: int) -> Tensor:
    return torch.from_numpy(golden.unit_texts(blank.seed, blank.texts, embed))


def check(path: Path) -> None:
    """Raise ModelError unless onnxruntime, on the CPU, reproduces the golden of this file."""
    session = OnnxSession(path, "cpu")
    golden_of_file = session.manifest.golden
    assert golden_of_file is not None
    rows = golden.compare(golden_of_file, session.run(session.manifest.golden_inputs()))
    wrong = golden.failures(rows, session.manifest.dtype, session.manifest.recipe.readout.score)
    if wrong:
        raise ModelError(f"{path.name} does not compute what the model does, and is not written: {'; '.join(wrong)}")
