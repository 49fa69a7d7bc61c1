"""One file a language: its words in prompts and answers, and its codes."""
