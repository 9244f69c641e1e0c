"""Recordings: reading and writing events, counting them into event representations."""
