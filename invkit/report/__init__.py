"""Results for people: figures, a self-contained HTML page, and tables for the terminal."""
