"""PEARL's attention, which rotates keys onto the queries by Newton-Schulz steps. Source: PGSmall/PEARL, pearl/attn.py.

Five steps approximate the solution of the orthogonal Procrustes problem. The logits are s q (k R)^T + s alpha k' k'^T with centred keys
k' = k - m. Both terms are linear in the key, and a softmax ignores a term that is the same for all keys of a query:
s (q R^T + alpha k') k^T gives the same, an ordinary attention of other queries.
"""

import torch
from torch import Tensor

STEPS = 5
# the official code's guards: of a sum of lengths, of a norm, and the one added to the matrix before its root
EPS = 1e-6


def aligned_queries(q: Tensor, k: Tensor, prefix: int, weight: float) -> Tensor:
    """Queries that attend to the keys `k` as PEARL's logits do: q R^T + weight (k - m), [B, N, H, d] of q's dtype.

    m and the queries' own centre are means over the patches, weighted by the queries' lengths; R, of each head and picture, is `polar` of
    k'^T q' over all tokens. Computed in float32 at least: only one d x d matrix for each head is made.

    Args:
        q, k: queries and keys [B, N, H, d] of any floating dtype.
        prefix: the number of tokens in front of the patches among the N; they have no weight in the means.
        weight: PEARL's alpha, the weight of the keys' own logits.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    queries, keys = q.to(wide), k.to(wide)
    lengths = torch.linalg.vector_norm(queries[:, prefix:], dim=-1, keepdim=True)
    share = lengths / (lengths.sum(1, keepdim=True) + EPS)
    centres = [(share * each[:, prefix:]).sum(1, keepdim=True) for each in (queries, keys)]
    centred = keys - centres[1]
    turn = polar(centred.permute(0, 2, 3, 1) @ (queries - centres[0]).transpose(1, 2))
    turned = (queries.transpose(1, 2) @ turn.mT).transpose(1, 2)
    aligned: Tensor = (turned + weight * centred).to(q.dtype)
    return aligned


def polar(matrix: Tensor) -> Tensor:
    """The approximate orthogonal factor of each matrix [..., d, d]: matrix (matrix^T matrix)^-1/2, by `STEPS` Newton-Schulz steps.

    Singular values far below the matrix's norm do not reach 1: the steps multiply them by at most (3/2)^5. Zeros give zeros.
    """
    gram = matrix.mT @ matrix
    size = torch.linalg.vector_norm(gram.flatten(-2), dim=-1)[..., None, None].clamp_min(EPS)
    identity = torch.eye(*gram.shape[-2:], dtype=gram.dtype, device=gram.device)
    y = gram / size + EPS * identity
    # the first step's Z is the identity
    step = 1.5 * identity - 0.5 * y
    y, z = y @ step, step
    for _ in range(STEPS - 1):
        step = 1.5 * identity - 0.5 * (z @ y)
        y, z = y @ step, step @ z
    factor: Tensor = matrix @ z / size.sqrt()
    return factor
