"""The ordeal of `agent.torture` with the whole product behind it: a collector and an engine, which are killed too.

``python -m tests.torture --duration 120 --seed 7``, or ``make torture DURATION=120 SEED=7``.
"""
