"""Relevance propagation: rules for weighted operations, for all others, and the walk back over the graph."""
