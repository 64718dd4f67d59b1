"""How plain must each finding be drawn? Contrasts at which a small ResNet reaches its target AP on the truth, by bisection.

    python bench/calibrate_phantom.py work            # goes on where it stopped; --freeze writes the result into the phantom

A round draws fresh pictures with the contrasts so far, trains the recipe `phantom_small` on mined labels, and measures the
AP of every finding on the truth of test patients. Then each finding's contrast moves: between the two rounds that enclose
its target (by the logit of the AP over the logarithm of the contrast), or by a step towards it. The patients are not those of the benchmark (another
seed), so nothing is tuned on what is reported. The first round takes the contrasts that the phantom has now.

Targets lie within the ranges of the benchmark (head .55-.70, medium .20-.35, tail .08-.20), rising with the prevalence.
No Finding is not drawn and has no contrast: what it reaches is reported. Findings beyond the 26 of CXR-LT 2023 are set in a
second pass (`--world cxr-lt-2024`), in which they are raised to tail prevalences of .6 to .95 % and the 26 stay as they are.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from result import save

from hilum.atomic import atomic_path
from hilum.evaluation.evaluate import evaluate
from hilum.progress import shown
from hilum.sources.phantom import difficulty
from hilum.sources.phantom.benchmarks import Benchmark, raised_tail
from hilum.sources.phantom.prevalence import NO_FINDING
from hilum.sources.phantom.source import draw_benchmark
from hilum.sources.phantom.worlds import WORLDS, World
from hilum.tables import write_studies
from hilum.training.run import train

RANGES = {"head": (0.55, 0.70), "medium": (0.20, 0.35), "tail": (0.08, 0.20)}
SEED = 1006  # other patients than any benchmark's
STEEPNESS = 4.0  # logit of AP per logarithm of contrast, until two rounds enclose the target
LARGEST_STEP = 1.0
LIMITS = (0.05, 8.0)


def targets(world: World) -> dict[str, float]:
    """The AP wanted of each finding: evenly within the middle four fifths of its tier's range, in order of prevalence."""
    wanted = {}
    for tier, (low, high) in RANGES.items():
        names = sorted((name for name in world.findings if world.tiers[name] == tier), key=world.prevalence.__getitem__)
        margin = (high - low) / 10
        wanted |= dict(zip(names, np.linspace(low + margin, high - margin, len(names)).tolist(), strict=True))
    return wanted


def moved(rounds: list[dict[str, Any]], name: str, target: float) -> float:
    """The contrast for the next round: between the nearest two that enclose the target, else a step towards it from the last."""
    told = [one for one in rounds if name in one["ap"]]
    if not told:  # its drawing was changed and its APs taken out of rounds.json
        return float(rounds[-1]["contrast"].get(name, 1.0))
    x = np.log([one["contrast"].get(name, 1.0) for one in told])
    ap = np.clip([one["ap"][name] for one in told], 0.005, 0.995)
    off = np.log(ap / (1 - ap)) - np.log(target / (1 - target))
    if (off < 0).any() and (off > 0).any():
        low, high = (np.flatnonzero(side)[np.argmax(sign * x[side])] for side, sign in ((off < 0, 1), (off > 0, -1)))
        part = np.clip(-off[low] / (off[high] - off[low]), 0.1, 0.9)
        # where noise has crossed the two, this lies between them all the same
        wanted = x[low] + part * (x[high] - x[low])
    else:
        wanted = x[-1] - np.clip(off[-1] / STEEPNESS, -LARGEST_STEP, LARGEST_STEP)
    return float(np.clip(np.exp(wanted), *LIMITS))


