"""Shared by the scripts for SCLIP and its kin: their segmentors are classes of mmseg, which is not installed here, and run without it."""

from types import SimpleNamespace
from typing import Any

import packaging.version
import torch
from seeded_checkout import Checkout, checkout, config, openai_clip, pixels, stub, texts
from torch import Tensor, nn

__all__ = ["Checkout", "answer", "checkout", "config", "openai_clip", "pixels", "segmentor", "stub_mmseg", "texts"]


def stub_mmseg(*more: str) -> None:
    """Stand-ins for mmseg and mmengine: their segmentor is a plain module, and what they register stays as it is."""
    models = SimpleNamespace(register_module=lambda: lambda kind: kind)
    names = ("mmengine", "mmengine.structures", "mmseg", "mmseg.models", "mmseg.models.data_preprocessor", "mmseg.models.segmentors")
    classes = {"BaseSegmentor": nn.Module, "MODELS": models, "PixelData": SimpleNamespace}
    stub(*names, "mmseg.registry", "pkg_resources", *more, packaging=packaging, **classes)


def segmentor(kind: Any, net: Any, words: Tensor, logit_scale: float, **fields: Any) -> Any:
    """An official segmentor around a tower and texts [T, E], as its __init__ leaves it, but on a CPU: no windows, threshold or PAMR."""
    made = kind.__new__(kind)
    nn.Module.__init__(made)
    fields = {"net": net, "query_features": words, "query_idx": torch.arange(len(words)), "num_queries": len(words), **fields}
    fields |= {"dtype": words.dtype, "logit_scale": logit_scale, "slide_crop": 0, "slide_stride": 112, "prob_thd": 0.0, "area_thd": None}
    for name, value in {**fields, "align_corners": False, "pamr": None}.items():
        setattr(made, name, value)
    return made


@torch.no_grad()
def answer(made: Any, inputs: Tensor, picture: tuple[int, int], step: int) -> dict[str, Tensor]:
    """The similarity at the input's size, and of several texts their shares at the picture's [T, H, W], both every `step`-th pixel."""
    found = {"upsampled": made.forward_feature(inputs)[0, :, ::step, ::step]}
    if len(made.query_features) > 1:
        sample = SimpleNamespace(metainfo={"ori_shape": picture}, set_data=lambda data: found.update(heatmaps=data["seg_logits"].data))
        made.predict(inputs, [sample])
        found["heatmaps"] = found["heatmaps"][:, ::step, ::step]
    return found
