"""Every example that is put through tests/examples/test_survival.py, as a play: its program, and what a user does.

How an example is added: docs/testing.md.
"""

from tests.examples import plays_frameworks, plays_plain, plays_sdk

PLAYS = {**plays_frameworks.PLAYS, **plays_plain.PLAYS, **plays_sdk.PLAYS}
