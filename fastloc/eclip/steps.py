"""The trained parameters, and one training step, in one process or in several."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from fastloc.eclip.features import Features
from fastloc.eclip.loss import contrastive, gathered, processes, rank
from fastloc.eclip.masks import mask, pooled
from fastloc.eclip.settings import Settings
from fastloc.errors import FastlocError


class State:
    """phi_i, phi_t, the logarithm of the logit scale, and their optimizer, float32."""

    def __init__(self, settings: Settings, embed: int, device: torch.device) -> None:
        self.settings, self.step = settings, 0
        generator = torch.Generator().manual_seed(settings.seed)
        image, text = beginnings(settings.init, embed, generator)
        self.image, self.text = (nn.Parameter(phi.to(device)) for phi in (image, text))
        self.log_scale = nn.Parameter(torch.tensor(math.log(settings.logit_scale), device=device), settings.scale == "learned")
        groups = [{"params": [self.image, self.text], "weight_decay": settings.decay}, {"params": [self.log_scale], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(settings.beta1, settings.beta2))

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        return {"image": self.image, "text": self.text, "log_scale": self.log_scale}


@dataclass(frozen=True)
class CurveRow:
    """One step as a row of the curve; loss and accuracy are of the whole batch, before the step."""

    step: int
    epoch: int
    loss: float
    accuracy: float
    scale: float
    rate: float


def beginnings(init: str, embed: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """phi_i and phi_t before the first step, [E, E] each."""
    if init == "identity":
        return torch.eye(embed), torch.eye(embed)
    first, second = (torch.linalg.qr(torch.randn(embed, embed, generator=generator))[0] for _ in range(2))
    return first, first.clone() if init == "shared" else second


def rate_at(step: int, settings: Settings) -> float:
    """The learning rate of a step, counted from 0."""
    rising = settings.warm_up * settings.steps
    if step < rising:
        return settings.rate * (step + 1) / math.ceil(rising)
    if settings.schedule == "constant":
        return settings.rate
    return settings.rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(settings.steps - rising, 1.0)))


def batch_of(step: int, count: int, settings: Settings) -> tuple[int, list[int], np.random.Generator]:
    """(epoch, indices, generator for drawing captions) of a step, from seed and step alone, so a resumed training is the same.

    Every epoch has a new order; pairs left at its end that fill no whole batch are not used. Fewer pairs than a batch are one batch.
    """
    size = min(settings.batch, count) // processes() * processes()
    epoch, place = divmod(step, count // size)
    order = np.random.default_rng([settings.seed, 0, epoch]).permutation(count)
    return epoch, order[place * size : (place + 1) * size].tolist(), np.random.default_rng([settings.seed, 1, step])


def take(state: State, features: Features) -> CurveRow:
    """Take one step. Raises FastlocError if the loss is no finite number, or no picture of the batch can be read."""
    settings = state.settings
    epoch, indices, rng = batch_of(state.step, len(features.pairs), settings)
    captions = [pair.captions[int(rng.integers(len(pair.captions)))] for pair in (features.pairs[index] for index in indices)]
    mine = slice(len(indices) * rank() // processes(), len(indices) * (rank() + 1) // processes())
    tokens, attention, there = features.tokens(indices[mine])
    vectors = pooled(tokens, mask(attention, settings), state.image, settings.pool)
    sentences = nn.functional.normalize(features.sentences(captions[mine]) @ state.text.T, dim=-1)
    known = gathered(there.float()) > 0
    if int(known.sum()) < 2:
        raise FastlocError(f"step {state.step + 1}: fewer than two pictures of the batch can be read: {', '.join(features.left.lines(2))}")
    loss, accuracy = contrastive(gathered(vectors)[known], gathered(sentences)[known], state.log_scale.exp())
    rate = rate_at(state.step, settings)
    row = CurveRow(state.step + 1, epoch, float(loss.detach()), float(accuracy), float(state.log_scale.detach().exp()), rate)
    if not math.isfinite(row.loss):
        raise FastlocError(f"step {row.step}: the loss is {row.loss}; a smaller rate than {settings.rate:g} may help, or finite pixels")
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    _together(state)
    _move(state, rate)
    return row


def _together(state: State) -> None:
    """Set the whole batch's gradients in every process.

    Each process has the scale's whole gradient already, and its own rows' share of the projections' gradients.
    """
    if processes() == 1:
        return
    for name, parameter in state.parameters.items():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            if name == "log_scale":
                parameter.grad /= processes()


def _move(state: State, rate: float) -> None:
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    nn.utils.clip_grad_norm_([each for each in state.parameters.values() if each.grad is not None], state.settings.clip)
    state.optimizer.step()
    with torch.no_grad():
        state.log_scale.clamp_(max=math.log(state.settings.most_scale))
    state.step += 1
