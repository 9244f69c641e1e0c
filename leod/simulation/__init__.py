"""Simulated driving.

What happens (`scene`), how it looks (`street`, `clutter`, `actors`, `rendering`), what is seen (`sensor`).

The kernels are compiled once and kept in `__pycache__`. Numba notices a change in a kernel's own file, not in the
files of the kernels it calls: after an edit of `shapes` or `patterns`, delete the cached `*.nbi` files.
"""
