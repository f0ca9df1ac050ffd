"""Open a model safely, bring an image onto its grid, and capture what it computes."""
