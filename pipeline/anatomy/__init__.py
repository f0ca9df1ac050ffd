"""Where is what in this image: brain regions from an atlas, the field of view of a photograph."""
