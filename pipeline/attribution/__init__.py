"""Where a decision comes from: attribution methods over the captured graph of a model."""
