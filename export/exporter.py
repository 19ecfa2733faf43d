"""PyTorch's ONNX exporter, which takes what runs out while it traces for an operator that it does not know."""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import nn

from fastloc.utils.system.exhaustion import ran_out

__all__ = ["exported"]


def exported(module: nn.Module, example: tuple[Any, ...], **options: Any) -> torch.onnx.ONNXProgram:
    """The module as an ONNX program; `torch.onnx.export` with these options.

    Where tracing fails for any reason the exporter traces once more, in another way and into another graph, and says nothing. Raises what
    ran out meanwhile, and what the exporter raises.
    """
    usual, short = module.forward, list[Exception]()

    @wraps(usual)
    def forward(*given: Any, **more: Any) -> Any:
        try:
            return usual(*given, **more)
        except Exception as error:
            if ran_out(error):
                short.append(error)
            raise

    # of this object alone
    module.forward = forward
    try:
        program = torch.onnx.export(module, example, dynamo=True, verbose=False, **options)
    except Exception:
        if not short:
            raise
    finally:
        del module.forward
    if short:
        raise short[0]
    assert program is not None
    return program
