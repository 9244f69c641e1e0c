"""The jobs of a study: from one line a rule its log, benchmark, command and place in the report follow."""

from __future__ import annotations

OF_EXPERIMENT = "{experiment}"
OF_ROUND = "{experiment}/round_{round}"

JOBS = {
    "simulate": "simulate",
    "preprocess": "preprocess/{split}-{shard}",
    "check_sequences": "check_sequences/{split}-{shard}",
    "subsample_labels": f"{OF_EXPERIMENT}/subsample_labels",
    "suggest_labels": f"{OF_EXPERIMENT}/suggest_labels",
    "pretrain": f"{OF_EXPERIMENT}/round_0/pretrain",
    "choose_thresholds": f"{OF_ROUND}/choose_thresholds",
    "generate_pseudo_labels": f"{OF_ROUND}/generate_pseudo_labels-{{shard}}",
    "track_filter": f"{OF_ROUND}/track_filter",
    "validate_quality": f"{OF_ROUND}/validate_quality",
    "self_train": f"{OF_ROUND}/self_train",
    "evaluate": f"{OF_ROUND}/evaluate-{{split}}_{{variant}}",
    "measure_latency": f"{OF_ROUND}/measure_latency",
    "write_plan": "write_plan",
    "write_study": "write_study",
    "summarise": "summarise",
    "write_report": "write_report",
}
"""Rule → name of its job, with wildcards: its log and benchmark, and thereby its place in the report."""

FIGURES = {
    "average_precision": "Result",
    "arms": "Result",
    "precision_recall": "Result",
    "training": "Training",
    "box_sizes": "Labels",
    "pseudo_label_quality": "Pseudo-labels",
    "score_relation": "Pseudo-labels",
    "tracking": "Pseudo-labels",
    "thresholds": "Pseudo-labels",
}
"""Figure of the report → its category."""

_STAGE_OF = {"write_report": "report", "check_sequences": None, "write_plan": None, "write_study": None}
STAGES = tuple(stage for rule in JOBS if (stage := _STAGE_OF.get(rule, rule)) is not None)
"""The stages in their order, each a function of its name in a module of its name, and a command."""
