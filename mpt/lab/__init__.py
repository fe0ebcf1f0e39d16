"""Namespaces and links with rate, delay, jitter and loss; the demo; the stage of tests and benchmarks."""
