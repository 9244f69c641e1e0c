"""Training: the loop around the detector, its schedule, checkpoints and interruptions."""
