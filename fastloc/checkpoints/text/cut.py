"""Columns of tokens that a text tower reads. Later columns can be dropped exactly, so the cost of a text follows its length."""

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Cut"]


@dataclass(frozen=True)
class Cut:
    """The rule for the last column that a tower reads of a text.

    Attributes:
        kind: "highest": that of the highest id; "first": the first with id `token`; "filled": the last with another id than `token`
        token: an id, see `kind`
        more: columns after that one, as far as they exist
    """

    kind: str
    token: int = 0
    more: int = 0

    def columns(self, tokens: Tensor) -> int:
        """The number of columns that suffices for every row of tokens, int64 [n, N]; a row without such an id uses argmax's result."""
        if self.kind == "filled":
            # the last one: the first from the end
            last = tokens.shape[1] - 1 - (tokens != self.token).int().flip(1).argmax(1)
        else:
            last = (tokens if self.kind == "highest" else (tokens == self.token).int()).argmax(1)
        return min(int(last.max()) + 1 + self.more, tokens.shape[1])
