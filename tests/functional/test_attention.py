"""The pieces of attention by themselves: slices of any size, temperatures of every kind, and what lies in front of the patches."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import towers
from fastloc.errors import RecipeError
from fastloc.functional import attention
from fastloc.functional.attention import Projections
from fastloc.functional.methods.entropy_matching import matched
from fastloc.functional.methods.procrustes import aligned_queries
from fastloc.recipes import recipe

EXACT = 1e-12
GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def stated(q: Tensor, k: Tensor, v: Tensor, temperature: Any, bias: Tensor | None) -> Tensor:
    """softmax(temperature q k^T + bias) v, head by head: [B, M, H*d]."""
    logits = torch.einsum("bmhd,bnhd->bhmn", q * temperature, k)
    maps = torch.softmax(logits if bias is None else logits + bias, -1)
    return torch.einsum("bhmn,bnhd->bmhd", maps, v).flatten(2)


TEMPERATURES: dict[str, Any] = {
    "a number": 0.7, "one a picture": drawn(2, 1, 1, 1).abs(), "one a head": drawn(1, 1, 3, 1).abs(), "one each": drawn(2, 1, 3, 1).abs(),
}  # fmt: skip


# 126 logits are three queries: two slices
@pytest.mark.parametrize("most", [1, 40, 100, 126, 1 << 22])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", TEMPERATURES)
def test_both_forms_of_attention(name: str, biased: bool, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SLICE", most)
    q, k, v = drawn(2, 5, 3, 4), drawn(2, 7, 3, 4), drawn(2, 7, 3, 6)
    bias = drawn(5, 7) if biased else None
    expected = stated(q, k, v, TEMPERATURES[name], bias)
    for form in (attention.attend, attention.attend_in_slices):
        found = form(q, k, v, TEMPERATURES[name], bias)
        assert found.shape == (2, 5, 18) and towers.error(found, expected) < EXACT


def test_slices_have_no_more_logits_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    softmax = torch.softmax

    def counted(logits: Tensor, axis: int) -> Tensor:
        sizes.append(logits.numel())
        return softmax(logits, axis)

    monkeypatch.setattr(torch, "softmax", counted)
    q, k = drawn(2, 5, 3, 4), drawn(2, 7, 3, 4)
    for most, expected in ((2 * 7 * 3 * 2, [84, 84, 42]), (2 * 7 * 3 * 5, [210]), (2 * 7 * 3 * 5 - 1, [168, 42]), (1, [42] * 5)):
        sizes.clear()
        monkeypatch.setattr(attention, "SLICE", most)
        attention.attend_in_slices(q, k, k, 1.0)
        assert sizes == expected, most
    # one key of one head
    sizes.clear()
    monkeypatch.setattr(attention, "SLICE", 3)
    attention.attend_in_slices(drawn(1, 5, 1, 4), drawn(1, 1, 1, 4), drawn(1, 1, 1, 4), 1.0)
    assert sizes == [3, 2]


def test_slices_have_16_mb_of_float32() -> None:
    assert attention.SLICE * 4 == 16 * 1024 * 1024


def test_rows_of_a_bias() -> None:
    bias = drawn(1, 3, 7, 7)
    found = attention.rows_of(bias, slice(2, 5))
    assert found is not None and torch.equal(found, bias[:, :, 2:5]) and attention.rows_of(None, slice(2, 5)) is None


@pytest.mark.parametrize("batch", [0, 1])
def test_an_empty_batch(batch: int) -> None:
    q = drawn(batch, 5, 3, 4)
    assert attention.attend_in_slices(q, q, q, 1.0).shape == attention.attend(q, q, q, 1.0).shape == (batch, 5, 12)


def projections(prefix: int = 1, letters: str = "qkv", foreign: bool = False) -> Projections:
    return Projections(drawn(2, 12 + prefix, len(letters), 3, 4), letters, prefix, drawn(2, 12 + prefix, 3, 4) if foreign else None)


def test_projections_by_letter() -> None:
    made = projections()
    for i, letter in enumerate("qkv"):
        assert torch.equal(made[letter], made.packed[:, :, i]) and torch.equal(made.by_head[:, i], made[letter].transpose(1, 2))
    assert torch.equal(made.values, made["v"])
    # the class token alone, if nothing is said
    assert Projections(made.packed, "qkv").prefix == 1 and attention.neighbour_bias((3, 4), 1.0, 0, 2, drawn(1)).shape == (8, 13)
    other = projections(foreign=True)
    assert other.foreign_values is not None and torch.equal(other.values, other.foreign_values)


@pytest.mark.parametrize("prefix", [0, 1, 3])
@pytest.mark.parametrize("most", [None, 1, 200, 1 << 22])
@pytest.mark.parametrize(
    "changes",
    [{"terms": ("kk",), "bias_std": 2.0}, {"terms": ("qk", "vv"), "bias_std": 1.0}, {"terms": ("qq", "identity"), "combine": "sum"},
     {"terms": ("vv", "qk", "identity")}, {"terms": ("kk", "qq", "vv"), "combine": "sum"}, {"terms": ("qk",), "unit": True}],
    ids=str,
)  # fmt: skip
def test_the_local_path_s_attention(changes: dict[str, Any], most: int | None, prefix: int) -> None:
    row, grid, qkv = recipe("itsm", blocks=1, **changes), (3, 4), projections(prefix, foreign=True)
    temperature = 0.6
    expected = torch.zeros(2, 12, 12, dtype=torch.float64)
    for term in row.terms:
        if term == "identity":
            expected += qkv.values[:, prefix:].flatten(2)
            continue
        q, k = (qkv[letter] / (qkv[letter].norm(dim=-1, keepdim=True) if row.unit else 1.0) for letter in term)
        bias = None
        if row.bias_std is not None:
            at = torch.tensor([(i // 4, i % 4) for i in range(12)], dtype=torch.float64)
            near = torch.exp(-torch.cdist(at, at) ** 2 / (2 * row.bias_std**2))
            bias = torch.cat([torch.zeros(12, prefix, dtype=torch.float64), near], 1)
        expected += stated(q[:, prefix:], k, qkv.values, temperature, bias)
    if row.combine == "mean":
        expected /= len(row.terms)
    for how in (attention.attend, attention.attend_in_slices):
        form = attention.local_form(how, most)
        assert towers.error(form(qkv, [temperature], row, grid), expected) < EXACT
        out = torch.full_like(expected, torch.nan)
        assert form(qkv, [temperature], row, grid, out) is out and towers.error(out, expected) < EXACT


def test_aligned_queries_are_one_more_projection() -> None:
    row, qkv = recipe("itsm", blocks=1, terms=("vv", "procrustes"), combine="sum", procrustes_weight=0.3), projections()
    aligned = aligned_queries(qkv["q"], qkv["k"], 1, 0.3)[:, 1:]
    expected = stated(aligned, qkv["k"], qkv["v"], 0.5, None) + stated(qkv["v"][:, 1:], qkv["v"], qkv["v"], 0.5, None)
    assert towers.error(attention.FORMS["sdpa"](qkv, [0.5], row, (3, 4), None), expected) < EXACT
    assert attention.with_aligned(qkv, row).letters == "aqkv" and attention.with_aligned(qkv, recipe("gem")) is qkv


def test_letters_in_any_order_and_terms_twice() -> None:
    row, qkv = recipe("itsm", blocks=1, terms=("vv", "qq", "vv")), projections()
    shuffled = replace(qkv, packed=qkv.packed[:, :, [2, 0, 1]], letters="vqk")
    found = [attention.FORMS["sdpa"](each, [0.5], row, (3, 4)) for each in (qkv, shuffled)]
    expected = (2 * stated(qkv["v"][:, 1:], qkv["v"], qkv["v"], 0.5, None) + stated(qkv["q"][:, 1:], qkv["q"], qkv["v"], 0.5, None)) / 3
    for each in found:
        assert towers.error(each, expected) < EXACT


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_unit_vectors(dtype: torch.dtype) -> None:
    x = drawn(3, 4, 8).to(dtype)
    x[1, 2] = 0
    found = attention.unit(x)
    lengths = found.double().norm(dim=-1)
    assert found.dtype == dtype and not found[1, 2].any()
    lengths[1, 2] = 1
    assert (lengths - 1).abs().max() < {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]


def test_temperatures_of_every_kind() -> None:
    lengths = torch.tensor([[1.0, 3.0], [2.0, 6.0]])

    def made(**changes: Any) -> list[Any]:
        return attention.inverse_temperatures(recipe("gem", **changes), None, lengths, 16, 0)

    assert made(inv_temp=None, iterations=0) == [0.25] and made(inv_temp=5, iterations=2) == [5.0] * 3
    assert made(inv_temp="matched", rho=0.5) == []
    adaptive = made(iterations=1)
    # the mean length times 16^-0.5
    assert len(adaptive) == 2 and all(each.tolist() == [[[0.5]], [[1.0]]] for each in adaptive)
    table = torch.arange(2 * 3, dtype=torch.float64).reshape(2, 3, 1, 1, 1)
    row = recipe("gem", blocks=2, inv_temp=((((1.0, 2.0, 3.0),),),), iterations=2)
    assert [float(each) for each in attention.inverse_temperatures(row, table, None, 16, 1)] == [3.0, 4.0, 5.0]


def test_tables_of_temperatures() -> None:
    like = torch.zeros((), dtype=torch.float16)
    assert attention.temperature_table(recipe("gem"), 4, like) is None
    full = torch.arange(2 * 4 * 3 * 2, dtype=torch.float64).add(1).reshape(2, 4, 3, 2)
    row = recipe("gem", blocks=2, inv_temp=full.tolist())
    found = attention.temperature_table(row, 4, like)
    assert found is not None and found.dtype == torch.float32 and found.shape == (2, 2, 1, 3, 4)
    assert torch.equal(found[:, :, 0].double(), full.permute(0, 3, 2, 1))
    one = attention.temperature_table(recipe("gem", blocks=2, inv_temp=((((7.0,),),),)), 4, like.double())
    assert one is not None and one.dtype == torch.float64 and one.shape == (2, 2, 1, 3, 4) and (one == 7).all()
    with pytest.raises(RecipeError, match="inv_temp table must be for the model's 5 heads, got 4"):
        attention.temperature_table(row, 5, like)


def test_stacked_temperatures_go_with_their_streams() -> None:
    """A table's streams are in the recipe's order, and the call's in that of the projections."""
    table = torch.tensor([[2.0], [3.0], [5.0]], dtype=torch.float64)[None].expand(1, 3, 3)
    row, qkv = recipe("itsm", blocks=1, terms=("vv", "kk", "qq"), combine="sum"), projections()
    found = attention.FORMS["sdpa"](qkv, [table], row, (3, 4))
    expected = sum(stated(qkv[each][:, 1:], qkv[each], qkv["v"], number, None) for each, number in (("v", 2.0), ("k", 3.0), ("q", 5.0)))
    assert isinstance(expected, Tensor) and towers.error(found, expected) < EXACT


