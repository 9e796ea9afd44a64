"""No test sends traces anywhere: the exporter has a thread of its own, which would write into the logs of others."""

from agents import set_trace_processors

set_trace_processors([])
