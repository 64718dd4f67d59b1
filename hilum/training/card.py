"""The model card: what a bundle is, from facts alone; no path and no id leaves by it."""

from collections.abc import Mapping
from typing import Any

from hilum.bundle import Bundle


def model_card(
    bundle: Bundle, valid: dict[str, float], seed: int, pseudo: Mapping[str, Mapping[str, Any]] | None = None
) -> str:
    """Markdown for people who are handed the bundle.

    valid: the validation values of the chosen epoch, by name; pseudo: by stage what the manifest says of its pseudo labels.
    """
    parts = bundle.architecture
    rows = "\n".join(
        f"| {name} | {bundle.positives[name]:,} | {bundle.known[name]:,} | {_share(bundle.positives[name], bundle.known[name])} |"
        for name in bundle.findings
    )
    values = ", ".join(f"{name.removeprefix('valid_')} {value:.4f}" for name, value in valid.items())
    return f"""# A multi-label classifier of studies

Research software, not for clinical use.{f" {bundle.note}" if bundle.note else ""}

- Findings: {len(bundle.findings)}, vocabulary {bundle.vocabulary}
- Images: {bundle.pixels.size} x {bundle.pixels.size} px grey, fit `{bundle.pixels.fit}`, tone `{bundle.pixels.tone}`; up to {bundle.views} views of a study
- Backbone `{_named(parts["backbone"])}`, fusion `{parts["fusion"]["name"]}`, head `{parts["head"]["name"]}`{_beside(parts)}
- Trained on: {", ".join(bundle.sources)}; seed {seed}
{_labels(parts)}{_pseudo(pseudo or {})}- On validation patients, at the chosen epoch: {values}. The epoch was chosen by these values: they are no test result.
- Probabilities are the plain logistic of the logits until `hilum calibrate` puts maps into `operating_points.csv`. Thresholds in `operating_points.csv` were chosen on validation patients.
- Licence of the weights: {bundle.licence or "not stated"}

| finding | positive in training | labelled in training | prevalence |
|---|---:|---:|---:|
{rows}
"""


def _labels(architecture: Mapping[str, Any]) -> str:
    """What its queries were made of, where they are text."""
    if "labels" not in architecture:
        return ""
    told = architecture["labels"]
    prompts = ", ".join(f"`{prompt}`" for prompt in told["prompts"])
    model = f", {told['model']}" if told["model"] else ""
    return f"- Labels read as text: encoder `{told['name']}`{model}, prompts {prompts}\n"


def _pseudo(stages: Mapping[str, Mapping[str, Any]]) -> str:
    """A line per stage that learned from pseudo labels."""
    return "".join(
        f"- Pseudo labels: in stage `{name}` {facts['entries']:,} entries of {facts['samples']:,} samples are a model's"
        f"{' (bundle `' + facts['teacher'][:12] + '`)' if facts['teacher'] else ''}, at weight {facts['weight']:g}, beside"
        f" {facts['known_entries']:,} known ones. The counts below are of the known ones.\n"
        for name, facts in stages.items()
    )


def _named(backbone: dict[str, Any]) -> str:
    """The network, or the two of a backbone by view."""
    options = backbone["options"]
    if backbone["name"] != "by_view":
        return str(backbone["name"])
    return f"{options['frontal']['name']} for frontal, {options['lateral']['name']} for lateral views"


def _beside(architecture: Mapping[str, Any]) -> str:
    """What it reads besides images, where it does."""
    told = architecture.get("demographics") or "demographics" in architecture["fusion"].get("context", [])
    return "; reads age and sex where they are known" if told else ""


def _share(positives: int, known: int) -> str:
    return f"{100 * positives / known:.2f} %" if known else "unknown"
