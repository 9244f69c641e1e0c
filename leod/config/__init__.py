"""Typed configuration: schema, loading, settings of each stage, experiments of a study."""
