"""Counts the tensors that live at one time."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """The most storages that lived at one time since the block was entered (`most`), and the number of ops (`calls`)."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self.calls = 0
        self._made: list[weakref.ref[Tensor]] = []

    def __torch_dispatch__(
        self, op: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = op(*args, **(kwargs or {}))
        self.calls += 1
        self._made += [weakref.ref(each) for each in tree_leaves(found) if isinstance(each, Tensor)]
        living = [each for each in self._made if each() is not None]
        self._made = living
        self.most = max(self.most, len({tensor.untyped_storage().data_ptr() for each in living if (tensor := each()) is not None}))
        return found
