"""PEARL's aligned queries: an ordinary attention by them is the authors', and the algebra of small matrices keeps to itself."""

import pytest
import torch

import towers
from fastloc.functional.methods.procrustes import aligned_queries, polar
from fastloc.reference import arithmetic, procrustes
from towers import error


def projections(tokens: int, width: int = 8, batch: int = 2, heads: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys [B, N, H, d] whose means are not 0."""
    q, k = (towers.array(name, batch, tokens, heads, width, low=-1.0, high=2.0) for name in ("q", "k"))
    return q, k


@pytest.mark.parametrize("weight", [0.0, 0.08, 2.0])
@pytest.mark.parametrize(("tokens", "prefix"), [(17, 1), (9, 0), (12, 4), (5, 1), (2, 1)])
def test_an_ordinary_attention_by_these_queries_is_the_authors(tokens: int, prefix: int, weight: float) -> None:
    q, k = projections(tokens)
    queries = aligned_queries(q, k, prefix, weight)
    found = arithmetic.softmax(0.5 * queries.transpose(1, 2) @ k.permute(0, 2, 3, 1))
    expected = arithmetic.softmax(0.5 * procrustes.products(q.transpose(1, 2), k.transpose(1, 2), prefix, weight))
    assert error(found, expected) < 1e-12


def test_the_polar_factor_of_what_is_not_far_from_a_rotation() -> None:
    rotation = torch.linalg.qr(towers.array("matrix", 4, 6, 6, low=-1.0))[0]
    stretched = rotation @ torch.diag(torch.tensor([1.0, 0.9, 1.1, 0.8, 1.0, 1.2], dtype=torch.float64))
    assert error(polar(37.0 * stretched), rotation) < 2e-2
    # what is small does not come far in five steps: this is not the exact factor
    flat = rotation @ torch.diag(torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 1e-3], dtype=torch.float64))
    least = torch.linalg.svdvals(polar(flat))[:, -1]
    assert (least < 0.01).all()
    assert not polar(torch.zeros(2, 3, 3)).any()
    assert torch.allclose(polar(flat[0]), polar(flat)[0], rtol=0, atol=1e-12)


def test_half_precision_overflows_in_no_sum() -> None:
    q, k = ((40 * each).half() for each in projections(300))
    # the largest number of half precision is 65504
    assert (k.double().transpose(1, 2).mT @ q.double().transpose(1, 2)).abs().max() > 1e5
    found = aligned_queries(q, k, 1, 0.08)
    assert found.dtype == torch.float16 and error(found, aligned_queries(q.double(), k.double(), 1, 0.08)) < 2**-10


def test_gradients_are_those_of_what_is_computed() -> None:
    q, k = (each.requires_grad_() for each in projections(4, width=3, batch=1, heads=2))
    assert torch.autograd.gradcheck(lambda q, k: aligned_queries(q, k, 1, 0.3), (q, k))
