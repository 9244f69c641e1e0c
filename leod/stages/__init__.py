"""The stages of a study and the tools: one function each, called by the command line."""