@pytest.mark.parametrize("iterations", [0, 1, 3])
def test_iterations(iterations: int) -> None:
    x = drawn(2, 7, 3, 4)
    p = x / x.norm(dim=-1, keepdim=True)
    for i in range(iterations):
        p = stated(p, p, p, 2.0 + i, None).reshape(p.shape)
        p = p / p.norm(dim=-1, keepdim=True)
    temperatures: list[Any] = [2.0 + i for i in range(iterations + 1)]
    queries, keys = attention.iterate(x, x, temperatures, iterations, attention.attend)
    assert queries is keys and towers.error(queries, p) < EXACT
    other = drawn(2, 7, 3, 4)
    queries, keys = attention.iterate(x, other, temperatures, 0, attention.attend)
    assert towers.error(keys, other / other.norm(dim=-1, keepdim=True)) < EXACT and queries is not keys
    # without temperatures, each pass solves for its own
    first = matched(x / x.norm(dim=-1, keepdim=True), 0.5)
    once = stated(*[x / x.norm(dim=-1, keepdim=True)] * 3, first.transpose(1, 2).reshape(2, 1, 3, 1), None).reshape(x.shape)
    queries, _ = attention.iterate(x, x, [], 1, attention.attend, 0.5)
    assert towers.error(queries, once / once.norm(dim=-1, keepdim=True)) < EXACT


