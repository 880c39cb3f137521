"""Tables of papers.

`schema` and `definition` say what a table is, `members`, `job` and `run` make its numbers, and `collect` keeps them;
`summary` derives means, intervals and verdicts, which `page`, `plot` and `render` show.
"""
