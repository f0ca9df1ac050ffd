"""What has to be known to do the audit again."""

from __future__ import annotations

from reports.blocks import Block, Facts, Part, Section, Text
from reports.context import Context
from reports.words import duration, whole

INPUTS_SHOWN = 24


def build(context: Context) -> Section:
    """Build hashes, versions, seeds and times."""
    record = context.record
    origin = record.provenance
    blocks: list[Block] = [
        Facts(
            [
                ("Started", origin.started),
                ("Finished", origin.finished),
                ("Wall time", duration(origin.wall_seconds)),
                ("Peak memory", f"{whole(origin.peak_memory_mb)} MB"),
                ("Seed", str(origin.seed)),
                ("Threads", str(origin.threads)),
                ("Platform", origin.platform or "not stated"),
                ("Record", record.schema_),
            ]
        ),
        Part("Model weights (SHA-256)", [Facts([(record.model.name, record.model.sha256)], mono=True)]),
    ]
    if origin.versions:
        blocks.append(Part("Versions", [Facts(sorted(origin.versions.items()), mono=True)]))
    if origin.inputs:
        shown = sorted(origin.inputs.items())[:INPUTS_SHOWN]
        inputs: list[Block] = [Facts([(name, digest) for name, digest in shown], mono=True)]
        if len(origin.inputs) > INPUTS_SHOWN:
            inputs.append(
                Text(f"{len(origin.inputs) - INPUTS_SHOWN} more: audit.json and manifest.json.", small=True)
            )
        blocks.append(Part("Inputs (SHA-256)", inputs))
    return Section("provenance", "Provenance", "What is needed to do this audit again?", blocks)
