"""CLIP's contrastive loss over the pairs of all processes, with the gradient of the whole batch."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def contrastive(images: Tensor, texts: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of scale times the cosines [B, B] in both directions, and the share of pictures whose own text is the nearest.

    Args: unit vectors [B, E], row by row a pair.
    """
    logits = scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2, (logits.argmax(1) == own).float().mean()


def gathered(rows: Tensor) -> Tensor:
    """The rows of every process in rank order, equally many from each; gradients flow into this process's own.

    Every process computes the same loss of all rows, and the gradients of parameters, summed over processes, are then the whole batch's.
    """
    if processes() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(processes())]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[dist.get_rank()] = rows
    return torch.cat(parts)


def processes() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The rank of this process."""
    return dist.get_rank() if dist.is_initialized() else 0
