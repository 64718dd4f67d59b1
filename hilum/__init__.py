"""hilum: find many diseases at once in chest X-ray studies, most of them rare.

The face of the package. Names load on first use, so `import hilum` costs nothing and needs no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "HilumError": "hilum.errors",
    "cache": "hilum.data.cache",
    "calibrate": "hilum.inference.calibrate",
    "check": "hilum.data.check",
    "compare": "hilum.evaluation.compare",
    "ensemble": "hilum.evaluation.ensemble",
    "evaluate": "hilum.evaluation.evaluate",
    "export": "hilum.inference.export",
    "fill_views": "hilum.inference.fill_views",
    "import_studies": "hilum.sources",
    "load": "hilum.inference.predict",
    "merge": "hilum.sources.merge",
    "predict": "hilum.inference.predict",
    "pseudo": "hilum.inference.pseudo",
    "serve": "hilum.serving.run",
    "train": "hilum.training.run",
    "views": "hilum.training.view_classifier",
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'hilum' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
