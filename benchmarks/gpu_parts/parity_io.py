"""Parity of what lies before and behind the tower: frames to patches, similarities to maps, copies to the device and back."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fastloc.imaging.geometry import FITS, Geometry, fit
from fastloc.imaging.preprocess import INTERPOLATIONS, prepare
from fastloc.recipes import RECIPES
from gpu_parts import models
from gpu_parts.job import Job, Row

ORDERS = ("picture", "grid", "softmax", "none")
KINDS = {"float32": torch.float32, "float16": torch.float16, "uint8": torch.uint8}


def items(job: Job, name: str) -> list[list[dict[str, Any]]]:
    """Groups of checks."""
    frame = [40, 60] if job.quick or not job.cuda else [1080, 1920]
    fits = ("stretch", "letterbox") if job.quick else tuple(FITS)
    head = {"model": name, "frame": frame}
    patches = [{"check": "patches", **head, "fit": each, "bgr": bgr} for each in fits for bgr in (False, True)]
    # one pass after the other: which axis comes first depends on the shape
    patches += [{"check": "patches", "model": name, "frame": frame[::-1], "fit": fits[0], "bgr": False}]
    engine = [{"check": "frames", **head, "fit": each, "dtype": dtype} for each in fits for dtype in ("float16", "float32")]
    maps = [{"check": "maps", **head, "fit": each, "what": order, "kind": kind} for each in fits for order in ORDERS for kind in KINDS
            if not (order == "none" and kind == "uint8")]  # fmt: skip
    maps += [{"check": "labels", **head, "fit": each, "what": f"threshold {threshold}"} for each in fits for threshold in (None, 0.1)]
    lanes = [{"check": "lanes", **head, "what": "two lanes, eight frames"}] if job.cuda else []
    return [patches, engine, maps[: 6 if job.quick else None], lanes]


def check(item: dict[str, Any], device: torch.device) -> Row:
    """One row."""
    how = {"patches": _patches, "frames": _frames, "maps": _maps, "labels": _labels, "lanes": _lanes}[item["check"]]
    return {**item, **how(item, device)}


def noise(frame: tuple[int, int], batch: int = 1, seed: int = 0) -> Tensor:
    """uint8 frames [batch, H, W, 3] on the CPU; the lower half black and white, so that filters overshoot."""
    drawn = np.random.default_rng([seed, *frame]).integers(0, 256, (batch, *frame, 3), np.uint8)
    drawn[:, frame[0] // 2 :] = np.where(drawn[:, frame[0] // 2 :] < 128, 0, 255)
    return torch.from_numpy(drawn)


def geometry_of(item: dict[str, Any]) -> Geometry:
    patch = models.seeded(item["model"]).spec.patch
    return fit(tuple(item["frame"]), 32 if item["model"] == "tiny" else 448, patch, item.get("fit", "stretch"))


def _patches(item: dict[str, Any], device: torch.device) -> Row:
    """Triton's bytes are PyTorch's on the device and on the CPU, and Pillow's."""
    from fastloc.engine.frame_patches import patches_of

    spec, geometry = models.seeded(item["model"]).spec, geometry_of(item)
    frames = noise(geometry.picture)
    arguments = (geometry, spec.patch, spec.mean, spec.interpolation, torch.float16)
    found = patches_of(frames.to(device), *arguments, bgr=item["bgr"], fused=True).cpu()
    others = {
        "torch on the device": patches_of(frames.to(device), *arguments, bgr=item["bgr"]).cpu(),
        "torch on the CPU": patches_of(frames, *arguments, bgr=item["bgr"]),
        "Pillow": _pillow(frames.flip(3) if item["bgr"] else frames, geometry, spec),
    }
    wrong = {name: int((found != other).sum()) for name, other in others.items()}
    return {"problems": [f"{count} of {found.numel()} values are not those of {name}" for name, count in wrong.items() if count]}


def _pillow(frames: Tensor, geometry: Geometry, spec: Any) -> Tensor:
    """The patches [B, P, 3 * ph * pw], float16, by Pillow alone."""
    (h, w), (top, left), (ph, pw) = geometry.input, geometry.corner, spec.patch
    pixels = 255 * torch.tensor(spec.mean, dtype=torch.float64).view(1, 3, 1, 1).repeat(len(frames), 1, h, w)
    for image, frame in zip(pixels, frames, strict=True):
        picture = Image.fromarray(frame.contiguous().numpy()).resize(geometry.resized[::-1], INTERPOLATIONS[spec.interpolation])
        part = torch.from_numpy(np.array(picture)[max(top, 0) : top + h, max(left, 0) : left + w]).permute(2, 0, 1)
        image[:, max(-top, 0) :, max(-left, 0) :][:, : part.shape[1], : part.shape[2]] = part
    cut = torch.nn.functional.unfold((pixels - 128) / 64, (ph, pw), stride=(ph, pw)).transpose(1, 2)
    return cut.float().half()


