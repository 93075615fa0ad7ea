"""Random 128 x 128 patch pairs per second: from a cache in memory maps, and from the DICOM files it was made of.

python benchmarks/patches.py [--gigabytes 1] [--seconds 10] [--workers 2] [--folder FOLDER]

A simulated data set in the layout of LDCT-and-Projection-data is written, prepared and read; everything is deleted at the
end. One process reads, with one thread. Rates are given by the clock and by the processor's time, which tells the same on
a machine that is busy with other things.
"""

import argparse
import json
import mmap
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from timing import Row

from invkit.data.patches import PatchSampler
from invkit.data.prepare.pixels import read_pixels
from invkit.data.prepare.prepare import prepare
from invkit.data.slices import load_slices

SIDE, PATCH, BATCH, SLICES = 512, 128, 32, 100


def write_patients(root: Path, count: int) -> list[tuple[Path, Path]]:
    """Write patients of 100 slices each, at two doses; return the pairs of files."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    body = np.where((rows / 150) ** 2 + (columns / 210) ** 2 < 1, 1064, 24)
    random = np.random.default_rng(0)
    textures = random.normal(0, 12, (8, SIDE, SIDE)).astype(np.int16)
    pairs = []
    for patient in range(count):
        study = root / "LDCT-and-Projection-data" / f"L{patient:03d}" / "study"
        for index in range(SLICES):
            files = []
            for number, kind in enumerate(("Full", "Low")):
                folder = study / f"1.000000-{kind} Dose Images-{patient}"
                folder.mkdir(parents=True, exist_ok=True)
                noise = np.roll(textures[random.integers(8)], random.integers(SIDE, size=2), (0, 1))
                files.append(folder / f"1-{index:03d}.dcm")
                uid = f"1.2.3.{patient}.{number}"
                write_slice(files[-1], body + noise * (1 + number), uid, index)
            pairs.append((files[0], files[1]))
    return pairs


def write_slice(path: Path, pixels: np.ndarray, uid: str, index: int) -> None:
    """Write one slice, stored in HU + 1024."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"{uid}.{index}"
    data.SeriesInstanceUID, data.PatientID, data.Modality = uid, uid.rpartition(".")[0], "CT"
    data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 3 * index], [1, 0, 0, 0, 1, 0]
    data.PixelSpacing, data.SliceThickness, data.InstanceNumber = [0.7, 0.7], 3, index + 1
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    data.PixelData = pixels.astype("<i2").tobytes()
    data["PixelData"].VR = "OW"
    dcmwrite(path, data, enforce_file_format=True)


def rate(work, seconds: float) -> tuple[float, float]:
    """Return how many pairs `work`, which is given a step and returns pairs, comes to in a second, and in a CPU second."""
    work(0)
    begun, used, done, step = time.perf_counter(), time.process_time(), 0, 1
    while time.perf_counter() - begun < seconds:
        done += work(step)
        step += 1
    return done / (time.perf_counter() - begun), done / (time.process_time() - used)


def forget(slices) -> None:
    """Ask the system to drop the cache's pages, so that the next patch comes from the disk."""
    for shard in {id(item.pixels.shard): item.pixels.shard for item in slices.slices}.values():
        shard._mmap.madvise(mmap.MADV_DONTNEED)
        descriptor = os.open(shard.filename, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        print(json.dumps(measure(folder, options), indent=1))
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Return all figures."""
    count = max(3, round(options.gigabytes * 1e9 / (SLICES * 2 * 2 * SIDE * SIDE)))
    pairs = write_patients(folder / "dicom", count)
    begun = time.perf_counter()
    done = prepare([folder / "dicom"], folder / "cache", workers=options.workers)
    prepared = time.perf_counter() - begun
    begun = time.perf_counter()
    prepare([folder / "dicom"], folder / "cache", workers=1)
    again = time.perf_counter() - begun
    begun = time.perf_counter()
    slices = load_slices(folder / "cache")
    opened = time.perf_counter() - begun
    sampler = PatchSampler(slices, PATCH)

    def from_cache(step: int) -> int:
        return len(sampler.batch(step, BATCH).x)

    def from_dicom(step: int) -> int:
        random = np.random.default_rng(step)
        place = random.integers(SIDE - PATCH, size=2)
        for path in pairs[random.integers(len(pairs))]:
            ((image,), _) = read_pixels(path, [0])
            image[place[0] : place[0] + PATCH, place[1] : place[1] + PATCH].copy()
        return 1

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    warm = rate(from_cache, options.seconds)
    # Each batch finds nothing in memory: the disk's worst case, as for a cache much larger than memory.
    cold, _ = rate(lambda step: (forget(slices), from_cache(step))[1], options.seconds)
    dropping, _ = rate(lambda step: (forget(slices), BATCH)[1], min(2, options.seconds))
    dicom = rate(from_dicom, options.seconds)
    return {
        "cache_gigabytes": done.bytes / 1e9,
        "pairs": done.pairs,
        "prepare_seconds": prepared,
        "prepare_workers": options.workers,
        "prepare_pairs_per_second": done.pairs / prepared,
        "prepare_cpu_seconds_of_workers": children.ru_utime + children.ru_stime,
        "prepare_again_seconds": again,
        "worker_peak_megabytes": children.ru_maxrss / 1e3,
        "open_seconds": opened,
        "cache_pairs_per_second": warm[0],
        "cache_pairs_per_cpu_second": warm[1],
        "cache_from_disk_pairs_per_second": 1 / (1 / cold - 1 / dropping),
        "dicom_pairs_per_second": dicom[0],
        "dicom_pairs_per_cpu_second": dicom[1],
        "ratio": warm[0] / dicom[0],
        "cpu_ratio": warm[1] / dicom[1],
    }


def rows() -> list[Row]:
    """Return the row of `bench.py`: patches of a small data set that is in memory, a pair at a time, one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        options = argparse.Namespace(gigabytes=0.4, seconds=5.0, workers=2)
        found = measure(Path(name), options)
    ours, rival = 1 / found["cache_pairs_per_second"], 1 / found["dicom_pairs_per_second"]
    what = "a random pair of 128 x 128 patches from a cache"
    return [Row("patches", what, ours, "read from DICOM", rival, rival / ours, 1.0)]


if __name__ == "__main__":
    main()
