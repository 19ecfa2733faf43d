"""Reading of a state dict's tensors, each with the shape that the architecture gives it."""

from collections.abc import Mapping

from torch import Tensor

from fastloc.errors import ModelError


class Take:
    """Takes tensors out of a state dict by name and shape, and knows which ones were never taken.

    state: the tensors, by names that begin with `prefix`, which callers leave out.
    """

    def __init__(self, state: Mapping[str, Tensor], prefix: str = "") -> None:
        self._state, self._prefix = state, prefix
        self._left = {name for name in state if name.startswith(prefix)}

    def __call__(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The tensor of this name. Raises ModelError if it is missing or has another shape."""
        full = self._prefix + name
        tensor = self._state.get(full)
        if tensor is None:
            raise ModelError(f"weights must hold {full!r} of shape {shape}, got none; give the weights of this architecture")
        if tuple(tensor.shape) != shape:
            raise ModelError(f"{full!r} must have shape {shape}, got {tuple(tensor.shape)}; give the weights of this architecture")
        self._left.discard(full)
        return tensor

    def has(self, name: str) -> bool:
        return self._prefix + name in self._state

    def skip(self, name: str) -> None:
        """Count a tensor as taken that holds nothing which the tower reads."""
        self._left.discard(self._prefix + name)

    def left(self) -> list[str]:
        """The names that were never taken, in order."""
        return sorted(self._left)
