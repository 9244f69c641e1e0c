"""Pseudo-labels: filtering detections, tracking, quality, and the pseudo-labelled data set."""
