"""PyTorch's engine: plans, CUDA graphs, towers on a device, and the localizers that use them."""
