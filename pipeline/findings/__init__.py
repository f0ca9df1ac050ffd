"""From the measurements of all cases to findings, verdict and audit.json."""
