"""Boxes: arrays, operations, box files, kept labels."""
