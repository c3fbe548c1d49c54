"""The tables, a pull as a value, and the rules that statements share.

tables          what every table declares alike
content_tables  tables of what is on the volume, and the view `image_layers`
pull_tables     tables of pulls, of their layers, and of leases on blobs
fleet_tables    tables of step leases, pauses, registry holds, nodes and slots
predicates      what is true of a row: each rule once
waiting_for     the document that says why a pull or a layer waits
pull_values     a pull as a value
pull_rows       a pull's row as that value
"""
