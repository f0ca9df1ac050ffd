"""Is the map itself to be trusted: randomisation, faithfulness, stability, resolution, clusters."""
