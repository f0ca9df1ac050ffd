"""Relevance against expert marks and regions: metrics, null maps, statistics."""
