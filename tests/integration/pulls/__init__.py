"""Pulls that meet: shared layers, leases that are lost, ends from outside."""
