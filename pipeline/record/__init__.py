"""What an audit directory holds: written by the run, the only thing the reports read."""
