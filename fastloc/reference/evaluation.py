"""A slow, literal reference of labels under a paper's protocol: one window after another, maps [T, H, W] of every pixel.

In the steps of the authors' segmentors: wangf3014/SCLIP clip_segmentor.py (forward_slide, postprocess_result), mc-lan/ClearCLIP
clearclip_segmentor.py (padding), sinahmr/NACLIP naclip.py and pamr.py, m-arda-aydn/ITACLIP itaclip_segmentor.py (views, closing),
linsun449/cliper.code util/miou.py and ovs/main_ovs.py.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, one_hot, pad

Similarity = Callable[[Tensor], Tensor]
Pair = tuple[int, int]


def logits(
    similarity: Similarity, pixels: Tensor, size: Pair, patch: Pair, *, crop: int = 224, stride: int = 112, odd: str = "floor",
    view_weight: float | None = None,
) -> Tensor:  # fmt: skip
    """Logits [T, H, W] at the picture's size, before the scale, of normalised pixels [3, h, w].

    similarity: gives grids [1, T, h, w] for a window [1, 3, h, w] whose sides the patch divides.
    crop, stride: the windows' size and step; crop 0 takes the whole picture. odd: "floor" or "pad" for sides that the patch does not
        divide.
    view_weight: see `of_views`; None takes windows without views.
    """
    image = pixels[None]
    height, width = image.shape[2:]
    if not crop:
        crop = stride = max(height, width)
    down = max(height - crop + stride - 1, 0) // stride + 1
    across = max(width - crop + stride - 1, 0) // stride + 1
    total, count = None, image.new_zeros(1, 1, height, width)
    for row in range(down):
        for column in range(across):
            bottom, right = min(row * stride + crop, height), min(column * stride + crop, width)
            top, left = max(bottom - crop, 0), max(right - crop, 0)
            window = of_views(similarity, image[:, :, top:bottom, left:right], patch, odd, view_weight)
            placed = pad(window, (left, width - right, top, height - bottom))
            total = placed if total is None else total + placed
            count[:, :, top:bottom, left:right] += 1
    assert total is not None
    return interpolate(total / count.to(total.dtype), size=size, mode="bilinear")[0]


def of_window(similarity: Similarity, window: Tensor, patch: Pair, odd: str) -> Tensor:
    """Logits [1, T, h, w] of one window at its own size."""
    height, width = window.shape[2:]
    if odd == "pad":
        (top, bottom), (left, right) = (_around(side, step) for side, step in zip((height, width), patch, strict=True))
        padded = pad(window, (left, right, top, bottom))
        made = interpolate(similarity(padded), size=padded.shape[2:], mode="bilinear")
        return made[:, :, top : top + height, left : left + width]
    seen = window[:, :, : height // patch[0] * patch[0], : width // patch[1] * patch[1]]
    return interpolate(similarity(seen), size=(height, width), mode="bilinear")


def of_views(similarity: Similarity, window: Tensor, patch: Pair, odd: str, weight: float | None) -> Tensor:
    """Logits of a window averaged over ITACLIP's views: the window in gray and blurred, with this weight, and its two mirror images.

    With weight None, the logits of the window alone.
    """
    if weight is None:
        return of_window(similarity, window, patch, odd)
    red, green, blue = window[:, 0], window[:, 1], window[:, 2]
    gray = (0.2989 * red + 0.587 * green + 0.114 * blue).unsqueeze(1).expand(-1, 3, -1, -1)
    places = torch.arange(-5, 6, dtype=window.dtype)
    kernel = torch.exp(-(places[:, None] ** 2 + places**2) / (2 * 5**2))
    kernel = (kernel / kernel.sum()).expand(3, 1, -1, -1)
    blurred = conv2d(pad(window, (5, 5, 5, 5), mode="reflect"), kernel, groups=3)
    upright = [of_window(similarity, each, patch, odd) for each in (window, gray, blurred)]
    mirrored = [of_window(similarity, window.flip(side), patch, odd).flip(side) for side in (2, 3)]
    return weight * torch.stack(upright).mean(0) + (1 - weight) * torch.stack(mirrored).mean(0)


def _around(side: int, step: int) -> Pair:
    missing = -side % step
    return missing // 2, missing - missing // 2


def pamr(pixels: Tensor, maps: Tensor, iterations: int = 10, dilations: Sequence[int] = (8, 16)) -> Tensor:
    """Maps [T, H, W] refined by normalised pixels [3, h, w], enlarged to their size."""
    maps = maps[None]
    image = interpolate(pixels[None].to(maps.dtype), size=maps.shape[2:], mode="bilinear")
    near = _neighbours(image, dilations)
    centre = image.unsqueeze(2)
    own = centre.expand(-1, -1, len(dilations), -1, -1)
    deviation = torch.cat([near, own], 2).std(2, keepdim=True)
    weights = (-(centre - near).abs() / (1e-8 + 0.1 * deviation)).mean(1, keepdim=True).softmax(2)
    for _ in range(iterations):
        maps = (_neighbours(maps, dilations) * weights).sum(2)
    return maps[0]


def _neighbours(values: Tensor, dilations: Sequence[int]) -> Tensor:
    """The neighbours [1, n, 8 * dilations, H, W] of values [1, n, H, W]."""
    height, width = values.shape[2:]
    found = []
    for by in dilations:
        padded = pad(values, (by,) * 4, mode="replicate")
        places = [(y, x) for y in (0, by, 2 * by) for x in (0, by, 2 * by) if (y, x) != (by, by)]
        found += [padded[:, :, y : y + height, x : x + width] for y, x in places]
    return torch.stack(found, 2)


def labels(found: Tensor, owner: Tensor, scale: float, area: float | None = None, probability: float = 0.0) -> Tensor:
    """The class of every pixel, int64 [H, W], from logits [T, H, W] and each text's class."""
    shares = (found * scale).softmax(0)
    classes = int(owner.max()) + 1
    members = one_hot(owner).T[:, :, None, None]
    values = (shares[None] * members).max(1)[0]
    if area is not None:
        chosen = one_hot(values.argmax(0), classes).to(values.dtype)
        pixels = chosen[:, :, 1:].sum((0, 1))
        values[1:] *= (pixels > area * pixels.sum()).to(values.dtype)[:, None, None]
    predicted = values.argmax(0)
    predicted[values.max(0)[0] < probability] = 0
    return predicted


