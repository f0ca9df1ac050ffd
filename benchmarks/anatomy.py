"""How well atlases reach patients, and what the gate lets through: the figures of docs/anatomy.md.

python benchmarks/anatomy.py registration --first 0 --cases 8 --spacing 2
python benchmarks/anatomy.py gate --first 0 --cases 2
python benchmarks/anatomy.py hopeless --data FOLDER
python benchmarks/anatomy.py good --first 0 --cases 20
python benchmarks/anatomy.py time
python benchmarks/anatomy.py heads --data FOLDER
python benchmarks/anatomy.py retina --data FOLDER
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from atlases import load_atlas
from pipeline.anatomy import registration_cache
from pipeline.anatomy.brain import regions_by, regions_of, warp_labels
from pipeline.anatomy.brain_quality import Quality, judge
from pipeline.anatomy.brain_registration import Registration, identity, register
from pipeline.anatomy.brain_working import working_image
from pipeline.errors import AuditError
from pipeline.images import read_volume
from pipeline.images.types import Volume
from pipeline.phantoms.brain_warped import WarpedBrain, warped_brain

ATLAS = load_atlas("AAL")
HIPPOCAMPI = (37, 38)


def region_dice(case: WarpedBrain, registration: Registration) -> dict[int, float]:
    """Dice of every AAL region that the truth holds, within the true brain."""
    labels = warp_labels(ATLAS, case.volume, registration) * case.brain
    top = max(ATLAS.table) + 1
    true, found = (np.bincount(x.ravel(), minlength=top) for x in (case.labels, labels))
    both = np.bincount(labels[labels == case.labels].ravel(), minlength=top)
    return {i: 2 * both[i] / (true[i] + found[i]) for i in ATLAS.table if true[i]}


def registration_table(first: int, cases: int, spacing: float) -> None:
    print("| seed | atrophy | voxels mm | before | affine | deformed | hippocampi | gate | wall s | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for seed in range(first, first + cases):
        size = (spacing, spacing, spacing) if seed % 4 else (spacing / 2, spacing / 2, 1.5 * spacing)
        case = warped_brain(100 + seed, spacing_mm=size, severity=(seed % 3) / 2)
        wall, cpu = time.perf_counter(), time.process_time()
        found = register(case.volume)
        regions = regions_by(case.volume, ATLAS, found)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        stages = [region_dice(case, r) for r in (identity(), found.affine_only(), found)]
        means = [float(np.mean(list(d.values()))) for d in stages]
        hippocampi = float(np.mean([stages[2][i] for i in HIPPOCAMPI]))
        rows.append((*means, hippocampi, wall, cpu, regions.registered))
        voxels = "×".join(f"{s:g}" for s in size)
        print(
            f"| {100 + seed} | {(seed % 3) / 2:g} | {voxels} | {means[0]:.2f} "
            f"| {means[1]:.2f} | {means[2]:.3f} | {hippocampi:.3f} "
            f"| {regions.reason or 'accepted'} | {wall:.0f} | {cpu:.0f} |",
            flush=True,
        )
    mean = np.mean([row[:6] for row in rows], axis=0)
    print(
        f"| **mean** | | | {mean[0]:.2f} | {mean[1]:.2f} | **{mean[2]:.3f}** | **{mean[3]:.3f}** "
        f"| {sum(row[6] for row in rows)}/{len(rows)} | {mean[4]:.0f} | {mean[5]:.0f} |"
    )


def line(name: str, quality: Quality) -> None:
    print(
        f"| {name} | {quality.brain:.2f} | {quality.grey:.2f} | {quality.white:.2f} | {quality.fluid:.2f} "
        f"| {quality.correlation:.2f} | {quality.contrast:.2f} "
        f"| {quality.jacobian[0]:.2f}–{quality.jacobian[1]:.2f} "
        f"| {quality.folded:.4f} | {'; '.join(quality.reasons) or 'accepted'} |",
        flush=True,
    )


def head() -> None:
    print("| what | brain | GM | WM | CSF | correlation | contrast | Jacobian | folded | gate |")
    print("|---|---|---|---|---|---|---|---|---|---|")


def sabotages(found: Registration, middle: np.ndarray) -> dict[str, Registration]:
    """Registrations spoilt on purpose about the middle of the brain."""

    def after(matrix: np.ndarray, shift: tuple[float, float, float] = (0, 0, 0)) -> Registration:
        step = np.eye(4)
        step[:3, :3] = matrix
        step[:3, 3] = middle - matrix @ middle + shift
        return Registration(step @ found.template_from_image, found.displacement, found.grid)

    def turn(axis: int, degrees: float) -> np.ndarray:
        i, j = [k for k in range(3) if k != axis]
        out, angle = np.eye(3), np.deg2rad(degrees)
        out[i, i] = out[j, j] = np.cos(angle)
        out[i, j], out[j, i] = -np.sin(angle), np.sin(angle)
        return out

    index = np.indices(found.displacement.shape[1:]).astype(np.float32)
    fold = found.displacement + 9 * np.sin(index[[1, 2, 0]] / 1.5).astype(np.float32)
    return {
        "shifted 20 mm to the side": after(np.eye(3), (20, 0, 0)),
        "shifted 20 mm forward": after(np.eye(3), (0, 20, 0)),
        "shifted 20 mm up": after(np.eye(3), (0, 0, 20)),
        "rotated 30° about x": after(turn(0, 30)),
        "rotated 30° about y": after(turn(1, 30)),
        "rotated −30° about z": after(turn(2, -30)),
        "mirrored front–back": after(np.diag([1.0, -1, 1])),
        "mirrored up–down": after(np.diag([1.0, 1, -1])),
        "folded": Registration(found.template_from_image, fold, found.grid),
    }


def gate(first: int, cases: int) -> None:
    """Nine results a brain, spoilt on purpose: all are to be refused."""
    head()
    refused = tried = 0
    middle = np.array([0.0, -18.0, 10.0])
    for seed in range(200 + first, 200 + first + cases):
        case = warped_brain(seed, spacing_mm=(3.0, 3.0, 3.0))
        found = register(case.volume)
        patient = working_image(case.volume, 2.0)
        line(f"good {seed}", judge(patient, found))
        for name, bad in sabotages(found, middle).items():
            quality = judge(patient, bad)
            line(f"{seed}, {name}", quality)
            tried, refused = tried + 1, refused + bool(quality.reasons)
    print(f"\nrefused {refused} of {tried}\n")


def hopeless_images(data: Path) -> None:
    """Images that no registration can serve: all are to be refused."""
    case = warped_brain(202, spacing_mm=(3.0, 3.0, 3.0))
    hopeless = {
        "half a head": Volume(case.volume.data[: case.volume.shape[0] // 2], case.volume.affine),
        "contrast inverted": Volume(
            np.where(case.brain, case.volume.data.max() * 1.05 - case.volume.data, 0), case.volume.affine
        ),
        "empty": Volume(np.zeros(case.volume.shape, np.float32), case.volume.affine),
    }
    paths = sorted((data / "brain" / "ms_lesions").glob("*/*_FLAIR.nii*"))
    hopeless |= {f"{path.name.split('.')[0]} given as T1": read_volume(path) for path in paths}
    for path in sorted((data / "brain" / "t1_head").glob("*.nii*")):
        whole = read_volume(path)
        hopeless["half a real head"] = Volume(whole.data[:, :, : whole.shape[2] // 2], whole.affine)
    for name, volume in hopeless.items():
        try:
            regions = regions_of(volume, ATLAS)
            reason = "" if regions.registered else regions.reason
        except AuditError as error:
            reason = str(error)
        print(f"| {name} | {reason or 'accepted'} |", flush=True)


def good(first: int, cases: int) -> None:
    """Brains turned by up to 30°, shifted by up to 25 mm, bent and atrophied: all are to be accepted."""
    head()
    accepted = 0
    for seed in range(300 + first, 300 + first + cases):
        case = warped_brain(seed, spacing_mm=(3.0, 3.0, 3.0), severity=(seed % 3) / 2)
        regions = regions_of(case.volume, ATLAS)
        accepted += regions.registered
        if regions.quality:
            line(f"good {seed}", regions.quality)
        else:
            print(
                f"| good {seed} | lies in template space{regions.reason and ', but ' + regions.reason} |",
                flush=True,
            )
    print(f"\naccepted {accepted} of {cases}\n")


def times() -> None:
    """Seconds a case, registration, regions and gate, on all cores; the template is loaded before."""
    import platform

    from scipy.ndimage import zoom

    regions_of(warped_brain(90, spacing_mm=(4.0, 4.0, 4.0)).volume, ATLAS)
    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores")
    print("| voxels mm | size | wall s | CPU s | gate |")
    print("|---|---|---|---|---|")
    case = warped_brain(93, scale=1.0, degrees=15)  # the size of the template
    finer = np.diag([0.5, 0.5, 0.5, 1.0])
    fine = Volume(
        zoom(case.volume.data, 2, order=1, grid_mode=True, mode="nearest"), case.volume.affine @ finer
    )
    for spacing, volume in ((2, case.volume), (2, case.volume), (1, fine)):
        registration_cache._memory.clear()
        wall, cpu = time.perf_counter(), time.process_time()
        regions = regions_of(volume, ATLAS)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        size = "×".join(map(str, volume.shape))
        verdict = regions.reason or "accepted"
        print(f"| {spacing} | {size} | {wall:.1f} | {cpu:.1f} | {verdict} |", flush=True)


def heads(data: Path) -> None:
    head()
    paths = sorted((data / "brain" / "ms_lesions").glob("*/*_T1.nii*"))
    paths += sorted((data / "brain" / "t1_head").glob("*.nii*"))
    paths += sorted((data / "brain" / "ms_lesions").glob("*/*_FLAIR.nii*"))
    for path in paths:
        volume = read_volume(path)
        begin = time.perf_counter()
        found = register(volume)
        seconds = time.perf_counter() - begin
        patient = working_image(volume, 2.0)
        name = path.name.split(".")[0]
        line(f"{name}, before", judge(patient, identity()))
        line(f"{name}, affine", judge(patient, found.affine_only()))
        line(f"{name}, deformed ({seconds:.0f} s)", judge(patient, found))


def retina(data: Path) -> None:
    from pipeline.anatomy.retina import field_of_view
    from pipeline.anatomy.retina_landmarks import find_landmarks
    from pipeline.anatomy.retina_regions import trusted
    from pipeline.images import read_mask, read_photograph
    from pipeline.phantoms.retina import retina_phantom

    errors = []
    for seed in range(40):
        one = retina_phantom(seed, seed % 5, 384)
        view = field_of_view(one.photograph)
        found = find_landmarks(one.photograph, view)
        disc = np.hypot(found.disc[0] - one.disc[0], found.disc[1] - one.disc[1]) / one.disc[2]
        fovea = np.hypot(found.fovea[0] - one.fovea[0], found.fovea[1] - one.fovea[1]) / (2 * one.disc[2])
        ours, true = view.mask(), one.field.mask()
        overlap = 2 * (ours & true).sum() / (ours.sum() + true.sum())
        side = found.laterality == one.laterality
        errors.append((disc, fovea, side, trusted(found), found.disc[2] / one.disc[2], overlap))
    disc, fovea, side, sure, size, overlap = np.array(errors, float).T
    print(
        f"phantoms: disc within a radius {np.mean(disc <= 1):.0%}, radius ratio {np.median(size):.2f}; "
        f"fovea within half a diameter {np.mean(fovea <= 0.5):.0%}, worst {fovea.max():.2f}; side right "
        f"{side.mean():.0%}; confident {sure.mean():.0%}; field of view, Dice: worst {overlap.min():.3f}, "
        f"mean {overlap.mean():.3f}"
    )
    print(
        "| photograph | disc off, radii | radius ratio | disc–fovea, diameters | side | confidence | ETDRS |"
    )
    print("|---|---|---|---|---|---|---|")
    folder = data / "retina" / "idrid" / "A. Segmentation"
    for path in sorted(folder.glob("1*/*/*.jpg")):
        photograph = read_photograph(path)
        (mask_path,) = folder.glob(f"2*/*/5*/{path.stem}*")
        here = np.argwhere(read_mask(mask_path, photograph.shape, None))
        radius = float(np.sqrt(len(here) / np.pi))
        found = find_landmarks(photograph, field_of_view(photograph))
        off = np.hypot(*(here.mean(0) - found.disc[:2])) / radius
        apart = np.hypot(*(np.array(found.fovea) - here.mean(0))) / (2 * radius)
        print(
            f"| {path.stem} | {off:.2f} | {found.disc[2] / radius:.2f} | {apart:.2f} | {found.laterality} "
            f"| {found.disc_confidence:.2f}, {found.fovea_confidence:.2f} | {trusted(found)} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what", choices=("registration", "gate", "hopeless", "good", "time", "heads", "retina")
    )
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--spacing", type=float, default=2.0)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("RELEVANCE_AUDIT_DATA", "data")))
    given = parser.parse_args()
    if given.what == "registration":
        registration_table(given.first, given.cases, given.spacing)
    elif given.what == "gate":
        gate(given.first, given.cases)
    elif given.what == "hopeless":
        hopeless_images(given.data)
    elif given.what == "time":
        times()
    elif given.what == "good":
        good(given.first, given.cases)
    elif given.what == "heads":
        heads(given.data)
    else:
        retina(given.data)


if __name__ == "__main__":
    main()
