"""The work of GEM in the official package's form, for the comparison with `floor.count`."""

from fastloc.bench.roofline.op_counts import Tally, Work
from fastloc.checkpoints.vit_spec import ModelSpec

# products, logits times a temperature, softmax: each map is written, and read again, so many times
MAPS = 3


def official(
    spec: ModelSpec, batch: int, size: tuple[int, int], texts: int, depth: int = 7, iterations: int = 1, *, dtype: str = "float32",
    hidden: int | None = None,
) -> tuple[Work, ...]:  # fmt: skip
    """The work of one pass: both paths through every token of every block, and each N x N map of a changed block in memory.

    Args:
        size: (height, width) of normalised pixels.
        depth: the official parameter: one more than the number of changed blocks.
        hidden: width of the blocks' MLPs; by default 4 C.

    Source: WalBouss/GEM, gem/gem_utils.py, as in `official_style`.
    """
    return _Official(spec, batch, size, texts, dtype, hidden).run(depth - 1, iterations)


class _Official(Tally):
    def run(self, changed: int, iterations: int) -> tuple[Work, ...]:
        spec = self.spec
        self.pixels()
        self.resize()
        self.linear("patch embedding", ["patch"], self.batch * self.patches, 3 * spec.patch[0] * spec.patch[1], self.width, bias=False)
        self.embed()
        for i in range(spec.layers):
            self.norm(("ln1", i), self.rows)
            self.linear("qkv", [("qkv", i)], self.rows, self.width, 3 * self.width)
            if i >= spec.layers - changed:
                self.local(i, iterations)
            else:
                self.attend("attention", self.tokens, 1, 3 * self.n, self.n)
            self.branch(i)
        self.norm("ln_post", self.rows)
        self.head(self.rows)
        self.readout()
        return self.result()

    def resize(self) -> None:
        """The position embedding at another grid than the trained one, in every call: a product for each axis."""
        (h, w), (trained_h, trained_w) = (self.size[0] // self.spec.patch[0], self.size[1] // self.spec.patch[1]), self.spec.grid
        if (h, w) == (trained_h, trained_w):
            return
        before, between, after = (self.width * each for each in (trained_h * trained_w, h * trained_w, h * w))
        self.parameters("embedding", "trained table", self.width + before)
        self.add("embedding", flops=2 * between * trained_h + 2 * after * trained_w)
        self.move("embedding", between + 2 * after, between + 3 * after)
        # what is added to the tokens is this, and no parameter
        self.met.add("table")

    @property
    def rows(self) -> int:
        return self.batch * self.tokens

    def branch(self, i: int) -> None:
        """A block from the encoder's own attention to its end."""
        self.linear("out projection", [("out", i)], self.rows, self.width, self.width)
        self.scale(("ls1", i))
        self.sum(self.n)
        self.norm(("ln2", i), self.rows)
        self.mlp("mlp", i, self.rows, fused=False)
        self.scale(("ls2", i))
        self.sum(self.n)

    def local(self, i: int, iterations: int) -> None:
        """Both attentions of a changed block, and the path of the self-self one."""
        self.maps("attention")
        self.move("attention", self.n, self.n)
        # the lengths for the temperature
        self.move("local vectors", self.n, 0)
        for _ in range(3 * (iterations + 1)):
            # lengths, then a division
            self.move("local vectors", 2 * self.n, self.n)
            self.maps("local attention")
        # the mean of the streams, and the heads side by side again
        self.move("local vectors", 6 * self.n, 4 * self.n)
        self.linear("local projection", [("out", i)], self.rows, self.width, self.width)
        self.scale(("ls1", i))
        self.sum(self.n)

    def maps(self, name: str) -> None:
        self.attend(name, self.tokens, 1, 3 * self.n, self.n)
        self.logits(name, self.tokens, 1, MAPS)

    def scale(self, key: tuple[str, int]) -> None:
        """LayerScale, where the tower has it."""
        if self.spec.layer_scale:
            self.parameters("norms and sums", key, self.width)
            self.move("norms and sums", self.n, self.n)

    def readout(self) -> None:
        """All tokens' features of length 1, and the patches' cosines."""
        features, grids = self.rows * self.spec.embed, self.batch * self.texts * self.patches
        self.move("read-out", 2 * features, features)
        self.add("read-out", flops=2 * grids * self.spec.embed)
        self.move("read-out", self.batch * self.patches * self.spec.embed + self.texts * self.spec.embed, grids)
