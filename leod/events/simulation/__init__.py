"""Simulated driving scenes: what happens (`scene`), how it looks (`shapes`, `rendering`), what is seen (`sensor`)."""
