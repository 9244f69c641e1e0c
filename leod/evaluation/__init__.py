"""Evaluating detections against ground truth."""
