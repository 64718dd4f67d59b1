"""The phantom: chest X-rays drawn from numbers, with patients, views and noisy labels; data that anyone can have."""

from hilum.sources.phantom.source import NOTE, import_phantom

__all__ = ["NOTE", "import_phantom"]
