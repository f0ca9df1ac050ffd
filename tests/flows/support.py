"""What the tests of the flow share: the command line as a user runs it, and a small cohort."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

PROTOCOL = """
schema: relevance-audit-protocol/1
modality: fundus
model: model.pt
cohort: cohort/cohort.csv
target: 1
methods: [gradient, grad_cam, {name: occlusion, options: {patch: 128, stride: 128}}]
disease: diabetic_retinopathy
criteria:
  - {name: skill_auc, at_least: 0.7}
  - {name: lift_over_nulls, method: grad_cam, at_least: 0}
seed: 3
case_pages: 2
"""


def command(*arguments: object, timeout: int = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=environment,
    )


def write_inputs(folder: Path, cases: int) -> Path:
    """A network without a card, a cohort of small phantoms, and their protocol."""
    from pipeline.phantoms.cohorts import write_retina_cohort

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=4, padding=2),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    )
    torch.jit.trace(network.eval(), torch.rand(1, 3, 64, 64)).save(folder / "model.pt")
    write_retina_cohort(folder / "cohort", cases, 7_000_000, size=256)
    (folder / "protocol.yaml").write_text(PROTOCOL)
    return folder / "protocol.yaml"
