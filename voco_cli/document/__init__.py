"""A result as blocks, rendered for a terminal, as Markdown and as HTML."""
