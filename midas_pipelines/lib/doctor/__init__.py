"""`midas doctor`: everything that a start needs, checked line by line, each with its next step."""
