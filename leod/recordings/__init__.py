"""Recordings: formats, chunks of events, discovery."""
