"""Passages of a corpus that may help to answer a question; loads nothing."""