def _frames(item: dict[str, Any], device: torch.device) -> Row:
    """Grids of frames: the same bits with every resizer, and near those of pixels that Pillow and numpy prepared."""
    from fastloc.engine.vit_engine import Engine

    name, geometry, dtype = item["model"], geometry_of(item), item["dtype"]
    spec, words, frames = models.seeded(name).spec, models.texts(name, device), noise(geometry.picture, 2)
    tower = models.tower(name, device, dtype)
    runs = {form: Engine(tower, RECIPES["gem"], {"dtype": dtype, "frames": form}) for form in ("triton", "torch")}
    found = {form: [run(frames.to(device), words, geometry=geometry)[0] for _ in range(3)] for form, run in runs.items()}
    pixels = torch.stack([torch.from_numpy(prepare(Image.fromarray(frame.numpy()), geometry, spec.mean, spec.std)) for frame in frames])
    expected = models.exact(models.exact_weights(name, device), pixels.to(device), words.double(), RECIPES["gem"])
    plain = Engine(tower, RECIPES["gem"], {"dtype": dtype})(pixels.to(device), words)[0]
    # preparing in float32 is as exact as either way is
    error, torch_error = models.distance(found["triton"][0], expected), models.distance(plain, expected)
    allowed = 2 * torch_error + torch.finfo(getattr(torch, dtype)).eps / 2
    problems = [] if error <= allowed else [f"error {error:.2e} is over {allowed:.2e}, twice that of prepared pixels"]
    apart = [max(models.distance(a, b) for a, b in zip(found["triton"], found["torch"], strict=True))]
    apart += [models.distance(each, found["triton"][0]) for each in found["triton"][1:]]
    if not max(apart) <= allowed:
        problems.append(f"calls and forms differ by {max(apart):.2e}")
    return {"error": error, "torch_error": torch_error, "allowed": allowed, "apart": max(apart), "problems": problems}


def _similarity(item: dict[str, Any], device: torch.device) -> tuple[Tensor, Geometry]:
    geometry = geometry_of(item)
    grid = geometry.grid(models.seeded(item["model"]).spec.patch)
    drawn = np.random.default_rng(0).standard_normal((2, 5, *grid)) * 0.05 + 0.2
    return torch.from_numpy(drawn).float().to(device), geometry


def _maps(item: dict[str, Any], device: torch.device) -> Row:
    """Fused heatmaps are the plain ones in float64, as exactly as float32 and the output allow."""
    from fastloc.engine.device_heatmaps import heatmaps

    values, geometry = _similarity(item, device)
    found = heatmaps(values, geometry, item["what"], 40.0, dtype=KINDS[item["kind"]], fused=True).double()
    expected = heatmaps(values.double(), geometry, item["what"], 40.0, dtype=torch.float64)
    # of a softmax the exponents, 40 times the similarity, are off
    slack = 2e-6 if item["what"] != "softmax" else 4e-5
    allowed = {"float32": slack, "float16": slack + 5e-4, "uint8": 0.5 + 255 * slack}[item["kind"]]
    error = float((found - expected * (255 if item["kind"] == "uint8" else 1)).abs().max())
    return {"error": error, "allowed": allowed, "problems": [] if error <= allowed else [f"a pixel is {error:.2e} off"]}


def _labels(item: dict[str, Any], device: torch.device) -> Row:
    """Fused labels are the plain ones but where two texts are nearer than rounding."""
    from fastloc.engine.device_heatmaps import labels

    values, geometry = _similarity(item, device)
    threshold = None if item["what"].endswith("None") else 0.1
    found, expected = labels(values, geometry, threshold, fused=True), labels(values.double(), geometry, threshold)
    share = float((found != expected).double().mean())
    return {"error": share, "allowed": 1e-3, "problems": [] if share <= 1e-3 else [f"{share:.2%} of the labels differ"]}


def _lanes(item: dict[str, Any], device: torch.device) -> Row:
    """Frames through pinned buffers and a copy stream, two at a time, give what they give one by one."""
    from fastloc.engine.async_queue import StagingBuffers
    from fastloc.engine.vit_engine import Engine

    name, geometry = item["model"], geometry_of(item)
    words, frames = models.texts(name, device), noise(geometry.picture, 8)
    run = Engine(models.tower(name, device, "float16"), RECIPES["gem"], {"dtype": "float16"})
    for _ in range(3):
        run(frames[:1].to(device), words, geometry=geometry)
    expected = [run(frame[None].to(device), words, geometry=geometry)[0][0].cpu() for frame in frames]
    lanes, events, found = [StagingBuffers(device), StagingBuffers(device)], list[Any]([None, None]), list[Any]([None] * len(frames))
    arrived: list[Tensor] = []
    problems: list[str] = []
    for i, frame in enumerate(frames.numpy()):
        lane = lanes[i % 2]
        if i >= 2:
            events[i % 2].synchronize()
            found[i - 2] = lane.downloaded()[0]
        arrived.append(lane.upload(frame))
        # not looked at before the end: waiting here would hide what comes too early
        events[i % 2] = lane.download(run(arrived[i][None], words, geometry=geometry)[0])
    for i in (6, 7):
        events[i % 2].synchronize()
        found[i] = lanes[i % 2].downloaded()[0]
    problems += [f"frame {i} arrived changed" for i, there in enumerate(arrived) if not torch.equal(there.cpu(), frames[i])]
    apart = max(models.distance(torch.from_numpy(each), one) for each, one in zip(found, expected, strict=True))
    if not apart <= 1e-3:
        problems.append(f"grids differ by {apart:.2e}")
    return {"apart": apart, "problems": problems}
