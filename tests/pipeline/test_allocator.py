"""The allocator: freed memory is kept where it was asked for, and only there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from flows.cli import main
from pipeline import allocator

GLIBC = sys.platform == "linux" and "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
PROGRAM = """
import resource
from pipeline.allocator import allocator, give_back, keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(2**26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = keep_freed_memory()
faults()
again = faults()
give_back()
print(kept, again, faults(), allocator(), sep="|")
"""


def program(**environment: str) -> tuple[str, int, int, str]:
    """Whether memory is kept, page faults of 64 MiB the second time, and after they were given back."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_", "LD_PRE"))}
    clean.pop(allocator.SWITCH, None)
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True)
    kept, again, after, state = done.stdout.strip().split("|")
    return kept, int(again), int(after), state


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_freed_memory_is_used_again() -> None:
    kept, again, after, state = program()
    assert kept == "True"
    assert again < 100 < 10_000 < after
    assert state == "freed memory is kept (glibc mallopt)"


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize(
    ("name", "value"), [("RELEVANCE_AUDIT_ALLOCATOR", "system"), ("MALLOC_TOP_PAD_", "131072")]
)
def test_the_environment_has_the_last_word(name: str, value: str) -> None:
    kept, again, _, state = program(**{name: value})
    assert kept == "False"
    assert again > 10_000
    assert name in state


def test_only_commands_that_compute_ask_for_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(allocator, "keep_freed_memory", lambda: asked.append("asked"))
    main(["verify", "there/is/none"])
    assert not asked
    main(["run", "there/is/none.yaml", "--out", "there/is/none"])
    assert asked == ["asked"]
    capsys.readouterr()
