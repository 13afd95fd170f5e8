"""Tables: of runs, of whole leaderboards, and in the layout of the paper; for terminal, CSV, Markdown and LaTeX."""
