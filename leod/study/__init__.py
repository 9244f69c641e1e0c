"""A study as files: its cells, every path and job of it, and the records that rules, summary and report share."""