def cliper_labels(grids: Tensor, size: Pair, thresholds: Sequence[float], normalized: bool) -> Tensor:
    """The class of every pixel, int64 [H, W], from maps [T, h, w], one a class. Classes count from 1; 0 is the background."""
    least_score, background, _ = thresholds
    scores = grids.amax((1, 2))
    maps = interpolate(grids[None], size=size, mode="bilinear")[0]
    maps = maps / (maps.amax((1, 2), keepdim=True) + 1e-5) * scores[:, None, None]
    if normalized:
        maps = maps - maps.amin((1, 2), keepdim=True)
        maps = maps / (maps.amax((1, 2), keepdim=True) + 1e-6)
    present = (scores > least_score)[:, None, None]
    if background == 0:
        valid = maps * present
        return torch.cat([(1 - valid.amax(0, keepdim=True)) ** 2, valid]).argmax(0)
    valid = torch.where(maps < background, torch.zeros_like(maps), maps) * present
    value, chosen = valid.max(0)
    return torch.where(value == 0, torch.zeros_like(chosen), chosen + 1)


def closed(found: Tensor, side: int) -> Tensor:
    """Labels [H, W] after OpenCV's morphological closing by a square: pixels outside the picture take no part."""
    half, (height, width) = side // 2, found.shape

    def extremes(values: Tensor, largest: bool) -> Tensor:
        made = torch.empty_like(values)
        for y in range(height):
            for x in range(width):
                near = values[max(y - half, 0) : y + half + 1, max(x - half, 0) : x + half + 1]
                made[y, x] = near.max() if largest else near.min()
        return made

    return extremes(extremes(found, True), False)
