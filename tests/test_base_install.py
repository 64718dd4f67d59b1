"""The base install has no torch: everything before models works without it; help comes fast; nothing is left in the world."""

import resource
import subprocess
import sys

BLOCKED = "import sys\nfor name in ('torch', 'timm', 'lightning_fabric', 'matplotlib'):\n    sys.modules[name] = None\n"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_before_models_imports_and_works_without_torch(tmp_path):
    run(
        BLOCKED + "import hilum, hilum.cli, hilum.bundle, hilum.recipe, hilum.operating_points\n"
        "from hilum.sources import import_studies\n"
        "from hilum.data.cache import cache\n"
        "from hilum.data.splits import hold_out\n"
        "from hilum.evaluation.evaluate import evaluate\n"
        "from pathlib import Path\n"
        f"out = Path({str(tmp_path)!r})\n"
        "if __name__ == '__main__':\n"
        "    path, imported = import_studies('phantom', None, out, studies=90, size=64, workers=1)\n"
        "    assert len(cache(path, out / 'cache', size=32).image_ids) == imported.studies.height\n"
        "    assert 'split' in hold_out(imported.studies).columns\n"
    )


def test_help_comes_in_half_a_second():
    """Of the processor's time, which other work on the machine does not lengthen much."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "hilum.cli", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.5


def test_the_face_is_lazy_and_knows_its_verbs():
    out = run(
        "import sys, hilum\nprint('torch' in sys.modules, 'polars' in sys.modules)\nprint(hilum.train, hilum.load, hilum.evaluate)"
    )
    assert out.startswith("False False")
    assert "function train" in out


def test_importing_leaves_warnings_and_seeds_alone():
    run(
        "import random, warnings, numpy, torch\n"
        "before = (list(warnings.filters), random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())\n"
        "import hilum.training.run, hilum.inference.predict, hilum.sources\n"
        "import hilum.sources.phantom\n"
        "after = (list(warnings.filters), random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist())\n"
        "assert before[1:] == after[1:]\n"
        "assert not [f for f in after[0] if f not in before[0] and 'hilum' in str(f)]\n"
    )