def one_round(folder: Path, world: World, contrast: dict[str, float], quick: bool) -> dict[str, Any]:
    """Draw, train and measure; everything large is removed afterwards."""
    sizes = {"train": 300, "valid": 100, "test": 300} if quick else {"train": 8000, "valid": 400, "test": 5000}
    cohort = Benchmark(world.changed("calibration", contrast=contrast), size=128, labelled=1, seed=SEED, **sizes)
    made = draw_benchmark(folder, "calibration", cohort, progress=shown)
    assert made.truth is not None
    write_studies(made.studies, folder / "studies.parquet", label_level="study", note=made.note)
    write_studies(made.truth, folder / "truth.parquet", label_level="study", note=made.note)
    shutil.rmtree(folder / "run", ignore_errors=True)
    findings = json.dumps(list(world.findings))
    overrides = [f"studies={folder / 'studies.parquet'}", f"cache.folder={folder / 'cache'}", f"findings={findings}"]
    run = train("phantom_small", overrides, run=folder / "run", progress=shown, say=print)
    metrics = evaluate([run / "predictions_test.parquet"], folder / "truth.parquet", folder / "report", replicates=200)
    for large in ("images", "cache", "run"):
        shutil.rmtree(folder / large, ignore_errors=True)
    return {"contrast": contrast, "ap": {name: metrics["findings"][name]["ap"][0] for name in world.findings}}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("work", type=Path, help="folder for rounds.json and the round at work")
    arguments.add_argument("--world", choices=WORLDS, default="cxr-lt-2023")
    arguments.add_argument("--rounds", type=int, default=5, help="rounds in all")
    arguments.add_argument("--freeze", action="store_true", help="write the last contrasts into the phantom")
    arguments.add_argument("--quick", action="store_true", help="a few hundred studies, to see that it runs")
    given = arguments.parse_args()
    base = WORLDS[given.world]
    fixed = () if given.world == "cxr-lt-2023" else WORLDS["cxr-lt-2023"].findings
    world = raised_tail(base, but=fixed)
    wanted = {name: ap for name, ap in targets(world).items() if name != NO_FINDING and name not in fixed}
    given.work.mkdir(parents=True, exist_ok=True)
    log = given.work / "rounds.json"
    rounds: list[dict[str, Any]] = json.loads(log.read_text()) if log.exists() else []
    while len(rounds) < given.rounds:
        now = {name: difficulty.CONTRAST.get(name, 1.0) for name in wanted}
        contrast = {name: moved(rounds, name, ap) for name, ap in wanted.items()} if rounds else now
        rounds.append(one_round(given.work / f"round-{len(rounds)}", world, contrast, given.quick))
        with atomic_path(log) as temporary:
            temporary.write_text(json.dumps(rounds, indent=1))
        tell(rounds[-1], world, wanted)
    if given.freeze:
        freeze(rounds, world, wanted)


def tell(one: dict[str, Any], world: World, wanted: dict[str, float]) -> None:
    """A round's APs beside their targets, and how many lie in their tier's range."""
    within = 0
    for name, ap in one["ap"].items():
        low, high = RANGES[world.tiers[name]]
        within += low <= ap <= high
        aim = f"{wanted[name]:.2f}" if name in wanted else " -- "
        print(
            f"{name:28} {world.tiers[name]:7} contrast {one['contrast'].get(name, world.contrast.get(name, 1.0)):.2f}  AP {ap:.3f}  wanted {aim}"
        )
    for tier in RANGES:
        print(f"{tier:7} mean AP {np.mean([ap for name, ap in one['ap'].items() if world.tiers[name] == tier]):.3f}")
    print(f"{within} of {len(one['ap'])} findings lie in their tier's range\n", flush=True)


def freeze(rounds: list[dict[str, Any]], world: World, wanted: dict[str, float]) -> None:
    """Write difficulty.json: after the last round each contrast makes half a step more towards its target."""
    place = Path(difficulty.__file__).with_name("difficulty.json")
    contrast = {
        name: round(float(np.sqrt(rounds[-1]["contrast"][name] * moved(rounds, name, ap))), 3)
        for name, ap in wanted.items()
    }
    frozen = {"version": difficulty.VERSION, "contrast": {**difficulty.CONTRAST, **contrast}}
    with atomic_path(place) as temporary:
        temporary.write_text(json.dumps(frozen, indent=1) + "\n")
    print(f"{len(contrast)} contrasts are written to {place}")
    low_high = {name: RANGES[world.tiers[name]] for name in wanted}
    within = sum(low <= rounds[-1]["ap"][name] <= high for name, (low, high) in low_high.items())
    save(
        {
            "name": f"calibrate_phantom_{world.name}",
            "ours": within,
            "peer": len(wanted),
            "unit": "findings within their tier's range in the last round, of all that were moved",
            "ratio": round(within / len(wanted), 2),
            "goal": f"AP on truth within {RANGES}",
            "command": f"python bench/calibrate_phantom.py WORK --world {world.name.removesuffix('-raised-tail')} --freeze",
            "frozen": contrast,
            "wanted": wanted,
            "rows": rounds,
        }
    )


if __name__ == "__main__":
    main()
