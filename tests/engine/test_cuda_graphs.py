"""Choice of the calls to capture and of the graphs to keep; the capture itself is a stand-in where there is no GPU."""

import pytest
import torch
from torch import Tensor

from fastloc.engine.cuda_graphs import Captured, Function, Graphs


class Log:
    """Counts the calls that run as they are, the captured and the replayed ones."""

    def __init__(self) -> None:
        self.plain = self.captures = self.replays = 0

    def function(self, x: Tensor) -> tuple[Tensor | None, ...]:
        self.plain += 1
        return x + 1, None

    def capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        self.captures += 1

        def replay(*args: Tensor) -> tuple[Tensor | None, ...]:
            self.replays += 1
            return args[0] + 1, None

        return replay


def test_a_shape_is_captured_when_it_comes_again() -> None:
    log, x = Log(), torch.ones(2)
    graphs = Graphs(capture=log.capture)
    for _ in range(4):
        out, none = graphs("a", log.function, (x,))
        assert out is not None and out.tolist() == [2, 2] and none is None
    assert (log.plain, log.captures, log.replays) == (1, 1, 3)


def test_the_least_recently_used_is_forgotten() -> None:
    log, x = Log(), torch.ones(2)
    graphs = Graphs(2, capture=log.capture)
    for key in ("a", "a", "b", "b", "a", "c", "c"):
        graphs(key, log.function, (x,))
    assert list(graphs.graphs) == ["a", "c"] and log.captures == 3
    # forgotten, so it starts over
    graphs("b", log.function, (x,))
    assert log.plain == 4 and log.captures == 3 and list(graphs.graphs) == ["c", "b"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_captured_call_is_the_call() -> None:
    def function(x: Tensor, y: Tensor) -> tuple[Tensor | None, ...]:
        return (x * y).cumsum(0), None

    x, y = torch.rand(2, 1000, device="cuda")
    captured = Captured(function, (x, y), None)
    first, _ = captured(x, y)
    second, _ = captured(y + 1, x)
    assert first is not None and second is not None
    # the second replay did not write over what the first returned
    assert torch.equal(first, (x * y).cumsum(0)) and torch.equal(second, ((y + 1) * x).cumsum(0))
