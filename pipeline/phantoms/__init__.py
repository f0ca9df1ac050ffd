"""Brains and retinas with known truth, and the reference models trained on them."""
