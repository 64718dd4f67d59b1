"""Honest judgement of predictions: metrics, intervals, reports; no torch."""
