"""Kernels run in Triton's interpreter where there is no GPU."""

import os

import torch

# triton reads this when it is imported and when a kernel is defined, so it is set before any test module is; where there is
# a GPU it stays unset, and the same tests run the compiled kernels
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
