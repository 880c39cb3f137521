"""Tables of papers.

`schema` and `definition` say what a table is, `members`, `job` and `run` make its numbers, `collect` keeps them,
`summary` derives means, intervals and verdicts, and `page`, `plot` and `render` show them.
"""
