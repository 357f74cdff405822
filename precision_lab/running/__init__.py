"""Calling a kernel: tensors, devices, torch.compile, and an environment that does not lie."""
