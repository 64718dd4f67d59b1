"""Batches: studies from the cache as tensors, and their augmentation."""
