"""Tables of papers: `definition` reads them, `plan` and `job` run them, `collect` and `render` say what came out."""
