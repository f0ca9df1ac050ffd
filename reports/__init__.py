"""An audit directory in, a PDF out."""
