"""Figures of a report: matplotlib's Agg canvas, no state between them, the same bytes every time."""
