"""Weights of the published code, in and out."""
