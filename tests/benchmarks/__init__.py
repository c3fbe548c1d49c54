"""Measurements that a person runs: figures and ratios, never an assertion in a test."""
