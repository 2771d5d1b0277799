"""The history of a team's gates: an SQLite file to which every gate adds its run, and what is read from it.

A run is a few columns and its numbers: scores, the largest error over bound of every check, ratios of time. What
belongs to one trend is the same model, in the same dtype, on the same kind of device; its weights may be others.

`database` adds and reads runs, `remember` is what a gate does, `listing` and `page` are what people see.
"""
