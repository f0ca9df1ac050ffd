"""Which parcellations exist, whose licence they carry, and which regions a disease is expected in."""
