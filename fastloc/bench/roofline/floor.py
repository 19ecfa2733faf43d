"""Operations and bytes of one pass, counted from its plan, and the least time that they take on a machine.

`count` walks through `vit.encode`, `local`, `attention` and `readout` op by op: whatever a recipe or a plan leaves out there is left
out here. `op_counts` defines what counts and what does not.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from fastloc.bench.roofline.official_op_counts import official
from fastloc.bench.roofline.op_counts import INPUT_BYTES, Tally, Work
from fastloc.checkpoints.vit_spec import ModelSpec
from fastloc.engine.plan import Plan
from fastloc.errors import RecipeError
from fastloc.functional.attention import sides
from fastloc.functional.folding import crossed, letters
from fastloc.functional.methods.procrustes import STEPS
from fastloc.functional.readout import needs_cls
from fastloc.recipes import RECIPES, Recipe

__all__ = ["UNCOUNTED", "Totals", "Work", "count", "floor", "official", "totals"]


# whose work depends on what their backward passes through, on the picture, or is another path's
UNCOUNTED = frozenset(
    name for name, row in RECIPES.items() if row.reads != "patches" or row.inv_temp == "matched" or row.path != "local"
)


@dataclass(frozen=True)
class Totals:
    """Sums of one pass. moved_mb: each weight, pixel, text and cosine once. traffic_mb: what all ops read and write."""

    gflop: float
    moved_mb: float
    traffic_mb: float


def totals(works: Iterable[Work], spec: ModelSpec, batch: int, size: tuple[int, int], texts: int) -> Totals:
    """The sums, for normalised pixels [B, 3, *size] and texts [T, E] in and grids [B, T, h, w] out, all of them float32."""
    found = tuple(works)
    patches = (size[0] // spec.patch[0]) * (size[1] // spec.patch[1])
    ends = INPUT_BYTES * (batch * 3 * size[0] * size[1] + texts * spec.embed + batch * texts * patches)
    weights = sum(each.weights for each in found)
    return Totals(
        gflop=sum(each.flops for each in found) / 1e9,
        moved_mb=(weights + ends) / 1e6,
        traffic_mb=(weights + sum(each.read + each.written for each in found)) / 1e6,
    )


def floor(totals: Totals, dtype: str, rates: Mapping[str, float]) -> tuple[float, str] | None:
    """(milliseconds, "products" or "memory"): no pass takes less time, whatever its kernels. None where a ceiling was not measured.

    The larger of all FLOPs at the dtype's rate of a large product, and of `moved_mb` at the rate of a large copy: activations may
    stay in caches. So may the weights of a small model from one call to the next, which "memory" does not allow for.

    Args:
        rates: of `ceilings.rates`, such as {"product float32": TFLOP/s, "copy": TB/s}.
    """
    product, copy = rates.get(f"product {dtype}"), rates.get("copy")
    if not product or not copy:
        return None
    products, memory = totals.gflop / product, totals.moved_mb / copy / 1000
    return (products, "products") if products >= memory else (memory, "memory")


def count(
    spec: ModelSpec, recipe: Recipe, plan: Plan, batch: int, size: tuple[int, int], texts: int, *, hidden: int | None = None
) -> tuple[Work, ...]:
    """The work of one pass of an engine, from normalised pixels [B, 3, *size] and texts [T, E] to grids. `itsm` is the encoder alone.

    Args:
        hidden: width of the blocks' MLPs, which a spec does not say; by default 4 C.

    Raises:
        RecipeError: the recipe reads no patch features, solves its temperatures, has registers, or has another path than the local one;
            see UNCOUNTED.
    """
    if recipe.reads != "patches":
        raise RecipeError(f"the work of {recipe.name!r} is not counted: only that of recipes that read patches is")
    if recipe.inv_temp == "matched":
        raise RecipeError(f"the work of {recipe.name!r} is not counted: only that of temperatures that are given is")
    if recipe.registers:
        raise RecipeError(f"the work of {recipe.name!r} with test-time registers is not counted: only that without is")
    if recipe.path != "local":
        raise RecipeError(f"the work of {recipe.name!r} is not counted: only that of the local path is")
    return _Engine(spec, recipe, plan, batch, size, texts, hidden).run()


class _Engine(Tally):
    """`engine.Pass` on prepared pixels."""

    def __init__(
        self, spec: ModelSpec, recipe: Recipe, plan: Plan, batch: int, size: tuple[int, int], texts: int, hidden: int | None
    ) -> None:
        super().__init__(spec, batch, size, texts, plan.dtype, hidden)
        self.recipe, self.plan = recipe, plan
        self.attends = bool(recipe.streams)
        self.reads = letters("v", *recipe.streams) if self.attends else ""
        self.cls = needs_cls(recipe.readout, texts)
        self.deferred = plan.schedule == "deferred" and self.attends
        self.joint = plan.projection == "joint"
        # see `vit._last_rows`
        every = recipe.blocks == 0 or (self.cls and spec.pool != "tok")
        self.last_rows = self.tokens if every else int(self.cls)

    def run(self) -> tuple[Work, ...]:
        pixels, patch = self.batch * 3 * self.size[0] * self.size[1], 3 * self.spec.patch[0] * self.spec.patch[1]
        self.pixels()
        # laid out as rows
        self.move("patch embedding", pixels, pixels)
        self.linear("patch embedding", ["patch"], self.batch * self.patches, patch, self.width, bias=False)
        self.embed()
        for i in range(self.spec.layers):
            self.block(i)
        if self.last_rows:
            self.sum(self.batch * self.last_rows * self.width)
        if self.recipe.blocks:
            self.local_end()
        self.norm("ln_post", self.batch * self.patches)
        self.head(self.batch * self.patches)
        if self.cls:
            self.pooled()
        self.readout()
        return self.result()

    def add_norm(self, key: Hashable, rows: int, lengths: bool = False) -> None:
        """Residual sum and LayerNorm: one op, or two that meet in memory."""
        numbers = rows * self.width
        self.move("norms and sums", numbers if self.plan.norm == "triton" else 2 * numbers, numbers)
        self.norm(key, rows)
        self.lengths(rows, lengths)

    def lengths(self, rows: int, needed: bool) -> None:
        """Lengths of normalised tokens, for the adaptive temperature; the kernel has them at hand."""
        if needed and self.plan.norm != "triton":
            self.move("norms and sums", rows * self.width, 0)

    def block(self, i: int) -> None:
        changed = i >= self.spec.layers - self.recipe.blocks
        rows = self.last_rows if i == self.spec.layers - 1 else self.tokens
        lengths = changed and self.recipe.inv_temp == "adaptive"
        if i:
            self.add_norm(("ln1", i), self.batch * self.tokens, lengths)
        else:
            self.norm(("ln1", i), self.batch * self.tokens)
            self.lengths(self.batch * self.tokens, lengths)
        whole = rows > 1 or (changed and self.deferred)
        read = "qkv" if whole else letters(self.reads, "kv" if rows else "")
        if read:
            self.linear("qkv", [(each, i) for each in read], self.batch * self.tokens, self.width, len(read) * self.width)
        if changed:
            self.local(i, read)
        if not rows:
            return
        if "q" not in read:
            self.linear("qkv", [("q", i)], self.batch * rows, self.width, self.width)
        mine = self.batch * rows * self.width
        self.attend("attention", rows, 1, mine + 2 * self.n, mine)
        self.linear("out projection", [("out", i)], self.batch * rows, self.width, self.width)
        self.add_norm(("ln2", i), self.batch * rows)
        self.mlp("mlp", i, self.batch * rows, self.plan.activation == "triton")

    def local(self, i: int, read: str) -> None:
        if self.attends:
            self.attended(read)
        self.cross(len(crossed(self.recipe, self.spec.layers)))
        if not self.joint:
            # identity attention is folded into a matrix of its own
            self.linear("local projection", [("out" if self.attends else "local", i)], self.batch * self.patches, self.width, self.width)

    def cross(self, blocks: int) -> None:
        """`LocalPath._crossed`: attention of so many other blocks, their mean, and the mixture."""
        for _ in range(blocks):
            if self.recipe.cross_terms == "own":
                self.attended("qkv")
            else:
                self.attend("cross attention", self.patches, 1, self.p + 2 * self.n, self.p)
            self.move("cross attention", 2 * self.p, self.p)
        for _ in range(3 if blocks else 0):
            self.move("cross attention", self.p, self.p)

    def local_end(self) -> None:
        """The joint projection, the sum of terms, the last block's MLP."""
        blocks, rows = self.recipe.blocks, self.batch * self.patches
        if self.joint:
            # the kernels write their terms side by side
            if not (self.attends and self.plan.attention == "triton"):
                self.move("local projection", blocks * self.p, blocks * self.p)
            self.linear("local projection", ["joint"], rows, blocks * self.width, self.width)
        for _ in range((1 if self.joint else blocks) - (not self.recipe.residual)):
            self.sum(self.p)
        if self.recipe.mlp:
            last = self.spec.layers - 1
            self.norm(("ln2", last), rows)
            self.mlp("local mlp", last, rows, self.plan.activation == "triton")
            self.sum(self.p)

    def attended(self, read: str) -> None:
        """The recipe's terms of one block, of which these projections are there."""
        if "procrustes" in self.recipe.terms:
            self.aligned(len(read))
            read = "a" + read
        if self.plan.attention == "triton":
            self.kernels()
        else:
            self.stacked(read)

    def aligned(self, projections: int) -> None:
        """`attention.with_aligned`: queries from `procrustes.aligned_queries`, laid beside so many projections."""
        n, p, width = self.n, self.p, self.spec.head_width
        # numbers in all heads' matrices
        square = self.batch * self.width * width
        if self.bytes != self.wide_bytes:
            # to float32 and back
            self.add("alignment", read=2 * n * self.bytes + n * self.wide_bytes, written=n * self.bytes + 2 * n * self.wide_bytes)
        # lengths, means and what is centred; the matrix; the root's steps; what is turned, and the keys' share
        read = 5 * p + 2 * n + 2 * n + (8 * STEPS + 4) * square + n + square + 3 * n
        written = 2 * p + 2 * n + square + (5 * STEPS + 3) * square + n + 2 * n
        flops = 2 * 2 * n * width + 3 * STEPS * 2 * square * width
        self.add("alignment", flops=flops, read=read * self.wide_bytes, written=written * self.wide_bytes)
        self.move("alignment", (1 + projections) * n, (1 + projections) * n)

    def kernels(self) -> None:
        """`fused.attention`, one block."""
        streams, iterations = [sides(term) for term in self.recipe.streams], self.recipe.iterations
        count = len(streams)
        if self.recipe.unit:
            self.move("local vectors", count * self.n, 0)
        for _ in range(iterations):
            self.attend("local attention", self.tokens, count, count * self.n, count * self.n)
        # what is iterated lies apart from v
        read = count + 1 if iterations else len({"v", *"".join(streams)})
        self.attend("local attention", self.patches, count, read * self.n, self.p)

    def stacked(self, read: str) -> None:
        """`attention._local`, one block: streams stacked on the head axis."""
        recipe, streams, count = self.recipe, [sides(term) for term in self.recipe.streams], len(self.recipe.streams)
        self_self = all(each[0] == each[1] for each in streams)
        for side in range(1 if self_self else 2):
            together = "".join(each[side] for each in sorted(streams, key=lambda each: read.index(each[0])))
            if count > 1 and together != read:
                self.vectors(count * self.n)
            if recipe.unit:
                self.unit(count * self.n)
        for _ in range(recipe.iterations):
            self.spelled(self.tokens, count)
            self.unit(count * self.n)
        if count > 1:
            self.vectors(count * self.n)
        if recipe.bias_std is not None:
            self.bias()
        self.spelled(self.patches, count)
        if count > 1:
            self.move("local vectors", count * self.p, self.p)
        if "identity" in recipe.terms:
            self.move("local vectors", 2 * self.p, self.p)
        if recipe.combine == "mean" and len(recipe.terms) > 1:
            self.vectors(self.p)

    def spelled(self, queries: int, count: int) -> None:
        """One attention, by `attention.attend` or `attention.attend_in_slices`."""
        mine, keys = count * self.batch * queries * self.width, count * self.n
        tensor = isinstance(self.recipe.inv_temp, tuple) or self.recipe.inv_temp == "adaptive"
        if tensor:
            self.rounded(mine)
        elif self.plan.attention == "bmm":
            self.vectors(mine)
        self.attend("local attention", queries, count, mine + 2 * keys, mine)
        if self.plan.attention == "bmm":
            biased = queries == self.patches and self.recipe.bias_std is not None
            # the logits, their softmax, and their sum with a bias
            self.logits("local attention", queries, count, 3 if biased else 2)
            self.vectors(mine)

    def vectors(self, numbers: int) -> None:
        """A copy, or a pointwise op on one tensor."""
        self.move("local vectors", numbers, numbers)

    def rounded(self, numbers: int) -> None:
        """A pointwise op computed in float32, and the op that rounds its result to half precision."""
        extra = numbers * self.wide_bytes if self.wide_bytes != self.bytes else 0
        self.add("local vectors", read=numbers * self.bytes + extra, written=numbers * self.bytes + extra)

    def unit(self, numbers: int) -> None:
        """`attention.unit`: lengths, then a division."""
        self.move("local vectors", numbers, 0)
        self.rounded(numbers)

    def bias(self) -> None:
        """`attention.neighbour_bias` of all patches: made, put behind the class token's zeros, rounded, read."""
        numbers = self.patches * self.tokens
        half = self.wide_bytes != self.bytes
        self.add("local vectors", read=numbers * self.wide_bytes * (1 + half), written=numbers * (2 * self.wide_bytes + half * self.bytes))
        self.move("local attention", numbers, 0)

    def pooled(self) -> None:
        """`vit.pooled`."""
        if self.spec.pool == "tok" or self.spec.norm_after_pool:
            if self.spec.pool != "tok":
                self.move("head", self.p, self.batch * self.width)
            self.norm("ln_post", self.batch)
        else:
            self.norm("ln_post", self.batch * self.patches)
            self.move("head", self.p, self.batch * self.width)
        self.head(self.batch)

    def readout(self) -> None:
        """`readout.similarity` and `readout.scores`."""
        features, words = self.batch * self.patches * self.spec.embed, self.texts * self.spec.embed
        if self.cls:
            # each image's own texts
            for _ in range(2):
                self.add("read-out", flops=2 * self.batch * words, read=words * self.wide_bytes)
            words *= self.batch
            self.add("read-out", read=3 * words * self.wide_bytes, written=2 * words * self.wide_bytes)
        grids, half, fused = self.batch * self.texts * self.patches, self.bytes != self.wide_bytes, self.plan.readout == "triton"
        # in half precision the kernel takes a text as two, see `fused.cosine`
        times = 2 if half and fused else 1
        if not fused:
            extra = features if half else 0
            self.add("read-out", read=extra * self.bytes + 2 * features * self.wide_bytes, written=(features + extra) * self.wide_bytes)
        size = self.bytes if fused else self.wide_bytes
        self.add("read-out", flops=2 * times * grids * self.spec.embed, read=(features + times * words) * size,
                 written=times * grids * self.wide_bytes)  # fmt: skip
        if times > 1:
            self.add("read-out", read=2 * grids * self.wide_bytes, written=grids * self.wide_bytes)
