"""The tables, and a pull as a value.

columns         builders for columns, names of constraints
content_tables  tables of what is on the volume, and the view `image_layers`
pull_tables     tables of pulls, of their layers, and of leases on blobs
fleet_tables    tables of step leases, pauses, registry holds, nodes and slots
pull_values     a pull as a value
pull_rows       columns, conditions and updates that statements share
"""
