"""GPU kernels, installed as `fastloc.kernels`.

One op a file: the formula in the docstring, then the Triton kernel, its launcher, `why_not(...) -> list[str]` (every reason
for refusing these shapes, dtypes or this device; empty means it will run) and a plain PyTorch reference that tests compare
with. This file imports neither torch nor triton and has no side effects: other packages look for a module of this name.
"""
