"""What the layer costs beside the convolution it replaces. Measure it with ``python -m gdlayer.benchmarks``."""
