"""The report of a study: content, figures, page, sample frames, summary tables."""
