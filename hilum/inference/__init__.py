"""Inference: from a bundle and studies to a predictions table."""
