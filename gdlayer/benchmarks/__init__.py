"""Time and memory of the layer beside the convolution it replaces.

``python -m gdlayer.benchmarks`` measures; :mod:`gdlayer.benchmarks.report` makes tables and figures of the record.
"""
