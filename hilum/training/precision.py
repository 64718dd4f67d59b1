"""Which number format a device computes in, and why."""

import torch

from hilum.errors import InputError, nearest

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def choose_precision(wish: str, device: torch.device) -> tuple[str, str]:
    """(precision of Lightning Fabric, the reason in words) for `auto` or a wish. Raises InputError for an unknown wish."""
    if wish != "auto":
        if wish in ("bf16-true", "16-true", "64-true"):
            raise InputError(
                f"precision {wish!r} would keep the weights themselves in another format than 32-bit floats, which a bundle holds",
                do="take bf16-mixed, which computes in bf16 and keeps the weights as they are",
            )
        if wish not in PRECISIONS:
            raise InputError(f"there is no precision {wish!r}", do=nearest(wish, ("auto", *PRECISIONS)))
        return wish, "as the recipe says"
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return "bf16-mixed", f"compute capability {major}.{minor} multiplies bf16 in hardware"
        return "32-true", f"compute capability {major}.{minor} has no bf16 units"
    if device.type == "cpu":
        if getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)():  # not public in every version of torch
            return "bf16-mixed", "the processor multiplies bf16 in hardware (AMX)"
        return "32-true", "without AMX a processor is no faster in bf16"
    return "32-true", f"bf16 is not dependable on {device.type}"
