"""Preprocessed sequences: representations, windows, writing, reading, inspection."""
