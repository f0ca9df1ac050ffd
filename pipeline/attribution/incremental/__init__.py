"""Occlusion by computing again only what a cover can change (after Krypton, Nakandala et al. 2019)."""
