"""Libraries made durable, each behind an extra of its own.

Promises: their code runs unmodified. Refuses: to know more of Holdfast than its public names.
"""
