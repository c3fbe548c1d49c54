"""How commands show things to people.

progress    pulls that run: bars on a terminal, lines elsewhere
open_pulls  all open pulls: a live table, lines, or documents
waiting     `waiting_for` as one line of text
tables      lists as tables, and one thing as a line per field
fitting     fits a table to the width of a terminal
branches    nested lines: a tree on a terminal
"""
