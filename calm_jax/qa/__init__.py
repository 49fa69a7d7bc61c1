"""Questions as text: prompts, answers and the metrics over them. No jax."""
