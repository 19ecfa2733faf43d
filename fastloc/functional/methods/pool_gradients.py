"""The gradient of a score at every position that the pool of CLIP's ResNets reads, in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["PoolGradients"]


@dataclass(frozen=True)
class PoolGradients:
    """Gradients at the pool's positions, a text at a time: all of them at once would take [B, T, P, C].

    With a the attention of the mean token's query q over the tokens n (n = 0 the mean token), o the gradient at the input of the output
    projection, s the scale of the attention and l_n = a_n (o v_n - sum_m a_m o v_m), a token's gradient is

        dy/dx_n = a_n W_v^T o + s l_n W_k^T q    and for the mean token also + W_q^T sum_m s l_m k_m

    and a position has its own and 1/P of the mean token's. H heads of d channels; float32 or float64.

    Attributes:
        share: a, [B, H, N]. slope: s l, [B, H, T, N]. queries: q, [B, H, d]. outputs: o, [B, H, T, d].
        at_query: sum_m s l_m k_m, the heads side by side, [B, T, C].
        q_w, k_w, v_w: [H d, C], the weights of the pool.
    """

    share: Tensor
    slope: Tensor
    queries: Tensor
    outputs: Tensor
    at_query: Tensor
    q_w: Tensor
    k_w: Tensor
    v_w: Tensor

    def at_positions(self, text: int) -> Tensor:
        """dy/df of one text, [B, P, C]."""
        values, keys = (self._back(*pair) for pair in ((self.outputs[:, :, text], self.v_w), (self.queries, self.k_w)))
        # two coefficients a head and token, of two directions a head
        coefficients = torch.cat([self.share, self.slope[:, :, text]], 1)
        tokens = coefficients.transpose(1, 2) @ torch.cat([values, keys], 1)
        mean = tokens[:, :1] + self.at_query[:, text, None] @ self.q_w
        return tokens[:, 1:] + mean / (tokens.shape[1] - 1)

    def _back(self, rows: Tensor, weight: Tensor) -> Tensor:
        """Each head's row [B, H, d] through its part of a weight, backwards: [B, H, C]."""
        return torch.einsum("bhd,hdc->bhc", rows, weight.reshape(*rows.shape[1:], weight.shape[1]))
