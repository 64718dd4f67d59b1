"""Coverage: how often the 95 % intervals of `hilum evaluate` hold the expected value of a measure on a test set of that size.

    python bench/coverage.py [--quick]

A population of patients with 1-12 studies each; a finding is a threshold on sickness shared by all findings, a chronic
part kept by the patient and a part of the study's own; a score sees the finding, the sickness, a lasting peculiarity of
the patient and noise. Prevalences and difficulty follow a long tail. The estimand, the expected measure on a test set of this many patients, is the mean
over many independent test sets; the macro set of each test set is fixed by the rule of `evaluate` (10 positive patients).
"""

import argparse
import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

from hilum.evaluation.intervals import LEVEL, Fold, centred, macro, percentile, resample

RESULT = Path(__file__).parent / "results" / "coverage.json"
TIERS = ("head", "medium", "tail")
MIN_POSITIVES = 10


@dataclass(frozen=True)
class World:
    """prevalence, strength: (F,); tier: (F,) names; thresholds: (F,) of the score for F1; patients: patients of one test set."""

    prevalence: np.ndarray
    strength: np.ndarray
    tier: np.ndarray
    patients: int

    @classmethod
    def long_tailed(cls, patients: int) -> "World":
        prevalence = np.concatenate(
            [np.geomspace(0.30, 0.11, 8), np.geomspace(0.09, 0.011, 10), np.geomspace(0.0095, 0.006, 8)]
        )
        strength = np.concatenate([np.linspace(1.2, 2.0, 8), np.linspace(1.4, 2.2, 10), np.linspace(1.8, 2.6, 8)])
        return cls(prevalence, strength, np.repeat(TIERS, (8, 10, 8)), patients)

    def test_set(self, rng: np.random.Generator) -> Fold:
        studies = np.minimum(rng.geometric(1 / 3.4, self.patients), 12)
        patients = np.repeat(np.arange(self.patients), studies)
        findings = len(self.prevalence)
        sick = rng.standard_normal((self.patients, 1))
        chronic, peculiar = rng.standard_normal((2, self.patients, findings))
        own, noise = rng.standard_normal((2, len(patients), findings))
        latent = (0.5 * sick + 0.65 * chronic)[patients] + np.sqrt(1 - 0.5**2 - 0.65**2) * own
        labels = (latent > _quantile(1 - self.prevalence)).astype(np.float32)
        scores = self.strength * labels + (0.4 * sick + 0.5 * peculiar)[patients] + 0.8 * noise
        return Fold(labels, scores.astype(np.float32), self.strength, patients)


def _quantile(share: np.ndarray) -> np.ndarray:
    """Quantile of the standard normal, by bisection."""
    from math import erf, sqrt

    low, high = np.full_like(share, -8.0), np.full_like(share, 8.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = np.array([(1 + erf(value / sqrt(2))) / 2 for value in middle]) < share
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low


def positive_patients(fold: Fold) -> np.ndarray:
    """Patients with the finding, (F,)."""
    return np.array([len(np.unique(fold.patients[column > 0.5])) for column in fold.labels.T])


def estimand(world: World, sets: int, seed: int) -> dict[str, np.ndarray]:
    """Expected measures per finding, (F,), with their standard errors under NAME_error."""
    streams = np.random.SeedSequence(seed).spawn(sets)
    values = [resample([world.test_set(np.random.default_rng(s))], replicates=0, threads=1).value for s in streams]
    stacked = {name: np.stack([value[name] for value in values]) for name in values[0]}
    return {name: np.nanmean(value, axis=0) for name, value in stacked.items()} | {
        f"{name}_error": np.nanstd(value, axis=0) / np.sqrt(sets) for name, value in stacked.items()
    }


def coverage(world: World, truth: dict[str, np.ndarray], sets: int, replicates: int, seed: int) -> dict[str, dict[str, float]]:
    """Share of intervals that hold the estimand, per quantity: centred, percentile, the mean widths and values."""
    seen: dict[str, list[tuple[float, ...]]] = {}
    for number, stream in enumerate(np.random.SeedSequence(seed).spawn(sets)):
        fold = world.test_set(np.random.default_rng(stream))
        result = resample([fold], replicates=replicates, seed=seed + number)
        enough = positive_patients(fold) >= MIN_POSITIVES
        for name in result.value:
            whole = {"macro": enough} | {tier: enough & (world.tier == tier) for tier in TIERS}
            for group, chosen in whole.items():
                if chosen.any():
                    drawn = macro(result.replicates[name], chosen)
                    value, target = result.value[name][chosen].mean(), truth[name][chosen].mean()
                    seen.setdefault(f"{group} {name}", []).append(_held(value, drawn, target))
            for column in np.flatnonzero(enough):
                drawn = result.replicates[name][:, column]
                held = _held(result.value[name][column], drawn, truth[name][column])
                seen.setdefault(f"single {world.tier[column]} {name}", []).append(held)
    return {
        what: dict(
            zip(
                ("centred", "percentile", "basic", "width", "shift", "value", "estimand"),
                np.round(np.mean(rows, axis=0), 4).tolist(),
            )
        )
        | {"intervals": len(rows)}
        for what, rows in seen.items()
    }


def _held(value: float, drawn: np.ndarray, target: float) -> tuple[float, ...]:
    low, high = centred(value, drawn)
    plain_low, plain_high = percentile(drawn)
    return (
        low <= target <= high,
        plain_low <= target <= plain_high,
        2 * value - plain_high <= target <= 2 * value - plain_low,
        high - low,
        np.nanmean(drawn) - value,
        value,
        target,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer sets and replicates; writes nothing")
    parser.add_argument("--sets", type=int, default=400)
    options = parser.parse_args()
    sets, replicates, truth_sets = (40, 200, 300) if options.quick else (options.sets, 1000, 4000)
    rows, began = [], time.perf_counter()
    for patients in (600, 1200):
        world = World.long_tailed(patients)
        truth = estimand(world, truth_sets, seed=1)
        for what, values in coverage(world, truth, sets, replicates, seed=1_000).items():
            rows.append({"patients": patients, "what": what} | values)
            print(rows[-1], flush=True)
    print(f"{time.perf_counter() - began:.0f} s")
    maps = [row for row in rows if row["what"] in ("macro ap", *(f"{tier} ap" for tier in TIERS))]
    result = {
        "name": "coverage",
        "ours": min(row["centred"] for row in maps),
        "peer": min(row["percentile"] for row in maps),
        "unit": f"share of nominal {LEVEL:.0%} intervals that hold the expected mAP, worst of all tiers and sizes; peer: plain percentile",
        "ratio": round(min(row["centred"] for row in maps) / max(1e-9, min(row["percentile"] for row in maps)), 2),
        "goal": ">= 0.90",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": date.today().isoformat(),
        "commit": subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip(),
        "command": "python bench/coverage.py" + (" --quick" if options.quick else ""),
        "rows": rows,
    }
    if not options.quick:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
