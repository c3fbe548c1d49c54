"""What the project came from did, and what this one does instead: a list to read.

towline grew out of one file of another project, whose observable behaviours are numbered S01 to S45
and whose six tests T1 to T6. Each has a test here, of the better behaviour where it was lacking.
"""
