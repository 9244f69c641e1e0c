"""Boxes: geometry, label files, formats of own data, and which labels an experiment may use."""
