"""Turns plain numbers and untrusted text into self-contained web pages."""
