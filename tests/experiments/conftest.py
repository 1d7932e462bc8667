"""What these tests share, from one place."""

from surroundings import results, surroundings, trained

__all__ = ["results", "surroundings", "trained"]