def recorded(calls: list[tuple[Tensor, Tensor]]) -> attention.Attend:
    """PyTorch's attention that notes its queries and values."""

    def how(q: Tensor, k: Tensor, v: Tensor, temperature: Any, bias: Tensor | None = None) -> Tensor:
        calls.append((q, v))
        return attention.attend(q, k, v, temperature, bias)

    return how


@pytest.mark.parametrize(("batch", "most", "expected"), [
    (2, 4 * 2 * 13 * 3 * 2, [8, 4]), (2, 4 * 2 * 13 * 3 * 2 - 1, [4, 4, 4]), (2, 1, [4, 4, 4]), (2, 4 * 2 * 13 * 3 * 3, [12]),
    (2, None, [12]), (0, 4, [12]),
])  # fmt: skip
def test_a_neighbour_bias_has_no_more_rows_than_allowed(batch: int, most: int | None, expected: list[int]) -> None:
    """A row of a grid of 3 x 4 has 4 queries, and B x 13 keys of 3 heads for each."""
    qkv, calls = Projections(drawn(batch, 13, 3, 3, 4), "qkv"), list[tuple[Tensor, Tensor]]()
    row = recipe("itsm", blocks=1, terms=("kk",), bias_std=1.0)
    found = attention.local_form(recorded(calls), most)(qkv, [0.6], row, (3, 4), None)
    assert [q.shape[1] for q, _ in calls] == expected
    whole = attention.local_form(attention.attend, None)(qkv, [0.6], row, (3, 4), None)
    torch.testing.assert_close(found, whole, rtol=0, atol=EXACT)


