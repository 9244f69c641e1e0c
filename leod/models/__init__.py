"""The detector: backbone, neck, head, assignment and loss, post-processing, checkpoints, published weights."""
