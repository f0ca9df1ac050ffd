"""Prefect flows and the command line: schedule, retries, cache and scale, no science."""
