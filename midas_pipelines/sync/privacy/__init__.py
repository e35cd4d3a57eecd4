"""Erasing buyers in time, and answering a person who asks what is kept."""
