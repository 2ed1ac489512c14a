"""Contests: what contenders take in seconds and memory, each in a process of its own."""
