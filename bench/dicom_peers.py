"""What other readers make of DICOM files that all show one picture: the largest difference of each, in levels of 255.

    python bench/dicom_peers.py FOLDER      FOLDER holds picture.npy (uint8) and *.dcm; prints JSON: reader -> file -> levels

It runs in any Python that has pydicom, and with torchxrayvision where that is installed; it knows nothing of hilum.
The readers are what people write: pydicom's pixel_array stretched from its minimum to its maximum; the same after modality LUT,
VOI LUT and an inversion of MONOCHROME1, as pydicom's documentation has it; torchxrayvision's read_xray_dcm as it comes and with
voi_lut=True, its [-1024, 1024] brought to [0, 255]. DCMTK's dcm2pnm, where it is on the path, is the judge among them: written by
others from the standard alone. It is told to take the first VOI LUT, else the first window, else minimum to maximum; it has no
JPEG 2000. null: an exception, or another shape.
"""

import argparse
import json
import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom.pixels import apply_modality_lut, apply_voi_lut


def stretched(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    values = values.mean(axis=-1) if values.ndim == 3 else values  # colour, for its sake
    low, high = values.min(), values.max()
    return (values - low) / (high - low) * 255


def plain(path: Path) -> np.ndarray:
    return stretched(pydicom.dcmread(path).pixel_array)


def with_voi(path: Path) -> np.ndarray:
    dataset = pydicom.dcmread(path)
    values = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    grey = stretched(values)
    return 255 - grey if dataset.PhotometricInterpretation == "MONOCHROME1" else grey


# DCMTK's programs, by the family of the transfer syntax
PROGRAMS = {"1.2.840.10008.1.2.4.8": "dcml2pnm", "1.2.840.10008.1.2.4": "dcmj2pnm", "1.2.840.10008.1.2": "dcm2pnm"}


def dcmtk(path: Path) -> np.ndarray:
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    syntax = dataset.file_meta.TransferSyntaxUID
    program = next(name for family, name in PROGRAMS.items() if syntax.startswith(family))
    voi = ["+Wl", "1"] if "VOILUTSequence" in dataset else ["+Wi", "1"] if "WindowWidth" in dataset else ["+Wm"]
    made = path.with_suffix(".pgm")
    subprocess.run([program, "-q", "--no-overlays", *voi, str(path), str(made)], capture_output=True, check=True)
    image = np.asarray(Image.open(made), dtype=np.float64)
    return image.mean(axis=-1) if image.ndim == 3 else image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    readers: dict[str, Callable[[Path], np.ndarray]] = {"pydicom": plain, "pydicom, modality and VOI": with_voi}
    versions = {"pydicom": pydicom.__version__}
    try:
        import torchxrayvision as xrv
    except ImportError:
        pass
    else:
        versions["torchxrayvision"] = xrv.__version__
        readers["torchxrayvision"] = lambda path: (xrv.utils.read_xray_dcm(path) / 1024 + 1) / 2 * 255
        readers["torchxrayvision, voi_lut=True"] = lambda path: (
            (xrv.utils.read_xray_dcm(path, voi_lut=True) / 1024 + 1) / 2 * 255
        )
    if shutil.which("dcm2pnm"):
        told = subprocess.run(["dcm2pnm", "--version"], capture_output=True, text=True, check=False).stdout
        versions["DCMTK"] = told.split()[2] if told.startswith("$dcmtk") else "unknown"
        readers["DCMTK"] = dcmtk
    picture = np.load(folder / "picture.npy").astype(np.float64)
    found: dict[str, dict[str, float | None]] = {}
    warnings.simplefilter("ignore")
    for name, read in readers.items():
        found[name] = {}
        for path in sorted(folder.glob("*.dcm")):
            try:
                image = read(path)
            except Exception:
                image = np.empty(0)
            apart = float(np.abs(image - picture).max()) if image.shape == picture.shape else None
            found[name][path.name] = apart if apart is not None and np.isfinite(apart) else None
    print(json.dumps({"versions": versions, "readers": found}))


if __name__ == "__main__":
    main()
