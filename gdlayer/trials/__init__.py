"""The engine: what is true of every training run, from its plan to its record. It knows no experiment."""
