"""Real worker processes, some of them killed."""