def test_what_lies_in_memory_already_is_not_copied() -> None:
    """The streams stand in the order of the projections, and the values of one stream are the projection itself."""
    calls: list[tuple[Tensor, Tensor]] = []
    form = attention.local_form(recorded(calls))
    qkv = projections(letters="qk", foreign=True)
    form(qkv, [0.6], recipe("itsm", blocks=1, terms=("kk", "qk")), (3, 4), None)
    one = projections()
    form(one, [0.6], recipe("itsm", blocks=1, terms=("vv",)), (3, 4), None)
    (queries, _), (_, values) = calls
    assert queries.untyped_storage().data_ptr() == qkv.packed.untyped_storage().data_ptr()
    assert values.untyped_storage().data_ptr() == one.packed.untyped_storage().data_ptr()


@pytest.mark.parametrize("terms", [("qk",), ("qk", "vv"), ("kk", "qk"), ("kk",), ("kk", "qk", "vv")], ids=str)
@pytest.mark.parametrize("std", [None, 1.0])
@pytest.mark.parametrize("most", [None, 700])
@pytest.mark.parametrize("images", [1, 2])
def test_a_tower_s_own_bias_is_of_queries_with_keys(terms: tuple[str, ...], std: float | None, most: int | None, images: int) -> None:
    qkv = replace(projections(2), bias=drawn(images, 3, 14, 14))
    assert qkv.bias is not None
    expected = torch.zeros(2, 12, 12, dtype=torch.float64)
    near = 0.0 if std is None else attention.neighbour_bias((3, 4), std, 0, 3, expected, 2)
    for q, k in terms:
        own = qkv.bias[:, :, 2:] if (q, k) == ("q", "k") else torch.zeros(1, dtype=torch.float64)
        expected += stated(qkv[q][:, 2:], qkv[k], qkv.values, 0.6, own + near)
    found = attention.local_form(attention.attend, most)(
        qkv, [0.6], recipe("itsm", blocks=1, terms=terms, combine="sum", bias_std=std), (3, 4), None
    )
    assert towers.error(found, expected) < EXACT


@pytest.mark.parametrize("shape", [(1, 2, 3), (1, 1, 3), (2, 1, 1), (2, 2, 1)], ids=str)
def test_temperatures_of_two_streams(shape: tuple[int, int, int]) -> None:
    """[B, S, H], each axis that or 1, the streams in the recipe's order."""
    table, qkv = drawn(*shape).abs(), projections()
    found = attention.FORMS["sdpa"](qkv, [table], recipe("itsm", blocks=1, terms=("vv", "qq"), combine="sum"), (3, 4), None)
    each = table.expand(2, 2, 3)[:, :, None, :, None]
    expected = sum(stated(qkv[letter][:, 1:], qkv[letter], qkv["v"], each[:, i], None) for i, letter in enumerate("vq"))
    assert isinstance(expected, Tensor) and towers.error(found, expected) < EXACT
