"""stand-in"""
from contextlib import contextmanager
@contextmanager
def joined(settings, flower=False):
    yield settings
def up(settings): ...
def is_up(settings): return False
