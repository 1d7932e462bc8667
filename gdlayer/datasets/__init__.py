"""Data sets of the three experiments, in NumPy alone, and the one way to find their files.

Nothing here imports torch, so the workflow can ask for data while it is being parsed.
"""

from gdlayer.datasets.files import DataCorruptError, DataError, DataFile, DataNotFoundError, find
from gdlayer.datasets.subsets import balanced_subset

__all__ = ["DataCorruptError", "DataError", "DataFile", "DataNotFoundError", "balanced_subset", "find"]
