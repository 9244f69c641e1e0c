"""Preprocessed sequences and what training and inference read of them, step by step."""
