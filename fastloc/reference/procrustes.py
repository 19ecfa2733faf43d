"""PEARL's attention in the steps of its authors' code (PGSmall/PEARL, pearl/attn.py): a rotation of each head's keys, then softmax.

Choices for open cases: the code gives the class token no weight in its means, and here no token in front of the patches has any. The
code detaches the norm of the matrix from gradients, which it never forms; here gradients include it.
"""

import torch
from torch import Tensor

from fastloc.checkpoints.vit_weights import Weights
from fastloc.reference.arithmetic import softmax
from fastloc.reference.parts import last_block


def pearl(weights: Weights, pixels: Tensor, alpha: float = 0.08) -> Tensor:
    """PEARL (clip/model.py, "reduced"): its attention in the last block, whose residual and MLP are dropped. [B, P, E]."""

    def attention(index: int, y: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = products(q, k, weights.spec.prefix, alpha) * q.shape[-1] ** -0.5
        return (softmax(scores) @ v.to(scores.dtype)).to(v.dtype)

    return last_block(weights, pixels, attention, "bicubic-scale", plain=False)


def products(q: Tensor, k: Tensor, prefix: int, alpha: float) -> Tensor:
    """PEARL's logits before the scale of head_width^-0.5, float32 at least: q and k [..., N, d] -> [..., N, N]."""
    wide = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(wide), k.to(wide)
    w = torch.sqrt((q * q).sum(-1, keepdim=True))
    w = torch.cat([torch.zeros_like(w[..., :prefix, :]), w[..., prefix:, :]], -2)
    w = w / (w.sum(-2, keepdim=True) + 1e-6)
    q_centred, k_centred = (each - (w * each).sum(-2, keepdim=True) for each in (q, k))
    rotation = newton_schulz(k_centred.mT @ q_centred)
    return q @ (k @ rotation).mT + alpha * k_centred @ k_centred.mT


def newton_schulz(matrix: Tensor, steps: int = 5) -> Tensor:
    """`_polar_unitary_newton_schulz`: each matrix [..., d, d] times the inverse root of its square, approximated by `steps` steps."""
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    square = matrix.mT @ matrix
    norm = torch.sqrt((square * square).sum((-2, -1), keepdim=True)).clamp_min(1e-6)
    y, z = square / norm + 1e-6 * identity, identity
    for _ in range(steps):
        t = 0.5 * (3 * identity - z @ y)
        y, z = y @ t, t @ z
    return matrix @ (z / torch.sqrt(norm))
