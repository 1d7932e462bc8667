"""The paper's experiments: trials in, records out. Run them with ``python -m gdlayer.experiments``."""
