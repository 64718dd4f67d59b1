"""Splits, cache and checks of study tables; no torch."""
