"""One HTML file that shows a run: what it was, what came of it, and how surely."""
