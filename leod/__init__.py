"""Label-efficient object detection for event cameras as a reproducible pipeline."""

__version__ = "0.1.0"
