"""What it costs: CPU, memory, disk and time of the agent and the collector, as processes, on made-up logs.

``python -m tests.bench`` measures and prints; `tests.bench.test_bench` runs the same on tiny input.
"""
