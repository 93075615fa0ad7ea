"""An analysis as text: the answer on one screen, and all of it."""
