"""The science of relevance-audit: images → anatomy → relevance maps → agreement → verdict → record."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("relevance-audit")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
