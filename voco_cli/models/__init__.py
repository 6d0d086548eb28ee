"""Networks behind one protocol, their weights in and out, and the kernels that make them fast."""
