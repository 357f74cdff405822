"""What compiles (numba, NVRTC) and the error-free arithmetic that compiled code is made of."""
