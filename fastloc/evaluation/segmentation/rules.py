"""Labels of a picture's logits by the rule of the mmseg family.

Source: wangf3014/SCLIP clip_segmentor.py, postprocess_result. Probabilities are a softmax over names, and a class has the largest of its
names'. The most probable class is that of the largest logit, so that no probability is computed for it; the threshold needs that one alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastloc.evaluation.protocols.schema import Protocol
from fastloc.evaluation.segmentation.stacked import Logits, best

__all__ = ["softmax_labels"]


def softmax_labels(logits: Logits, scale: float, owner: Tensor, classes: int, protocol: Protocol) -> Tensor:
    """The class of every pixel, int64 [H, W]. scale: the factor of the logits.

    owner: the class of each text, int64 [T]. Of the protocol area and probability are read. A class whose share of the pixels outside
    class 0 is not above `area` gives way to the next most probable one; where the most probable one is below `probability` class 0 is
    taken. Probabilities keep their sum over all texts.
    """
    found = best(logits, total=scale if protocol.probability > 0 else None)
    value, labels = found.value, owner[found.number]
    if protocol.area is not None:
        pixels = torch.bincount(labels.flatten(), minlength=classes).float()
        pixels[0] = 0
        kept = pixels > protocol.area * pixels.sum()
        kept[0] = True
        dropped = ~kept[labels]
        if dropped.any():
            texts = kept[owner].nonzero()[:, 0]
            again = best(logits.of(texts), dropped)
            value = torch.where(dropped, again.value, value)
            labels = torch.where(dropped, owner[texts[again.number]], labels)
    if found.total is not None:
        labels = labels.masked_fill((scale * value - found.total).exp() < protocol.probability, 0)
    return labels
